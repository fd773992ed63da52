"""What makes the rows of a report incomparable, a sentence each."""

from collections.abc import Iterable, Sequence

from gradalign_cli.errors import counted
from gradalign_cli.reports.group import Group
from gradalign_cli.reports.run import Reading, Run

# what decides which examples are learned and tested
DATA_SETTINGS = (
    "benchmark",
    "benchmark.dataset",
    "benchmark.scenario",
    "stream",
    "passes",
    "quick",
)
MOST_NAMES = 4


def comparability_warnings(groups: Sequence[Group], reading: Reading) -> list[str]:
    """A sentence for each thing that one should know before comparing the rows."""
    runs = list({run.folder: run for group in groups for run in group.runs()}.values())
    sentences = [*reading.refusal_sentences]
    for name in data_setting_names(groups):
        values = sorted({group.settings.get(name, "-") for group in groups})
        if len(values) > 1:
            sentences.append(f"rows differ in {name}: {first_names_text(values)}")
    sentences += memory_warnings(groups) + data_warnings(runs) + stream_warnings(runs)
    counts = sorted({len(group.replica_of_seed) for group in groups})
    if len(counts) > 1:
        sentences.append(f"rows have other numbers of seeds: {first_names_text(map(str, counts))}")
    elif len({tuple(sorted(group.replica_of_seed)) for group in groups}) > 1:
        sentences.append("rows have other seeds")
    quick = [run for run in runs if run.config.get("quick")]
    if quick:
        sentences.append(f"{len(quick)} of {counted(len(runs), 'run')} quick, in small")
    tasks = sorted({run.accuracy.shape[2] for run in runs})
    if len(tasks) > 1:
        sentences.append(f"rows have other numbers of tasks: {first_names_text(map(str, tasks))}")
    conventions = sorted({str(config_entry(run, "metrics", "convention")) for run in runs})
    if len(conventions) > 1:
        sentences.append(f"metrics follow other conventions: {first_names_text(conventions)}")
    versions = {str(run.record.get("numerics", 1)) for run in runs}
    if len(versions) > 1:
        sentences.append("runs are of versions whose numbers differ by more than rounding")
    duplicates = sum(group.duplicate_count for group in groups)
    if duplicates:
        sentences.append(
            f"left out: {counted(duplicates, 'replica')} with a seed that its row has already"
        )
    if reading.unfinished_folders:
        names = first_names_text(folder.name for folder in reading.unfinished_folders)
        sentences.append(
            f"left out: {counted(len(reading.unfinished_folders), 'unfinished run')}, {names}"
        )
    runaways = [run for run in runs if run.record.get("runaways")]
    if runaways:
        names = first_names_text(run.folder.name for run in runaways)
        sentences.append(f"parameters ran away in {counted(len(runaways), 'run')}: {names}")
    return sentences


def data_setting_names(groups: Sequence[Group]) -> list[str]:
    """The settings that decide on the data: those of the benchmark and the stream in detail where
    all rows have the same one."""
    same_parts = [
        part
        for part in ("benchmark", "stream")
        if len({group.settings.get(part, "-") for group in groups}) == 1
    ]
    details = sorted(
        name for g in groups for name in g.settings if name.partition(".")[0] in same_parts
    )
    return list(dict.fromkeys([*DATA_SETTINGS, *details]))


def memory_warnings(groups: Sequence[Group]) -> list[str]:
    """A sentence where rows whose labels say the same of buffers have memories of other sizes, as
    a method may bring a buffer of its own."""
    of_label: dict[str, list[Group]] = {}
    for group in groups:
        settings = group.distinguishing_settings.items()
        words = str([(name, value) for name, value in settings if name.startswith("buffer")])
        of_label.setdefault(words, []).append(group)
    return [sentence for alike in of_label.values() for sentence in memory_size_warning(alike)]


def memory_size_warning(groups: Sequence[Group]) -> list[str]:
    """A sentence where the memories of these rows are not equally large."""
    labels: dict[int, list[str]] = {}
    for group in groups:
        counts = [run.record.get("stored_examples") for run in group.runs()]
        numbers = [n for count in counts if isinstance(count, list) for n in count]
        if numbers and all(isinstance(number, int) for number in numbers):
            labels.setdefault(max(numbers), []).append(f"`{group.label}`")
    if len(labels) < 2:
        return []
    memories = "; ".join(
        f"{count} examples ({first_names_text(labels[count])})" for count in sorted(labels)
    )
    advice = "`buffer=NAME buffer.capacity=N buffer.capacity_per=total` gives all the same"
    return [f"rows have memories of other sizes: {memories}; {advice}"]


def data_warnings(runs: Sequence[Run]) -> list[str]:
    """A sentence where runs on what is called the same benchmark met other examples."""
    hashes: dict[str, set[str]] = {}
    for run in runs:
        if "data" in run.record:  # which earlier versions do not say
            benchmark = {name: config_entry(run, name) for name in ("benchmark", "stream", "quick")}
            hashes.setdefault(str(benchmark), set()).add(str(run.record["data"]))
    differ = any(len(values) > 1 for values in hashes.values())
    text = "runs of the same benchmark met other examples: `data` in their record.json differs"
    return [text] if differ else []


def stream_warnings(runs: Sequence[Run]) -> list[str]:
    """A sentence where runs of the same seeds on the same benchmark met other streams."""
    fingerprints: dict[str, set[str]] = {}
    for run in runs:
        seeds = [replica["seed"] for replica in run.replica_settings_and_metrics]
        data_settings = [str(config_entry(run, *name.split("."))) for name in DATA_SETTINGS]
        key = str((seeds, data_settings))
        fingerprints.setdefault(key, set()).add(str(run.record.get("fingerprint")))
    differ = any(len(values) > 1 for values in fingerprints.values())
    text = "runs of the same seeds met other streams: their fingerprints in record.json differ"
    return [text] if differ else []


def config_entry(run: Run, *path: str) -> object:
    """An entry of a run's config, None where it is missing."""
    entry: object = run.config
    for name in path:
        entry = entry.get(name) if isinstance(entry, dict) else None
    return entry


def first_names_text(names: Iterable[object]) -> str:
    """Names in one line, the first few of many."""
    texts = [str(name) for name in names]
    rest = f" and {len(texts) - MOST_NAMES} more" if len(texts) > MOST_NAMES else ""
    return ", ".join(texts[:MOST_NAMES]) + rest
