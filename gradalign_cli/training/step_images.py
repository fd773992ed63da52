"""The images that steps read, where a dataset is too large for the device: those of the memory and
of the draws of two chunks of steps.

Steps find an image by its place in a window, a tensor that stays where it is, as captured steps
read it again. In a chunk the memory can only gain rows of the chunk's draws. So what its steps may
read is there before them: what the memory holds, and what the draws name. While the device takes
the steps, the images of the next chunk's draws are copied to places that none of the steps reads.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor

from gradalign_cli.errors import require
from gradalign_cli.numerics.devices import CPU
from gradalign_cli.step.draws import Draw
from gradalign_cli.step.learner import Learner, Parts
from gradalign_cli.training.plan import TrainingPlan, chunk_size

GIB = 2**30
StartPrefetch = Callable[[], None]  # begins to copy the images of the next chunk


def images_drawn_per_chunk(parts: Parts, plan: TrainingPlan, device: torch.device) -> int:
    """How many images the draws of a replica name in a chunk of steps, at most."""
    return plan.batch_size * chunk_size(plan, parts.model, device)


def peak_device_image_bytes(
    parts: Parts, replicas: int, plan: TrainingPlan, device: torch.device
) -> int:
    """Bytes of the images that are on the device while replicas take steps, at most, where the
    dataset is not: those in the window, and those of a chunk on their way into it."""
    places = window_places(parts, replicas, plan, device)
    on_their_way = replicas * images_drawn_per_chunk(parts, plan, device)
    return (places + on_their_way) * parts.benchmark.images.shape[1]


def window_places(parts: Parts, replicas: int, plan: TrainingPlan, device: torch.device) -> int:
    """How many images the window has places for: those that the memory holds, those of two chunks,
    and that of row 0, which stands for padding."""
    chunks = 2 * images_drawn_per_chunk(parts, plan, device)
    return 1 + replicas * (len(parts.buffer.init().rows) + chunks)


def replicas_within_image_budget(
    parts: Parts, plan: TrainingPlan, image_budget_bytes: float, device: torch.device
) -> int:
    """How many replicas may train at once so that their images on the device have at most
    `image_budget_bytes`. Raises UserError where not even one may."""
    one, two = (peak_device_image_bytes(parts, count, plan, device) for count in (1, 2))
    least = min(one, parts.benchmark.images.numel()) / GIB
    domain = f"at least {rounded_up(least)}, for the memory and the steps of one replica"
    require(one <= image_budget_bytes, "image_budget", domain, image_budget_bytes / GIB)
    return 1 + int((image_budget_bytes - one) // (two - one))


def nothing_to_prefetch() -> None:
    """What is to be done where no images are missing."""


def rounded_up(value: float) -> str:
    """A positive number with three digits that is no smaller."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{math.ceil(value / step) * step:.6g}"


class StepImages:
    """Brings the images that steps read to the device; does nothing where the dataset is there.

    parts: those of the run, with the images that steps read as the benchmark's.
    """

    def __init__(
        self, parts: Parts, replicas: int, plan: TrainingPlan, device: torch.device
    ) -> None:
        self.parts, benchmark = parts, parts.benchmark
        self.on_host = benchmark.images_on_host
        if not self.on_host:
            return
        count, pixels = benchmark.images.shape
        places = window_places(parts, replicas, plan, device)
        self.host_images, self.device = benchmark.images, device
        self.copied_at_once = replicas * images_drawn_per_chunk(parts, plan, device)
        self.window = torch.zeros(places, pixels, dtype=torch.uint8, device=device)
        self.place_on_device = torch.zeros(count, dtype=torch.long, device=device)
        # on the host, with an entry behind the last for "no row" and -1 for "no place"
        self.place_of_row = torch.full((count + 1,), -1)
        self.row_of_place = torch.full((places,), count)
        self.rows_in_use = self.row_of_place[:0]
        self.stream = None
        if device.type == "cuda":
            self.stream = torch.cuda.Stream()
            self.stream.wait_stream(torch.cuda.current_stream())
            for tensor in (self.window, self.place_on_device):
                tensor.record_stream(self.stream)
        windowed = benchmark._replace(images=self.window, place_of_row=self.place_on_device)
        self.parts = parts._replace(benchmark=windowed._replace(images_on_host=False))

    def with_next(self, chunks: Iterator[Draw]) -> Iterator[tuple[Draw, Draw | None]]:
        """The draws of each chunk with those of the next one: None behind the last, and for all
        where nothing is to be brought."""
        if not self.on_host:
            yield from ((draws, None) for draws in chunks)
            return
        draws = next(chunks, None)
        while draws is not None:
            next_draws = next(chunks, None)
            yield draws, next_draws
            draws = next_draws

    def load_and_get_prefetch(
        self, draws: Draw, next_draws: Draw | None, learners: Learner
    ) -> StartPrefetch:
        """Have the images on the device that a chunk of steps with these draws [S, R, ...] may
        read. The steps of the chunk before it are done. Returns what is to be called while the
        device takes the steps of this chunk."""
        if not self.on_host:
            return nothing_to_prefetch
        stored_rows = learners.memory.rows.to(CPU).flatten().clamp_min(0)
        self.rows_in_use = torch.cat([stored_rows, draws.rows.flatten(), stored_rows.new_zeros(1)])
        self.copy_missing(self.rows_in_use)
        if self.stream:
            torch.cuda.current_stream().wait_stream(self.stream)
        if next_draws is None:
            return nothing_to_prefetch
        return partial(self.copy_missing, next_draws.rows.flatten())

    def copy_missing(self, rows: Tensor) -> None:
        """Copy the images of those rows [n] that have none in the window to places that hold none
        of these rows nor of those in use."""
        missing = rows[self.place_of_row[rows] < 0].unique()
        if not len(missing):
            return
        is_taken = torch.zeros(len(self.row_of_place) + 1, dtype=torch.bool)
        is_taken[self.place_of_row[torch.cat([rows, self.rows_in_use])]] = True
        places = (~is_taken[:-1]).nonzero()[: len(missing), 0]
        self.place_of_row[self.row_of_place[places]] = -1
        self.row_of_place[places] = missing
        self.place_of_row[missing] = places
        pieces = [indices.split(self.copied_at_once) for indices in (missing, places)]
        with torch.cuda.stream(self.stream) if self.stream else nullcontext():
            for piece in zip(*pieces, strict=True):
                self.copy_to_places(*piece)

    def copy_to_places(self, rows: Tensor, places: Tensor) -> None:
        """Copy the images of rows [n] to places [n] of the window. From page-locked memory a GPU
        copies while it computes."""
        shape, on_gpu = (len(rows), self.host_images.shape[1]), self.stream is not None
        images = torch.empty(shape, dtype=torch.uint8, pin_memory=on_gpu)
        torch.index_select(self.host_images, 0, rows, out=images)
        rows, places = (indices.to(self.device) for indices in (rows, places))
        self.window.index_copy_(0, places, images.to(self.device, non_blocking=True))
        self.place_on_device.index_copy_(0, rows, places)
