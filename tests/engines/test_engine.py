import torch

from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.engine import with_test_threads
from tests.methods.catalogue import method
from tests.runs import make_parts, make_replicas, same, train


def test_only_tests_use_the_number_of_test_threads(tiny):
    parts = make_parts(tiny, method("finetune"), samples=10)
    replicas, test_threads = make_replicas(parts), []

    def map_replicas(function, *trees):
        test_threads.append(torch.get_num_threads())
        return eager().map_replicas(function, *trees)

    step_threads = torch.get_num_threads()
    engine = with_test_threads(eager()._replace(map_replicas=map_replicas), step_threads + 1)
    same(train(parts, replicas, engine), train(parts, replicas), tolerance=0)
    assert set(test_threads) == {step_threads + 1}
    assert torch.get_num_threads() == step_threads
