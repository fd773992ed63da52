"""Ways to carry many replicas through the same step."""
