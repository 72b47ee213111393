r"""What restricted Boltzmann machines share: visible units x, hidden units z ∈ {0, 1}^h, no bonds within a layer.

    p(x, z) = e^{−E(x, z)} / Z,      −E(x, z) = v(x; b) + cᵀz + u(x)ᵀ W z            u, v: what the visible units are

So given one layer the units of the other are independent, and z can be summed out (θ = (W, b, c)):

    p(z_j = 1 | x) = σ(a_j),     a = c + Wᵀu(x),      F(x) = −log Σ_z e^{−E} = −v(x; b) − Σ_j log(1 + e^{a_j})

F is the free energy, −log p(x) − log Z. Maximum likelihood is thesis (2.38) with F for f: ∇ log p = −∇F(x) + E_p[∇F],
and the second mean comes from *block Gibbs* sweeps x → z → x', each of which draws a whole layer:

    CD-k   the chains start at the data and run k sweeps (Hinton 2002): biased, less so as k grows
    PCD    the chains go on from step to step (Tieleman 2008): unbiased as far as they keep up with θ

Z is a sum over 2^h states: exact while one layer is small. Above that, annealed importance sampling walks from a machine
without bonds to this one (Salakhutdinov & Murray 2008): θ_β = (βW, (1 − β) b₀ + βb, βc), each a machine with its own sweeps.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gmcourse.metrics.partition import LogZ, log_mean_weight
from gmcourse.model import GenerativeModel, Likelihood, check_count

EXACT_UNITS = 20  # up to here the states of a layer are enumerated
BLOCK = 2**14  # states that are looked at together


class BoltzmannMachine(GenerativeModel, ABC):
    """Base of the machines with binary hidden units. Subclasses say what the visible units are, on rows x (n, d).

    Args:
        event_shape: of x, d numbers.
        hidden: number of hidden units h.
        k: Gibbs sweeps per training step.
        chains: 0 for CD-k; else the number of persistent chains (PCD), kept as a buffer, so that checkpoints hold them.
        sweeps: Gibbs sweeps of `sample` where no layer is small enough for exact samples.
        enumerate_visible: whether Z is a sum over x, not z.
    """

    def __init__(
        self, event_shape: Sequence[int], hidden: int, *, k: int, chains: int, sweeps: int, enumerate_visible: bool = False
    ):
        super().__init__(event_shape)
        d = check_count(self.event_shape.numel(), "visible")
        self.W = nn.Parameter(0.01 * torch.randn(d, check_count(hidden, "hidden")))
        self.b, self.c = nn.Parameter(torch.zeros(d)), nn.Parameter(torch.zeros(hidden))
        self.k, self.sweeps = check_count(k, "k"), check_count(sweeps, "sweeps")
        self.register_buffer("chains", torch.zeros(check_count(chains, "chains"), d) if chains else None)
        self._by_visible = enumerate_visible

    @property
    def exact(self) -> bool:
        """Whether Z is summed up: then `log_prob` is normalised and `sample` needs no chain."""
        return self._units <= EXACT_UNITS

    @property
    def likelihood(self) -> Likelihood:
        """EXACT where Z is summed up, else UNNORMALIZED."""
        return Likelihood.EXACT if self.exact else Likelihood.UNNORMALIZED

    @property
    def nfe(self) -> int:
        """Gibbs sweeps per sample."""
        return 1 if self.exact else self.sweeps

    def energy(self, x: Tensor, z: Tensor) -> Tensor:
        """E(x, z) in nats for x (n, *event_shape) and z (n, h), shape (n,); thesis (2.34)."""
        x = self._rows(x)
        return -self._field(x, self.b) - z @ self.c - ((self._drive(x) @ self.W) * z).sum(1)

    def free_energy(self, x: Tensor) -> Tensor:
        """F(x) = −log Σ_z e^{−E(x, z)} in nats, (n, *event_shape) -> (n,); thesis (2.35)."""
        return self._free(self._rows(x))

    def hidden_probs(self, x: Tensor) -> Tensor:
        """p(z_j = 1 | x), (n, *event_shape) -> (n, h)."""
        return self._logits(self._rows(x)).sigmoid()

    @abstractmethod
    def visible_mean(self, z: Tensor) -> Tensor:
        """E[x | z], (n, h) -> (n, *event_shape)."""

    def gibbs(self, x: Tensor, k: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        """Where chains at x (n, *event_shape) are after k sweeps x → z → x', without gradients."""
        return self._swept(self._rows(x), check_count(k, "k"), generator).reshape(x.shape)

    def loss(self, x: Tensor) -> Tensor:
        """F(x) − F(x') with x' from CD-k or from the persistent chains, (n,): its gradient estimates that of −log p(x).

        Its value is no likelihood and may have any sign. In training mode the persistent chains move on.
        """
        x = self._observed(self._rows(x))
        negatives = self._swept(x if self.chains is None else self.chains, self.k)
        if self.chains is None:
            return self._free(x) - self._free(negatives)
        if self.training:
            self.chains = negatives
        return self._free(x) - self._free(negatives).mean()

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) = −F(x) − log Z in nats, (n,), if `exact`; else −F(x) alone. Exact ones have exact gradients, too."""
        x = self._valued(self._rows(x))
        return -self._free(x) - self.log_z() if self.exact else -self._free(x)

    def log_z(self) -> Tensor:
        """log Z in nats, a scalar, summed over all 2^min(…) states; ValueError if no layer has few enough units."""
        return self._log_masses().logsumexp(0)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw (n, *event_shape): exactly if `exact`, else by `sweeps` Gibbs sweeps from independent units."""
        shape = (check_count(n), *self.event_shape)
        if not self.exact:
            start = self._draw(self.b.expand(n, -1), generator)
            return self._swept(start, self.sweeps, generator).reshape(shape)
        states = self._states(_chosen(self._log_masses(), n, generator))
        return (states if self._by_visible else self._draw(self._input(states), generator)).reshape(shape)

    @torch.no_grad()
    def log_z_ais(self, *, n: int = 500, stages: int = 1000, data: Tensor | None = None, seed: int = 0) -> LogZ:
        """log Z by annealed importance sampling, n chains up from a machine without bonds: below log Z on average.

        Args:
            stages: steps of β from 0 to 1, with one Gibbs sweep each.
            data: (m, *event_shape), whose means the machine without bonds has (b₀); b unless given, which starts worse.
        """
        b0, generator = self._base(data), torch.Generator(self.b.device).manual_seed(seed)
        x = self._draw(b0.expand(check_count(n), -1), generator)
        walk = log_mean_weight(self._annealed(x, b0, _betas(stages), generator))
        return walk._replace(value=walk.value + float(self._log_z_without_bonds(b0)))

    @torch.no_grad()
    def log_z_ais_reverse(self, x: Tensor, *, stages: int = 1000, data: Tensor | None = None, seed: int = 0) -> LogZ:
        """log Z by annealing *exact* samples x (n, *event_shape) back down: above log Z on average, the other bound.

        Samples of chains that have not mixed void the bound.
        """
        b0, generator = self._base(data), torch.Generator(self.b.device).manual_seed(seed)
        walk = log_mean_weight(self._annealed(self._rows(x), b0, _betas(stages)[::-1], generator))
        return walk._replace(value=float(self._log_z_without_bonds(b0)) - walk.value)

    @torch.no_grad()
    def start_at(self, data: Tensor) -> None:
        """Give b the value that fits data (m, *event_shape) best without bonds: training need not find the means."""
        self.b.copy_(self._base(data))

    @abstractmethod
    def _drive(self, x: Tensor) -> Tensor:
        """u(x), what the hidden units see, (n, d) -> (n, d)."""

    @abstractmethod
    def _field(self, x: Tensor, b: Tensor) -> Tensor:
        """v(x; b), what the visible units say without the hidden, (n, d) -> (n,)."""

    @abstractmethod
    def _draw(self, a: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """x | z, where a = b + W z, (n, d) -> (n, d)."""

    @abstractmethod
    def _log_partition(self, a: Tensor, b: Tensor) -> Tensor:
        """log ∫ exp(v(x; b) + u(x)ᵀ(a − b)) dx, (n, d) -> (n,)."""

    @abstractmethod
    def _fitted(self, data: Tensor) -> Tensor:
        """The b (d,) that fits rows (m, d) best without bonds."""

    @abstractmethod
    def _observed(self, x: Tensor) -> Tensor:
        """Training data as values the visible units take."""

    @abstractmethod
    def _valued(self, x: Tensor) -> Tensor:
        """x, if it holds values that the visible units take, else ValueError."""

    @property
    def _units(self) -> int:
        return len(self.b) if self._by_visible else len(self.c)

    def _rows(self, x: Tensor) -> Tensor:
        return self.check_batch(x).reshape(len(x), len(self.b))

    def _logits(self, x: Tensor) -> Tensor:
        return self.c + self._drive(x) @ self.W

    def _input(self, z: Tensor) -> Tensor:
        return self.b + z @ self.W.T

    def _free(self, x: Tensor) -> Tensor:
        return -self._field(x, self.b) - softplus(self._logits(x)).sum(1)

    @torch.no_grad()
    def _swept(self, x: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
        for _ in range(k):
            z = torch.bernoulli(self._logits(x).sigmoid(), generator=generator)
            x = self._draw(self._input(z), generator)
        return x

    def _states(self, index: Tensor) -> Tensor:
        """The binary numbers `index` (m,) as states (m, units)."""
        return ((index[:, None] >> torch.arange(self._units, device=index.device)) & 1).to(self.W)

    def _log_masses(self) -> Tensor:
        """log of e^{−E} summed over the other layer, for each state of the enumerated one, (2^units,)."""
        if not self.exact:
            raise ValueError(f"log_z needs a layer of at most {EXACT_UNITS} units; got {self._units}: see log_z_ais")
        blocks = torch.arange(2**self._units, device=self.W.device).split(BLOCK)
        return torch.cat([self._log_mass(self._states(block)) for block in blocks])

    def _log_mass(self, states: Tensor) -> Tensor:
        if self._by_visible:
            return -self._free(states)
        return states @ self.c + self._log_partition(self._input(states), self.b)

    def _base(self, data: Tensor | None) -> Tensor:
        return self.b if data is None else self._fitted(self._rows(data).to(self.b))

    def _log_z_without_bonds(self, b0: Tensor) -> Tensor:
        return len(self.c) * softplus(b0.new_zeros(())) + self._log_partition(b0[None], b0)[0]

    def _annealed(self, x: Tensor, b0: Tensor, betas: list[float], generator: torch.Generator) -> Tensor:
        """Σ of what each step of β is worth at x (n, d), before a sweep of the machine θ_β there: (n,)."""
        if len(x) < 2:
            raise ValueError(f"n must be at least 2 for a standard error; got {len(x)}")
        log_w = x.new_zeros(len(x))
        for here, there in pairwise(betas):
            a = self._logits(x)
            b, b_before = (torch.lerp(b0, self.b, beta) for beta in (there, here))
            log_w += self._field(x, b) - self._field(x, b_before) + (softplus(there * a) - softplus(here * a)).sum(1)
            z = torch.bernoulli((there * a).sigmoid(), generator=generator)
            x = self._draw(b + there * z @ self.W.T, generator)
        return log_w


def _chosen(log_masses: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """n indices, as probable as their masses (m,); in double precision, since multinomial adds all m of them up."""
    place = log_masses.device
    if place.type == "mps":  # knows no double: the CPU draws, with a seed of the generator
        seed = int(torch.randint(2**31, (), generator=generator, device=place))
        generator, log_masses = torch.Generator().manual_seed(seed), log_masses.cpu()
    return torch.multinomial(log_masses.double().softmax(0), n, replacement=True, generator=generator).to(place)


def _betas(stages: int) -> list[float]:
    return torch.linspace(0, 1, check_count(stages, "stages") + 1, dtype=torch.float64).tolist()
