r"""Back through the chain: from noise to data, given the noise ε(x_t, t) that is in x_t (thesis 2.4.2).

A sampler is a `step` from x_t to x_s, s < t, that mirrors its equation; `run` and `walk` are the loop. With

    x̂_0 = (x_t − √(1 − ᾱ_t) ε)/√ᾱ_t                                                         thesis (2.58)

    ancestral    x_s = μ̃(x_t, x̂_0) + σ z,    σ² = β̃ or β                                    thesis (2.62), slides (28)
    DDIM         x_s = √ᾱ_s x̂_0 + √(1 − ᾱ_s − σ²) ε + σ z,    σ² = η² β̃                     slides (30)

z ~ N(0, I), and none at the last step, whose x̂_0 is the sample. β̃ is the right variance if the data are one point, β if
they are N(0, I). At η = 1 DDIM is ancestral sampling; at η = 0 it is the map of an ODE, from noise to data, and bears few
and large steps best. s need not be t − 1: α and β are then those of the step from s to t. `eps` may be a net or exact:
−σ times the score of the diffused data.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm

from gmcourse.diffusion.schedule import DiscreteDiffusion, bridge, convert
from gmcourse.model import check_positive
from gmcourse.sampling.ode import same_shape
from gmcourse.sampling.sampler import normal_like

Noise = Callable[[Tensor, Tensor], Tensor]  # x (n, *event_shape), t (n,) -> like x
Step = Callable[[Tensor, float, float, torch.Generator | None], Tensor]  # x_t, t, s, generator -> x_s


def run(
    step: Step,
    x: Tensor,
    times: Sequence[float],
    *,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Tensor:
    """Where x, noise (n, *event_shape) at times[0], is at times[-1], without gradients; see `walk`.

    >>> from gmcourse.diffusion.schedule import linear_betas
    >>> chain = DiscreteDiffusion(linear_betas())
    >>> ddim = DDIM(chain, lambda x, t: torch.zeros_like(x))
    >>> run(ddim.step, torch.randn(5, 2), chain.times(50)).shape
    torch.Size([5, 2])
    """
    for last in walk(step, x, times, generator=generator, progress=progress):
        x = last
    return x


@torch.no_grad()
def walk(
    step: Step,
    x: Tensor,
    times: Sequence[float],
    *,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Iterator[Tensor]:
    """x at each of `times`, which fall from noise to data: the one loop of all samplers.

    Args:
        step: x_t, t, s, generator -> x_s, such as `DDIM(...).step`.
        times: at least two, falling; `DiscreteDiffusion.times` makes them for a chain.
    """
    if len(times) < 2 or any(s >= t for t, s in pairwise(times)):
        raise ValueError(f"times must be at least two, falling; got {len(times)}: {', '.join(map(str, times[:8]))} …")
    yield x
    for t, s in tqdm(list(pairwise(times)), desc="sampling", leave=False, disable=not progress):
        x = step(x, t, s, generator)
        yield x


class ChainSampler(ABC):
    """What samplers of a chain share: x̂_0 and ε at x_t.

    Args:
        chain: the forward process.
        eps: x (n, *event_shape), t (n,) in torch.int64 -> like x, the noise in x_t.
        clip: largest value x̂_0 may have, 1 for images in [−1, 1]; ε follows.
    """

    def __init__(self, chain: DiscreteDiffusion, eps: Noise, *, clip: float | None = None):
        self.chain, self.eps = chain, eps
        self.clip = None if clip is None else check_positive(clip, "clip")
        self._alpha_bars = [*chain.alpha_bars.tolist(), 1.0]  # the last is that of −1

    @abstractmethod
    def step(self, x: Tensor, t: int, s: int, generator: torch.Generator | None = None) -> Tensor:
        """x_s from x_t, T−1 ≥ t > s ≥ −1, (n, *event_shape); ValueError for other times, or an ε of another shape."""

    def _alpha_bars_at(self, t: int, s: int) -> tuple[float, float]:
        if not -1 <= s < t < len(self.chain):
            raise ValueError(f"t and s must be whole numbers, {len(self.chain) - 1} ≥ t > s ≥ -1; got t = {t}, s = {s}")
        return self._alpha_bars[t], self._alpha_bars[s]

    @torch.no_grad()
    def denoise(self, x: Tensor, t: int) -> Tensor:
        """x̂_0, what the sampler takes x_t (n, *event_shape) to be without its noise, thesis (2.58); clipped if asked."""
        return self._predict(x, t, self._alpha_bars_at(t, -1)[0])[0]

    def _predict(self, x: Tensor, t: int, now: float) -> tuple[Tensor, Tensor, Tensor | None]:
        """x̂_0, ε, both after clipping, and what else `eps` says: v, where variances are learned."""
        found = self.eps(x, torch.full((len(x),), t, device=x.device))
        eps, share = found if isinstance(found, tuple) else (found, None)
        same_shape(eps, x, "eps")
        alpha, sigma = now**0.5, (1 - now) ** 0.5
        x0 = convert(eps, x, alpha, sigma, "eps", "x0")
        if self.clip is None:
            return x0, eps, share
        x0 = x0.clamp(-self.clip, self.clip)
        return x0, convert(x0, x, alpha, sigma, "x0", "eps"), share


class Ancestral(ChainSampler):
    """DDPM's sampler, x_s = μ̃(x_t, x̂_0) + σ z, thesis (2.62); `variance` small is σ² = β̃, large β (Ho et al. 2020).

    With learned variance `eps` returns a pair, the noise and v, like x: log σ² = v log β + (1 − v) log β̃.
    """

    def __init__(
        self,
        chain: DiscreteDiffusion,
        eps: Noise,
        *,
        variance: Literal["small", "large", "learned"] = "small",
        clip: float | None = None,
    ):
        super().__init__(chain, eps, clip=clip)
        if variance not in ("small", "large", "learned"):
            raise ValueError(f"variance must be small, large or learned; got {variance!r}")
        self.variance = variance

    def step(self, x: Tensor, t: int, s: int, generator: torch.Generator | None = None) -> Tensor:
        """μ̃(x_t, x̂_0) + σ z."""
        now, then = self._alpha_bars_at(t, s)
        x0, _, share = self._predict(x, t, now)
        of_x0, of_x, small = bridge(now, then)
        mean = of_x0 * x0 + of_x * x
        if s < 0:
            return mean
        large = 1 - now / then
        if self.variance == "learned":
            variance = (share * math.log(large) + (1 - share) * math.log(small)).exp()
        else:
            variance = small if self.variance == "small" else large
        return mean + variance**0.5 * normal_like(x, generator)


class DDIM(ChainSampler):
    """Song et al.'s sampler, x_s = √ᾱ_s x̂_0 + √(1 − ᾱ_s − σ²) ε + σ z with σ² = η² β̃, slides (30), who write α for ᾱ.

    Args:
        eta: in [0, 1]; 0 draws no noise, 1 is `Ancestral`.
    """

    def __init__(self, chain: DiscreteDiffusion, eps: Noise, *, eta: float = 0.0, clip: float | None = None):
        super().__init__(chain, eps, clip=clip)
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must lie in [0, 1]; got {eta}")
        self.eta = float(eta)

    def step(self, x: Tensor, t: int, s: int, generator: torch.Generator | None = None) -> Tensor:
        """√ᾱ_s x̂_0 + √(1 − ᾱ_s − σ²) ε + σ z."""
        now, then = self._alpha_bars_at(t, s)
        x0, eps, _ = self._predict(x, t, now)
        variance = self.eta**2 * bridge(now, then)[2]
        mean = then**0.5 * x0 + (1 - then - variance) ** 0.5 * eps
        return mean + variance**0.5 * normal_like(x, generator) if variance > 0 else mean
