"""The files that say how a run ended."""

FINAL_FILES = ("accuracy.csv", "metrics.json")  # a finished run has them
FAILURE_FILE = "failure.txt"  # a job of a sweep that failed has it
