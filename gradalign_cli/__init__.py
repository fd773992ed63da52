"""gradalign: what to do with a gradient that hurts the old tasks."""

__version__ = "0.2.0"
