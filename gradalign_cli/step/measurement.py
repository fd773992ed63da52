"""What a buffer is told of the network that a step leaves: losses, or cosines of gradients."""

from collections.abc import Callable

from gradalign_cli.benchmarks.benchmark import TaskViews
from gradalign_cli.benchmarks.examples import Examples
from gradalign_cli.benchmarks.loading import load_examples
from gradalign_cli.buffers.buffer import Measurements, sample_memory
from gradalign_cli.buffers.measures import measure_cosines, measure_losses
from gradalign_cli.numerics.trees import Absent, take_rows, tree_index
from gradalign_cli.step.draws import Draw, ones_like_batch
from gradalign_cli.step.learner import Learner, Parts, make_network
from gradalign_cli.step.reading_sizes import measured_example_count, usable_slot_indices

# of the updated learner, the batch, the draw and the view
Measure = Callable[[Learner, Examples, Draw, TaskViews], Measurements | Absent]


def make_measure(parts: Parts, past_tasks: int) -> Measure:
    """How the arrivals and a few random stored examples are measured, where the buffer asks."""
    buffer, slots, size = (
        parts.buffer,
        usable_slot_indices(parts, past_tasks),
        measured_example_count(parts, past_tasks),
    )
    # tests drop no units and use running statistics, so that an example's answer is its own
    network, mixes = make_network(parts.model, training=False), parts.model.may_mix_examples

    def measure(
        after: Learner, batch: Examples, draw: Draw, view: TaskViews
    ) -> Measurements | Absent:
        if buffer.measures == "nothing":
            return ()
        filled = take_rows(after.memory.rows, slots) >= 0
        sample = tree_index(
            sample_memory(after.memory, slots, filled, size, draw.buffer_measure_uniform, mixes), 0
        )
        stored = load_examples(parts.benchmark, view, sample.rows, sample.tasks, sample.valid)
        arrived = batch._replace(valid=ones_like_batch(draw))
        if parts.augmentation is not None:  # examples are compared as they are
            plain = load_examples(parts.benchmark, view, draw.rows, draw.tasks)
            arrived = arrived._replace(images=plain.images)
        examples = after.params, after.statistics, arrived, stored
        if buffer.measures == "losses":
            return Measurements(*measure_losses(network, *examples), sample.slots, sample.valid)
        cosines = measure_cosines(network, parts.model.factored_gradients, *examples)
        return Measurements(
            cosines.of_each_arrival, (), sample.slots, sample.valid, cosines.of_batch
        )

    return measure
