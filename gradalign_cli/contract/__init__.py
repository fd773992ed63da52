"""The contract of a user's own part: what `gradalign check` tries on it."""
