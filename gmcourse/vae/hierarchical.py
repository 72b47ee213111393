r"""Hierarchical VAEs: latent groups z_L → … → z_1 → x on one shared deterministic path (thesis 2.1.5, 4.4.3).

    generate    p(x, z) = p(x|z_1) p(z_1|z_2) … p(z_{L−1}|z_L) p(z_L),   p(z_L) = N(0, I)             thesis (2.16)
    top-down    q(z|x) = q(z_L|x) q(z_{L−1}|z_L, x) …       the posterior walks the same path as the prior
    bottom-up   q(z|x) = q(z_1|x) q(z_2|z_1, x) …           for comparison

The path carries a state s from the top down: each group reads its prior off s, draws z, and merges it into s, so that
p(z_l|·) depends on all groups above. A top-down posterior is told as a change of the prior, μ_q = μ_p + Δμ and
log σ_q = log σ_p + Δ log σ (NVAE), and every log σ is softly clamped. Groups are numbered by their place on the path: the
first is the thesis' z_L, the last its z_1.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Independent
from torch.nn.functional import adaptive_avg_pool2d

from gmcourse.model import check_count
from gmcourse.vae.base import LatentVariableModel
from gmcourse.vae.bounds import Drawn
from gmcourse.vae.posterior import at_least_single, diagonal_normal, normal, soft_clamp


class Group(nn.Module):
    """One latent group on the path.

    Args:
        z_shape: shape of z; a vector (d,) or a map (c, h, w).
        prior: state -> (μ, log σ) stacked along dim 1; None for the first group, whose prior is N(0, I).
        posterior: what inference sees, concatenated along dim 1, -> two blocks of z_shape.
        project: z -> what is added to the state.
        cell: state -> state, the step of the path to the next group (it may change the resolution).
    """

    def __init__(
        self, z_shape: Sequence[int], prior: nn.Module | None, posterior: nn.Module, project: nn.Module, cell: nn.Module
    ):
        super().__init__()
        self.z_shape = torch.Size(z_shape)
        self.prior, self.posterior, self.project, self.cell = prior, posterior, project, cell

    def merge(self, state: Tensor, z: Tensor) -> Tensor:
        """The state on which the next group stands."""
        return self.cell(state + self.project(z))

    def prior_at(self, state: Tensor) -> Independent:
        """p(z|state), a diagonal Gaussian with batch shape (n,)."""
        if self.prior is None:
            zero = state.new_zeros(len(state), *self.z_shape)
            return diagonal_normal(zero, zero)
        return diagonal_normal(*self.prior(state).chunk(2, dim=1))

    def posterior_from(self, p: Independent, seen: Tensor) -> Independent:
        """q(z|seen) as a change of p: μ_p + Δμ and σ_p exp(Δ log σ).

        Δμ is not in units of σ_p: the KL would then be blind to σ_p, which shrinks to nothing and takes the group with it.
        """
        shift, log_ratio = self.posterior(seen).chunk(2, dim=1)
        p = p.base_dist
        return normal(p.loc + at_least_single(shift), p.scale * soft_clamp(at_least_single(log_ratio)).exp())


class HierarchicalVAE(LatentVariableModel):
    """VAE with L latent groups, a shared top-down path and top-down or bottom-up inference.

    Args:
        event_shape: shape of one datum.
        features: module x -> list of L feature tensors, one per group, in the order of `groups`.
        groups: from the top (the thesis' z_L) to the bottom (z_1).
        head: final state -> what the likelihood wants.
        state_shape: shape of the learned initial state.
        likelihood: `Gaussian(…)` or `Bernoulli()`.
        inference: "top_down" (posterior sees state and features) or "bottom_up" (sees features and the group below).
        beta: weight of the KL term, or a function of the training step.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        features: nn.Module,
        groups: Sequence[Group],
        head: nn.Module,
        *,
        state_shape: Sequence[int],
        likelihood: nn.Module,
        inference: str = "top_down",
        beta: float | Callable[[Tensor], Tensor] = 1.0,
    ):
        super().__init__(event_shape, likelihood, beta)
        if inference not in ("top_down", "bottom_up"):
            raise ValueError(f"inference must be 'top_down' or 'bottom_up'; got {inference!r}")
        self.features, self.groups, self.head = features, nn.ModuleList(groups), head
        self.start = nn.Parameter(torch.zeros(*state_shape))
        self.inference = inference

    def infer(self, x: Tensor) -> tuple[list[Drawn], Tensor]:
        """Draw all groups from the posterior, listed from the top down, and the decoder's output."""
        return self._top_down(x) if self.inference == "top_down" else self._bottom_up(x)

    def _top_down(self, x: Tensor) -> tuple[list[Drawn], Tensor]:
        drawn, state = [], self._start(len(x))
        for group, h in zip(self.groups, self.features(x), strict=True):
            p = group.prior_at(state)
            q = group.posterior_from(p, torch.cat([state, h], 1))
            z = q.rsample()
            drawn.append(Drawn(z, q, p))
            state = group.merge(state, z)
        return drawn, self.head(state)

    def _bottom_up(self, x: Tensor) -> tuple[list[Drawn], Tensor]:
        inferred, below = [], None
        for group, h in zip(reversed(self.groups), reversed(self.features(x)), strict=True):
            seen = h if below is None else torch.cat([h, _shrink(below, h)], 1)
            q = diagonal_normal(*group.posterior(seen).chunk(2, dim=1))
            below = q.rsample()
            inferred.insert(0, (below, q))
        drawn, state = [], self._start(len(x))
        for group, (z, q) in zip(self.groups, inferred, strict=True):
            # p(z_l|…) hangs on groups that were drawn from z_l: no closed form, but for the top group, whose p is fixed.
            drawn.append(Drawn(z, q, group.prior_at(state), closed=group.prior is None))
            state = group.merge(state, z)
        return drawn, self.head(state)

    @torch.no_grad()
    def sample(
        self, n: int, *, generator: torch.Generator | None = None, mean: bool = False, temperature: float = 1.0
    ) -> Tensor:
        """Draw x ~ p(x), shape (n, *event_shape); `mean` shows E[x|z]; `temperature` scales the latents' noise."""
        out = self._generate(self._latent_noise(n, generator) * temperature)
        return self.likelihood_of_x.mean(out) if mean else self.likelihood_of_x.sample(out, generator=generator)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """E[x|z] with z drawn from the posterior, shape of x."""
        return self.likelihood_of_x.mean(self.infer(self.check_batch(x))[1])

    @property
    def noise_blocks(self) -> dict[str, int]:
        """Sizes of the parts of the flat noise vector: one per group, named as in the thesis (z_L first), then ε_x."""
        count = len(self.groups)
        sizes = {f"z{count - i}": group.z_shape.numel() for i, group in enumerate(self.groups)}
        return {**sizes, "x": self.likelihood_of_x.noise_size(self.event_shape)}

    def push(self, eps: Tensor) -> Tensor:
        """Carry noise (n, Σ sizes) to data, differentiably: z_l = μ_l + σ_l ε_l down the path, then x = mean + σ ε_x."""
        size_x = self.noise_blocks["x"]
        eps_z, eps_x = eps.split([eps.shape[1] - size_x, size_x], dim=1)
        return self.likelihood_of_x.push(self._generate(eps_z), eps_x)

    def _start(self, n: int) -> Tensor:
        return self.start.expand(n, *self.start.shape)

    def _latent_noise(self, n: int, generator: torch.Generator | None) -> Tensor:
        d = sum(group.z_shape.numel() for group in self.groups)
        return torch.randn(check_count(n), d, generator=generator, device=self.start.device, dtype=self.start.dtype)

    def _generate(self, eps_z: Tensor) -> Tensor:
        """The decoder's output for latent noise (n, Σ d_l)."""
        state = self._start(len(eps_z))
        for group, eps in zip(self.groups, eps_z.split([g.z_shape.numel() for g in self.groups], dim=1), strict=True):
            p = group.prior_at(state).base_dist
            state = group.merge(state, p.loc + p.scale * eps.unflatten(1, group.z_shape))
        return self.head(state)


def _shrink(z: Tensor, like: Tensor) -> Tensor:
    """z averaged down to the resolution of a feature map; vectors stay as they are."""
    return z if z.ndim == 2 else adaptive_avg_pool2d(z, like.shape[-2:])
