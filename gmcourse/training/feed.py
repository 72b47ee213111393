"""From data to batches: which batch step k sees depends on (seed, rank, k) alone.

That one property makes training resumable at any step, and gives each process of a distributed run its own share. Finite
data are walked through in a fresh random order every epoch; a Distribution gives fresh samples at every step, for ever.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.utils.data import DataLoader, Dataset

from gmcourse.randomness import set_seed

Data = Tensor | Sequence[Tensor] | Dataset | Distribution


@dataclass(frozen=True)
class Share:
    """The part of the data that belongs to one of `world` processes: `batch_size` rows of every step."""

    batch_size: int
    seed: int = 0
    rank: int = 0
    world: int = 1

    def steps_per_epoch(self, n: int) -> int:
        """Batches in one pass over n rows, at least 1. Raises ValueError if some process would get no row."""
        if n < self.world:
            raise ValueError(f"data must hold at least one row per process; got {n} rows for {self.world} processes")
        return max(1, n // (self.batch_size * self.world))

    def rows(self, n: int, start: int, stop: int) -> Iterator[Tensor]:
        """Rows seen at steps start … stop − 1, each of shape (batch,); what an epoch leaves over is dropped."""
        batch, per_epoch, current = min(self.batch_size, n // self.world), self.steps_per_epoch(n), None
        for step in range(start, stop):
            epoch, k = divmod(step, per_epoch)
            if epoch != current:
                order = torch.randperm(n, generator=torch.Generator().manual_seed(key(self.seed, "epoch", epoch)))
                current = epoch
            first = (k * self.world + self.rank) * batch
            yield order[first : first + batch]


def key(*parts) -> int:
    """A 32-bit random seed that depends on all the parts."""
    return zlib.crc32("/".join(map(str, parts)).encode())


def reseed(device: torch.device, *parts) -> None:
    """Set the random state of the CPU and of `device` to one that depends on the parts alone."""
    set_seed(key(*parts), device)


def size(data: Data) -> int | None:
    """Number of rows, None for a Distribution. Raises TypeError for what can't feed a training run, ValueError if empty."""
    if isinstance(data, Distribution):
        return None
    if isinstance(data, Sequence) and data and all(isinstance(d, Tensor) for d in data):
        if len({len(d) for d in data}) > 1:
            raise ValueError(f"data: all tensors must have the same length; got {[len(d) for d in data]}")
        n = len(data[0])
    elif isinstance(data, Tensor) or (isinstance(data, Dataset) and hasattr(data, "__len__")):
        n = len(data)
    else:
        wanted = "a tensor, a tuple of tensors, a map-style Dataset or a Distribution"
        raise TypeError(f"data must be {wanted}; got {type(data).__name__}")
    if n == 0:
        raise ValueError("data is empty")
    return n


def batches(data: Data, share: Share, start: int, stop: int, *, workers: int = 0) -> Iterator:
    """The batches of steps start … stop − 1, each drawn only when asked for.

    A Dataset may be read ahead by `workers` processes. If it draws random numbers itself (augmentations), a run with workers
    is repeatable but does not resume bitwise, since their random state is not a function of the step.
    """
    n = size(data)
    if n is None:
        return (data.sample((share.batch_size,)) for _ in range(start, stop))
    rows = share.rows(n, start, stop)
    if isinstance(data, Dataset):
        own = torch.Generator().manual_seed(key(share.seed, share.rank, "workers", start))
        loader = DataLoader(data, batch_sampler=(r.tolist() for r in rows), num_workers=workers, generator=own)
        return (batch[0] if isinstance(batch, list) and len(batch) == 1 else batch for batch in loader)
    if isinstance(data, Tensor):
        return (data[r.to(data.device)] for r in rows)
    return (tuple(d[r.to(d.device)] for d in data) for r in rows)
