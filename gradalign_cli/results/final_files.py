"""The files that say how a run ended."""

LAST_FILE = "accuracy.csv"  # written last, so where it is the run was finished
FINAL_FILES = (LAST_FILE, "metrics.json")  # a finished run has them, unless it is damaged
FAILURE_FILE = "failure.txt"  # a job of a sweep that failed has it
