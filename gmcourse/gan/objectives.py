r"""What critic and generator minimise: five games between them (thesis 2.5, slides 40-44).

A critic gives each x one unbounded number t, its logit; in the first two games D = σ(t) is the probability that x is real.
With p the data, q the generator's law, and t* the best critic for this q, the two losses are means over p and q of

    name             critic, on p / on q              generator, on q     t*                   least loss of the critic
    minimax          −log D     / −log(1 − D)         log(1 − D)          log p/q              2 ln 2 − 2 JS    (2.71)–(2.79)
    non-saturating   −log D     / −log(1 − D)         −log D              log p/q              2 ln 2 − 2 JS    slides (40b)
    least-squares    ½(t − 1)²  / ½(t + 1)²           ½(t − 1)²           (p − q)/(p + q)      1 − ½ ∫(p − q)²/(p + q)
    hinge            (1 − t)₊   / (1 + t)₊            −t                  sign(p − q)          2 − 2 TV
    wasserstein      −t         / t                   −t                  Kantorovich's        −W₁, ‖t‖_L ≤ 1   (2.80)–(2.83)

Minimax and Wasserstein are zero-sum, so that against t* the generator descends 2 JS and W₁ themselves. Minimax *saturates*:
log(1 − D) = −softplus(t) has slope −σ(t), which is e^t for a fake that the critic is sure of; −log D has slope −σ(−t) → −1,
the same direction at any one point. Its descent is that of KL(q‖p) − 2 JS (slides, problem 2) = 2 KL(½(p + q)‖p).

Slips: slides (40b) as printed lets D win without bound on fakes, the critic keeps (40a); (42) has 1 − log D for log(1 − D),
and lacks two logarithms; the left side of thesis (2.74) is V, not D*.
"""

from abc import ABC, abstractmethod

from torch import Tensor
from torch.nn.functional import relu, softplus


class Objective(ABC):
    """Two losses, made of three elementwise functions of the logit; `needs_lipschitz` if a free critic has no optimum."""

    name: str
    needs_lipschitz = False

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the critic minimises, from its logits (n,) of data and (n,) of fakes: (n,). ValueError for other shapes.

        >>> Hinge().critic(Tensor([0.5]), Tensor([-2.0]))
        tensor([0.5000])
        """
        if _logits(real, "real").shape != _logits(fake, "fake").shape:
            raise ValueError(f"real and fake must be equally many; got {len(real)} and {len(fake)}")
        return self.on_real(real) + self.on_fake(fake)

    def generator(self, fake: Tensor) -> Tensor:
        """What the generator minimises, from the critic's logits (n,) of fakes: (n,). ValueError for another shape."""
        return self.on_generated(_logits(fake, "fake"))

    @abstractmethod
    def on_real(self, t: Tensor) -> Tensor:
        """The critic's loss on data."""

    @abstractmethod
    def on_fake(self, t: Tensor) -> Tensor:
        """The critic's loss on fakes."""

    @abstractmethod
    def on_generated(self, t: Tensor) -> Tensor:
        """The generator's loss."""


class Minimax(Objective):
    """Cross-entropy in nats, and its negative for the generator: thesis (2.73), slides (40a). It saturates."""

    name = "minimax"

    def on_real(self, t: Tensor) -> Tensor:
        """−log D."""
        return softplus(-t)

    def on_fake(self, t: Tensor) -> Tensor:
        """−log(1 − D)."""
        return softplus(t)

    def on_generated(self, t: Tensor) -> Tensor:
        """log(1 − D)."""
        return -softplus(t)


class NonSaturating(Minimax):
    """Cross-entropy in nats, with −log D for the generator (thesis 2.5.3, slides (40b)): no zero-sum game any more."""

    name = "non-saturating"

    def on_generated(self, t: Tensor) -> Tensor:
        """−log D."""
        return softplus(-t)


class LeastSquares(Objective):
    """Regression on 1 for data, −1 for fakes; the generator wants 1 (Mao et al. 2017, there a = −1, b = c = 1).

    Against t* the generator descends 2 ∫ q − 2p ln(1 + q/p) − p²/(p + q), convex in q. With Mao's other choice, c = 0, the
    sum of both sides is Pearson's χ²(p + q ‖ 2q), but fakes where q < p would be pushed away from where more are wanted.
    """

    name = "least-squares"

    def on_real(self, t: Tensor) -> Tensor:
        """½(t − 1)²."""
        return (t - 1).square() / 2

    def on_fake(self, t: Tensor) -> Tensor:
        """½(t + 1)²."""
        return (t + 1).square() / 2

    def on_generated(self, t: Tensor) -> Tensor:
        """½(t − 1)²."""
        return (t - 1).square() / 2


class Wasserstein(Objective):
    """The difference of the means: thesis (2.82), (2.83). Its critic must be Lipschitz, or there is no least loss.

    Of a K-Lipschitz critic the least loss is −K W₁, slides (43b).
    """

    name = "wasserstein"
    needs_lipschitz = True

    def on_real(self, t: Tensor) -> Tensor:
        """−t."""
        return -t

    def on_fake(self, t: Tensor) -> Tensor:
        """t."""
        return t

    def on_generated(self, t: Tensor) -> Tensor:
        """−t."""
        return -t


class Hinge(Objective):
    """Wasserstein's difference, in which what is beyond the margins ±1 counts no more (Lim & Ye 2017).

    A free critic tends to sign(p − q): its losses tell the total variation, but it has no slope for the generator.
    """

    name = "hinge"

    def on_real(self, t: Tensor) -> Tensor:
        """max(0, 1 − t)."""
        return relu(1 - t)

    def on_fake(self, t: Tensor) -> Tensor:
        """max(0, 1 + t)."""
        return relu(1 + t)

    def on_generated(self, t: Tensor) -> Tensor:
        """−t."""
        return -t


OBJECTIVES = {kind.name: kind() for kind in (Minimax, NonSaturating, LeastSquares, Wasserstein, Hinge)}


def objective(name: str | Objective) -> Objective:
    """The objective of this name, or the one that is given itself; ValueError lists the names there are."""
    if isinstance(name, Objective):
        return name
    if name not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}; got {name!r}")
    return OBJECTIVES[name]


def _logits(t: Tensor, name: str) -> Tensor:
    if t.ndim != 1:
        raise ValueError(f"{name} must hold logits of shape (n,); got {tuple(t.shape)}")
    return t
