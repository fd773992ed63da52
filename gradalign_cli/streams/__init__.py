"""Streams in which a benchmark's tasks do not come one after the other."""
