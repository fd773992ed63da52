"""The verbs of the command line, each with a sentence; they are modules of this folder."""

VERBS = {
    "train": "train on tasks in sequence and write the results to a folder",
    "resume": "go on with an unfinished run, bit for bit as if nothing had happened",
    "reproduce": "run what a paper's table needs; print the published numbers beside ours",
    "compare": "train several methods on the same seeds, then report on them",
    "report": "one table, figures and a page over the folders of runs",
    "tune": "choose numbers on the first three tasks alone",
    "evaluate": "test the networks of a finished run again",
    "status": "how far the jobs of a sweep have come",
    "list": "what there is to choose from",
    "explain": "what a method does to a gradient",
    "new": "write a method, buffer, benchmark or model of your own to start from",
    "check": "try a part of your own on the contract that all parts of its kind keep",
    "data": "which datasets are on this machine; get those that are not",
    "info": "versions, device, threads and folders, for a bug report",
    "completion": 'completion in the shell, as in: eval "$(gradalign completion bash)"',
}
