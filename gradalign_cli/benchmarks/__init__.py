"""Datasets as streams of tasks."""
