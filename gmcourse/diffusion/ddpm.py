r"""Denoising diffusion: learn to undo each small step of the forward chain (Ho et al. 2020; thesis 2.4.2).

    p_θ(x_{0:T}) = N(x_T; 0, I) Π_t p_θ(x_{t−1} | x_t)                                         thesis (2.48)
    p_θ(x_{t−1} | x_t) = N(μ̃_t(x_t, x̂_0), σ_t² I),       x̂_0 from a net of x_t and t            thesis (2.47), (2.60)

The net says what noise is in x_t (`eps`), or x_0 itself, or v, or the score: each is a function of each other, given x_t.

    simple    ‖ε − ε_θ(x_t, t)‖²                                      (2.61) without its weight: Ho et al.'s L_simple;
                                                                      for another output, that output's squared error
    vlb       T L_t,  for ε: T β_t²/(2σ_t² α_t (1 − ᾱ_t)) ‖ε − ε_θ‖²     thesis (2.61), an unbiased estimate of the bound

The variance σ_t² is β̃ ("small"), β ("large"), or lies between, log σ² = v log β + (1 − v) log β̃ with v from further channels
of the net ("learned"). L_simple does not see σ²; then λ T L_t is added, with its gradient kept from the mean (Nichol &
Dhariwal 2021). With `classes` the net is told the label, too, and now and then not: one net for p(x | y) and for p(x), as
classifier-free guidance needs it.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmcourse.diffusion.bound import term, variational_bound
from gmcourse.diffusion.samplers import DDIM, Ancestral, ChainSampler, run
from gmcourse.diffusion.schedule import KINDS, DiscreteDiffusion, Kind, bridge
from gmcourse.model import GenerativeModel, Likelihood, check_count, evaluating
from gmcourse.sampling.sampler import beside, rows

HYBRID = 0.001  # λ


class DDPM(GenerativeModel):
    """A diffusion model of T steps; sampling costs `steps` evaluations of the net.

    Args:
        net: x (n, *event_shape), t (n,) in torch.int64 -> like x, with twice the channels for learned variances; with
            `classes` it is called with the labels as a third argument, one-hot (n, classes), or zeros for "not told".
        chain: the forward process.
        parameterization: what the net's output is: "eps", "x0", "v" or "score".
        variance: of the reverse steps, "small" β̃, "large" β or "learned".
        weighting: "simple" or "vlb".
        levels: of brightness, 256 for pictures of bytes scaled to [−1, 1]: the decoder gives probabilities. None for a
            density. Pictures' x̂_0 is kept within [−1, 1] in samples and in `log_prob`, not in the loss.
        steps: of `sample`, T unless given; fewer take strides.
        eta: None for `sample` by the reverse chain, else by DDIM with this η.
        classes: number of labels; then `loss` takes pairs (x, y), y (n,).
        drop: share of labels that are not told in training.

    >>> from gmcourse.diffusion.schedule import linear_betas
    >>> from gmcourse.nets.denoiser import Denoiser
    >>> DDPM(Denoiser(2), DiscreteDiffusion(linear_betas(100, 1e-3, 0.2)), event_shape=(2,)).sample(3).shape
    torch.Size([3, 2])
    """

    likelihood = Likelihood.LOWER_BOUND

    def __init__(
        self,
        net: nn.Module,
        chain: DiscreteDiffusion,
        *,
        event_shape: Sequence[int],
        parameterization: Kind = "eps",
        variance: Literal["small", "large", "learned"] = "large",
        weighting: Literal["simple", "vlb"] = "simple",
        levels: int | None = None,
        steps: int | None = None,
        eta: float | None = None,
        classes: int = 0,
        drop: float = 0.1,
    ):
        super().__init__(event_shape)
        for name, value, known in (
            ("parameterization", parameterization, KINDS),
            ("variance", variance, ("small", "large", "learned")),
            ("weighting", weighting, ("simple", "vlb")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
        if not 0 <= drop <= 1:
            raise ValueError(f"drop must lie in [0, 1]; got {drop}")
        if levels is not None and check_count(levels, "levels") < 2:
            raise ValueError(f"levels must be at least 2; got {levels}")
        if variance == "learned" and not self.event_shape:
            raise ValueError("event_shape must have channels for a learned variance; got ()")
        self.net, self.chain, self.parameterization, self.variance = net, chain, parameterization, variance
        self.weighting, self.levels, self.classes, self.drop = weighting, levels, classes, drop
        self.nfe, self.eta = len(chain.times(steps)) - 1, eta
        self.data_range = GenerativeModel.data_range if levels is None else (-1.0, 1.0)
        before = torch.cat([torch.ones(1, dtype=torch.float64), chain.alpha_bars[:-1]])
        small, large = bridge(chain.alpha_bars, before)[2], chain.betas
        small = torch.cat([small[1:2] if len(chain) > 1 else large, small[1:]])  # at t = 0, where β̃ is 0, that of t = 1
        self.register_buffer("log_small", small.log().float(), persistent=False)
        self.register_buffer("log_large", large.log().float(), persistent=False)

    def predict(self, xt: Tensor, t: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What the net says of x_t (n, *event_shape) at t (n,), and v in [0, 1], the place of log σ² between log β̃ and
        log β where that is learned; labels (n,) or None. ValueError for a net whose output has the wrong shape."""
        inputs = (xt, t, self.context(labels, xt)) if self.classes else (xt, t)
        if not self.classes and labels is not None:
            raise ValueError("labels must be None: this model was made without classes")
        found, wanted = self.net(*inputs), list(xt.shape)
        if self.variance == "learned":
            wanted[1] *= 2
        if list(found.shape) != wanted:
            came = f"{tuple(found.shape)} for x of shape {tuple(xt.shape)}"
            raise ValueError(f"net must return shape {tuple(wanted)}; got {came}")
        if self.variance != "learned":
            return found, None
        value, share = found.chunk(2, 1)
        return value, (share + 1) / 2

    def context(self, labels: Tensor | None, x: Tensor) -> Tensor:
        """Labels (n,) one-hot beside x, (n, classes); −1, or None for all, is "not told", a row of zeros."""
        if labels is None:
            return x.new_zeros(len(x), self.classes)
        labels = _whole(labels, x)
        if len(labels) and not (-1 <= int(labels.min()) and int(labels.max()) < self.classes):
            raise ValueError(f"labels must lie in 0 … {self.classes - 1}, or be −1; got {labels.min()} to {labels.max()}")
        return F.one_hot(labels + 1, self.classes + 1)[:, 1:].to(x)

    def eps(self, xt: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The noise that the model sees in x_t, (n, *event_shape), at t (n,) in torch.int64."""
        return self._as_eps(self.predict(xt, t, labels)[0], xt, t)

    def reverse(self, xt: Tensor, t: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean (n, *event_shape) and variance, beside it, of p_θ(x_{t−1} | x_t); thesis (2.47), (2.60)."""
        return self.reverse_of(*self.predict(xt, t, labels), xt, t, clip=self.levels is not None)

    def reverse_of(
        self, value: Tensor, share: Tensor | None, xt: Tensor, t: Tensor, *, clip: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of p_θ(x_{t−1} | x_t) from what `predict` said of x_t; `clip` keeps x̂_0 within [−1, 1]."""
        x0 = self.chain.convert(value, xt, t, self.parameterization, "x0")
        mean, _ = self.chain.posterior(x0.clamp(-1, 1) if clip else x0, xt, t)
        return mean, self._log_variance(share, xt, t).exp()

    def loss(self, batch: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """Shape (n,), at one random time for each datum of x (n, *event_shape), or of pairs (x, y) with `classes`."""
        x, labels = batch if isinstance(batch, (tuple, list)) else (batch, None)
        self.check_batch(x)
        if labels is not None:
            labels = torch.where(torch.rand(len(x), device=x.device) < self.drop, -1, _whole(labels, x))
        t = torch.randint(len(self.chain), (len(x),), device=x.device)
        eps = torch.randn_like(x)
        told = _Told(self, labels)
        if self.weighting == "vlb":
            return len(self.chain) * term(told, x, t, eps)
        xt = self.chain.q_sample(x, t, eps)
        value, share = self.predict(xt, t, labels)
        simple = rows(value - self.chain.convert(eps, xt, t, "eps", self.parameterization)).square().sum(1)
        if share is None:
            return simple
        told.said = value.detach(), share
        return simple + HYBRID * len(self.chain) * term(told, x, t, eps)

    def weight(self, t: Tensor) -> Tensor:
        """β²/(2σ² α (1 − ᾱ)), what thesis (2.61) multiplies ‖ε − ε_θ‖² with at t (n,) in 1 … T−1, float64 (n,)."""
        if self.variance == "learned":
            raise ValueError("weight needs a fixed variance, small or large; this model's is learned")
        chain, t = self.chain, t.cpu()
        variance = (self.log_small if self.variance == "small" else self.log_large).double().cpu().exp()[t]
        return chain.betas[t].square() / (2 * variance * chain.alphas[t] * (1 - chain.alpha_bars[t]))

    def sampler(self, labels: Tensor | None = None, *, eta: float | None = None) -> ChainSampler:
        """The model's reverse chain as a sampler, `Ancestral`, or `DDIM` if eta is given; for labels (n,) or none."""
        clip = None if self.levels is None else 1.0
        if eta is not None:
            return DDIM(self.chain, lambda x, t: self.eps(x, t, labels), eta=eta, clip=clip)

        def eps(x: Tensor, t: Tensor):
            value, share = self.predict(x, t, labels)
            found = self._as_eps(value, x, t)
            return found if share is None else (found, share)

        return Ancestral(self.chain, eps, variance=self.variance, clip=clip)

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Draw (n, *event_shape) in `nfe` steps, of the given labels (n,) if the model has classes."""
        x = self.noise(n, generator=generator).reshape(n, *self.event_shape)
        step, times = self.sampler(labels, eta=self.eta).step, self.chain.times(self.nfe)
        with evaluating(self):
            return run(step, x, times, generator=generator, progress=progress)

    def log_prob(self, x: Tensor) -> Tensor:
        """A lower bound on log p(x) in nats, (n,): −L of (2.55), all T terms, one draw of x_t each (T evaluations)."""
        with evaluating(self):
            return -variational_bound(self, self.check_batch(x)).total

    def bits_per_dim(
        self, x: Tensor, *, times: Sequence[int] | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """The bound on −log p(x) in bits per dimension, (n,), without gradients; `times` as of `variational_bound`.

        ValueError without `levels`: a density has no bits.
        """
        if self.levels is None:
            raise ValueError("bits per dimension need probabilities: make the model with levels=256")
        with evaluating(self), torch.no_grad():
            bound = variational_bound(self, self.check_batch(x), times=times, generator=generator)
        return bound.total / (self.event_shape.numel() * math.log(2))

    @property
    def noise_blocks(self) -> dict[str, int]:
        """Sizes of the named parts of the flat noise vector."""
        return {"x": self.event_shape.numel()}

    def noise(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """x_T ~ N(0, I), flat, (n, d)."""
        return torch.randn(check_count(n), self.event_shape.numel(), generator=generator, device=self.log_small.device)

    def push(self, eps: Tensor) -> Tensor:
        """Noise (n, d) -> data (n, *event_shape) by DDIM without noise of its own, differentiable."""
        x, step = eps.reshape(len(eps), *self.event_shape), self.sampler(eta=0.0).step
        with evaluating(self):
            for t, s in pairwise(self.chain.times(self.nfe)):
                x = step(x, t, s)
        return x

    def _as_eps(self, value: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        return self.chain.convert(value, xt, t, self.parameterization, "eps")

    def _log_variance(self, share: Tensor | None, xt: Tensor, t: Tensor) -> Tensor:
        small, large = (beside(table[t].to(xt.dtype), xt) for table in (self.log_small, self.log_large))
        if share is not None:
            return share * large + (1 - share) * small
        return small if self.variance == "small" else large


class _Told:
    """A DDPM that has been told the labels, for the loss; `said` holds what its net has said already, if it has."""

    def __init__(self, model: DDPM, labels: Tensor | None):
        self.model, self.labels, self.chain, self.levels = model, labels, model.chain, model.levels
        self.said: tuple[Tensor, Tensor] | None = None

    def reverse(self, xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of p_θ(x_{t−1} | x_t, y)."""
        said = self.model.predict(xt, t, self.labels) if self.said is None else self.said
        return self.model.reverse_of(*said, xt, t)


def _whole(labels: Tensor, x: Tensor) -> Tensor:
    if labels.shape != x.shape[:1] or labels.is_floating_point():
        raise ValueError(f"labels must be whole numbers of shape ({len(x)},); got {labels.dtype}, {tuple(labels.shape)}")
    return labels.long()
