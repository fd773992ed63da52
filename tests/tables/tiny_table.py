"""A table of three small cells on the embedded digits, and one that cannot be run."""

import csv

from rich.console import Console

from gradalign_cli.commands.reproduce import TRAIN_COMMAND
from gradalign_cli.tables.reproduce import reproduce
from gradalign_cli.tables.request import Request

SMALL = [
    "benchmark.samples_per_task=60",
    "model.widths=[8]",
    "metrics.lca_batches=0",
    "report=false",
]
TABLE = {
    "title": "Digits",
    "source": "nobody",
    "status": "VERIFIED",
    "tolerance": {"ACC": 0.5},
    "overrides": SMALL,
    "cells": {
        "A-GEM": {"overrides": ["method=agem"], "published": {"ACC": 0.9}, "minutes": 0.1},
        "plain": {"overrides": ["method=finetune"], "published": {"ACC": 0.9, "BWT": -0.1},
                  "status": "MEMORY"},
        "wrong": {"overrides": ["method=gem", "buffer.capacity=0"], "published": {"ACC": 0.1}},
        "birds": {"needs": "CUB-200", "published": {"ACC": 0.6}},
    },
}  # fmt: skip
ALL_CELLS = Request("*", 2, None, False, 1, (), (), TRAIN_COMMAND)
AGEM_ONCE = ALL_CELLS._replace(cell_pattern="A-GEM", seed_count=1)


def reproduce_tiny(conf, request, output_folder):
    """Reproduce TABLE; the exit code and the printed text."""
    console = Console(record=True, width=200)
    code = reproduce(conf, "tiny", request, output_folder, console)
    return code, console.export_text()


def csv_rows(output_folder):
    """The rows of table.csv, without the seconds."""
    with (output_folder / "tiny" / "table.csv").open() as file:
        return [
            {column: value for column, value in row.items() if column != "seconds"}
            for row in csv.DictReader(file)
        ]
