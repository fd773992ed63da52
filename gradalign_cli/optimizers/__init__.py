"""Optimizers on flat vectors."""
