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
            transport. Its `likelihood` limits that of the flow.
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
        """What `log_prob` means: what it means for the base, but LOWER_BOUND at best unless all layers are bijections.

        EXACT speaks of the equation, not of how a layer evaluates it. `Residual` with another log_det than "exact" truncates
        or estimates its contribution, `Continuous` is as exact as its solver and, with trace "hutchinson", random: set
        "exact" where a number is reported.
        """
        own = Likelihood.EXACT if self.chain.bijective else Likelihood.LOWER_BOUND
        base = getattr(self.base, "likelihood", Likelihood.EXACT)  # a torch Distribution has none, and is normalised
        return max(own, base, key=list(Likelihood).index)  # they are listed from the best to none

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (n, *event_shape) -> z (n, *base.event_shape) and the log-determinant (n,)."""
        return self.chain(self.check_batch(x), self.check_context(context, len(x)))

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
        return self.chain.inverse(z, self.check_context(context, n)).contiguous()

    def sample_and_log_prob(
        self, n: int, *, context: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw x (n, *event_shape) with log p(x) (n,), differentiably: what the reverse KL and posteriors need.

        Raises ValueError for a flow with layers that are no bijections: along its own samples the bound would lie on the
        other side, above log p(x) in the mean. There, `sample` and `log_prob` are to be called.
        """
        z = self.base.sample(check_count(n), generator=generator)
        x, contribution = self.to_data(z, self.check_context(context, n))
        return x, self.base.log_prob(z) + contribution

    def to_data(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z -> x and log|det ∂z/∂x| at x, both with gradients. Raises ValueError unless all layers are bijections."""
        if not self.chain.bijective:
            wanted = "layers must be bijections for log p(x) of a flow's own samples: use sample, then log_prob"
            raise ValueError(f"{wanted}; got one that is none")
        return self.chain.invert(z, context)

    @property
    def noise_blocks(self) -> dict[str, int]:
        """Sizes of the named parts of the flat noise vector: the base's."""
        return self.base.noise_blocks

    def noise(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw flat noise (n, d)."""
        return self.base.noise(n, generator=generator)

    def push(self, eps: Tensor, context: Tensor | None = None) -> Tensor:
        """Carry noise (n, d) to data (n, *event_shape), differentiably; `context` has n rows."""
        return self.chain.inverse(self.base.push(eps), self.check_context(context, len(eps)))

    def check_context(self, context: Tensor | None, n: int) -> Tensor | None:
        """Return the context of n data if it is what this flow wants, else raise ValueError."""
        came = None if context is None else tuple(context.shape)
        wanted = (n, self.context) if self.context else None
        if came != wanted:
            raise ValueError(f"context must be {'None' if wanted is None else f'of shape {wanted}'}; got {came}")
        return context
