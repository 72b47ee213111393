r"""Noise-conditional score networks: one score for each of many blurs, and Langevin chains from the widest to the finest.

    p_σ = law of x + σ ε,    s_θ(x, σ) ≈ ∇ log p_σ(x),    σ₁ > σ₂ > … > σ_L, each γ times the next
    E ½ σ² ‖s_θ(x + σ ε, σ) + ε/σ‖²                                  slides (24), λ(σ) = σ²; half the mean over σ for the sum
    x ← x + e σ_i² s_θ(x, σ_i) + √(2 e σ_i²) z,  M times for each σ_i       slides (25), ε_i = e σ_i²

and x + σ_L² s_θ(x, σ_L) at the end. Song & Ermon 2020 say how to choose all of it, their five techniques:

    1   σ₁ is the largest distance between two data: chains can reach any datum from any other          `largest_scale`
    2   γ such that shells of neighbouring blurs overlap: Φ(√(2d)(γ−1) + 3γ) − Φ(√(2d)(γ−1) − 3γ) ≈ ½    `count_of_scales`
    3   the net need not be told σ: s_θ(x, σ) = F_θ(x)/σ, as ‖s‖ ≈ √d/σ                                 `conditional=False`
    4   e such that M steps leave the width of the next blur as right as can be                         `step_size`
    5   sample with an average of the weights over the steps of training                                `fit(ema=0.999)`

Technique 3 is for many dimensions, where x itself tells σ: in the plane a net that is not told σ mixes up the blurs. The
limit of many scales is the diffusion `VE`, where predictors replace most Langevin steps.
"""

import math
from collections.abc import Sequence

import torch
from scipy.optimize import brentq, minimize_scalar
from torch import Tensor, nn
from torch.special import ndtr

from gmcourse.data.gaussians import blocks
from gmcourse.metrics.neighbours import distances
from gmcourse.model import GenerativeModel, check_count, check_positive, evaluating
from gmcourse.sampling import AnnealedLangevin
from gmcourse.sampling.ode import same_shape
from gmcourse.sampling.sampler import beside, rows


class NCSN(GenerativeModel):
    """A score for each of many blurs, trained by denoising and sampled by annealed Langevin; `log_prob` there is none.

    Noise of the loss comes from the global state.

    Args:
        net: x (n, *event_shape) -> like x, F_θ with s_θ = F_θ(x)/σ; with `conditional` net(x, t), where t (n,) runs evenly
            in log σ from 0 at the smallest σ to 1 at the largest.
        sigmas: at least two, falling, as from `noise_scales`.
        steps_each: M, Langevin steps at each σ.
        eps_step: e, their size in units of σ²; None: `step_size`, technique 4. (Song & Ermon's ε is e σ_L².)
        denoise: whether samples end with x + σ_L² s_θ(x, σ_L).

    >>> from gmcourse.nets.mlp import MLP
    >>> ncsn = NCSN(MLP(2, 2, (64, 64)), noise_scales(10.0, 0.1, 12), event_shape=(2,))
    >>> ncsn.sample(5).shape, ncsn.nfe
    (torch.Size([5, 2]), 61)
    """

    def __init__(
        self,
        net: nn.Module,
        sigmas: Sequence[float] | Tensor,
        *,
        event_shape: Sequence[int],
        conditional: bool = False,
        steps_each: int = 5,
        eps_step: float | None = None,
        denoise: bool = True,
    ):
        super().__init__(event_shape)
        sigmas = torch.as_tensor(sigmas, dtype=torch.float64).detach().cpu()
        falling = sigmas.ndim == 1 and len(sigmas) > 1 and (sigmas.diff() < 0).all()
        if not falling or not 0 < sigmas[-1] <= sigmas[0] < torch.inf:
            raise ValueError(f"sigmas must be at least two, positive and falling; got {sigmas.tolist()}")
        self.net, self.conditional, self.denoise = net, conditional, denoise
        self.steps_each = check_count(steps_each, "steps_each")
        ratio = float(sigmas[0] / sigmas[-1]) ** (1 / (len(sigmas) - 1))
        self.eps_step = step_size(ratio, self.steps_each) if eps_step is None else check_positive(eps_step, "eps_step")
        self.register_buffer("sigmas", sigmas.to(torch.get_default_dtype()))

    @property
    def nfe(self) -> int:
        """M evaluations for each σ, and one to denoise."""
        return len(self.sigmas) * self.steps_each + self.denoise

    def score(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """s_θ(x, σ), like x (n, *event_shape), in nats a unit of x; sigma (n,) or one number."""
        sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        return self._noise(x, sigma) / -beside(sigma, x)

    def loss(self, x: Tensor) -> Tensor:
        """½ σ² ‖s_θ(x̃, σ) + ε/σ‖² at x̃ = x + σ ε with one σ drawn for each datum, (n, *event_shape) -> (n,); slides (24)."""
        self.check_batch(x)
        sigma = self.sigmas[torch.randint(len(self.sigmas), (len(x),), device=x.device)].to(x)
        eps = torch.randn_like(x)
        return 0.5 * rows(eps - self._noise(x + beside(sigma, x) * eps, sigma)).square().sum(1)

    def sample(self, n: int, *, generator: torch.Generator | None = None, progress: bool = False) -> Tensor:
        """Where n chains from N(0, σ₁² I) end, (n, *event_shape); slides (25). FloatingPointError if they diverge."""
        options = {"device": self.sigmas.device, "dtype": self.sigmas.dtype, "generator": generator}
        x = self.sigmas[0] * torch.randn(check_count(n), *self.event_shape, **options)
        last = float(self.sigmas[-1])
        chains = AnnealedLangevin(
            self.score, self.sigmas, step=2 * self.eps_step * last**2, each=self.steps_each, denoise=self.denoise
        )
        with evaluating(self):
            return chains.run(x, generator=generator, progress=progress)

    def extra_repr(self) -> str:
        """Scales and steps."""
        high, low = (float(v) for v in (self.sigmas[0], self.sigmas[-1]))
        scales = f"sigmas={high:g}…{low:g} ({len(self.sigmas)})"
        return f"{scales}, steps_each={self.steps_each}, eps_step={self.eps_step:.3g}, conditional={self.conditional}"

    def _noise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """−σ s_θ, the net's guess at ε."""
        if not self.conditional:
            return -same_shape(self.net(x), x, "net")
        first, last = self.sigmas[0].to(x), self.sigmas[-1].to(x)
        t = (sigma / last).log() / (first / last).log()
        return -same_shape(self.net(x, t.expand(len(x))), x, "net")


def noise_scales(largest: float, smallest: float, count: int) -> Tensor:
    """σ₁ = largest > … > σ_L = smallest in a constant ratio, (count,), float64; slides (24), Song & Ermon 2019.

    >>> noise_scales(100.0, 1.0, 3)
    tensor([100.,  10.,   1.], dtype=torch.float64)
    """
    _check_ends(largest, smallest)
    if check_count(count, "count") < 2:
        raise ValueError(f"count must be at least 2, a largest and a smallest scale; got {count}")
    return torch.logspace(math.log10(largest), math.log10(smallest), count, dtype=torch.float64)


def largest_scale(data: Tensor) -> float:
    """The largest Euclidean distance between two of data (n, *event_shape), n > 1; technique 1.

    All pairs in blocks of bounded memory: for many data take a few thousand of them.
    """
    if data.ndim == 0 or len(data) < 2:
        raise ValueError(f"data must be at least two, (n, *event_shape); got shape {tuple(data.shape)}")
    points = rows(data)
    return float(torch.stack([distances(block, points).max() for block in blocks(points, len(points))]).max())


def overlap(d: int, ratio: float) -> float:
    """Φ(√(2d)(γ−1) + 3γ) − Φ(√(2d)(γ−1) − 3γ): the share of the noise of one σ that the next larger one, γσ, would explain.

    In many dimensions d the length of σ ε is about N(√d σ, σ²/2); this is its mass within three widths of that of γσ.
    """
    away = math.sqrt(2 * check_count(d, "d")) * (ratio - 1)
    high, low = ndtr(torch.tensor([away + 3 * ratio, away - 3 * ratio], dtype=torch.float64)).tolist()
    return high - low


def count_of_scales(d: int, largest: float, smallest: float, *, share: float = 0.5) -> int:
    """The fewest scales whose neighbours `overlap` by at least `share`; technique 2.

    Below d = 5 shells are so thick that neighbours overlap by more than ½ at any ratio: ValueError; ten scales will do.

    >>> count_of_scales(3 * 32 * 32, 50.0, 0.01)
    220
    """
    _check_ends(largest, smallest)
    if not 0 < share < 1 or math.sqrt(2 * check_count(d, "d")) <= 3:
        raise ValueError(f"share must lie in (0, 1) and d be at least 5, for shells to part; got share = {share}, d = {d}")
    if share >= overlap(d, 1.0):
        raise ValueError(f"share must be below {overlap(d, 1.0):.4f}, the overlap of a scale with itself; got {share}")
    far = 2.0
    while overlap(d, far) > share:
        far *= 2
    ratio = brentq(lambda ratio: overlap(d, ratio) - share, 1.0, far)
    return 1 + max(math.ceil(math.log(largest / smallest) / math.log(ratio)), 1)


def width_after(step: float, ratio: float, steps: int) -> float:
    """Variance, in units of σ², of chains from N(0, (γσ)² I) after M Langevin steps of e σ² in N(0, σ² I).

    (1 − e)^{2M} (γ² − v) + v, v = 2e/(1 − (1 − e)²) = 1/(1 − e/2); Song & Ermon 2020, proposition 3. Above 1 for
    all e: small steps have not come down from γ², large ones have Langevin's bias v.
    """
    stationary = 1 / (1 - step / 2)
    return (1 - step) ** (2 * steps) * (ratio**2 - stationary) + stationary


def step_size(ratio: float, steps: int) -> float:
    """e in (0, 1) for which `width_after` is least, so nearest to 1, for scales in this ratio γ > 1; technique 4.

    Song & Ermon's ε, a step at the smallest scale, is e σ_L².

    >>> round(step_size(1.03756, 5), 3)  # 6.2e-6 in theirs, at σ_L = 0.01
    0.062
    """
    if not 1 < ratio < math.inf:
        raise ValueError(f"ratio must be above 1; got {ratio}")
    check_count(steps, "steps")
    return float(minimize_scalar(width_after, bounds=(0, 1), args=(ratio, steps), method="bounded").x)


def _check_ends(largest: float, smallest: float) -> None:
    if not 0 < smallest < largest < math.inf:
        raise ValueError(f"scales must satisfy 0 < smallest < largest; got largest = {largest}, smallest = {smallest}")
