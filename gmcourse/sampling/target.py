r"""What samplers know of a density: an energy, a score, or both.

    p(x) ∝ e^{−E(x)},   s(x) = ∇ log p(x) = −∇E(x)

The normalising constant drops out of both. Energies and scores are functions of a batch of chains, x (n, *event_shape); an
energy gives one number for each chain, and must not let chains look at each other.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gmcourse.nets.confined import Confined
from gmcourse.sampling.backprop import energy_and_score, layers
from gmcourse.sampling.gradient import one_per_row, value_and_gradient

Function = Callable[[Tensor], Tensor]


class Target:
    """E and s at a batch of points: no graph reaches the parameters of `energy`, and none is left behind.

    Args:
        energy: x (n, *event_shape) -> (n,) in nats.
        score: ∇ log p, x -> same shape, where it is known in closed form; else −∇E by differentiating `energy`.
    """

    def __init__(self, energy: Function | None, score: Function | None):
        for name, value in (("energy", energy), ("score", score)):
            if value is not None and not callable(value):
                raise ValueError(f"{name} must be a function of x; got {type(value).__name__}")
        self.energy, self.given_score = energy, score

    def score(self, x: Tensor) -> Tensor:
        """s(x), with the shape of x. Raises ValueError if energy or score give a tensor of another shape."""
        return _differentiate(self.energy, x, energy_too=False)[1] if self.given_score is None else self._score(x)

    def energy_and_score(self, x: Tensor) -> tuple[Tensor | None, Tensor]:
        """E(x), shape (n,), or None if only a score is known, and s(x)."""
        if self.given_score is None:
            return _differentiate(self.energy, x, energy_too=True)
        return None if self.energy is None else one_per_row(self.energy, x, "energy").detach(), self._score(x)

    def _score(self, x: Tensor) -> Tensor:
        value = self.given_score(x)
        if value.shape != x.shape:
            raise ValueError(f"score must have the shape of x, {tuple(x.shape)}; got {tuple(value.shape)}")
        return value.detach()


def _differentiate(energy: Function, x: Tensor, *, energy_too: bool) -> tuple[Tensor | None, Tensor]:
    if type(energy) is Confined:  # the square is known, and what is left may be plain
        x = x.detach()
        value, slope = _differentiate(energy.net, x, energy_too=energy_too)
        value = value + energy.weight * x.square().flatten(1).sum(1) if energy_too else value
        return value, slope.sub(x, alpha=2 * energy.weight)
    if x.ndim == 2 and not torch.is_autocast_enabled(x.device.type) and (found := layers(energy)):
        return energy_and_score(found, x, energy=energy_too)
    value, gradient = value_and_gradient(energy, x.detach(), "energy")
    return value.detach(), -gradient
