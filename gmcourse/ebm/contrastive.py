r"""Maximum likelihood with chains: pull the energy down at the data, push it up where the model is (thesis 2.3.2).

    ∇ E_p[−log p_θ] = E_{x~p}[∇_θ E(x)] − E_{x⁻~p_θ}[∇_θ E(x⁻)]                              thesis (2.38), with f = E

The second term holds for *any* way of drawing x⁻ ~ p_θ, and ∇_θ does not pass through the draw. In practice x⁻ is where a
few Langevin steps lead, and what is learned depends on where they begin:

    at the data        contrastive divergence, CD-k                                                       Hinton 2002
    at noise           short-run: the chain becomes a generator, the energy need not be the data's   Nijkamp et al. 2019
    where it was       persistent chains, kept in a replay buffer                 Tieleman 2008; Du & Mordatch 2019

    x' = x − (η/2) ∇E(x) + σ ω,  ω ~ N(0, I)     has e^{−E/T} as its law for small η, T = σ²/η: its *temperature*

Here η and T are given and σ = √(ηT) follows. At T ≠ 1 the model that gets fitted to the data is e^{−E/T}, not e^{−E}; a
chain with a large step and hardly any noise (IGEBM's has T ≈ 10⁻⁶) is gradient descent, and its E means little by itself.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.utils import parametrize

from gmcourse.ebm.buffer import ReplayBuffer
from gmcourse.ebm.energy import Energy, score, values
from gmcourse.model import GenerativeModel, Player, check_count, check_not_negative, evaluating
from gmcourse.randomness import draw
from gmcourse.sampling import MALA, ULA, Sampler

Start = str | ReplayBuffer | Distribution | GenerativeModel


def contrastive(
    energy: Energy, x: Tensor, negatives: Tensor, *, weights: Tensor | None = None, l2: float = 0.0
) -> Tensor:
    """E(x) − E(x⁻), (n,) in nats: its gradient, in the mean, is that of −log p(x) if x⁻ ~ p; thesis (2.38).

    Its value is no likelihood, and near 0 says only that the energy does not tell the two apart.

    Args:
        x: data (n, *event_shape).
        negatives: (m, *event_shape), taken as they are, without gradient. If m = n, one for each datum, else their mean.
        weights: of the negatives, (m,), which sum to 1; then it is their weighted mean, whatever m.
        l2: weight of E(x)² + E(x⁻)², which holds the free constant and the gap near 0; biased.

    Raises ValueError if the shapes of x and negatives differ, or the energy's is not (n,).
    """
    if negatives.shape[1:] != x.shape[1:] or len(negatives) == 0:
        raise ValueError(f"negatives must be points of x's shape, (n, *{tuple(x.shape[1:])}); got {tuple(negatives.shape)}")
    at_data, at_model = values(energy, torch.cat([x, negatives.detach()])).split([len(x), len(negatives)])
    squares = at_model.square()
    if weights is not None:
        at_model, squares = (weights * at_model).sum(), (weights * squares).sum()
    elif len(x) != len(negatives):
        at_model, squares = at_model.mean(), squares.mean()
    return at_data - at_model + (l2 * (at_data.square() + squares) if l2 else 0)


def temperature_of(step: float, noise: float) -> float:
    """T = σ²/η of the chain x' = x − (η/2) ∇E + σ ω: it samples e^{−E/T}.

    IGEBM's x' = x − 10 ∇E + 0.005 ω:
    >>> temperature_of(step=20, noise=0.005)
    1.25e-06
    """
    return noise**2 / step


class MaximumLikelihood(nn.Module):
    """The objective `contrastive` with negatives from short chains: CD-k, short-run or persistent, by their `start`.

    Args:
        steps: k, transitions of every chain.
        step: η of the sampler; Langevin's is x' = x − (η/2) ∇E + √(ηT) ω.
        temperature: T of the chains.
        start: "data" (CD-k), "noise" (N(0, I)), a Distribution or GenerativeModel (short-run), or a ReplayBuffer
            (persistent; chains come back to it in training mode only).
        clip: longest gradient a chain may feel.
        l2: weight of E(x)² + E(x⁻)².
        data_noise: standard deviation of noise on the data, each time they are seen.
        penalty: of the energy, a number, added to every sample's loss, e.g. 0.2 times `spectral_regularisation`.
        sampler: `sampler(energy, step=, temperature=)`, of gmcourse.sampling; gets `clip=` if there is one.

    >>> cd10 = MaximumLikelihood(steps=10, step=0.1)
    >>> cd10(lambda x: x.square().sum(1) / 2, torch.zeros(5, 2)).shape, round(cd10.noise, 3)
    (torch.Size([5]), 0.316)
    """

    def __init__(
        self,
        *,
        steps: int,
        step: float,
        temperature: float = 1.0,
        start: Start = "data",
        clip: float | None = None,
        l2: float = 0.0,
        data_noise: float = 0.0,
        penalty: Callable[[Energy], Tensor] | None = None,
        sampler: Callable[..., Sampler] = ULA,
    ):
        super().__init__()
        kinds = ReplayBuffer | Distribution | GenerativeModel
        if not (isinstance(start, kinds) or isinstance(start, str) and start in ("data", "noise")):
            raise ValueError(f"start must be 'data', 'noise', a ReplayBuffer, a Distribution or a model; got {start!r}")
        self.l2, self.data_noise = check_not_negative(l2, "l2"), check_not_negative(data_noise, "data_noise")
        self.steps, self.step, self.start = check_count(steps, "steps"), step, start
        self.clip, self.penalty = clip, penalty
        settings = {"step": step, "temperature": temperature} | ({} if clip is None else {"clip": clip})
        self.sampler = partial(sampler, **settings)
        built = self.sampler(_nothing)  # refuses bad settings now, not at the first batch
        self.temperature, self._langevin = built.temperature, isinstance(built, ULA | MALA)

    @property
    def noise(self) -> float | None:
        """σ = √(ηT), what a step of ULA or MALA adds (before any preconditioner); None for other samplers."""
        return math.sqrt(self.step * self.temperature) if self._langevin else None

    def forward(self, energy: Energy, x: Tensor) -> Tensor:
        """Loss of each datum of x (n, *event_shape), shape (n,), in nats.

        Raises FloatingPointError, before any weight has moved, if a chain or the energy is no longer finite.
        """
        if self.data_noise:
            x = x + self.data_noise * torch.randn_like(x)
        loss = contrastive(energy, x, self.negatives(energy, x), l2=self.l2)
        if not loss.isfinite().all():
            raise FloatingPointError(f"the energy is not finite at the data or where chains ended; {self._advice()}")
        return loss if self.penalty is None else loss + self.penalty(energy)

    def players(self, model) -> list[Player]:
        """One player, the energy of `model` (an EBM): a `start` that has weights keeps them."""
        weights = model.energy.parameters if isinstance(model.energy, nn.Module) else list
        return [Player("energy", weights, model.loss)]

    def negatives(self, energy: Energy, x: Tensor) -> Tensor:
        """Where as many chains as there are data end, (n, *event_shape); weights held still, modules in evaluation mode."""
        began = self.beginnings(x)
        with held_still(energy):
            try:
                ends = self.sampler(energy).run(began, self.steps)
            except FloatingPointError as error:
                raise FloatingPointError(f"the negatives are not finite: {error}; {self._advice()}") from None
            except ValueError:
                if _finite_at(energy, began):
                    raise
                raise FloatingPointError(f"energy or score are not finite where chains begin; {self._advice()}") from None
        if isinstance(self.start, ReplayBuffer) and self.training:
            self.start.put(ends)
        return ends

    def beginnings(self, x: Tensor) -> Tensor:
        """Where chains start for the data x, with its shape, device and dtype."""
        if isinstance(self.start, str):
            return x if self.start == "data" else torch.randn_like(x)
        take = self.start.draw if isinstance(self.start, ReplayBuffer) else lambda n: draw(self.start, n)
        if (began := take(len(x)).to(x)).shape != x.shape:
            raise ValueError(f"start must give chains of x's shape, {tuple(x.shape)}; got {tuple(began.shape)}")
        return began

    def extra_repr(self) -> str:
        """Settings of the chains, with the temperature they have."""
        start = self.start if isinstance(self.start, str) else type(self.start).__name__
        chain = f"steps={self.steps}, step={self.step:g}, temperature={self.temperature:g}"
        chain += f", noise={self.noise:.3g}" if self._langevin else ""
        return f"{chain}, start={start}, clip={self.clip}, l2={self.l2:g}, data_noise={self.data_noise:g}"

    def _advice(self) -> str:
        chain = f"chains ran {self.steps} steps with step={self.step:g}, temperature={self.temperature:g}"
        return f"{chain}: lower step or the learning rate, or hold the energy with clip=, l2=, data_noise= or spectral norms"


@contextmanager
def held_still(energy: Energy) -> Iterator[None]:
    """Within, an energy's weights want no gradient, its parts are in evaluation mode, normed weights are computed once."""
    if not isinstance(energy, nn.Module):
        yield
        return
    weights = [p for p in energy.parameters() if p.requires_grad]
    for p in weights:
        p.requires_grad_(False)
    try:
        with evaluating(energy), parametrize.cached():
            yield
    finally:
        for p in weights:
            p.requires_grad_(True)


def _finite_at(energy: Energy, x: Tensor) -> bool:
    """Whether E and s are; an energy of the wrong shape raises its own error."""
    return bool(values(energy, x).isfinite().all() and score(energy, x).isfinite().all())


def _nothing(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)
