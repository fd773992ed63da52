"""Replicas of all runs, grouped by what they were set to: the rows of a report.

Intervals are over the seeds of one group, never over groups.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from gradalign_cli.errors import UserError, did_you_mean, require
from gradalign_cli.reports.run import Run
from gradalign_cli.reports.settings import (
    ABSENT,
    fewest_distinguishing_names,
    flat_settings,
    short_value_text,
)


class Group(NamedTuple):
    """The replicas of one setting.

    label: what tells the group from the others, in words.
    distinguishing_settings: the same by name.
    settings: all settings, by name.
    replica_of_seed: the run and the number of the replica in it.
    duplicate_count: how many replicas were left out, as their seed was there before.
    """

    label: str
    distinguishing_settings: dict[str, str]
    settings: dict[str, str]
    replica_of_seed: dict[int, tuple[Run, int]]
    duplicate_count: int

    def values(self, metric: str) -> dict[int, float]:
        """The metric of each seed that has it."""
        values = {
            seed: run.replica_settings_and_metrics[r].get(metric)
            for seed, (run, r) in self.replica_of_seed.items()
        }
        return {seed: value for seed, value in values.items() if value is not None}

    def metrics(self) -> list[str]:
        """The names of the metrics that a replica of the group has."""
        return list(
            dict.fromkeys(
                name
                for run, r in self.replica_of_seed.values()
                for name in run.replica_settings_and_metrics[r]
                if name not in run.setting_names and name != "seed"
            )
        )

    def accuracy(self) -> np.ndarray:
        """The accuracy matrices [n, T + 1, T] of all seeds with as many tasks as the first."""
        matrices = [run.accuracy[r] for run, r in self.replica_of_seed.values()]
        return np.stack([matrix for matrix in matrices if matrix.shape == matrices[0].shape])

    def runs(self) -> list[Run]:
        """The runs of the group, each once."""
        return list({run.folder: run for run, _ in self.replica_of_seed.values()}.values())


def group_replicas(runs: Iterable[Run]) -> list[Group]:
    """The groups of all replicas, in the order in which they come."""
    flat, members = [], []
    for run in runs:
        config = flat_settings(run.config)
        for number, replica in enumerate(run.replica_settings_and_metrics):
            numbers = {n: short_value_text(replica[n]) for n in run.setting_names if n != "seed"}
            flat.append(config | numbers)
            members.append((run, number))
    telling = fewest_distinguishing_names(flat)
    groups: dict[tuple[str, ...], Group] = {}
    for settings, (run, number) in zip(flat, members, strict=True):
        key = tuple(settings.get(name, ABSENT) for name in telling)
        values = dict(zip(telling, key, strict=True))
        label = group_label(values) or settings.get("method", ABSENT)
        group = groups.setdefault(key, Group(label, values, settings, {}, 0))
        seed = int(run.replica_settings_and_metrics[number]["seed"])
        if seed in group.replica_of_seed:
            groups[key] = group._replace(duplicate_count=group.duplicate_count + 1)
        else:
            group.replica_of_seed[seed] = run, number
    return list(groups.values())


def group_label(distinguishing_settings: dict[str, str]) -> str:
    """What tells a group from the others: `agem, buffer.capacity=50`."""
    return ", ".join(
        value if name in ("method", "buffer") else f"{name}={value}"
        for name, value in distinguishing_settings.items()
        if value != ABSENT
    )


def select_groups(groups: Sequence[Group], conditions: Sequence[str], option: str) -> list[Group]:
    """The groups that meet every condition `NAME=VALUE` or `NAME=VALUE,VALUE`. Raises UserError for
    a name that no group has, and where none is left."""
    names = {name for group in groups for name in group.settings}
    chosen = list(groups)
    for condition in conditions:
        name, equals, text = condition.partition("=")
        require(bool(equals), option, "NAME=VALUE", condition)
        if name not in names:
            hint = did_you_mean(name, names)
            raise UserError(f"`{option}` must name a setting of the runs, found {name!r}{hint}")
        values = text.split(",")
        chosen = [group for group in chosen if group.settings.get(name, ABSENT) in (*values, text)]
    if not chosen:
        options = {group.settings.get(name, ABSENT) for group in groups}
        there = ", ".join(sorted(options)[:10])
        raise UserError(
            f"`{option}` must leave a run, found {' '.join(conditions)!r}; {name} is {there}"
        )
    return chosen


def baseline_group(groups: Sequence[Group], label_or_condition: str) -> Group:
    """The one group that is called so or meets the condition; UserError where there is not one."""
    named = [group for group in groups if group.label == label_or_condition]
    if not named and "=" not in label_or_condition:
        labels = ", ".join(group.label for group in groups[:10])
        hint = (
            did_you_mean(label_or_condition, [group.label for group in groups])
            or f"; there are {labels}"
        )
        raise UserError(
            f"`--baseline` must be a row or NAME=VALUE, found {label_or_condition!r}{hint}"
        )
    chosen = named or select_groups(groups, label_or_condition.split(" "), "--baseline")
    require(len(chosen) == 1, "--baseline", "of one row", [group.label for group in chosen])
    return chosen[0]
