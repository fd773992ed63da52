"""The public names with their types; __init__.py imports each when it is first used."""

from gradalign_cli.benchmarks.benchmark import (
    Benchmark as Benchmark,
)
from gradalign_cli.benchmarks.benchmark import (
    Stream as Stream,
)
from gradalign_cli.benchmarks.benchmark import (
    TaskViews as TaskViews,
)
from gradalign_cli.benchmarks.examples import (
    Examples as Examples,
)
from gradalign_cli.benchmarks.options import (
    dataset_tensors as dataset_tensors,
)
from gradalign_cli.benchmarks.permuted import (
    permuted as permuted,
)
from gradalign_cli.benchmarks.rotated import (
    rotated as rotated,
)
from gradalign_cli.benchmarks.split import (
    split as split,
)
from gradalign_cli.buffers.buffer import (
    Arrivals as Arrivals,
)
from gradalign_cli.buffers.buffer import (
    Buffer as Buffer,
)
from gradalign_cli.buffers.buffer import (
    CapacityUnit as CapacityUnit,
)
from gradalign_cli.buffers.buffer import (
    EndedTask as EndedTask,
)
from gradalign_cli.buffers.buffer import (
    Memory as Memory,
)
from gradalign_cli.buffers.buffer import (
    empty_memory as empty_memory,
)
from gradalign_cli.buffers.buffer import (
    keep_memory as keep_memory,
)
from gradalign_cli.buffers.buffer import (
    total_capacity as total_capacity,
)
from gradalign_cli.buffers.buffer import (
    write_to_slots as write_to_slots,
)
from gradalign_cli.contract.gradients import (
    make_gradients as make_gradients,
)
from gradalign_cli.data.dataset import (
    Dataset as Dataset,
)
from gradalign_cli.data.sources import (
    load_dataset as load_dataset,
)
from gradalign_cli.errors import (
    UserError as UserError,
)
from gradalign_cli.errors import (
    require as require,
)
from gradalign_cli.errors import (
    require_choice as require_choice,
)
from gradalign_cli.library import (
    RunResult as RunResult,
)
from gradalign_cli.library import (
    direction as direction,
)
from gradalign_cli.library import (
    make_method as make_method,
)
from gradalign_cli.library import (
    run as run,
)
from gradalign_cli.methods.method import (
    Gradients as Gradients,
)
from gradalign_cli.methods.method import (
    LossInputs as LossInputs,
)
from gradalign_cli.methods.method import (
    Method as Method,
)
from gradalign_cli.methods.method import (
    MethodSetup as MethodSetup,
)
from gradalign_cli.methods.method import (
    Probe as Probe,
)
from gradalign_cli.methods.method import (
    keep_gradient as keep_gradient,
)
from gradalign_cli.models.losses import (
    cross_entropy as cross_entropy,
)
from gradalign_cli.models.model import (
    Layer as Layer,
)
from gradalign_cli.models.model import (
    Model as Model,
)
from gradalign_cli.models.model import (
    Output as Output,
)
from gradalign_cli.numerics.generators import (
    generator as generator,
)
from gradalign_cli.numerics.vectors import (
    flatten_tensors as flatten_tensors,
)
from gradalign_cli.numerics.vectors import (
    ratio_or_zero as ratio_or_zero,
)
from gradalign_cli.numerics.vectors import (
    split_vector as split_vector,
)
from gradalign_cli.results.metrics import (
    forgetting_matrix as forgetting_matrix,
)
from gradalign_cli.results.metrics import (
    metrics as metrics,
)

HOMES: dict[str, str]
__version__: str
