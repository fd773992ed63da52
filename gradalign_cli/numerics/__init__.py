"""Arithmetic that knows no learning: vectors, trees of tensors, small problems solved exactly."""
