import torch

from gradalign_cli.buffers.k_means import cluster_centres, k_means, nearest_to_centres
from tests.buffers.streams import make_ended_task


def three_clusters():
    """Features of five examples around each of three distant points, and the point of each."""
    torch.manual_seed(0)
    cluster = torch.arange(15) % 3
    return torch.randn(15, 2) + 50 * torch.tensor([[0.0, 0], [1, 0], [0, 1]])[cluster], cluster


def test_centres_are_the_means_of_what_is_nearest_to_them():
    torch.manual_seed(1)
    features = torch.randn(40, 3)
    centres = cluster_centres(features, 4)
    nearest = torch.cdist(features, centres).argmin(1)
    means = torch.stack([features[nearest == k].mean(0) for k in range(4)])
    torch.testing.assert_close(centres, means)


def test_the_most_central_example_of_each_cluster_is_chosen():
    features, cluster = three_clusters()
    chosen = nearest_to_centres(features, 3)
    assert sorted(cluster[chosen].tolist()) == [0, 1, 2]
    for number in chosen:
        members = (cluster == cluster[number]).nonzero()[:, 0]
        distance = (features[members] - features[members].mean(0)).norm(dim=1)
        assert members[distance.argmin()] == number


def test_of_two_examples_equally_far_from_their_centre_the_first_is_chosen():
    """Whatever the last bit of their features says."""
    features = torch.tensor([[0.0, 0.0], [100.0, 0.0], [1.0, 1.0], [101.0, 1.0]])
    for seed in range(20):
        noise = 1e-6 * torch.randn(4, 2, generator=torch.Generator().manual_seed(seed))
        assert nearest_to_centres(features + noise, 2).tolist() == [0, 1]


def test_no_example_is_chosen_twice_and_few_examples_are_all_chosen():
    equal_features = torch.zeros(6, 2)
    assert sorted(nearest_to_centres(equal_features, 4).tolist()) == [0, 1, 2, 3]
    features, _ = three_clusters()
    assert sorted(nearest_to_centres(features, 99).tolist()) == list(range(15))


def test_every_class_of_a_task_fills_its_own_slots():
    features, cluster = three_clusters()
    buffer = k_means(6, "total", tasks=1, classes_per_task=3)
    ended_task = make_ended_task(torch.arange(15), cluster, features)
    memory = buffer.end_task(buffer.init(), 0, ended_task)
    assert memory.class_in_task.tolist() == [0, 0, 1, 1, 2, 2]
    assert (memory.rows % 3 == memory.class_in_task).all()
