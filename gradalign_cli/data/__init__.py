"""Datasets: where they are looked for, and what is checked before one is used."""

from gradalign_cli.data.dataset import Dataset
from gradalign_cli.data.sources import data_folder, load, prepare, present, status

__all__ = ["Dataset", "data_folder", "load", "prepare", "present", "status"]
