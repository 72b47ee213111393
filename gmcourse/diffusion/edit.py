r"""Editing with a diffusion model that was trained for none of it: fill in what is missing, repaint what was sketched.

    inpainting   from t to s:  x_s = step(x_t),  then the known part of x_s is put back: α_s x_known + σ_s ε
    SDEdit       x_t0 = α_t0 x + σ_t0 ε of a rough picture x, and from there back to the data

*Inpainting* by replacement (Song et al. 2021, appendix I.2). What is filled in at s was drawn before it saw the known part
at s, so borders fit badly, and the law is not p(missing | known). Going back up, x_t = a x_s + √b ε, and down again, some
`repeats` times, lets both parts settle (RePaint, Lugmayr et al. 2022). Steps see the known part through the noise of x_t
only, so where noise is high they often choose the wrong mode; repeats mend that as fast as modes mix where it is lower.

*SDEdit* (Meng et al. 2022; strokes to pictures in thesis 6.4.6): noise hides detail first. t0 decides: near the data the
sketch comes back as it is, near the noise a fresh sample, faithful to nothing.

Both work with any sampler's `step`, of a chain or of an SDE, and with its forward process.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gmcourse.diffusion.reverse import forward_step
from gmcourse.diffusion.samplers import Step, run
from gmcourse.diffusion.schedule import DiscreteDiffusion
from gmcourse.diffusion.sde import SDE
from gmcourse.model import check_count
from gmcourse.sampling.sampler import normal_like

Process = DiscreteDiffusion | SDE


class Inpainting:
    """A sampler made of another: its `step` puts back what is known. To be walked from noise, `noised(known)` say.

    Args:
        step: of a sampler, x_t, t, s, generator -> x_s.
        process: the forward process, of a sampler of a chain its `DiscreteDiffusion`.
        known: (n, *event_shape), the data; what the mask leaves out does not matter, but must be finite.
        mask: torch.bool, True where `known` holds, of the shape of `known` or of one event.
        repeats: how often the step from t to s is taken, each with fresh noise; 1 is plain replacement.
    """

    def __init__(self, step: Step, process: Process, known: Tensor, mask: Tensor, *, repeats: int = 1):
        _check_data(known, "known")
        if mask.dtype != torch.bool:
            raise ValueError(f"mask must be torch.bool, True where known; got {mask.dtype}")
        if mask.shape not in (known.shape, known.shape[1:]):
            wanted = f"{tuple(known.shape)}, or of one event, {tuple(known.shape[1:])}"
            raise ValueError(f"mask must have the shape of known, {wanted}; got {tuple(mask.shape)}")
        self.inner, self.process, self.known, self.mask = step, process, known, mask.to(known.device)
        self.repeats = check_count(repeats, "repeats")

    def step(self, x: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """x_s, known part and all, from x_t; to the data, where σ_s = 0, in one go: no repeat could mend it."""
        now, then = marginal_at(self.process, t), marginal_at(self.process, s)
        a, b = forward_step(*now, *then)
        repeats = self.repeats if then[1] > 0 else 1
        for k in range(repeats):
            if k > 0:
                x = a * x + b**0.5 * normal_like(x, generator)
            found = self.inner(x, t, s, generator)
            x = torch.where(self.mask, noised(self.process, self.known, s, generator), found)
        return x


def inpaint(
    step: Step,
    process: Process,
    known: Tensor,
    mask: Tensor,
    times: Sequence[float],
    *,
    repeats: int = 1,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Tensor:
    """Fill in `known` (n, *event_shape) where `mask` is False: a sample, like known, and equal to it where the mask is True.

    Costs `repeats` times what sampling costs. Where the last of `times` is not the data, what is known ends with the noise
    of that time. Arguments as of `Inpainting`; ValueError for a mask, or `known`, that does not fit.

    >>> from gmcourse.diffusion.samplers import Ancestral
    >>> from gmcourse.diffusion.schedule import linear_betas
    >>> chain, known = DiscreteDiffusion(linear_betas()), torch.tensor([[1.0, 0.0]]).expand(5, 2)
    >>> sampler = Ancestral(chain, lambda x, t: chain.marginal(x, t)[1] * x)  # data N(0, I)
    >>> inpaint(sampler.step, chain, known, known[0] > 0, chain.times(50))[:, 0]
    tensor([1., 1., 1., 1., 1.])
    """
    filled = Inpainting(step, process, known, mask, repeats=repeats)
    _, sigma = marginal_at(process, times[0])
    x = torch.where(filled.mask, noised(process, known, times[0], generator), sigma * normal_like(known, generator))
    return run(filled.step, x, times, generator=generator, progress=progress)


def sdedit(
    step: Step,
    process: Process,
    x: Tensor,
    times: Sequence[float],
    *,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Tensor:
    """Samples near x (n, *event_shape): noised to times[0], which is t0, and led back to the data; like x. Meng et al. 2022.

    >>> from gmcourse.diffusion.samplers import DDIM
    >>> from gmcourse.diffusion.schedule import linear_betas
    >>> chain = DiscreteDiffusion(linear_betas())
    >>> ddim = DDIM(chain, lambda x, t: chain.marginal(x, t)[1] * x)  # data N(0, I)
    >>> sdedit(ddim.step, chain, torch.ones(5, 2), [t for t in chain.times(50) if t < 400]).shape
    torch.Size([5, 2])
    """
    start = noised(process, _check_data(x, "x"), times[0], generator)
    return run(step, start, times, generator=generator, progress=progress)


def noised(process: Process, x: Tensor, t: float, generator: torch.Generator | None = None) -> Tensor:
    """A draw of x_t given the data x (n, *event_shape), α_t x + σ_t ε, like x; thesis (2.46)."""
    alpha, sigma = marginal_at(process, t)
    return alpha * x + sigma * normal_like(x, generator) if sigma > 0 else alpha * x


def marginal_at(process: Process, t: float) -> tuple[float, float]:
    """α and σ of x_t given the data, as numbers; t = −1 of a chain is the data. ValueError for times that there are not."""
    if isinstance(process, SDE):
        alpha, sigma = process.marginal(torch.tensor(t, dtype=torch.float64))
    elif t == -1:
        return 1.0, 0.0
    else:
        alpha, sigma = process.marginal(torch.zeros(1, dtype=torch.float64), t)
    return float(alpha), float(sigma)


def _check_data(x: Tensor, name: str) -> Tensor:
    if x.ndim == 0 or len(x) == 0 or not x.is_floating_point():
        raise ValueError(f"{name} must be floats of shape (n, *event_shape), n > 0; got {tuple(x.shape)}, {x.dtype}")
    if not x.isfinite().all():
        raise ValueError(f"{name} must be finite, hidden parts, too; got NaN or inf")
    return x
