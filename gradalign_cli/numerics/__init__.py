"""Numerical code that knows nothing of learning: vectors, trees of tensors, random numbers, small
problems solved exactly."""
