"""A recording has the operations of a function, and takes no longer to make than it must."""

import torch
from torch._subclasses import fake_tensor

from gradalign_cli.numerics.recording import record


def test_a_recording_gives_what_the_function_gives_and_notes_shapes_in_one_mode(monkeypatch):
    """A FakeTensorMode takes a millisecond to make, and a step has thousands of operations."""
    modes = []
    make = fake_tensor.FakeTensorMode.__init__

    def count_and_make(mode, *arguments, **options):
        modes.append(mode)
        make(mode, *arguments, **options)

    monkeypatch.setattr(fake_tensor.FakeTensorMode, "__init__", count_and_make)

    def function(x, y):
        return (x @ y).relu().sum(0), y.sort().indices

    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randn(2, 3, 3, generator=draw) for _ in range(2))
    operations = record(function, *first)
    assert len(modes) == 1
    for found, wanted in zip(operations(*second), function(*second), strict=True):
        assert torch.equal(found, wanted)
