r"""The Dirac-GAN: a game of two numbers, in which all that may happen around an equilibrium can be seen (slides (45)).

The data are one point, 0; the generator's are one point, θ; the critic is a line, D(x) = ψx (Mescheder, Geiger, Nowozin
2018). With critic loss r(0) + f(t) and generator loss g(t) at the fake's logit t = θψ, both players descend:

    dθ/dτ = −g'(t) ψ,    dψ/dτ = −f'(t) θ − γψ,    J = [[0, a], [−b, −γ]] at (0, 0),  a = −g'(0), b = f'(0)
    eigenvalues −γ/2 ± √(γ²/4 − ab)            γ of R1, plus s²(r''(0) + f''(0)) from instance noise N(0, s²) on all data

Here a = b: ½ for minimax and non-saturating, 1 for the others. Without regulariser players circle, ±ia, and
½ d(θ²+ψ²)/dτ = −t(f' + g') has to decide. It is zero where the game is zero-sum (minimax, Wasserstein): circles for ever.
Non-saturating has −t tanh(t/2), least squares −2t²: these flows do converge, as √(8/τ) and √(2/τ). Hinge circles within
√2, and comes down to there along t = −1.

Steps of length h, both players at once, multiply θ²+ψ² by 1 + h²a²: circles become spirals outwards, and the two flows that
converge end in cycles of radius √(2h). Alternating steps are shears at (0, 0), and have |eigenvalues| = 1: Wasserstein's
keep θ² + ψ² − hθψ; minimax's creep outwards slowly (from 2 to 2.5 in 500 steps of ½, by half a percent in 20000 of 0.1).

Slides (45) prints φ̇ = ∇_φ L₁ with L₁ = −log(1 − σ), and ∇_θ −log σ in the matrix: either sign is wrong there, the right-hand
side is as here. Its system, called vanilla GAN, is the non-saturating one, and *does* converge to 0, without a rate e^{−cτ}.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gmcourse.model import check_count, check_positive
from gmcourse.sampling.ode import Path, odeint

Slope = Callable[[Tensor], Tensor]


class Slopes(NamedTuple):
    """Derivatives of an objective's losses in the logit: r' and f' of the critic's two halves, g' of the generator."""

    real: Slope
    fake: Slope
    generator: Slope
    bend: float  # r''(0) + f''(0)


def _log_loss(generator: Slope) -> Slopes:
    return Slopes(lambda t: -torch.sigmoid(-t), torch.sigmoid, generator, 0.5)


SLOPES = {
    "minimax": _log_loss(lambda t: -torch.sigmoid(t)),
    "non-saturating": _log_loss(lambda t: -torch.sigmoid(-t)),
    "least-squares": Slopes(lambda t: t - 1, lambda t: t + 1, lambda t: t - 1, 2.0),
    "wasserstein": Slopes(lambda t: -torch.ones_like(t), torch.ones_like, lambda t: -torch.ones_like(t), 0.0),
    "hinge": Slopes(lambda t: -(t < 1).to(t), lambda t: (t > -1).to(t), lambda t: -torch.ones_like(t), 0.0),
}


@dataclass(frozen=True)
class DiracGAN:
    """The game's vector field at points (θ, ψ), (n, 2); slides (45). Regularisers may be combined.

    Args:
        objective: one of `SLOPES`. Least squares has the labels −1 and 1, the generator wants 1: a critic without a bias
            says 0 at the data, which has to be half-way between the labels (with 0 and 1, J is nilpotent).
        r1: γ of γ/2 ψ², half the critic's squared slope on the data, thesis (6.16); on a line R2 is the same.
        penalty: λ of the gradient penalty λ(|ψ| − 1)², slides (44). It has a kink at ψ = 0 that drives the critic off:
            players circle for ever, with Wasserstein's objective and a small λ at the radius 4/π.
        one_sided: penalise |ψ| > 1 only.
        noise: s of instance noise. Wasserstein's objective does not feel it, hinge only far from (0, 0). The mean over
            it is a sum over 1601 points 0.01 s apart, exact to rounding but for hinge, whose jump is met up to that.
        clip: largest |ψ|, enforced after each update. Wasserstein's flow ends on the circle of this radius or inside.

    Raises ValueError for an unknown objective or a negative strength.

    >>> DiracGAN("wasserstein", r1=2.0).eigenvalues()
    tensor([-1.+0.j, -1.+0.j])
    """

    objective: str = "non-saturating"
    r1: float = 0.0
    penalty: float = 0.0
    one_sided: bool = False
    noise: float = 0.0
    clip: float = math.inf

    def __post_init__(self):
        if self.objective not in SLOPES:
            raise ValueError(f"objective must be one of {tuple(SLOPES)}; got {self.objective!r}")
        for name in ("r1", "penalty", "noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not negative; got {getattr(self, name)}")
        if not self.clip > 0:
            raise ValueError(f"clip must be positive; got {self.clip}")

    def field(self, x: Tensor) -> Tensor:
        """(dθ/dτ, dψ/dτ) at x = (θ, ψ), (n, 2) -> (n, 2): each player's own descent, clipping left out."""
        if x.ndim != 2 or x.shape[1] != 2 or not x.is_floating_point():
            raise ValueError(f"x must be floats of shape (n, 2); got {tuple(x.shape)}, {x.dtype}")
        slopes, (theta, psi), (z, weight) = SLOPES[self.objective], x.unbind(1), self._noise(x)
        fake, real = theta[:, None] + z, z
        at_fake, at_real = psi[:, None] * fake, psi[:, None] * real
        d_theta = -psi * (slopes.generator(at_fake) @ weight)
        d_psi = -(slopes.fake(at_fake) * fake + slopes.real(at_real) * real) @ weight
        return torch.stack([d_theta, d_psi - self.r1 * psi - self._penalty_slope(psi)], 1)

    def _noise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Points of N(0, s²) up to 8s, and their weights, (k,): the trapezoidal rule; one point if there is no noise."""
        z = torch.linspace(-8, 8, 1601, dtype=x.dtype, device=x.device) if self.noise else x.new_zeros(1)
        return self.noise * z, torch.softmax(-z.square() / 2, 0)

    def _penalty_slope(self, psi: Tensor) -> Tensor:
        excess = psi.abs() - 1
        return 2 * self.penalty * (excess.clamp(min=0) if self.one_sided else excess) * psi.sign()

    def clipped(self, x: Tensor) -> Tensor:
        """x with ψ brought back into [−clip, clip], (..., 2) -> (..., 2)."""
        return torch.stack([x[..., 0], x[..., 1].clamp(-self.clip, self.clip)], -1)

    def jacobian(self, x: Tensor) -> Tensor:
        """Derivative of `field` by autograd, (n, 2) -> (n, 2, 2), rows d(dθ/dτ) and d(dψ/dτ)."""
        return torch.func.vmap(torch.func.jacrev(lambda point: self.field(point[None])[0]))(x)

    def equilibrium_jacobian(self) -> Tensor:
        """J at (0, 0) in closed form, (2, 2). Raises ValueError for the two-sided penalty, which has no derivative there."""
        if self.penalty and not self.one_sided:
            raise ValueError("the two-sided gradient penalty has a kink at the equilibrium, and so no Jacobian")
        slopes, zero = SLOPES[self.objective], torch.zeros(())
        damping = self.r1 + self.noise**2 * slopes.bend
        return torch.tensor([[0.0, -slopes.generator(zero)], [-slopes.fake(zero), -damping]])

    def eigenvalues(self) -> Tensor:
        """−d/2 ± √(d²/4 − ab) of that Jacobian, complex, (2,); d is what damps ψ. Refuses what it refuses."""
        jacobian = self.equilibrium_jacobian()
        half = jacobian[1, 1] / 2
        root = torch.sqrt((half.square() + jacobian[0, 1] * jacobian[1, 0]).to(torch.complex64))
        return torch.stack([half + root, half - root])


Rule = Callable[[DiracGAN, Tensor, Tensor, Tensor], Tensor]  # game, x, x of the step before, steps (2,) -> next x


def simultaneous(game: DiracGAN, x: Tensor, before: Tensor, h: Tensor) -> Tensor:
    """x + h v(x): both players answer the same point."""
    return x + h * game.field(x)


def optimistic(game: DiracGAN, x: Tensor, before: Tensor, h: Tensor) -> Tensor:
    """x + h (2v(x) − v(x before)): as if the next slope could be guessed; converges on circles for h√(ab) < 1/√3."""
    return x + h * (2 * game.field(x) - game.field(before))


def alternating(critic_steps: int = 1) -> Rule:
    """The critic moves, `critic_steps` times, and the generator answers; bounded on circles for h√(ab·critic_steps) < 2."""
    check_count(critic_steps, "critic_steps")

    def rule(game: DiracGAN, x: Tensor, before: Tensor, h: Tensor) -> Tensor:
        critic, generator = torch.eye(2, dtype=x.dtype, device=x.device).flip(0)
        for _ in range(critic_steps):
            x = game.clipped(x + critic * h * game.field(x))
        return x + generator * h * game.field(x)

    return rule


def consensus(weight: float = 1.0) -> Rule:
    """x + h (v − w Jᵀv): both players descend w/2 ‖v‖², too (Mescheder, Nowozin, Geiger 2017).

    That is a local cure: far out ‖v‖ may fall outwards (minimax from (2, 0) with w = 1 is led to ψ = −11).
    """
    check_positive(weight, "weight")

    def rule(game: DiracGAN, x: Tensor, before: Tensor, h: Tensor) -> Tensor:
        v, pull = torch.func.vjp(game.field, x)
        return x + h * (v - weight * pull(v)[0])

    return rule


@torch.no_grad()
def simulate(
    game: DiracGAN, x: Tensor, steps: int, *, step: float | Sequence[float] = 0.1, rule: Rule = simultaneous
) -> Tensor:
    """Play `steps` updates from x = (θ, ψ), (n, 2) -> (steps + 1, n, 2), the start first.

    Args:
        step: h, or (generator's, critic's), two positive numbers.
        rule: `simultaneous`, `alternating()`, `optimistic` or `consensus()`.

    Raises ValueError for bad arguments, FloatingPointError where the players leave the finite numbers.

    >>> simulate(DiracGAN("wasserstein"), torch.tensor([[1.0, 0.0]]), 100).shape
    torch.Size([101, 1, 2])
    """
    rates = [step] * 2 if isinstance(step, int | float) else list(step)
    if len(rates) != 2:
        raise ValueError(f"step must be one number or two; got {len(rates)}")
    h = torch.tensor([check_positive(rate, "step") for rate in rates], dtype=x.dtype, device=x.device)
    path = [x, x]
    for _ in range(check_count(steps, "steps")):
        path.append(game.clipped(rule(game, path[-1], path[-2], h)))
    points = torch.stack(path[1:])
    if not points.isfinite().all():
        raise FloatingPointError(f"the players left the finite numbers within {steps} steps of {step}")
    return points


@torch.no_grad()
def flow(game: DiracGAN, x: Tensor, times: Sequence[float] | Tensor, *, steps: int = 100, method: str = "rk4") -> Path:
    """Follow the field itself, x (n, 2), by `odeint`, `steps` of "euler", "heun" or "rk4" between two times, or "dopri5".

    A clipped critic stays at the bound as long as its slope points outwards. Where the field jumps (hinge at t = −1, the
    penalty at ψ = 0, the bound) all methods are of order 1: take many steps.

    >>> flow(DiracGAN("wasserstein"), torch.tensor([[1.0, 0.0]]), (0, math.pi / 2)).end       # a quarter of a circle
    tensor([[-1.8440e-07, -1.0000e+00]])
    """

    def within(time: Tensor, x: Tensor) -> Tensor:
        inside = game.clipped(x)
        v = game.field(inside)
        outwards = (x[:, 1].abs() >= game.clip) & (v[:, 1] * x[:, 1] > 0)
        return torch.stack([v[:, 0], v[:, 1].where(~outwards, 0)], 1)

    path = odeint(within, x, times, steps=steps, method=method)
    return path._replace(x=game.clipped(path.x))
