"""Schedules for β, the weight of the KL term, as functions of the training step (thesis 2.1.4: annealed from 0 to 1)."""

from collections.abc import Callable

from torch import Tensor


def linear_beta(warmup: int, *, final: float = 1.0) -> Callable[[Tensor], Tensor]:
    """β rises linearly from 0 at step 0 to `final` at step `warmup`, then stays.

    >>> import torch
    >>> linear_beta(100)(torch.tensor(50))
    tensor(0.5000)
    """
    if warmup < 1:
        raise ValueError(f"warmup must be at least 1 step; got {warmup}")
    return lambda step: final * (step / warmup).clamp(max=1)


def cyclical_beta(period: int, *, rise: float = 0.5) -> Callable[[Tensor], Tensor]:
    """β rises linearly from 0 to 1 in the first fraction `rise` of every period, then stays at 1 until the period ends."""
    if period < 1 or not 0 < rise <= 1:
        raise ValueError(f"period must be at least 1 and rise in (0, 1]; got period={period}, rise={rise}")
    return lambda step: (step % period / (rise * period)).clamp(max=1)
