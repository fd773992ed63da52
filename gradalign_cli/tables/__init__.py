"""The papers' tables: the runs that they need, and what these give beside the published numbers."""
