r"""An energy as a generator: short-run dynamics that begin at noise are the model (thesis chapter 5).

    z ~ N(0, I),   x = M_θ(z, u)                                                             thesis (5.4)

M_θ is a way down the energy (`gmcourse.compositions.dynamics`), u the noise it meets. Without u the model is a flow, whose
density is known, thesis (5.7). The same energy can be read another way, as the density e^{−E}/Z, and need not be one: what
training by (5.1) makes right is where the way ends, not where it would end after an infinite time.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gmcourse.compositions.dynamics import Dynamics, Langevin
from gmcourse.compositions.self_contrast import SelfContrast
from gmcourse.compositions.stability import lipschitz
from gmcourse.data.known import Box
from gmcourse.ebm import EBM
from gmcourse.ebm.contrastive import held_still
from gmcourse.ebm.energy import Energy
from gmcourse.flows import Flow
from gmcourse.flows.solve import SolverError
from gmcourse.metrics.density import home
from gmcourse.metrics.grid import Grid
from gmcourse.model import GenerativeModel, Likelihood, Player, StandardNormal, check_count, evaluating

PROBES = 64  # points at which the slope of ∇E is looked at
Objective = Callable[["ShortRun", Tensor], Tensor]


class ShortRun(GenerativeModel):
    """Noise led down an energy for a fixed time.

    Args:
        energy: module x (n, *event_shape) -> (n,), in nats.
        dynamics: the way down.
        event_shape: of one datum.
        objective: (model, x) -> (n,), whose mean is minimised: `SelfContrast`, thesis (5.1) or (5.14), which is the default
            with (5.1), or `exact_likelihood`.

    It is a transport: noise is z and, where there is noise on the way, u behind it. The likelihood is EXACT without such
    noise, as far as the way is solved exactly and can be gone back, and NONE with it.

    >>> from gmcourse.ebm import mlp_energy
    >>> model = ShortRun(mlp_energy(2), Langevin(10, 0.1, noise=0), event_shape=(2,))
    >>> model.sample(3).shape, model.log_prob(torch.zeros(4, 2)).shape
    (torch.Size([3, 2]), torch.Size([4]))
    """

    def __init__(
        self, energy: Energy, dynamics: Dynamics, *, event_shape: Sequence[int], objective: Objective | None = None
    ):
        super().__init__(event_shape)
        self.energy, self.dynamics, self.prior = energy, dynamics, StandardNormal(event_shape)
        self.objective = SelfContrast() if objective is None else objective

    @property
    def likelihood(self) -> Likelihood:
        """EXACT, or NONE where there is noise on the way."""
        return Likelihood.NONE if self.dynamics.noisy else Likelihood.EXACT

    @property
    def nfe(self) -> int:
        """Evaluations of ∇E per sample."""
        return self.dynamics.nfe

    @property
    def noise_blocks(self) -> dict[str, int]:
        """z, where the way begins, and u, the noise on the way, one after the other."""
        d = self.event_shape.numel()
        return {"z": d} | ({"u": self.dynamics.steps * d} if self.dynamics.noisy else {})

    def players(self) -> Sequence[Player]:
        """One: the energy is critic and generator."""
        return [Player("energy", self.parameters, self.loss)]

    def loss(self, x: Tensor) -> Tensor:
        """The objective at x (n, *event_shape), shape (n,). FloatingPointError if a way failed: no weight has moved yet."""
        found = self.objective(self, self.check_batch(x))
        if not isinstance(found, Tensor) or found.shape not in ((), (len(x),)):
            came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"objective must return shape (n,), or a scalar; got {came} for {len(x)} data")
        return found

    def noise(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw flat noise (n, D), D the sum of the blocks."""
        here = self._here()
        size = sum(self.noise_blocks.values())
        return torch.randn(check_count(n), size, generator=generator, device=here.device, dtype=here.dtype)

    def push(self, eps: Tensor) -> Tensor:
        """Carry noise (n, D) to where its way ends, (n, *event_shape), differentiably."""
        with evaluating(self):
            return self.dynamics.run(self.energy, *self._parts(eps))

    def path(self, eps: Tensor) -> Tensor:
        """The way of noise (n, D) without gradients, (points, n, *event_shape)."""
        with held_still(self.energy):
            return self.dynamics.path(self.energy, *self._parts(eps))

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw (n, *event_shape)."""
        with held_still(self.energy):
            return self.push(self.noise(n, generator=generator))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, thesis (5.7), (n, *event_shape) -> (n,): back along the way, in evaluation mode like `push`.

        Raises ValueError where there is noise on the way, and a `SolverError` where it can't be gone back. Unless the model
        is in training mode, a UserWarning says that steps of descent may not be invertible.
        """
        x, flow = self.check_batch(x), self.flow()
        descends = isinstance(self.dynamics, Langevin)
        if descends and not self.training and len(x) and (slope := self._slope(x)) >= 1:
            warnings.warn(f"{self._told(slope)}: nothing ensures that steps of descent can be inverted", stacklevel=2)
        with evaluating(self):
            try:
                return flow.log_prob(x)
            except SolverError as error:
                if not descends:
                    raise
                told = self._told(self._slope(x))
                raise SolverError(f"x can't be led back along steps of descent: {error}; {told}") from error

    def flow(self) -> Flow:
        """The model as a flow of chapter 3, with the same weights; ValueError where there is noise on the way."""
        return self._in_my_mode(Flow(self.prior, self.dynamics.layers(self.energy)))

    def under(self, dynamics: Dynamics) -> "ShortRun":
        """The same energy, not a copy, under other dynamics: more steps, a finer solver, no noise."""
        return self._in_my_mode(ShortRun(self.energy, dynamics, event_shape=self.event_shape, objective=self.objective))

    def as_ebm(self, box: Box | Grid | None = None) -> EBM:
        """The same energy, not a copy, read as the density e^{−E}/Z, Z integrated over `box`; not to be trained."""
        return self._in_my_mode(EBM(self.energy, _read_only, event_shape=self.event_shape, box=box))

    def _in_my_mode(self, other: GenerativeModel) -> GenerativeModel:
        """Another around the same energy, whose parts stay in the mode they are in."""
        other.training = self.training
        return other

    def _slope(self, x: Tensor) -> float:
        """η/2 times the Lipschitz constant of ∇E at some of x and of noise; it leaves no trace in the random state."""
        own = torch.Generator(x.device).manual_seed(0)
        probes = torch.cat([x[:PROBES], torch.randn(PROBES, *x.shape[1:], generator=own, dtype=x.dtype, device=x.device)])
        return self.dynamics.step / 2 * float(lipschitz(self.energy, probes, generator=own).max())

    def _told(self, slope: float) -> str:
        what = f"step {self.dynamics.step:g} times half the Lipschitz constant of ∇E, as found at x and noise,"
        return f"{what} should be below 1, and is {slope:.3g}"

    def _parts(self, eps: Tensor) -> Sequence[Tensor]:
        blocks = list(self.noise_blocks.values())
        if eps.ndim != 2 or eps.shape[1] != sum(blocks):
            raise ValueError(f"eps must have shape (n, {sum(blocks)}); got {tuple(eps.shape)}")
        z, *u = eps.split(blocks, 1)
        z = z.reshape(len(z), *self.event_shape)
        return [z, *(part.reshape(len(z), self.dynamics.steps, *self.event_shape) for part in u)]

    def _here(self) -> Tensor:
        found = home(self.energy)
        return self.prior.origin if found is None else found


def _read_only(energy: Energy, x: Tensor) -> Tensor:
    raise ValueError("an energy read as a density has no objective; train the ShortRun that it was taken from")
