r"""Normalizing flows: a simple density, seen through an invertible map (thesis 2.2).

    x = T(z),  z ~ p₀          sampling is one pass noise → data
    log p(x) = log p₀(T⁻¹(x)) + log|det ∂T⁻¹/∂x|                                                  thesis (2.20)

T⁻¹ is a chain of layers, and the log-determinants add up (2.27). Trained by maximum likelihood (2.24), or, to fit a density
that can be evaluated and not sampled, by the reverse KL (2.25).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gmcourse.flows.layer import Chain, Layer
from gmcourse.model import GenerativeModel, Likelihood, check_count


class Flow(GenerativeModel):
    """A base density behind a chain of layers.

    Args:
        base: model of z with `log_prob` and `sample`; with `noise` and `push` (a StandardNormal has them) the flow is a
            transport.
        layers: data → noise, in this order.
        event_shape: shape of one datum, where it differs from the base's.
        context: numbers that a datum is conditioned on; 0 for none. `loss` then wants pairs (x, context).
    """

    def __init__(
        self,
        base: GenerativeModel,
        layers: Sequence[Layer],
        *,
        event_shape: Sequence[int] | None = None,
        context: int = 0,
    ):
        super().__init__(base.event_shape if event_shape is None else event_shape)
        self.base, self.chain, self.context = base, Chain(*layers), context

    @property
    def likelihood(self) -> Likelihood:
        """EXACT if all layers are bijections, else LOWER_BOUND."""
        return Likelihood.EXACT if self.chain.bijective else Likelihood.LOWER_BOUND

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (n, *event_shape) -> z (n, *base.event_shape) and the log-determinant (n,)."""
        return self.chain(self.check_batch(x), self._conditions(context, len(x)))

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """log p(x) in nats, (n, *event_shape) -> (n,): thesis (2.20)."""
        z, contribution = self.encode(x, context)
        return self.base.log_prob(z) + contribution

    def loss(self, x: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """−log p(x) in nats, shape (n,); its mean is the forward KL up to a constant, thesis (2.24)."""
        return -self.log_prob(*x) if isinstance(x, (tuple, list)) else -self.log_prob(x)

    @torch.no_grad()
    def sample(
        self, n: int, *, context: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw x, shape (n, *event_shape); `context` has n rows."""
        z = self.base.sample(check_count(n), generator=generator)
        return self.chain.inverse(z, self._conditions(context, n)).contiguous()

    def sample_and_log_prob(
        self, n: int, *, context: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw x (n, *event_shape) with log p(x) (n,), differentiably: what the reverse KL and posteriors need."""
        z = self.base.sample(check_count(n), generator=generator)
        x, contribution = self.chain.invert(z, self._conditions(context, n))
        return x, self.base.log_prob(z) + contribution

    @property
    def noise_blocks(self) -> dict[str, int]:
        """Sizes of the named parts of the flat noise vector: the base's."""
        return self.base.noise_blocks

    def noise(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw flat noise (n, d)."""
        return self.base.noise(n, generator=generator)

    def push(self, eps: Tensor, context: Tensor | None = None) -> Tensor:
        """Carry noise (n, d) to data (n, *event_shape), differentiably; `context` has n rows."""
        return self.chain.inverse(self.base.push(eps), self._conditions(context, len(eps)))

    def _conditions(self, context: Tensor | None, n: int) -> Tensor | None:
        came = None if context is None else tuple(context.shape)
        wanted = (n, self.context) if self.context else None
        if came != wanted:
            raise ValueError(f"context must be {'None' if wanted is None else f'of shape {wanted}'}; got {came}")
        return context
