import torch

from gradalign_cli.engines.eager import eager
from gradalign_cli.engines.engine import testing_with as with_threads
from tests.methods.catalogue import method
from tests.runs import make_parts, make_replicas, same, train


def test_tests_have_threads_of_their_own_and_leave_the_steps_theirs(tiny):
    parts = make_parts(tiny, method("finetune"), samples=10)
    replicas, seen = make_replicas(parts), []

    def each(function, *trees):
        seen.append(torch.get_num_threads())
        return eager().each(function, *trees)

    before = torch.get_num_threads()
    found = train(parts, replicas, with_threads(eager()._replace(each=each), before + 1))
    same(found, train(parts, replicas), tolerance=0)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before
