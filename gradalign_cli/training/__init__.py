"""Training: tasks one after the other, and tests between them."""
