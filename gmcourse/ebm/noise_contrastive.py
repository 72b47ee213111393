r"""Noise-contrastive estimation of an energy: log Z is one more number to learn (thesis 2.3.3; Gutmann & Hyvärinen 2012).

    log p_θ(x) = −E_θ(x) − c,       c a parameter
    logit(x) = log p_θ(x) − log q(x) − log ν              x a datum, or one of ν draws of noise q per datum
    loss = E_p[−log σ(logit)] + ν E_q[−log σ(−logit)]                   ν = 1: −J of thesis (2.43); slides (37)–(39)

(The ν of the slides is 1/ν here: data per noise.) The least loss is at p_θ = p, c included: a p_θ that integrates to more
than 1 takes too much noise for data. So c → log Z, which no other objective of this chapter tells. Noise far from the data
is told apart without knowing p, and then there is nothing to learn; see `gmcourse.density_ratio` for what is behind.

Conditional NCE makes its noise of the data, x' = x + σε, and asks which of the two is the datum (Ceylan & Gutmann 2018):

    loss = 2 E[−log σ(E_θ(x') − E_θ(x))]

Z drops out, and noise is never far. For σ → 0, loss = 2 ln 2 + (σ²/2)(implicit score matching), thesis (2.41).
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import softplus

from gmcourse.ebm.energy import Energy, values
from gmcourse.metrics.density import log_density
from gmcourse.model import GenerativeModel, Player, check_count, check_positive
from gmcourse.randomness import draw


class NoiseContrast(nn.Module):
    """The objective (2.43) with its parameter `log_z`, in nats; called as `objective(energy, x)`, (n,).

    Args:
        noise: q, a Distribution or a GenerativeModel with `sample` and `log_prob`, positive where the data are; not trained.
        ratio: ν, noise draws per datum.

    >>> objective = NoiseContrast(torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2)), ratio=2)
    >>> objective(lambda x: x.square().sum(1) / 2, torch.zeros(5, 2)).shape
    torch.Size([5])
    """

    def __init__(self, noise: Distribution | GenerativeModel, *, ratio: int = 1):
        super().__init__()
        if not isinstance(noise, Distribution | GenerativeModel):
            raise ValueError(f"noise must be a Distribution or a GenerativeModel; got {type(noise).__name__}")
        if getattr(noise, "batch_shape", ()):
            raise ValueError(f"noise must be one distribution, without batch shape; got {tuple(noise.batch_shape)}")
        self.noise, self.ratio = noise, check_count(ratio, "ratio")
        self.log_z = nn.Parameter(torch.zeros(()))

    def forward(self, energy: Energy, x: Tensor) -> Tensor:
        """−log σ(logit) at each datum plus −log σ(−logit) at its own ν noise draws, in nats, x (n, *event_shape) -> (n,)."""
        n = len(x)
        logit = self.logit(energy, torch.cat([x, self.draw_noise(n * self.ratio, x)]))
        return softplus(-logit[:n]) + softplus(logit[n:]).unflatten(0, (n, self.ratio)).sum(1)

    def logit(self, energy: Energy, x: Tensor) -> Tensor:
        """log p_θ(x) − log q(x) − log ν, (n,): +inf where there is no noise."""
        with torch.no_grad():
            log_q = log_density(self.noise, x, "noise")
        return self.log_prob(energy, x) - log_q - math.log(self.ratio)

    def log_prob(self, energy: Energy, x: Tensor) -> Tensor:
        """log p_θ(x) = −E_θ(x) − log_z in nats, (n,); normalised as far as `log_z` has been learned."""
        return -values(energy, x) - self.log_z

    @torch.no_grad()
    def draw_noise(self, n: int, like: Tensor) -> Tensor:
        """x ~ q, (n, *event_shape), with the device and dtype of `like`."""
        noise = draw(self.noise, n).to(like)
        if noise.shape[1:] != like.shape[1:]:
            raise ValueError(f"noise must have the event shape of x, {tuple(like.shape[1:])}; got {tuple(noise.shape[1:])}")
        return noise

    def players(self, model) -> list[Player]:
        """One player, the energy of `model` (an EBM) and log_z together: noise that has parameters keeps them."""
        weights = model.energy.parameters if isinstance(model.energy, nn.Module) else list
        return [Player("energy", lambda: [*weights(), self.log_z], model.loss)]


class ConditionalNoiseContrast(nn.Module):
    """Data against themselves with noise, 2 · −log σ(E(x + σε) − E(x)): no log Z; called as `objective(energy, x)`, (n,).

    Args:
        sigma: σ, as large as the structure that is to be learned: far copies are told apart easily, near ones hardly at all.
        ratio: noisy copies per datum, over which the loss is averaged.
    """

    def __init__(self, sigma: float, ratio: int = 1):
        super().__init__()
        self.sigma, self.ratio = check_positive(sigma, "sigma"), check_count(ratio, "ratio")

    def forward(self, energy: Energy, x: Tensor) -> Tensor:
        """2 log(1 + e^{E(x) − E(x')}), averaged over the copies x' of each datum, x (n, *event_shape) -> (n,)."""
        copies = x + self.sigma * torch.randn(self.ratio, *x.shape, dtype=x.dtype, device=x.device)
        e = values(energy, torch.cat([x[None], copies]).flatten(0, 1)).unflatten(0, (1 + self.ratio, len(x)))
        return 2 * softplus(e[0] - e[1:]).mean(0)

    def extra_repr(self) -> str:
        """Settings, as in the constructor."""
        return f"sigma={self.sigma:g}, ratio={self.ratio}"
