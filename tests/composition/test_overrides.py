import pytest

from gradalign_cli.composition.overrides import hydra_overrides
from gradalign_cli.composition.paths import CONF
from gradalign_cli.errors import UserError


@pytest.mark.parametrize(
    ("typed", "changed"),
    [
        ("method=gem", "method=gem"),
        ("+method=gem", "method=gem"),
        ("experiment=split_mnist", "+experiment=split_mnist"),
        ("objective=der", "method@objective=der"),
        ("objective=null", "~method@objective"),
        ("~objective", "~method@objective"),
        ("stream=null", "~stream"),
        ("batch_size=20", "++batch_size=20"),
        ("+batch_size=20", "++batch_size=20"),
        ("replicas.margin=[0,1]", "++replicas.margin=[0,1]"),
        ("hydra.run.dir=x", "hydra.run.dir=x"),
        ("hydra/launcher=basic", "hydra/launcher=basic"),
        ("~paper.gem", "~paper.gem"),
    ],
)
def test_a_group_is_chosen_and_any_other_value_added_or_replaced(typed, changed):
    assert hydra_overrides([typed], [CONF]) == [changed]


@pytest.mark.parametrize(
    "typed",
    [
        *("", "=5", "+", "~~x", "+++a=1", "a b=5", "batch_size", "batch_size:5", "method.=1"),
        *(
            "name=é",
            "name=a\nb",
            "name=${",
            'name="a',
            "batch_size=" + "9" * 5000,
            "a" * 300 + "=1",
        ),
        *("method=[gem]", "method={a: 1}", "method=5", "experiment=[a,b]", "model=null"),
        *("method@foo=gem", "~buffer", "~name", "~hydra", "hydra=null", "-m=\udcff"),
        *("method.name=gem", "objective.name=der"),
    ],
)
def test_what_cannot_be_read_or_means_nothing_is_refused_in_a_short_sentence(typed):
    with pytest.raises(UserError) as error:
        hydra_overrides([typed], [CONF])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
