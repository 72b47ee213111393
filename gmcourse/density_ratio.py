r"""Density ratios by classification, and what can be done with one: noise-contrastive estimation (thesis 1.2.2).

A classifier that tells data x ~ p from noise x ~ q knows how probable p makes x relative to q. With ν noise draws for each
datum its best logit is log p(x)/q(x) − log ν, and for ν = 1 its best probability is

    D(x) = p(x) / (p(x) + q(x)),        p(x)/q(x) = D(x) / (1 − D(x))                             thesis (1.12)

So a net h(x) trained on  E_p[−log σ(h − log ν)] + ν E_q[−log σ(log ν − h)]  tends to log p/q. For ν = 1 the least loss is
2 ln 2 − 2 JS(p, q). The ratio reweights the noise: p̂(x) = e^{h(x)} q(x) is the model, and sampling-importance-resampling
(SIR) draws from it: draw a pool from q, then pick from it with probability ∝ e^{h}.

It fails where q misses p: then the classifier wins without knowing the ratio, and a few points of the pool carry all the
weight. For p = N(m, I) and q = N(0, I) n draws are worth n e^{−|m|²} (the effective sample size): none, soon.
"""

import math
from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn import functional as F

from gmcourse.metrics.partition import LogZ, log_mean_weight
from gmcourse.model import GenerativeModel, Likelihood, Player, check_count
from gmcourse.randomness import draw


class NoiseContrastive(GenerativeModel):
    """p̂(x) = e^{h(x)} q(x), with a net h for log p/q that was trained to tell data from the noise q.

    Args:
        net: h, x (n, *event_shape) -> (n,) or (n, 1); densities on the line come to it as (n, 1).
        noise: q, a Distribution or a GenerativeModel with `sample` and `log_prob`; it stays as it is.
        ratio: ν, noise draws per datum.
        pool: noise draws per sample in SIR. Samples are picked with replacement, so that a small pool repeats itself.

    >>> from gmcourse.model import StandardNormal
    >>> NoiseContrastive(torch.nn.Linear(2, 1), StandardNormal(2)).sample(5).shape
    torch.Size([5, 2])
    """

    likelihood = Likelihood.UNNORMALIZED

    def __init__(
        self,
        net: Callable[[Tensor], Tensor],
        noise: Distribution | GenerativeModel,
        *,
        ratio: int = 1,
        pool: int = 16,
    ):
        if not isinstance(noise, (Distribution, GenerativeModel)):
            raise ValueError(f"noise must be a Distribution or a GenerativeModel; got {type(noise).__name__}")
        if getattr(noise, "batch_shape", ()):
            raise ValueError(f"noise must be one distribution, without batch shape; got {tuple(noise.batch_shape)}")
        super().__init__(noise.event_shape)
        self.net, self.noise = net, noise
        self.ratio, self.pool = check_count(ratio, "ratio"), check_count(pool, "pool")

    @property
    def nfe(self) -> int:
        """Each sample is picked from a pool, and each point of that goes through the net once."""
        return self.pool

    def players(self) -> list[Player]:
        """The net alone: the noise is not trained."""
        return [Player("classifier", self.net.parameters, self.loss)]

    def log_ratio(self, x: Tensor) -> Tensor:
        """h(x), the estimate of log p(x)/q(x) in nats, (n, *event_shape) -> (n,)."""
        x = self.check_batch(x)
        h = self.net(x if self.event_shape else x[:, None])
        if h.shape not in ((len(x),), (len(x), 1)):
            raise ValueError(f"net must give shape (n,) or (n, 1); got {tuple(h.shape)} for {tuple(x.shape)}")
        return h.reshape(len(x))

    def discriminator(self, x: Tensor) -> Tensor:
        """D(x) = p/(p + q), the probability that x is no noise when both are equally frequent, (n,); thesis (1.12)."""
        return self.log_ratio(x).sigmoid()

    def loss(self, x: Tensor) -> Tensor:
        """−log σ(logit) at each datum plus −log(1 − σ(logit)) at its own ν noise draws, in nats, shape (n,)."""
        n = len(self.check_batch(x))
        everything = torch.cat([x, self.draw_noise(n * self.ratio).to(x)])
        logit = self.log_ratio(everything) - math.log(self.ratio)
        return F.softplus(-logit[:n]) + F.softplus(logit[n:]).unflatten(0, (n, self.ratio)).sum(1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p̂(x) = h(x) + log q(x) in nats, (n,); normalised only as far as h is the true ratio."""
        return self.log_ratio(x) + self.noise.log_prob(x)

    @torch.no_grad()
    def weighted(self, n: int, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """n draws of noise (n, *event_shape) and their log-weights h (n,), which make them draws of p̂."""
        x = self.draw_noise(n, generator=generator)
        return x, self.log_ratio(x)

    def log_normaliser(self, n: int = 10_000, *, generator: torch.Generator | None = None) -> LogZ:
        """log ∫ p̂ in nats by n noise draws, 0 for the true ratio, with its error and the effective sample size behind it.

        Don't trust it where the last is small: weight that no draw has met is not in it.
        """
        return log_mean_weight(self.weighted(n, generator=generator)[1])

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw x ~ p̂ by SIR, shape (n, *event_shape); exact as the pool grows, and worth no more than its ESS."""
        x, log_weights = self.weighted(check_count(n) * self.pool, generator=generator)
        return x[importance_resample(log_weights, n, generator=generator)]

    @torch.no_grad()
    def draw_noise(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """x ~ q, shape (n, *event_shape), with the net's device and dtype where it has parameters."""
        x = draw(self.noise, check_count(n), generator=generator)
        return x.to(next(chain(self.parameters(), self.buffers()), x))


def importance_resample(log_weights: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
    """n indices drawn with replacement, i with probability ∝ exp(log_weights[i]); (m,) -> (n,) whole numbers.

    The weights may be as large or small as floats go, and need no normalisation. Raises ValueError for NaN or +inf among
    them, if all are zero, or for more than 2²⁴ of them.

    >>> importance_resample(torch.tensor([-1e4, 1e4]), 3)
    tensor([1, 1, 1])
    """
    if log_weights.ndim != 1 or len(log_weights) == 0:
        raise ValueError(f"log_weights must have shape (m,) and not be empty; got {tuple(log_weights.shape)}")
    if len(log_weights) > 2**24:
        raise ValueError(f"log_weights must be at most 2²⁴ numbers; got {len(log_weights)}")
    if not log_weights.max().isfinite():  # the largest is NaN where any is
        raise ValueError(f"log_weights must hold a finite largest value; got {log_weights.max():g}")
    weights = log_weights if log_weights.device.type == "mps" else log_weights.double()  # of millions the sum needs digits
    return torch.multinomial(weights.softmax(0), check_count(n), replacement=True, generator=generator)


def log_ratio_from_logit(logit: Tensor, *, n_p: float = 1, n_q: float = 1) -> Tensor:
    """log p(x)/q(x) from the logit of a classifier that was trained on n_p points of p and n_q of q; any shape, in nats.

    Its logit is the log-odds log n_p p / n_q q; what the class sizes put in is taken out again.

    >>> log_ratio_from_logit(torch.tensor([0.0]), n_p=100, n_q=400)     # as frequent, though there was less of it
    tensor([1.3863])
    """
    if not (0 < n_p < math.inf and 0 < n_q < math.inf):
        raise ValueError(f"n_p and n_q must be positive; got {n_p} and {n_q}")
    return logit + math.log(n_q / n_p)
