"""Answers to a negative dot product: one method a file."""
