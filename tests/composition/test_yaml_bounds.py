import os
import resource

import pytest

from gradalign_cli.composition.interpolations import check_interpolations_are_safe
from gradalign_cli.composition.yaml_bounds import MOST_VALUES, check_yaml
from gradalign_cli.errors import UserError


def refusal(path, text):
    """Why a file with this text is refused."""
    path.write_text(text)
    with pytest.raises(UserError) as error:
        check_yaml(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "must be valid yaml"),
        ("a: \x00", "must be valid yaml"),
        ("a: " + "[" * 5000, "must be valid yaml"),
        ("[1, 2]", "must hold settings with values"),
        ("just text", "must hold settings with values"),
        ("a: !!python/object/apply:os.getcwd []", "must hold plain values, found the tag"),
        ("a: !!binary aGk=", "must hold plain values, found the tag"),
        ("a: &a {b: *a}", "must hold at most"),
        ("a: " + "x" * 2**20, "must have at most 1048576 bytes"),
    ],
)
def test_only_plain_values_within_bounds_are_read(text, sentence, tmp_path):
    assert sentence in refusal(tmp_path / "a.yaml", text)


def test_values_are_counted_with_their_aliases_written_out(tmp_path):
    path = tmp_path / "a.yaml"
    values = (MOST_VALUES - 5) // 2  # beside the mapping, two keys and two lists
    path.write_text(f"a: &a [{','.join(['1'] * values)}]\nb: *a\n")
    check_yaml(path)
    assert "must hold at most" in refusal(path, path.read_text() + "c: 1")


def test_pipes_and_devices_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a.yaml")
    for path, kind in ((tmp_path / "a.yaml", "pipe"), ("/dev/zero", "device")):
        with pytest.raises(UserError, match=kind):
            check_yaml(path)


def test_interpolations_may_not_multiply():
    texts = {"a0": "x" * 40} | {f"a{i + 1}": f"${{a{i}}}${{a{i}}}" for i in range(25)}
    values = {"a0": {"x": 1}} | {
        f"a{i + 1}": {"x": f"${{a{i}}}", "y": f"${{a{i}}}"} for i in range(25)
    }
    hidden = {"n": "a"} | {f"a{i + 1}": f"${{${{n}}{i}}}${{oc.select:a{i}}}" for i in range(25)}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for config in (texts, values, hidden | {"a0": "x"}):
        with pytest.raises(UserError, match=r"larger than 1 MiB|so often"):
            check_interpolations_are_safe(config)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_long_chain_of_interpolations_and_too_many_are_refused():
    for order in (1, -1):
        chain = [(f"a{i}", f"${{a{i + 1}}}") for i in range(200)][::order]
        with pytest.raises(UserError, match="so often"):
            check_interpolations_are_safe(dict(chain) | {"a200": 1})
    with pytest.raises(UserError, match="at most 1000 interpolations"):
        check_interpolations_are_safe({"a": [f"${{b{i}}}" for i in range(1001)]})


def test_ordinary_interpolations_pass_and_cycles_are_left_to_omegaconf():
    check_interpolations_are_safe(
        {
            "lr": "${oc.select:paper.${method.name}.lr,0.1}",
            "method": {"name": "gem", "same": "${.name}"},
            "paper": {"gem": {"lr": "${lr}"}},
            "folder": "outputs/${now:%Y}_${unique:}/${hydra:job.name}",
            "hydra": {"job": {"name": "x"}},
        }
    )
