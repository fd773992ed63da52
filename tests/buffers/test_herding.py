import torch
from torch.nn.functional import normalize

from gradalign_cli.buffers.herding import herd, herding
from tests.buffers.streams import ended


def test_the_first_is_the_nearest_to_the_mean_and_each_next_brings_the_mean_nearest():
    features = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    order = herd(features, 5).tolist()
    length1 = normalize(features, dim=1)
    mean = length1.mean(0)
    for k in range(5):
        chosen = order[:k]
        distance = {
            new: float((length1[[*chosen, new]].mean(0) - mean).norm())
            for new in range(12)
            if new not in chosen
        }
        assert order[k] == min(distance, key=distance.get)


def test_all_of_them_in_any_scale():
    features = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    scaled = features * torch.arange(1.0, 7)[:, None]
    assert herd(features, 9).tolist() == herd(scaled, 9).tolist()
    assert sorted(herd(features, 9).tolist()) == list(range(6))


def test_every_class_of_a_task_fills_its_own_slots():
    buffer = herding(7, "total", tasks=1, classes=3)
    position = torch.arange(30) % 3
    features = torch.randn(30, 4, generator=torch.Generator().manual_seed(2))
    memory = buffer.end_task(buffer.init(), 0, ended(torch.arange(100, 130), position, features))
    assert torch.bincount(memory.class_positions).tolist() == [3, 2, 2]
    assert ((memory.rows - 100) % 3 == memory.class_positions).all()
    member = (position == 1).nonzero()[:, 0]
    expected = 100 + member[herd(features[member], 2)]
    assert memory.rows[memory.class_positions == 1].tolist() == expected.tolist()
    assert buffer.needs_features
