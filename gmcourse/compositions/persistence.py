r"""Chains of the noise that live as long as the training, with fresh paint (thesis 4.4, on Table 4.10).

    ε_z   from a buffer with probability p, else ~ N(0, I);  p grows from 0 to 0.6 in 5 000 steps of the training
    ε_x   ~ N(0, I), always anew

What an energy has to say about z takes long chains, the paint ε_x does not: it is close to N(0, I) whatever E is, and the
buffer of an image model without it is small. The ramp lets an energy that is hardly more than its initial weights see the
base first; later, chains that have come far show what it does there.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gmcourse.ebm.buffer import ReplayBuffer
from gmcourse.model import StandardNormal, check_count


class Persistence(nn.Module):
    """A buffer of chains of ε; a chain is taken from it with a probability that may grow, else it begins anew.

    Args:
        chains: how many the buffer keeps, at least the batch size.
        blocks: `base.noise_blocks`, or the length of the noise of a base that has none.
        probability: p of the thesis, once it has grown.
        ramp: so many draws in which p grows linearly from 0; 0 has it from the beginning.
        fresh: the block that is not kept but drawn anew each time; None keeps all. A base without "x" keeps all.

    The chains, and how many draws there were, are saved with the model. `put` brings back what was last drawn.

    >>> kept = Persistence(100, {"z": 2, "x": 3}, probability=0.6, ramp=5000)
    >>> kept.put(kept.draw(10) + 0.1)
    >>> kept.buffer.chains.shape, kept.probability
    (torch.Size([100, 2]), 0.00012)
    """

    def __init__(
        self,
        chains: int,
        blocks: int | Mapping[str, int],
        *,
        probability: float = 0.95,
        ramp: int = 0,
        fresh: str | None = "x",
    ):
        super().__init__()
        named = dict(blocks) if isinstance(blocks, Mapping) else {"ε": check_count(blocks, "blocks")}
        if fresh not in (None, "x", *named):
            raise ValueError(f"fresh must name a block of {', '.join(named)}; got {fresh!r}")
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must lie in [0, 1]; got {probability}")
        keeps = torch.cat([torch.full((size,), name != fresh) for name, size in named.items()])
        if not keeps.any():
            raise ValueError(f"blocks must leave something to keep beside {fresh!r}; got {named}")
        self.last, self.ramp, self.fresh = float(probability), check_count(ramp, "ramp") if ramp else 0, fresh
        self.buffer = ReplayBuffer(StandardNormal(int(keeps.sum())), chains)
        self.register_buffer("keeps", keeps, persistent=False)
        self.register_buffer("draws", torch.zeros((), dtype=torch.long))

    @property
    def probability(self) -> float:
        """p as it is now."""
        return self.last * min(1.0, int(self.draws) / self.ramp) if self.ramp else self.last

    @torch.no_grad()
    def draw(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Where n chains begin, ε (n, D); counts. ValueError for more than there are."""
        self.buffer.restart = 1 - self.probability
        kept = self.buffer.draw(n, generator=generator)
        self.draws += 1
        eps = torch.randn(n, len(self.keeps), generator=generator, device=kept.device, dtype=kept.dtype)
        eps[:, self.keeps] = kept
        return eps

    @torch.no_grad()
    def put(self, eps: Tensor) -> None:
        """Bring back the chains that were last drawn, now at ε (n, D)."""
        self.buffer.put(eps[:, self.keeps])

    def extra_repr(self) -> str:
        """What decides how chains live."""
        return f"probability={self.last:g}, ramp={self.ramp}, fresh={self.fresh!r}"
