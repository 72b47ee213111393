r"""Guidance: a score of x becomes one of x given y, without training it anew (Dhariwal & Nichol 2021; Ho & Salimans 2022).

By Bayes' rule for the noisy x_t, whose normalising constant no gradient sees,

    ∇ log p(x_t | y) = ∇ log p(x_t) + ∇ log p(y | x_t)                       of a classifier: D&C 3.3

and a net that was told y in training, and now and then not, knows both scores, so it needs no classifier:

    s_w = s(x_t) + w ∇ log p(y | x_t) = (1 − w) s(x_t) + w s(x_t | y)        classifier-free

w = 0 ignores y, w = 1 is Bayes' rule, and samplers then draw from p(x | y). w > 1 exaggerates: samples are surer of y, and
less varied. s_w then is not the score of p(x) p(y | x)^w diffused, and what samplers draw is narrower: if x ~ N(0, 1) and
y = x + noise of variance ¼, the probability flow ends with the variance 0.2^w; at w = 3 that is .008, and not .077.

The classifier must judge noisy data: p(y | x_t) is not p(y | x_0) at x_t. Ho & Salimans' w is one less than this one.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gmcourse.diffusion.samplers import Noise
from gmcourse.diffusion.schedule import DiscreteDiffusion
from gmcourse.diffusion.sde import Score
from gmcourse.sampling.gradient import value_and_gradient
from gmcourse.sampling.ode import same_shape

LogLikelihood = Callable[[Tensor, Tensor], Tensor]  # x (n, *event_shape), t (n,) -> log p(y | x_t) (n,), y being fixed


def classifier_guided(score: Score, log_p_y: LogLikelihood, scale: float = 1.0) -> Score:
    """(x, t) ↦ s + scale ∇ log p(y | x_t), a score as samplers take it; D&C 3.3.

    Args:
        score: x (n, *event_shape), t (n,) -> ∇ log p_t(x), like x.
        log_p_y: x (n, *event_shape), t (n,) -> log p(y | x_t) in nats, (n,), differentiable in x; `y` may differ from row
            to row. Any constant may be left out.

    The result raises ValueError where `log_p_y` gives another shape or has no gradient.

    >>> guided = classifier_guided(lambda x, t: -x, lambda x, t: 3 * x[:, 0], scale=2.0)
    >>> guided(torch.zeros(1, 2), torch.ones(1))
    tensor([[6., 0.]])
    """

    def guided(x: Tensor, t: Tensor) -> Tensor:
        return score(x, t) + scale * slope(log_p_y, x, t)

    return guided


def classifier_guided_eps(eps: Noise, log_p_y: LogLikelihood, chain: DiscreteDiffusion, scale: float = 1.0) -> Noise:
    """(x, t) ↦ ε − scale √(1 − ᾱ_t) ∇ log p(y | x_t), as a chain's samplers take it; Dhariwal & Nichol 2021, algorithm 2."""

    def guided(x: Tensor, t: Tensor) -> Tensor:
        return eps(x, t) - scale * chain.marginal(x, t)[1] * slope(log_p_y, x, t)

    return guided


def classifier_free(with_label: Score | Noise, without: Score | Noise, scale: float) -> Score | Noise:
    """(x, t) ↦ (1 − w) s(x) + w s(x | y), w = `scale`: 1 is the conditional one, 0 the unconditional, more is stronger.

    Args:
        with_label, without: both scores, or both ε, x̂_0 or v of the same net, x (n, *event_shape), t (n,) -> like x.

    At w = 0 and w = 1 only one of them is evaluated. The result raises ValueError if their shapes differ.

    >>> from functools import partial
    >>> # DDIM(model.chain, classifier_free(partial(model.eps, labels=y), model.eps, 3.0)) for a DDPM with classes
    """
    if scale in (0, 1):
        return with_label if scale == 1 else without

    def guided(x: Tensor, t: Tensor) -> Tensor:
        free = without(x, t)
        return torch.lerp(free, same_shape(with_label(x, t), free, "with_label"), scale)

    return guided


def slope(log_p_y: LogLikelihood, x: Tensor, t: Tensor) -> Tensor:
    """∇ log p(y | x_t) with respect to x, like x; works where gradients are switched off, as they are when sampling."""
    return value_and_gradient(lambda at: log_p_y(at, t.clone()), x.detach(), "log_p_y")[1]  # t may be of inference mode
