"""Rules for the step size within a task and for the end of its training."""
