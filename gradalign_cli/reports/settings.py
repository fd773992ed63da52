"""What a run was set to, as flat names and texts; and which of these tell runs apart."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from gradalign_cli.reports.run import printable_line
from gradalign_cli.results.run_files import SETTINGS_WITHOUT_EFFECT, exact_number_text

# settings that leave the numbers of a run as they are, or are shown in another place
LEFT_OUT = (
    *SETTINGS_WITHOUT_EFFECT,
    "replicas",
    "plugins",
    "alignment.every",
    "metrics.continual_every",
    "metrics.continual_samples",
)
PARTS = (
    "method",
    "objective",
    "benchmark",
    "stream",
    "buffer",
    "model",
    "augment",
    "optimizer",
    "schedule",
)
ABSENT = "-"
LONGEST_TEXT, DEEPEST_SETTING, MOST_SETTINGS = 80, 6, 2000


def flat_settings(config: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a config by their dotted names, the parts first. A part, such as `method`, is
    called by its name, or else by that of its function."""
    flat: dict[str, str] = {}
    ordered = {name: config[name] for name in (*PARTS, *config) if name in config}
    add_settings("", ordered, flat, DEEPEST_SETTING)
    return {name: flat[name] for name in sorted(flat, key=lambda name: name not in PARTS)}


def add_settings(
    prefix: str, entries: Mapping[str, Any], settings_by_name: dict[str, str], levels_left: int
) -> None:
    """Add the entries, and those in them, to the flat settings."""
    for key, value in entries.items():
        name = f"{prefix}{printable_line(str(key), LONGEST_TEXT)}"
        if name in LEFT_OUT or len(settings_by_name) >= MOST_SETTINGS:
            continue
        if isinstance(value, dict) and levels_left:
            inner = value
            if "_target_" in value:
                settings_by_name[name] = part_name(value)
                inner = {key: v for key, v in value.items() if key not in ("name", "_target_")}
            add_settings(f"{name}.", inner, settings_by_name, levels_left - 1)
        else:
            settings_by_name[name] = short_value_text(value)


def part_name(part_config: Mapping[str, Any]) -> str:
    """What a part is called."""
    name = part_config.get("name") or str(part_config["_target_"]).rpartition(".")[2]
    return printable_line(str(name), LONGEST_TEXT)


def short_value_text(value: Any) -> str:
    """A value as it stands on the command line."""
    if isinstance(value, float):
        return exact_number_text(value)
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if len(text) <= LONGEST_TEXT:
        return printable_line(text, LONGEST_TEXT)
    digest = hashlib.blake2b(text.encode(errors="replace"), digest_size=4).hexdigest()
    return f"{printable_line(text, LONGEST_TEXT - len(digest) - 1)} {digest}"  # so that two differ


def fewest_distinguishing_names(settings_of_replicas: Sequence[Mapping[str, str]]) -> list[str]:
    """The fewest names of settings, in their order, whose values tell apart all replicas that were
    set otherwise: a name is taken if it tells more apart than those before it."""
    names = list(dict.fromkeys(name for entry in settings_of_replicas for name in entry))
    distinguishing: list[str] = []
    labels: list[tuple[str, ...]] = [() for _ in settings_of_replicas]
    for name in names:
        finer = [
            (*label, entry.get(name, ABSENT))
            for label, entry in zip(labels, settings_of_replicas, strict=True)
        ]
        if len(set(finer)) > len(set(labels)):
            labels, distinguishing = finer, [*distinguishing, name]
    return distinguishing
