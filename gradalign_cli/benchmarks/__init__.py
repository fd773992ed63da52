"""Streams of tasks over one dataset."""
