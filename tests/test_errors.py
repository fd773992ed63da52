"""The sentences that a user's mistakes are told in."""

import pytest

from gradalign_cli.errors import did_you_mean


@pytest.mark.parametrize(
    ("name", "sentence_end"),
    [
        ("agme", "; did you mean `agem`?"),
        ("GEM", "; did you mean `gem` or `agem`?"),
        ("ogd_pls", "; did you mean `ogd_plus` or `ogd`?"),
        ("nothing_like_it", ""),
        ("", ""),
    ],
)
def test_a_mistyped_name_is_answered_with_those_it_is_most_like(name, sentence_end):
    assert did_you_mean(name, ["agem", "gem", "ogd", "ogd_plus"]) == sentence_end


def test_names_are_given_as_they_are_written():
    assert did_you_mean("p-mnist", ["P-MNIST", "CIFAR"]) == "; did you mean `P-MNIST`?"
