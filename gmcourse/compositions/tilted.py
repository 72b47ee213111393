r"""Exponential tilting: a base says where the data are, an energy what should not be there (thesis 4.3).

    p(x) = q(x) e^{−E(x)} / Z,        Z = E_q[e^{−E}]                                         thesis (4.4)
    ∇ −log p(data) = E_data[∇E] − E_p[∇E]                                                     thesis (4.9), (4.17)

The base is trained first and then held: any transport, a flow, a VAE (VAEBM), a GAN's generator (DDLS, thesis (4.2)). Then
the energy is trained by maximum likelihood, which is easy where q is nearly right: E = 0 is the base itself, and each step
only tells data from what the model takes for data. Negatives come by chains in the space of the noise, or by weighted draws
of the base: see `gmcourse.compositions.negatives`. (Source has the sign of the loss in (4.9), which it calls ∇L.)

To say how good it is takes Z: draws of the base give it, by the mean of e^{−E}, with a standard error.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gmcourse.compositions.negatives import Negatives, carried
from gmcourse.compositions.stability import masks
from gmcourse.ebm.contrastive import contrastive
from gmcourse.ebm.energy import Energy, values
from gmcourse.metrics.density import home
from gmcourse.metrics.partition import LogZ, log_mean_weight
from gmcourse.model import GenerativeModel, Likelihood, Player, check_count, check_not_negative, evaluating
from gmcourse.randomness import seeded

ENOUGH = 100  # effective draws below which log Z is not to be believed
ADVICE = "lower the learning rate or the step"
BATCH = 2000  # samples that are drawn at once


class Tilted(GenerativeModel):
    """q(x) e^{−E(x)}/Z, the base q held still.

    Args:
        base: a transport (`noise`, `push`), which is frozen; with `log_prob`, too, the tilted model has one.
        energy: module x (n, *event_shape) -> (n,), in nats.
        negatives: how the model is drawn from, in training and in `sample`.
        l2: weight of E² at data and negatives, which holds the free constant; biased.
        data_noise: standard deviation of noise on the data, each time they are seen: where a base paints with σ, an energy
            that never saw σ on data learns to hate noise, and nothing else. Then p models data with that noise on them.
        penalty: of the energy, a number, added to every sample's loss, e.g. 0.2 times `spectral_regularisation`.
        show_mean: samples are push(ε_z, 0), E[x|z] of a VAE, unless they are asked for otherwise.

    The likelihood is UNNORMALIZED until `normalise` has found log Z; then it is what the base's is, as exact as log Z. Where
    push gives means of x (a Bernoulli VAE's) there is none: the base's log_prob is of another law than its samples'.
    Raises ValueError for a base without `push`, and for an energy of another shape.

    >>> from gmcourse.compositions.negatives import NoiseChains
    >>> from gmcourse.ebm.energy import mlp_energy
    >>> from gmcourse.model import StandardNormal
    >>> Tilted(StandardNormal(2), mlp_energy(2), NoiseChains(steps=10, step=0.1)).sample(3).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        base: GenerativeModel,
        energy: Energy,
        negatives: Negatives,
        *,
        l2: float = 0.0,
        data_noise: float = 0.0,
        penalty: Callable[[Energy], Tensor] | None = None,
        show_mean: bool = False,
    ):
        for needed in ("noise", "push"):
            if not hasattr(base, needed):
                raise ValueError(f"base must be a transport, with noise and push; {type(base).__name__} has no {needed}")
        if show_mean and not hasattr(base, "noise_blocks"):
            raise ValueError(f"show_mean needs a base with noise_blocks, a VAE; got {type(base).__name__}")
        super().__init__(base.event_shape)
        self.l2, self.data_noise = check_not_negative(l2, "l2"), check_not_negative(data_noise, "data_noise")
        self.base, self.energy, self.negatives = base.requires_grad_(False).eval(), energy, negatives
        self.penalty, self.show_mean = penalty, show_mean
        self.data_range = base.data_range
        self.register_buffer("log_z", torch.tensor(torch.nan))
        with torch.no_grad(), evaluating(self):
            values(energy, base.push(base.noise(2, generator=torch.Generator(self._place()).manual_seed(0))))

    @property
    def likelihood(self) -> Likelihood:
        """What `log_prob` means: that of the base, UNNORMALIZED without log Z."""
        if self._means():
            return Likelihood.NONE
        own = Likelihood.UNNORMALIZED if self.log_z.isnan() else Likelihood.EXACT
        return max(own, self.base.likelihood, key=list(Likelihood).index)

    @property
    def nfe(self) -> int:
        """Evaluations per sample: as often as `negatives` ask, each through the base and the energy."""
        return self.negatives.nfe * max(self.base.nfe, 1)

    def players(self) -> Sequence[Player]:
        """One: the energy. Nothing of the base moves."""
        return [Player("energy", self.energy.parameters, self.loss)]

    def loss(self, x: Tensor) -> Tensor:
        """E(x) − E_p[E(x⁻)], (n,), whose gradient is that of −log p(x): thesis (4.9), (4.17). Its value is no likelihood.

        Raises FloatingPointError, before any weight has moved, if chains diverge or the energy is no longer finite.
        """
        if torch.is_grad_enabled():
            self.log_z.fill_(torch.nan)
        x = self.check_batch(x)
        if self.data_noise:
            x = x + self.data_noise * torch.randn_like(x)
        try:
            negative, weights = self.negatives(self.base, self.energy, len(x))
        except (ValueError, RuntimeError) as error:
            if self.energy(x).isfinite().all():
                raise
            raise FloatingPointError(f"the energy is not finite at the data; {ADVICE}") from error
        loss = contrastive(self.energy, x, negative, weights=weights, l2=self.l2)
        if not loss.isfinite().all():
            raise FloatingPointError(f"the energy is not finite at data or negatives; {ADVICE}")
        return loss if self.penalty is None else loss + self.penalty(self.energy)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None, mean: bool | None = None) -> Tensor:
        """Draw (n, *event_shape) by `negatives`: as good as its chains are long, or its weights even; with `mean` show
        push(ε_z, 0), as `show_mean` says unless it is given."""
        with evaluating(self):
            draws = (self.negatives.draw(self.base, self.energy, size, generator) for size in _portions(n, BATCH))
            return torch.cat([self.show(eps, mean=mean) for eps in draws])

    @torch.no_grad()
    def show(self, eps: Tensor, *, mean: bool | None = None) -> Tensor:
        """Where noise (n, D) leads, (n, *event_shape); `mean` as in `sample`."""
        if self.show_mean if mean is None else mean:
            eps = eps * (1 - masks(self.base.noise_blocks, eps)["x"])
        return carried(self.base, eps)

    def unnormalised(self, x: Tensor, *, base: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """log q(x) − E(x) in nats, (n,): log p(x) + log Z; log q is the base's own, unless `base` knows it better. A VAE's
        has no gradient in x. Raises NotImplementedError for a base whose push gives means."""
        if self._means():
            raise NotImplementedError(f"push of {type(self.base).__name__} gives means of x, whose law its log_prob is not")
        with evaluating(self):
            return (base or self.base.log_prob)(x) - values(self.energy, x)

    def log_prob(self, x: Tensor, *, base: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """log p(x) in nats, (n,), after `normalise`; before, up to the constant log Z. A bound where the base has one.

        `base` gives log q, (n, *event_shape) -> (n,), where it is known better: say, of a VAE by `LatentGrid`.
        """
        constant = torch.where(self.log_z.isnan(), torch.zeros_like(self.log_z), self.log_z)
        return self.unnormalised(self.check_batch(x), base=base) - constant

    @torch.no_grad()
    def normalise(self, n: int = 10_000, *, seed: int = 0, batch: int = 1000) -> LogZ:
        """Find log Z = log E_q[e^{−E}] in nats by n draws of the base, keep it for `log_prob`, and return it.

        Unbiased for Z. Warns if fewer than 100 draws carry the weight: then the base hardly meets the tilted law, and the
        standard error means nothing. `loss` forgets log Z; who moves weights in another way must find it again.
        """
        if check_count(n) < 2:
            raise ValueError(f"n must be at least 2 for a standard error; got {n}")
        with seeded(seed, self._place()), evaluating(self):
            draws = (carried(self.base, self.base.noise(size)) for size in _portions(n, batch))
            log_w = torch.cat([-values(self.energy, x) for x in draws])
        found = log_mean_weight(log_w)
        self.log_z.fill_(found.value)
        if found.ess < ENOUGH:
            told = f"log Z = {found}: only {found.ess:.1f} of {n} draws of the base carry the weight"
            warnings.warn(f"{told}; tilt less, draw more, or anneal: `log_z_annealed`", stacklevel=2)
        return found

    def _means(self) -> bool:
        """Whether push leaves out the noise of x, so that it gives E[x|z]."""
        return getattr(self.base, "noise_blocks", {}).get("x", 1) == 0

    def _place(self) -> torch.device:
        here = home(self.base)
        return torch.device("cpu") if here is None else here.device


def _portions(n: int, batch: int) -> list[int]:
    """n in parts of at most `batch`."""
    return [min(batch, n - done) for done in range(0, check_count(n), batch)]
