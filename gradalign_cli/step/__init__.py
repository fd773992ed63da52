"""One step of training, a pure function."""
