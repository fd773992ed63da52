"""Datasets: where they are looked for, and what is checked before one is used."""

from gradalign_cli.data.dataset import Dataset
from gradalign_cli.data.sources import (
    available_datasets,
    data_folder,
    dataset_statuses,
    load_dataset,
    prepare_dataset,
)

__all__ = [
    "Dataset",
    "available_datasets",
    "data_folder",
    "dataset_statuses",
    "load_dataset",
    "prepare_dataset",
]
