import torch

from gradalign_cli.methods.finetune import finetune
from gradalign_cli.training.replica import new_learner
from tests.runs import make_parts, make_replicas, steps_of_task


def test_fine_tuning_is_sgd_on_the_batch(tiny):
    parts = make_parts(tiny, finetune())
    replica = make_replicas(parts)[0]
    learner = new_learner(parts, replica)
    weights = torch.nn.Parameter(learner.params.clone())
    sgd = torch.optim.SGD([weights], lr=0.1)
    for _, draw, view, after, _ in steps_of_task(parts, replica, learner, 0):
        x = (parts.benchmark.images[draw.rows] / 255).view(-1, *parts.benchmark.image_shape)
        logits = parts.model.apply(weights, weights[:0], x, True).logits[
            :, view.visible_logit_mask[0]
        ]
        sgd.zero_grad()
        torch.nn.functional.cross_entropy(logits, parts.benchmark.labels[draw.rows]).backward()
        sgd.step()
        torch.testing.assert_close(after.params, weights.detach())
