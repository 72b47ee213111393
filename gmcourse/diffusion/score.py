r"""A score model: one net that sees the noise in data, at every time of a diffusion (thesis 2.4.3).

    x_t = α x + σ ε,     loss = ½ w(t)/r(t) ‖ε − ε_θ(x_t, t)‖²,  t ~ r                             LSGM (9)

E[ε | x_t] is the best ε_θ, at every t and for every w, and it tells all else that can be asked about x_t (Tweedie):

    score ∇ log p_t(x_t) = −ε_θ/σ          data x̂_0 = (x_t − σ ε_θ)/α          v = α ε_θ − σ x̂_0

so the net may speak of any of the four. In "edm" it says F, with x̃ = x_t/α, σ̃ = σ/α, q² = σ̃² + σ_d², σ_d the data's scale:

    x̂_0 = (σ_d²/q²) x̃ + (σ̃ σ_d/q) F(x̃/q, t),     ε_θ = (σ̃/q) x̃/q − (σ_d/q) F                      Karras et al. 2022, Table 1

where input and target of F have unit variance at all times, and F = 0 is right for data N(0, σ_d² I). What is learned is
used twice: by samplers, and by the probability flow, a map between noise and data with an exact density. With w = g²/σ²

    −E_q log p(x) ≤ ∫ ½ w E‖ε − ε_θ‖² dt + (d/2) log(2πe σ₀²) + what is left of the data at t = 1       LSGM (7)
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from gmcourse.diffusion.probability_flow import TRACES, Trace, flow_log_prob
from gmcourse.diffusion.reverse import falling_times
from gmcourse.diffusion.samplers import run
from gmcourse.diffusion.schedule import KINDS, Kind, convert
from gmcourse.diffusion.sde import SDE, Score
from gmcourse.diffusion.times import Times, Weighting, best_times, weight
from gmcourse.model import GenerativeModel, Likelihood, check_count, check_positive, evaluating
from gmcourse.sampling.ode import odeint, same_shape
from gmcourse.sampling.sampler import beside, normal_like, rows


class ScoreModel(GenerativeModel):
    """A net, a diffusion, and how the one is trained on the other.

    `sample` takes the probability flow unless a sampler is given, `push` and `log_prob` always do: its density is that of
    x at t_min, and exact but for the solver (and random with trace "hutchinson"). With a `context`, `loss` wants pairs.

    Args:
        net: (x (n, *event_shape), t (n,)) -> like x, or (x, t, context).
        parameterization: what the net says: "eps", "x0", "v", "score", or "edm".
        data_scale: σ_d of "edm", the data's standard deviation.
        weighting: w, see `times.weight`.
        times: r; unless given the best one that is known in closed form, else uniform.
        t_min: where the diffusion of data is taken to begin; 0 will do where σ(0) > 0.
        sampler: (sde, score) -> object with `step`, such as the classes of `reverse`; None for Heun's steps along the flow.
        steps: of the sampler, of `push`, and of `log_prob` by a method with fixed steps.
        spacing: of the steps, see `reverse.falling_times`.
        method, tolerance, trace: of `log_prob`, see `flow_log_prob`.

    >>> from gmcourse.diffusion.sde import VP
    >>> from gmcourse.nets.denoiser import Denoiser
    >>> model = ScoreModel(Denoiser(2), VP(), event_shape=(2,))
    >>> model.loss(torch.randn(5, 2)).shape, model.sample(3).shape
    (torch.Size([5]), torch.Size([3, 2]))
    """

    likelihood = Likelihood.EXACT

    def __init__(
        self,
        net: nn.Module,
        sde: SDE,
        *,
        event_shape: Sequence[int],
        parameterization: Kind | Literal["edm"] = "eps",
        data_scale: float = 1.0,
        weighting: Weighting = "likelihood",
        times: Times | None = None,
        t_min: float = 1e-3,
        sampler: Callable[[SDE, Score], object] | None = None,
        steps: int = 50,
        spacing: Literal["uniform", "log_snr", "edm"] = "log_snr",
        method: str = "dopri5",
        tolerance: float = 1e-5,
        trace: Trace = "exact",
    ):
        super().__init__(event_shape)
        for name, value, known in (("parameterization", parameterization, (*KINDS, "edm")), ("trace", trace, TRACES)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
        self.net, self.sde, self.prior = net, sde, sde.prior(self.event_shape)
        self.parameterization, self.data_scale = parameterization, check_positive(data_scale, "data_scale")
        self.times = best_times(sde, weighting, t_min) if times is None else times
        self.weighting, self.t_min, self.steps = weighting, float(t_min), check_count(steps, "steps")
        self.path = falling_times(sde, steps, end=self.t_min, spacing=spacing)
        self.sampler, self.method, self.tolerance, self.trace = sampler, method, tolerance, trace
        weight(sde, weighting, torch.tensor(1.0))  # its name is looked at now, not in the first step of training

    @property
    def nfe(self) -> int:
        """Evaluations of the net for a sample."""
        return self.steps * (2 if self.sampler is None else self.sampler(self.sde, self.score).evaluations)

    def eps(self, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        """The noise that the model sees in x (n, *event_shape) at t (n,), like x."""
        return self._say(x, t, context, "eps")

    def denoise(self, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        """x̂_0 = E[x_0 | x_t = x], like x: Tweedie's formula."""
        return self._say(x, t, context, "x0")

    def score(self, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        """∇ log p_t(x) for x (n, *event_shape), t (n,), like x."""
        return self._say(x, t, context, "score")

    def _say(self, x: Tensor, t: Tensor, context: Tensor | None, wanted: Kind) -> Tensor:
        if t.shape != x.shape[:1]:
            raise ValueError(f"t must have shape ({len(x)},), one time for each row of x; got {tuple(t.shape)}")
        alpha, sigma = (beside(c.to(x), x) for c in self.sde.marginal(t))
        context = () if context is None else (context,)
        if self.parameterization != "edm":
            value = same_shape(self.net(self.check_batch(x), t, *context), x, "net")
            return convert(value, x, alpha, sigma, self.parameterization, wanted)
        noise = sigma / alpha
        q = (noise.square() + self.data_scale**2).sqrt()
        seen = self.check_batch(x) / (alpha * q)  # x̃/q
        value = same_shape(self.net(seen, t, *context), x, "net")
        eps = (noise * seen - self.data_scale * value) / q
        return convert(eps, x, alpha, sigma, "eps", wanted)

    def loss(self, x: Tensor | tuple[Tensor, Tensor], *, generator: torch.Generator | None = None) -> Tensor:
        """½ w/r ‖ε − ε_θ‖² in nats, (n,), at one time and one ε for each of x (n, *event_shape); LSGM (9).

        Its mean is an integral over time, whatever r; noise comes from the global state unless there is a generator.
        """
        x, context = x if isinstance(x, (tuple, list)) else (x, None)
        return self.weighted(self.check_batch(x), self.weighting, self.times, context, generator)

    def weighted(
        self,
        x: Tensor,
        weighting: Weighting,
        times: Times,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The loss of x (n, *event_shape) with another weighting and other times than the model's, (n,)."""
        t = times.draw(len(x), generator=generator, device=x.device, dtype=x.dtype)
        alpha, sigma = (beside(c, x) for c in self.sde.marginal(t))
        eps = normal_like(x, generator)
        wrong = rows(eps - self.eps(alpha * x + sigma * eps, t, context)).square().sum(1)
        return 0.5 * weight(self.sde, weighting, t) / times.density(t) * wrong

    @torch.no_grad()
    def sample(
        self, n: int, *, context: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw (n, *event_shape), x at t_min; `context` has n rows."""
        if self.sampler is None:
            return self.push(self.noise(n, generator=generator), context)
        with evaluating(self):
            sampler = self.sampler(self.sde, partial(self.score, context=context))
            return run(sampler.step, self.prior.sample(n, generator=generator), self.path, generator=generator)

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """log p(x) in nats by the probability flow, (n, *event_shape) -> (n,); the generator is for Hutchinson's signs."""
        how = {"method": self.method, "tolerance": self.tolerance, "steps": self.steps, "trace": self.trace}
        score = partial(self.score, context=context)
        with evaluating(self):
            return flow_log_prob(
                self.sde, score, self.check_batch(x), t_min=self.t_min, generator=generator, **how
            ).log_prob

    @property
    def noise_blocks(self) -> dict[str, int]:
        """Sizes of the named parts of the flat noise vector."""
        return {"z": self.event_shape.numel()}

    def noise(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw flat noise (n, d) from N(0, I)."""
        return rows(self.prior.sample(n, generator=generator)) / prior_width(self.prior)

    def push(self, eps: Tensor, context: Tensor | None = None) -> Tensor:
        """Carry noise (n, d) to data (n, *event_shape) along the probability flow, differentiably."""
        flow = self.sde.probability_flow(partial(self.score, context=context))
        start = prior_width(self.prior) * eps.reshape(len(eps), *self.event_shape)
        with evaluating(self):
            return odeint(lambda t, x: flow(x, t), start, self.path, method="heun").end


@torch.no_grad()
def cross_entropy_bound(
    model: ScoreModel, x: Tensor, *, times: Times | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Estimates (n,), in nats, whose mean over x ~ q is at least −E_q[log p(x)], p being where the reverse SDE ends.

    x (n, *event_shape) is taken with the noise σ₀ = σ(t_min). LSGM (7) is the first two of three terms,

        ∫ ½ (g²/σ²) E‖ε − ε_θ‖² dt  +  (d/2) log(2πe σ₀²)  +  E[−log π(x_1)] − (d/2) log(2πe σ₁²)

    and takes x_1 for N(0, σ₁² I); with the third, an equation if the score is exact, they are a bound for all data.

    Args:
        times: r, on [t_min, 1]; unless given the best one that is known in closed form.
    """
    times = best_times(model.sde, "likelihood", model.t_min) if times is None else times
    with evaluating(model):
        integral = model.weighted(model.check_batch(x), "likelihood", times, generator=generator)
    ends = torch.tensor([model.t_min, 1.0], dtype=torch.float64)
    alpha, sigma = (c.tolist() for c in model.sde.marginal(ends))
    d, share = model.event_shape.numel(), sigma[1] / prior_width(model.prior)
    at_the_end = 0.5 * d * share**2 - model.prior.log_prob(alpha[1] * x)  # E[−log π(x_1)], its average over ε done
    return integral + at_the_end + d * math.log(sigma[0] / sigma[1])


def prior_width(prior: GenerativeModel) -> float:
    """Standard deviation of an SDE's prior, N(0, width² I)."""
    return getattr(prior, "scale", 1.0)
