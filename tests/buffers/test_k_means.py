import torch

from gradalign_cli.buffers.k_means import centres, k_means, nearest_to_centres
from tests.buffers.streams import ended


def blobs():
    """Five examples around each of three far points, and which point each belongs to."""
    torch.manual_seed(0)
    owner = torch.arange(15) % 3
    return torch.randn(15, 2) + 50 * torch.tensor([[0.0, 0], [1, 0], [0, 1]])[owner], owner


def test_centres_are_the_means_of_what_is_nearest_to_them():
    torch.manual_seed(1)
    features = torch.randn(40, 3)
    found = centres(features, 4)
    nearest = torch.cdist(features, found).argmin(1)
    means = torch.stack([features[nearest == k].mean(0) for k in range(4)])
    torch.testing.assert_close(found, means)


def test_one_example_of_each_cluster_is_kept_the_most_central():
    features, owner = blobs()
    chosen = nearest_to_centres(features, 3)
    assert sorted(owner[chosen].tolist()) == [0, 1, 2]
    for number in chosen:
        member = (owner == owner[number]).nonzero()[:, 0]
        distance = (features[member] - features[member].mean(0)).norm(dim=1)
        assert member[distance.argmin()] == number


def test_none_is_taken_twice_and_few_are_all_taken():
    same = torch.zeros(6, 2)
    assert sorted(nearest_to_centres(same, 4).tolist()) == [0, 1, 2, 3]
    features, _ = blobs()
    assert sorted(nearest_to_centres(features, 99).tolist()) == list(range(15))


def test_every_class_of_a_task_fills_its_own_slots():
    features, owner = blobs()
    buffer = k_means(6, "total", tasks=1, classes=3)
    memory = buffer.end_task(buffer.init(), 0, ended(torch.arange(15), owner, features))
    assert memory.class_positions.tolist() == [0, 0, 1, 1, 2, 2]
    assert (memory.rows % 3 == memory.class_positions).all()
