"""Rules for the step size within a task, and for when a task's training is over."""
