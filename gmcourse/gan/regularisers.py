r"""What keeps a critic from being too steep: penalties on ∇D, and constraints on the weights (thesis 2.5.3, slides (44)).

A penalty is added to the critic's loss; its gradient with respect to the weights goes through ∇D, so it is a second
derivative, and a critic whose slope is piecewise constant (ReLU) is trained through its weights all the same.

    gradient-penalty             λ (‖∇D(x̂)‖ − 1)²       x̂ = u x + (1 − u) x̃, u ~ U[0, 1]        slides (44)
    one-sided-gradient-penalty   λ (‖∇D(x̂)‖ − 1)₊²      only too steep is wrong
    dragan                       λ (‖∇D(x + δ)‖ − 1)²   δ ~ N(0, σ²I): around the data only      Kodali et al. 2017
    r1                           (γ/2) ‖∇D(x)‖²         at data                                   thesis (6.16)
    r2                           (γ/2) ‖∇D(x̃)‖²         at fakes                                  Mescheder et al. 2018
    weight-clipping              |w| ≤ c after each step                                         Arjovsky et al. 2017
    spectral-norm                W / σ_max(W) in each layer                                       Miyato et al. 2018

R1 and R2 want no slope at all where p = q, which is what makes the equilibrium attractive; they bound it nowhere else. The
gradient penalties want slope 1, that of Wasserstein's best critic on the lines of transport. They take each logit to
depend on its own row: no batch normalisation in the critic.

Slips: thesis 2.5.3 and the slides say that WGAN clips *gradients*; it clips weights. The spectral norm is the *root* of the
largest eigenvalue of AᵀA. In slides (44) the square belongs inside of the mean.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gmcourse.gan.objectives import Objective, objective
from gmcourse.model import check_count, check_positive
from gmcourse.sampling.gradient import value_and_gradient
from gmcourse.sampling.sampler import beside, normal_like, rows

Critic = Callable[[Tensor], Tensor]


class Regulariser(ABC):
    """A penalty on the critic, called as `regulariser(critic, real, fake)`; it never trains the generator."""

    name: str

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """The penalty, weight included, at n pairs of a datum and a fake, both (n, *event_shape): (n,).

        Raises ValueError for batches of different shapes, a critic of another shape than (n,), or one without gradient.
        """
        if real.shape != fake.shape:
            raise ValueError(f"real and fake must have the same shape; got {tuple(real.shape)} and {tuple(fake.shape)}")
        return self.penalty(critic, real.detach(), fake.detach(), generator)

    @abstractmethod
    def penalty(self, critic: Critic, real: Tensor, fake: Tensor, generator: torch.Generator | None) -> Tensor:
        """The penalty at batches that are of one shape and lead nowhere, (n,)."""


@dataclass(frozen=True)
class GradientPenalty(Regulariser):
    """λ (‖∇D(x̂)‖ − target)² on the lines between data and fakes, slides (44); one-sided, only above the target.

    >>> GradientPenalty(weight=10)(lambda x: 3 * x[:, 0], torch.zeros(2, 2), torch.ones(2, 2))
    tensor([40., 40.])
    """

    weight: float = 10.0
    target: float = 1.0
    one_sided: bool = False

    def __post_init__(self):
        check_positive(self.weight, "weight")
        check_positive(self.target, "target")

    @property
    def name(self) -> str:
        return "one-sided-gradient-penalty" if self.one_sided else "gradient-penalty"

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor, generator: torch.Generator | None) -> Tensor:
        """At one point of each line, (n,)."""
        u = torch.rand(len(real), generator=generator, dtype=real.dtype, device=real.device)
        excess = _steepness(critic, torch.lerp(fake, real, beside(u, real))) - self.target
        return self.weight * (excess.relu() if self.one_sided else excess).square()


@dataclass(frozen=True)
class Dragan(Regulariser):
    """λ (‖∇D(x + δ)‖ − target)² near the data, δ ~ N(0, σ²I), σ = `spread` times the standard deviation of all of `real`."""

    weight: float = 10.0
    target: float = 1.0
    spread: float = 0.5
    name = "dragan"

    def __post_init__(self):
        check_positive(self.weight, "weight")
        check_positive(self.target, "target")
        check_positive(self.spread, "spread")

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor, generator: torch.Generator | None) -> Tensor:
        """At one point near each datum, (n,)."""
        near = real + self.spread * real.std(correction=0) * normal_like(real, generator)
        return self.weight * (_steepness(critic, near) - self.target).square()


@dataclass(frozen=True)
class R1(Regulariser):
    """(γ/2) ‖∇D(x)‖² at the data, thesis (6.16)."""

    gamma: float = 1.0
    name = "r1"

    def __post_init__(self):
        check_positive(self.gamma, "gamma")

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor, generator: torch.Generator | None) -> Tensor:
        """At each datum, (n,); nothing is drawn."""
        return self.gamma / 2 * rows(_slope(critic, real)).square().sum(1)


@dataclass(frozen=True)
class R2(R1):
    """(γ/2) ‖∇D(x̃)‖² at the fakes."""

    name = "r2"

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor, generator: torch.Generator | None) -> Tensor:
        """At each fake, (n,); nothing is drawn."""
        return super().penalty(critic, fake, real, generator)


@dataclass(frozen=True)
class Lazy(Regulariser):
    """A regulariser that is computed in one call of `every` only, and then counts `every` times as much.

    A coin decides, heads with probability 1/every, so that the mean over the coin is the regulariser itself at *every* step,
    whatever the weights are; and there is no counter that a checkpoint could lose or an evaluation move on. The price is
    variance: a call's second moment is `every` times that of the regulariser. Without the factor `every`, as in the code of
    the thesis' DDGAN, γ is in effect γ/every. With a generator on a GPU each call waits for the coin.

    >>> Lazy(R1(gamma=0.1), every=16)
    Lazy(regulariser=R1(gamma=0.1), every=16)
    """

    regulariser: Regulariser
    every: int

    def __post_init__(self):
        check_count(self.every, "every")

    @property
    def name(self) -> str:
        return self.regulariser.name

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor, generator: torch.Generator | None) -> Tensor:
        """`every` times the penalty, or zeros without a call of the critic: (n,)."""
        coin = torch.rand((), generator=generator, device="cpu" if generator is None else generator.device)
        if coin * self.every >= 1:
            return real.new_zeros(len(real))
        return self.every * self.regulariser(critic, real, fake, generator=generator)


@torch.no_grad()
def clip_weights(module: nn.Module, bound: float) -> nn.Module:
    """The module itself, all its parameters (biases, too) now within [−bound, bound]; to be called after each critic step.

    Raises ValueError for layers with a parametrization, such as spectral norm: what is clipped there isn't the weight.
    """
    check_positive(bound, "bound")
    if found := [name for name, part in module.named_modules() if parametrize.is_parametrized(part)]:
        raise ValueError(f"module must have plain weights to be clipped; {found[0] or 'it'} has a parametrization")
    for parameter in module.parameters():
        parameter.clamp_(-bound, bound)
    return module


LIPSCHITZ = ("gradient-penalty", "one-sided-gradient-penalty", "weight-clipping", "spectral-norm")
REGULARISERS = (*LIPSCHITZ, "dragan", "r1", "r2")


def check_pair(game: str | Objective, *regularisers: str | Regulariser) -> None:
    """Raise ValueError, by name, for an objective and regularisers, penalties or constraints, that do not go together.

    Wasserstein needs one that bounds the slope at data, at fakes and between them. R1, R2 and DRAGAN look at one of these
    only, so that the least loss is no longer −W₁, if there is one. Clipping and spectral norm act on the same weights.

    >>> check_pair("wasserstein", "gradient-penalty")
    """
    game = objective(game)
    names = [given if isinstance(given, str) else given.name for given in regularisers]
    if unknown := [name for name in names if name not in REGULARISERS]:
        raise ValueError(f"regularisers must be among {', '.join(REGULARISERS)}; got {unknown[0]!r}")
    if game.needs_lipschitz and not set(names) & set(LIPSCHITZ):
        wanted = f"objective {game.name!r} needs a Lipschitz critic, by one of {', '.join(LIPSCHITZ)}"
        raise ValueError(f"{wanted}; got {' and '.join(names) or 'no regulariser'}")
    if {"weight-clipping", "spectral-norm"} <= set(names):
        raise ValueError("regularisers must not be both 'weight-clipping' and 'spectral-norm': what is clipped is rescaled")


def _slope(critic: Critic, x: Tensor) -> Tensor:
    """∇D at x (n, *event_shape), same shape, with a graph that leads to the weights where gradients are on."""
    return value_and_gradient(critic, x.detach(), "critic", create_graph=torch.is_grad_enabled())[1]


def _steepness(critic: Critic, x: Tensor) -> Tensor:
    """‖∇D‖ at x, (n,); its own slope is taken as 0 where ∇D = 0."""
    return torch.linalg.vector_norm(rows(_slope(critic, x)), dim=1)
