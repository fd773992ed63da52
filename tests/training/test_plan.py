"""How many steps an engine takes at once."""

import pytest
import torch

from gradalign_cli.training.plan import CHUNK, TrainingPlan, chunk_size
from tests.runs import noisy, small

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("every", [1, 7, CHUNK, CHUNK + 1])
def test_a_chunk_is_the_smallest_multiple_of_the_measured_steps_that_is_long_enough(every):
    chunk = chunk_size(TrainingPlan(1, 10, every, 0), small((1, 4, 4), 6), CPU)
    assert chunk % every == 0
    assert CHUNK <= chunk < CHUNK + every


def test_a_convolutional_network_takes_short_chunks_on_a_cpu_alone():
    network, plan = noisy((1, 4, 4), 6), TrainingPlan(1, 10, 7, 0)
    assert chunk_size(plan, network, CPU) == 7
    assert chunk_size(plan, network, GPU) == 105


def test_a_chunk_ends_where_a_test_between_the_steps_comes():
    assert chunk_size(TrainingPlan(1, 10, 7, 0, continual_every=3), small((1, 4, 4), 6), CPU) == 3
