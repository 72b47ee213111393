r"""The forward chain: data dissolve in T small steps of Gaussian noise, and every law along the way is known (thesis 2.4.1).

    q(x_t | x_{t−1}) = N(√(1 − β_t) x_{t−1}, β_t I)                                          thesis (2.44)
    q(x_t | x_0) = N(√ᾱ_t x_0, (1 − ᾱ_t) I),      α_t = 1 − β_t,  ᾱ_t = Π_{i≤t} α_i          thesis (2.46)
    q(x_{t−1} | x_t, x_0) = N(μ̃_t, β̃_t I)                                                    thesis (2.50), (2.51)
    μ̃_t = √ᾱ_{t−1} β_t/(1 − ᾱ_t) x_0 + √α_t (1 − ᾱ_{t−1})/(1 − ᾱ_t) x_t,      β̃_t = (1 − ᾱ_{t−1})/(1 − ᾱ_t) β_t

Source has √ᾱ_t for √α_t in (2.51), (2.59) and (2.60). Given x_t, four quantities say the same: the data x_0, the noise
ε = (x_t − √ᾱ_t x_0)/√(1 − ᾱ_t), the mixture v = √ᾱ_t ε − √(1 − ᾱ_t) x_0 and the score of q(x_t | x_0), −ε/√(1 − ᾱ_t).

Times count from 0: t in 0 … T−1 here is t + 1 in the thesis, and −1 stands for the data, ᾱ_{−1} = 1.
"""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from gmcourse.model import check_count, check_positive
from gmcourse.sampling.sampler import beside

Kind = Literal["x0", "eps", "v", "score"]
KINDS = get_args(Kind)
LARGEST = 0.999  # β where a schedule of ᾱ would have its last step forget everything, β = 1


def linear_betas(steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """β rising in a straight line, (steps,); Ho et al. 2020. With fewer steps, enlarge both ends as 1000/steps."""
    return check_betas(torch.linspace(start, end, check_count(steps, "steps"), dtype=torch.float64))


def cosine_betas(steps: int = 1000, offset: float = 0.008) -> Tensor:
    """ᾱ(u) ∝ cos²(π/2 (u + offset)/(1 + offset)) at u = t/T, β at most 0.999, (steps,); Nichol & Dhariwal 2021 (17)."""
    u = _grid(steps)
    return _betas_of(torch.cos((u + check_positive(offset, "offset")) / (1 + offset) * math.pi / 2).square())


def sigmoid_betas(steps: int = 1000, start: float = -3.0, end: float = 3.0, temperature: float = 1.0) -> Tensor:
    """ᾱ(u) falling as sigmoid(−(start + (end − start) u)/temperature), scaled to run from 1 to 0, (steps,); Chen 2023.

    β is at most 0.999. A larger `temperature` brings it nearer to a straight line of ᾱ.
    """
    if not start < end:
        raise ValueError(f"end must be above start = {start}; got {end}")
    u = _grid(steps)
    fall = torch.sigmoid(-(start + (end - start) * u) / check_positive(temperature, "temperature"))
    return _betas_of((fall - fall[-1]) / (fall[0] - fall[-1]))


def vp_betas(steps: int, beta_min: float = 0.1, beta_max: float = 20.0) -> Tensor:
    """The VP diffusion seen at T times: 1 − exp(−β_min/T − ½(β_max − β_min)(2t − 1)/T²), t = 1 … T; thesis (6.15).

    ᾱ at t/T is the same for every number of steps, so T can be as small as 4.

    >>> vp_betas(4)
    tensor([0.4763, 0.8490, 0.9565, 0.9875], dtype=torch.float64)
    """
    t = torch.arange(1, check_count(steps, "steps") + 1, dtype=torch.float64)
    integral = check_positive(beta_min, "beta_min") / steps + 0.5 * (beta_max - beta_min) * (2 * t - 1) / steps**2
    return check_betas(-torch.expm1(-integral))


def betas_of_levels(levels: Sequence[float]) -> Tensor:
    """The chain whose x_t/√ᾱ_t is the data with noise of standard deviation levels[t], rising, (T,): ᾱ_t = 1/(1 + level²).

    >>> betas_of_levels([1.0, 7.0])     # ᾱ = 1/2, 1/50
    tensor([0.5000, 0.9600], dtype=torch.float64)
    """
    levels = torch.as_tensor(levels, dtype=torch.float64)
    if levels.ndim != 1 or len(levels) == 0 or not (levels.diff(prepend=levels.new_zeros(1)) > 0).all():
        raise ValueError(f"levels must be positive and rise; got {levels.tolist()}")
    squares = torch.cat([levels.new_zeros(1), levels.square()])
    return check_betas(squares.diff() / (1 + squares[1:]))


def check_betas(betas: Tensor) -> Tensor:
    """Return betas (T,) in float64 on the CPU if all lie in (0, 1), else raise ValueError."""
    betas = torch.as_tensor(betas, dtype=torch.float64).detach().cpu()
    if betas.ndim != 1 or len(betas) == 0:
        raise ValueError(f"betas must have shape (T,), T > 0; got {tuple(betas.shape)}")
    if not ((betas > 0) & (betas < 1)).all():
        raise ValueError(f"betas must lie in (0, 1); got values from {betas.min():g} to {betas.max():g}")
    return betas


def bridge(now, then):
    """(a, b, β̃) of q(x_s | x_t, x_0) = N(a x_0 + b x_t, β̃ I) from ᾱ_t = now and ᾱ_s = then, s < t; thesis (2.51).

    Numbers or tensors. The two times need not be neighbours: α_t and β_t become those of the step from s to t.
    """
    alpha = now / then
    beta = 1 - alpha
    return then**0.5 * beta / (1 - now), alpha**0.5 * (1 - then) / (1 - now), (1 - then) / (1 - now) * beta


def convert(value: Tensor, x: Tensor, alpha: Tensor | float, sigma: Tensor | float, given: Kind, wanted: Kind) -> Tensor:
    """What `value` says about x = α x0 + σ ε, said as another of x0, eps, v = α ε − σ x0, score = −ε/σ.

    Args:
        value, x: (n, *event_shape).
        alpha, sigma: > 0, numbers or tensors beside x; α² + σ² need not be 1.
    """
    for name, kind in (("given", given), ("wanted", wanted)):
        if kind not in KINDS:
            raise ValueError(f"{name} must be one of {', '.join(KINDS)}; got {kind!r}")
    _check_same(value, "value", x, "x")
    if given == wanted:
        return value
    x0, eps = _pair(value, x, alpha, sigma, given)
    if wanted == "v":
        return alpha * eps - sigma * x0
    return x0 if wanted == "x0" else eps if wanted == "eps" else -eps / sigma


def _pair(value, x, alpha, sigma, given: Kind) -> tuple[Tensor, Tensor]:
    """(x0, ε) from any of the four."""
    if given == "x0":
        return value, (x - alpha * value) / sigma
    if given == "v":
        square = alpha**2 + sigma**2
        return (alpha * x - sigma * value) / square, (sigma * x + alpha * value) / square
    eps = value if given == "eps" else -sigma * value
    return (x - sigma * eps) / alpha, eps


def _grid(steps: int) -> Tensor:
    return torch.linspace(0, 1, check_count(steps, "steps") + 1, dtype=torch.float64)


def _betas_of(alpha_bars: Tensor) -> Tensor:
    """β of a curve ᾱ(0), …, ᾱ(1), (T + 1,) -> (T,)."""
    return check_betas((1 - alpha_bars[1:] / alpha_bars[:-1]).clamp(max=LARGEST))


class DiscreteDiffusion:
    """The chain of given β: draws and posteriors of T steps, thesis (2.44)–(2.51). It has no parameters and knows no model.

    Times are whole numbers 0 … T−1: a tensor (n,) of torch.int64, or one number for all. Coefficients are worked out in
    float64 and used in the dtype, and on the device, of x. ValueError for times out of range (on a GPU the index fails
    there), for other dtypes, and for shapes that do not fit.

    Args:
        betas: (T,) in (0, 1).

    >>> chain = DiscreteDiffusion(linear_betas())
    >>> chain.alpha_bars[-1]
    tensor(4.0358e-05, dtype=torch.float64)
    >>> mean, variance = chain.posterior(x0=torch.ones(5, 2), xt=torch.zeros(5, 2), t=0)     # the last step gives x0
    >>> mean[0], variance
    (tensor([1., 1.]), tensor(0.))
    """

    def __init__(self, betas: Tensor):
        self.betas = check_betas(betas)
        self.alphas = 1 - self.betas
        self.alpha_bars = torch.exp(torch.log1p(-self.betas).cumsum(0))
        before = torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bars[:-1]])
        self._marginal = torch.stack([self.alpha_bars.sqrt(), (1 - self.alpha_bars).sqrt()])
        self._pair = torch.stack([before.sqrt(), (1 - before).sqrt(), self.alphas.sqrt(), self.betas.sqrt()])
        self._bridge = torch.stack(bridge(self.alpha_bars, before))
        self._placed: dict[tuple, Tensor] = {}

    def __len__(self) -> int:
        """T."""
        return len(self.betas)

    def __repr__(self) -> str:
        return f"DiscreteDiffusion(T={len(self)}, ᾱ_T={self.alpha_bars[-1]:.3g})"

    def times(self, steps: int | None = None) -> list[int]:
        """The times a sampler visits in so many steps (T unless given), evenly spread, from T−1 to −1, the data."""
        steps = check_count(len(self) if steps is None else steps, "steps")
        if steps > len(self):
            raise ValueError(f"steps must be at most T = {len(self)}; got {steps}")
        return [round(len(self) * k / steps) - 1 for k in range(steps, -1, -1)]

    def marginal(self, x: Tensor, t: Tensor | int) -> tuple[Tensor, Tensor]:
        """(√ᾱ_t, √(1 − ᾱ_t)) beside x: mean and width of q(x_t | x_0), thesis (2.46)."""
        alpha, sigma = self._look_up("_marginal", x, t)
        return alpha, sigma

    def q_sample(self, x0: Tensor, t: Tensor | int, eps: Tensor) -> Tensor:
        """x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε, with the shape of x0 (n, *event_shape); thesis (2.46)."""
        _check_same(eps, "eps", x0, "x0")
        alpha, sigma = self.marginal(x0, t)
        return alpha * x0 + sigma * eps

    def q_pair(self, x0: Tensor, t: Tensor | int, eps: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """x_{t−1} and x_t = √α_t x_{t−1} + √β_t u, from q(x_{t−1} | x_0) q(x_t | x_{t−1}); thesis (6.4).

        Both have the shape of x0 (n, *event_shape), as have the noise ε in x_{t−1} and `step`, u. x_{−1} is x0 itself.
        """
        _check_same(eps, "eps", x0, "x0")
        _check_same(step, "step", x0, "x0")
        alpha, sigma, keep, add = self._look_up("_pair", x0, t)
        before = alpha * x0 + sigma * eps
        return before, keep * before + add * step

    def posterior(self, x0: Tensor, xt: Tensor, t: Tensor | int) -> tuple[Tensor, Tensor]:
        """Mean (n, *event_shape) and variance β̃_t, beside x, of q(x_{t−1} | x_t, x_0); thesis (2.51)."""
        _check_same(x0, "x0", xt, "xt")
        of_x0, of_xt, variance = self._look_up("_bridge", xt, t)
        return of_x0 * x0 + of_xt * xt, variance

    def convert(self, value: Tensor, xt: Tensor, t: Tensor | int, given: Kind, wanted: Kind) -> Tensor:
        """One of x0, eps, v, score at x_t as another of them, (n, *event_shape); thesis (2.58) turns eps into x0."""
        return convert(value, xt, *self.marginal(xt, t), given, wanted)

    def _look_up(self, table: str, x: Tensor, t: Tensor | int) -> list[Tensor]:
        """The rows of a table at times t, beside x."""
        if not x.is_floating_point():
            raise ValueError(f"x must hold floating-point numbers; got {x.dtype}")
        t = torch.as_tensor(t, device=x.device)
        if t.dtype != torch.int64:
            raise ValueError(f"t must hold whole numbers, torch.int64; got {t.dtype}")
        if t.shape not in ((), (len(x),)):
            raise ValueError(f"t must have shape ({len(x)},), one time for each x, or be one number; got {tuple(t.shape)}")
        if t.device.type == "cpu" and t.numel() and not 0 <= int(t.min()) <= int(t.max()) < len(self):
            raise ValueError(f"t must lie in 0 … {len(self) - 1}; got values from {t.min()} to {t.max()}")
        rows = self._place(table, x).index_select(1, t.reshape(-1))
        return [beside(row.reshape(t.shape), x) for row in rows]

    def _place(self, table: str, x: Tensor) -> Tensor:
        key = table, x.device, x.dtype
        if key not in self._placed:
            with torch.inference_mode(False):  # what is kept must serve training, too
                self._placed[key] = getattr(self, table).to(x.device, x.dtype)
        return self._placed[key]


def _check_same(value: Tensor, name: str, like: Tensor, other: str) -> None:
    if value.shape != like.shape:
        raise ValueError(f"{name} must have the shape of {other}, {tuple(like.shape)}; got {tuple(value.shape)}")
