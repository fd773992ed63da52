"""Launchers: what runs the jobs of a sweep, in this process, on cores, on Slurm or on Ray."""
