r"""An energy with an objective: a generative model (thesis 2.3).

    p(x) = e^{−E(x)} / Z                 log p(x) = −E(x) − log Z
    x ~ p                                a chain, from draws of `start`, that follows −∇E

Training never needs Z. To *say* how good a model is takes Z: in one and two dimensions it is an integral over a `box`, so
that log p is exact; above, log p is known up to a constant (`gmcourse.metrics` brackets that by annealing).

Neither is tied to how the energy was trained, and both have a temperature: chains that were run at T ≠ 1 fit e^{−E/T} to the
data, so that is the density to look at then.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from gmcourse.data.known import Box
from gmcourse.ebm.contrastive import held_still
from gmcourse.ebm.energy import Energy, score, values
from gmcourse.ebm.fingerprint import Fingerprint, fingerprint, kept, same
from gmcourse.metrics.density import home
from gmcourse.metrics.grid import Grid
from gmcourse.metrics.partition import log_z_grid
from gmcourse.model import GenerativeModel, Likelihood, Player, StandardNormal, check_count, check_positive, evaluating
from gmcourse.randomness import draw
from gmcourse.sampling import MALA, Sampler

Objective = Callable[[Energy, Tensor], Tensor]
SAMPLER = partial(MALA, step=0.01)


class EBM(GenerativeModel):
    """A generative model of an energy and the objective that trains it.

    Args:
        energy: x (n, *event_shape) -> (n,) in nats, see `gmcourse.ebm.energy`.
        objective: `objective(energy, x)` -> (n,) or a scalar, whose mean is minimised; one with parameters is a module. An
            objective that has `players(ebm)` says itself who plays.
        event_shape: of one datum.
        start: a Distribution, a GenerativeModel or a ReplayBuffer, where chains of `sample` begin; N(0, I) if None.
        sampler: `sampler(energy)` of gmcourse.sampling, with its settings bound.
        steps: transitions of every chain.
        box: (low, high) of each of one or two axes, or a Grid, over which Z is an integral; it must hold the mass, and what
            the energy does outside is not seen.

    >>> from gmcourse.ebm.contrastive import MaximumLikelihood
    >>> from gmcourse.ebm.energy import mlp_energy
    >>> ebm = EBM(mlp_energy(2), MaximumLikelihood(steps=10, step=0.1), event_shape=(2,), box=[(-4, 4)] * 2)
    >>> ebm.sample(5).shape, ebm.log_prob(torch.zeros(3, 2)).shape
    (torch.Size([5, 2]), torch.Size([3]))
    """

    def __init__(
        self,
        energy: Energy,
        objective: Objective,
        *,
        event_shape: Sequence[int],
        start: Distribution | GenerativeModel | None = None,
        sampler: Callable[[Energy], Sampler] = SAMPLER,
        steps: int = 100,
        box: Box | Grid | None = None,
    ):
        super().__init__(event_shape)
        self.energy, self.objective = energy, objective
        self.start = StandardNormal(self.event_shape) if start is None else start
        if tuple(self.start.event_shape) != tuple(self.event_shape):
            wanted, came = tuple(self.event_shape), tuple(self.start.event_shape)
            raise ValueError(f"start must have event shape {wanted}; got {came}")
        self.sampler, self.steps = sampler, check_count(steps, "steps")
        self.grid = box if isinstance(box, Grid | None) else Grid(box)
        if self.grid is not None and len(self.grid.box) != self.event_shape.numel():
            raise ValueError(f"box must have one axis per number of x, {self.event_shape.numel()}; got {len(self.grid.box)}")
        self._integral: tuple[tuple, Fingerprint, float] | None = None  # what was integrated last, of what, and log Z

    @property
    def likelihood(self) -> Likelihood:
        """EXACT with a box, else UNNORMALIZED."""
        return Likelihood.UNNORMALIZED if self.grid is None else Likelihood.EXACT

    @property
    def nfe(self) -> int:
        """One evaluation per transition of a chain."""
        return self.steps

    @property
    def temperature(self) -> float:
        """T of the sampler: `sample` tends to e^{−E/T}."""
        return self.sampler(self.energy).temperature

    def players(self) -> Sequence[Player]:
        """The objective's own players where it names some, else the energy, with the objective's parameters."""
        if hasattr(self.objective, "players"):
            return self.objective.players(self)
        return [Player("energy", self._trained, self.loss)]

    def loss(self, x: Tensor) -> Tensor:
        """The objective at x (n, *event_shape): (n,), or a scalar."""
        return self.objective(self.energy, self.check_batch(x))

    def score(self, x: Tensor) -> Tensor:
        """∇ log p(x) = −∇E(x) in evaluation mode, with the shape of x, without a graph."""
        with evaluating(self):
            return score(self.energy, self.check_batch(x))

    def log_prob(self, x: Tensor, *, temperature: float = 1.0) -> Tensor:
        """−E(x)/T − log Z_T in nats, (n, *event_shape) -> (n,); without a box −E(x)/T, of unknown constant.

        Differentiable in x. In the weights it is not the log-likelihood: log Z enters as a number.
        """
        log_f = -self.values(x) / check_positive(temperature, "temperature")
        return log_f if self.grid is None else log_f - self.log_z(temperature)

    def log_z(self, temperature: float = 1.0) -> float:
        """log ∫ e^{−E/T} over the box, in nats. ValueError without a box.

        Kept while nothing has changed, for energies of PyTorch's and the course's modules; any other is integrated anew.
        """
        if self.grid is None:
            raise ValueError("log_z needs an integral: give EBM a box=[(low, high), …] in one or two dimensions")
        check_positive(temperature, "temperature")
        asked, now = (temperature, tuple(self.grid.box), self.grid.points), fingerprint(self.energy)
        if now and self._integral and self._integral[0] == asked and same(now, self._integral[1]):
            return self._integral[2]
        found = log_z_grid(lambda nodes: self._at_nodes(nodes) / temperature, self.grid)
        self._integral = (asked, kept(now), found) if now else None
        return found

    def values(self, x: Tensor) -> Tensor:
        """E(x) in nats in evaluation mode, (n, *event_shape) -> (n,); ValueError if x or the result has another shape."""
        with evaluating(self):
            return values(self.energy, self.check_batch(x))

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None, progress: bool = False) -> Tensor:
        """Where n chains end that began at draws of `start`, (n, *event_shape); FloatingPointError if they diverge."""
        began = self._at_home(draw(self.start, check_count(n), generator=generator))
        with held_still(self.energy):
            return self.sampler(self.energy).run(began, self.steps, generator=generator, progress=progress)

    def extra_repr(self) -> str:
        """What is sampled, and what log_prob means."""
        name = type(self.sampler(self.energy)).__name__
        chains = f"{name}, steps={self.steps}, temperature={self.temperature:g}"
        return f"event_shape={tuple(self.event_shape)}, sampler={chains}, likelihood={self.likelihood.value}"

    def _trained(self) -> Iterator[nn.Parameter]:
        """The energy's parameters and the objective's; not those of `start`."""
        modules = [part for part in (self.energy, self.objective) if isinstance(part, nn.Module)]
        return nn.ModuleList(modules).parameters()

    def _at_nodes(self, nodes: Tensor) -> Tensor:
        """E at nodes of the grid."""
        return self.values(self._at_home(nodes.reshape(-1, *self.event_shape)))

    def _at_home(self, x: Tensor) -> Tensor:
        """x with the energy's device and precision, where it has any."""
        there = home(self.energy)
        return x if there is None else x.to(there)
