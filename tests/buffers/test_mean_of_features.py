import torch

from gradalign_cli.buffers.mean_of_features import examples_nearest_to_mean, mean_of_features
from tests.buffers.streams import make_ended_task


def test_the_nearest_to_the_mean_come_first():
    features = torch.tensor([[0.0], [10.0], [4.0], [6.5], [-1.0]])  # of mean 3.9
    assert examples_nearest_to_mean(features, 3).tolist() == [2, 3, 0]
    assert sorted(examples_nearest_to_mean(features, 9).tolist()) == [0, 1, 2, 3, 4]


def test_every_class_is_compared_with_its_own_mean():
    class_in_task = torch.tensor([0, 0, 0, 1, 1, 1])
    features = torch.tensor([[0.0], [1.0], [5.0], [10.0], [14.0], [15.0]])
    buffer = mean_of_features(2, "total", tasks=1, classes_per_task=2)
    ended_task = make_ended_task(torch.arange(20, 26), class_in_task, features)
    memory = buffer.end_task(buffer.init(), 0, ended_task)
    assert memory.rows.tolist() == [21, 24]
