"""What the documents show runs as it stands."""

import re
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from gradalign_cli.commands.explain import method_svg
from gradalign_cli.commands.list import method_table
from gradalign_cli.composition.paths import CONF
from gradalign_cli.methods.method import needed_task_ids
from gradalign_cli.results.metrics import continual_evaluation_metrics, metrics
from gradalign_cli.results.run_folder import ALIGNMENT_COLUMNS
from tests.methods.catalogue import METHODS, method
from tests.methods.facts import TASKS, backward_passes, gradients_taken, state_bytes
from tests.script_modules import load_script

DOCS = Path(__file__).resolve().parents[1] / "docs"


def safe_step():
    """The function that docs/methods.md prints."""
    text = (DOCS / "methods.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(compile(block, "docs/methods.md", "exec"), names)
    return names["safe_step"]


def weights_of(network):
    return torch.cat([w.detach().flatten().clone() for w in network.parameters()])


def test_the_printed_step_is_orthogonal_to_a_memory_it_would_hurt_and_sgd_otherwise():
    step = safe_step()
    conflicts = 0
    for seed in range(20):
        torch.manual_seed(seed)
        network = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
        network.unused = torch.nn.Parameter(torch.ones(2))
        network = network.double()
        new, memory = [(torch.randn(6, 5).double(), torch.randint(0, 3, (6,))) for _ in range(2)]

        def gradient(x, y, network=network):
            loss = cross_entropy(network(x), y) + 0 * network.unused.sum()
            parts = torch.autograd.grad(loss, list(network.parameters()))
            return torch.cat([part.flatten() for part in parts])

        g, r, before = gradient(*new), gradient(*memory), weights_of(network)
        step(network, new, memory, 0.1)
        direction = (before - weights_of(network)) / 0.1
        conflicts += int(g @ r < 0)
        expected = g - min(float(g @ r), 0.0) / (r @ r) * r
        torch.testing.assert_close(direction, expected)
        before, g = weights_of(network), gradient(*new)
        step(network, new, None, 0.1)
        torch.testing.assert_close(weights_of(network), before - 0.1 * g)
    assert 0 < conflicts < 20


def test_the_readme_says_how_many_methods_there_are():
    assert f" {len(METHODS)} methods " in (DOCS.parent / "README.md").read_text()


def test_every_method_is_in_the_table_once_with_what_it_costs_and_needs():
    text = (DOCS / "methods.md").read_text()
    rows = re.findall(r"^\| (\w+) \|", text, re.MULTILINE)
    assert sorted(rows) == sorted([*METHODS, "method"])
    table = method_table(CONF)
    told = {name: (row["task ids"], row["bytes"]) for name, row in table.items()}
    made = {name: method(name) for name in METHODS}
    assert told == {name: (needed_task_ids(m), state_bytes(m)) for name, m in made.items()}
    for b, m in ((2, 3), (5, 7)):
        of = {"T": TASKS, "b": b, "m": m}
        told_passes = {name: eval(row["passes"], of) for name, row in table.items()}
        assert told_passes == {name: backward_passes(each, b, m) for name, each in made.items()}
        for each in made.values():
            assert each.gradient_count(b, m) == gradients_taken(each, b, m)


def test_the_gallery_shows_every_method_that_can_be_drawn_as_it_is_now():
    """If not: python scripts/make_gallery.py"""
    methods = {name: method(name) for name in METHODS}
    drawn = {n: method_svg(n, m) for n, m in methods.items() if m.references != "nothing"}
    script = load_script("make_gallery")
    overview = script.overview(script.drawn_methods())
    assert all(f">{name}</tspan>" in overview for name in drawn)
    files = {path.stem: path.read_text() for path in (DOCS / "gallery").iterdir()}
    assert files == drawn | {"overview": overview}
    shown = re.findall(r"!\[(\w+)\]\(gallery/\1.svg\)", (DOCS / "gallery.md").read_text())
    assert sorted(shown) == sorted(drawn)


def test_every_link_inside_the_project_leads_somewhere():
    root, broken, count = DOCS.parent, [], 0
    for page in [root / "README.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if target.startswith(("https://", "http://")):
                continue
            count += 1
            file, _, heading = target.partition("#")
            linked = page.parent / file if file else page
            if not linked.exists():
                broken.append((page.name, target))
            elif heading:
                titles = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
                anchors = [re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles]
                broken += [(page.name, target)] if heading not in anchors else []
    assert broken == []
    assert count > 20


def test_every_metric_that_a_run_writes_is_defined():
    rows = re.findall(r"^\| (\w+) \|", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    accuracy = np.full((3, 2), 0.5)
    written = {*metrics(accuracy, np.full((2, 11), 0.5))}
    written |= {*continual_evaluation_metrics(accuracy[1:], np.array([0, 1]))}
    written |= {*ALIGNMENT_COLUMNS[3:]}
    assert len(written) == 15
    assert sorted(rows) == sorted([*written, "metric", "metric", "column"])


def sentences(text):
    """The sentences of a page in Markdown; code and the target of a link count as one word."""
    text = re.sub(r"^( *)(```|~~~).*?^ *\2 *$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    blocks, in_list = [""], False
    for line in text.splitlines():
        item = re.match(r" *([-*+]|\d+\.) +", line)
        if not line.strip() or re.match(r" *(#+ |\||:?[-=]{3,}|\$\$)", line):
            blocks.append("")
            in_list &= not line.strip()
        elif not (item or in_list or blocks[-1]) and line.startswith("    "):
            continue
        else:
            in_list |= bool(item)
            if not line.startswith(" ") and not item and not blocks[-1]:
                in_list = False
            blocks += [line[item.end() :]] if item else [f"{blocks.pop()} {line.strip(' >')}"]
    found = []
    for block in blocks:
        block = re.sub(r"(`+).+?\1", "CODE", block)
        block = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", block)
        block = re.sub(r"<?https?://\S*[^\s.,;:)>]>?", "LINK", block)
        block = re.sub(r"\b(e\.g|i\.e|et al|[Ss]ec|vs|cf|[Ff]ig|[Ee]q|pp?)\.", r"\1", block)
        found += [part.split() for part in re.split(r"(?<=[.!?])[)\"'*_]*\s+", block)]
    words = [[word for word in part if re.search(r"\w", word)] for part in found]
    return [part for part in words if part]


def test_the_sentences_of_a_page_are_told_apart():
    page = (
        "# A title of four words. Or more\n\n"
        "One `two words` three, e.g. this. and *this.* 3 of it\ngoes on [a link](to/a page.md).\n\n"
        "- An item\n  and more\n- another: v1.5 by A et al. here\n\n"
        "Code:\n\n    indented code. is not read\n\n"
        "| a | table. or |\n|---|---|\n\n```sh\nnor. this\n```\nEnd?"
    )
    assert [" ".join(words) for words in sentences(page)] == [
        "One CODE three, e.g this.",
        "and *this.",
        "3 of it goes on a link.",
        "An item and more",
        "another: v1.5 by A et al here",
        "Code:",
        "End?",
    ]


def test_no_sentence_of_the_docs_has_more_than_30_words():
    root, long, count = DOCS.parent, [], 0
    for page in [root / "README.md", root / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]:
        for words in sentences(page.read_text()):
            count += 1
            if len(words) > 30:
                long.append(f"{page.name}: {len(words)} words: {' '.join(words[:8])}")
    assert long == []
    assert count > 800
