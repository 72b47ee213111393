"""Random numbers that a seed decides, drawn without a trace in the caller's random state.

Most samplers here take a `torch.Generator`. PyTorch's own distributions, layers and losses do not: for them the global
random state is set, and put back when all is done. `torch.manual_seed` would set the state of every GPU as well, and leave
it so; `set_seed` touches the CPU and one device only.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.distributions import Distribution

from gmcourse.data.known import KnownDensity
from gmcourse.model import GenerativeModel


def set_seed(seed: int, device: torch.device | str = "cpu") -> None:
    """Set the random state of the CPU, and of `device`."""
    device = torch.device(device)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Within, the random state of the CPU and of `device` is set by the seed; afterwards it is what it was before.

    >>> with seeded(0):
    ...     x = torch.randn(3)
    """
    device = torch.device(device)
    kept = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        set_seed(seed, device)
        try:
            yield
        finally:
            if kept is not None:
                torch.mps.set_rng_state(kept)


def draw(
    p: Distribution | GenerativeModel,
    n: int,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """n samples of a distribution or model, without gradients; `device` is where a distribution of PyTorch's own lives.

    Those take no generator: they get a seed that is drawn from it.
    """
    if isinstance(p, KnownDensity | GenerativeModel):
        return p.sample(n, generator=generator).detach()
    if generator is None:
        return p.sample((n,))
    with seeded(int(torch.randint(2**62, (), generator=generator, device=generator.device)), device):
        return p.sample((n,))
