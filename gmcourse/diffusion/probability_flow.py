r"""The exact density of a score model: along the probability flow, probability is carried as by any other flow.

    dx/dt = F(x, t) = r x − ½ g² s(x, t)               t from t_min, the data, to 1, the noise    Song et al. 2021 (13), (38)
    d log p_t(x(t))/dt = −tr ∂F/∂x = −(d r − ½ g² tr ∂s/∂x)                                       slides (17)
    log p(x) = log π(x(1)) + ∫ tr ∂F/∂x dt                                                        d: the number of dimensions

The trace takes d backward passes, or one: tr ∂s/∂x = E[vᵀ ∂s/∂x v] with random signs v, drawn once for the whole solve
(Hutchinson; Grathwohl et al. 2019). Position and integral are solved for together.

The density is that of the flow, π carried back to t_min: of a model whose score is exact, the data with the noise σ(t_min).
Of a learned score it is another law than that of the reverse SDE with the same score.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gmcourse.diffusion.reverse import falling_times
from gmcourse.diffusion.sde import SDE, Score
from gmcourse.sampling.ode import odeint, same_shape
from gmcourse.sampling.sampler import rows

Trace = Literal["exact", "hutchinson"]
TRACES = ("exact", "hutchinson")


class FlowLogProb(NamedTuple):
    """log p(x) in nats, (n,), and how often the score was evaluated for it."""

    log_prob: Tensor
    evaluations: int


def flow_log_prob(
    sde: SDE,
    score: Score,
    x: Tensor,
    *,
    t_min: float = 1e-3,
    method: str = "dopri5",
    tolerance: float = 1e-5,
    steps: int = 50,
    trace: Trace = "exact",
    generator: torch.Generator | None = None,
) -> FlowLogProb:
    """log p(x) by the probability flow, x (n, *event_shape); with gradients, for x and the score, if x requires them.

    Args:
        score: differentiable; rows of x must not see each other.
        method, tolerance: of `odeint`: "dopri5" chooses its steps by the tolerance.
        steps: of "euler", "heun" or "rk4", evenly spread in log SNR.
        trace: "exact" costs d backward passes at every evaluation, "hutchinson" one, and is unbiased.
        generator: of Hutchinson's signs.

    >>> from gmcourse.diffusion.sde import VP
    >>> flow_log_prob(VP(), lambda x, t: -x, torch.zeros(1, 2)).log_prob     # −log 2π
    tensor([-1.8379])
    """
    if trace not in TRACES:
        raise ValueError(f"trace must be one of {', '.join(TRACES)}; got {trace!r}")
    signs = random_signs(x, generator) if trace == "hutchinson" else None
    d, event = rows(x).shape[1], x.shape

    def field(t: Tensor, state: Tensor) -> Tensor:
        t = t.detach()  # the steps of dopri5 depend on x; the solution does not depend on them
        here = state[:, :d].reshape(event)
        s, slope = score_and_trace(score, here, t.expand(len(here)), signs)
        half = 0.5 * sde.diffusion(t).square().to(here)
        velocity = sde.drift(here, t) - half * s
        return torch.cat([rows(velocity), (d * sde.rate(t).to(here) - half * slope)[:, None]], 1)

    grid = [t_min, 1.0] if method == "dopri5" else falling_times(sde, steps, end=t_min, spacing="log_snr")[::-1]
    with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):  # else nobody would ask for what a graph costs
        start = torch.cat([rows(x), x.new_zeros(len(x), 1)], 1)
        path = odeint(field, start, grid, method=method, tolerance=tolerance)
        noise, integral = path.end[:, :d].reshape(event), path.end[:, d]
        return FlowLogProb(sde.prior(event[1:]).log_prob(noise) + integral, path.evaluations)


def random_signs(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Hutchinson's v: ±1 with even chances, like x."""
    return torch.randint(2, x.shape, generator=generator, device=x.device).to(x) * 2 - 1


def score_and_trace(score: Callable, x: Tensor, t: Tensor, signs: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """s(x, t), shape of x, and tr ∂s/∂x, (n,), or with signs v of x's shape the estimate vᵀ ∂s/∂x v.

    They have gradients if x requires them.

    >>> score_and_trace(lambda x, t: -x, torch.zeros(3, 2), torch.ones(3))[1]
    tensor([-2., -2., -2.])
    """
    graph = torch.is_grad_enabled() and x.requires_grad
    with torch.inference_mode(False), torch.enable_grad():
        at = x if graph else x.detach().clone().requires_grad_()
        s = same_shape(score(at, t.clone()), at, "score")
        if not s.requires_grad:
            raise ValueError("score must be differentiable by x, for its trace; got one without a graph")
        columns = [(s * signs).sum()] if signs is not None else rows(s).sum(0).unbind()
        last = len(columns) - 1  # a loop over columns: up to about ten dimensions it is faster than vmap
        pulled = [_gradient(c, at, graph, graph or i < last) for i, c in enumerate(columns)]
        if signs is not None:
            trace = rows(pulled[0] * signs).sum(1)
        else:
            trace = torch.stack([rows(g)[:, i] for i, g in enumerate(pulled)]).sum(0)
    return (s, trace) if graph else (s.detach(), trace.detach())


def _gradient(y: Tensor, x: Tensor, create_graph: bool, retain_graph: bool) -> Tensor:
    return torch.autograd.grad(y, x, create_graph=create_graph, retain_graph=retain_graph, materialize_grads=True)[0]
