"""The verbs of the command line, each with a sentence; they are modules of this folder."""

VERBS = {
    "train": "train on tasks in sequence and write the results to a folder",
    "resume": "go on with an unfinished run, bit for bit as if nothing had happened",
    "reproduce": "run what a paper's table needs; print the published numbers beside ours",
    "tune": "choose numbers on the first three tasks alone",
    "list": "what there is to choose from",
    "explain": "what a method does to a gradient",
    "data": "which datasets are on this machine; get those that are not",
    "info": "versions, device, threads and folders, for a bug report",
    "completion": 'completion in the shell, as in: eval "$(gradalign completion bash)"',
}
