"""Ways to take all replicas of a run through the same steps."""
