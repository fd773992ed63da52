import torch
from torch.nn.functional import normalize

from gradalign_cli.buffers.herding import herding, herding_order
from tests.buffers.streams import make_ended_task


def test_the_first_is_the_nearest_to_the_mean_and_each_next_brings_the_mean_nearest():
    features = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    order = herding_order(features, 5).tolist()
    normalised = normalize(features, dim=1)
    mean = normalised.mean(0)
    for k in range(5):
        chosen = order[:k]
        distance = {
            candidate: float((normalised[[*chosen, candidate]].mean(0) - mean).norm())
            for candidate in range(12)
            if candidate not in chosen
        }
        assert order[k] == min(distance, key=distance.get)


def test_all_examples_are_chosen_where_they_are_few_and_the_scale_of_a_feature_does_not_matter():
    features = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    scaled = features * torch.arange(1.0, 7)[:, None]
    assert herding_order(features, 9).tolist() == herding_order(scaled, 9).tolist()
    assert sorted(herding_order(features, 9).tolist()) == list(range(6))


def test_every_class_of_a_task_fills_its_own_slots():
    buffer = herding(7, "total", tasks=1, classes_per_task=3, shrinks=False)
    class_in_task = torch.arange(30) % 3
    features = torch.randn(30, 4, generator=torch.Generator().manual_seed(2))
    ended_task = make_ended_task(torch.arange(100, 130), class_in_task, features)
    memory = buffer.end_task(buffer.init(), 0, ended_task)
    assert torch.bincount(memory.class_in_task).tolist() == [3, 2, 2]
    assert ((memory.rows - 100) % 3 == memory.class_in_task).all()
    in_class = (class_in_task == 1).nonzero()[:, 0]
    expected = 100 + in_class[herding_order(features[in_class], 2)]
    assert memory.rows[memory.class_in_task == 1].tolist() == expected.tolist()
    assert buffer.needs_features
