r"""From a few strokes to a picture: noise a drawing to x_k and walk back with a denoising diffusion GAN (thesis 6.4.6).

    x_k = √ᾱ x + √(1 − ᾱ) ε,      then k steps of the model, each with a z of its own                SDEdit

Noise hides what a drawing lacks: details first, and in the end the drawing itself. At small k every wrong stroke stays, at
k = T nothing is left of it. Results of one picture all come from the same x_k, so that they differ by the model's own
choices alone, and ε is the same at all k. k is that of the thesis: x_k here is time k − 1 of the chain, and x_0 the drawing.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from gmcourse.compositions.ddgan import DenoisingDiffusionGAN
from gmcourse.diffusion.samplers import run
from gmcourse.model import check_count, evaluating
from gmcourse.viz import style
from gmcourse.viz.controls import Choice
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.explorers.stops import Stops
from gmcourse.viz.mosaic import mosaic_array

RESULTS, COLUMNS = 6, 3


def noised(model: DenoisingDiffusionGAN, drawings: Tensor, seeds: int, seed: int) -> Tensor:
    """x_k of drawings (m, c, h, w) for all k, x_0 the drawings: (T + 1, m, seeds, c, h, w), one ε per seed for all."""
    generator = torch.Generator().manual_seed(seed)
    eps = torch.randn(seeds, *drawings.shape[1:], generator=generator)
    starts = drawings[:, None].expand(-1, seeds, -1, -1, -1)
    later = [model.chain.q_sample(starts, t, eps.expand_as(starts)) for t in range(len(model.chain))]
    return torch.stack([starts, *later])


def walked_back(model: DenoisingDiffusionGAN, noisy: Tensor, seed: int) -> Tensor:
    """`RESULTS` pictures of each x_k (T + 1, m, seeds, c, h, w), beside it: (T + 1, m, seeds, RESULTS, c, h, w)."""
    found = [noisy[0].unsqueeze(2).expand(-1, -1, RESULTS, -1, -1, -1)]
    generator = torch.Generator(model.origin.device).manual_seed(seed)
    with evaluating(model):
        for k in range(1, len(noisy)):
            starts = noisy[k].flatten(0, 1).repeat_interleave(RESULTS, 0).to(model.origin)
            ends = run(model.step, starts, range(k - 1, -2, -1), generator=generator)
            found.append(ends.float().cpu().unflatten(0, (*noisy.shape[1:3], RESULTS)))
    return torch.stack(found)


def strokes(model: DenoisingDiffusionGAN, drawings: Mapping[str, Tensor], *, seeds: int = 3, seed: int = 0) -> Explorer:
    """Noise a drawing to x_k and see six ways back: from the drawing itself (k = 0) to fresh samples (k = T).

    Args:
        model: of images (1 or 3, h, w).
        drawings: by name, each an image in [−1, 1] of the model's shape.
        seeds: how many noises ε there are to choose from.
        seed: of all of them.

    All pictures are made beforehand, `RESULTS` · seeds · drawings of them from each k, in T(T + 1)/2 passes of the net over
    so many: about a second and a half on one core for `ddgan_emoji`, five drawings and three seeds.
    Raises ValueError for models that are none of images, and for drawings of another shape or range.
    """
    _check(model, drawings)
    names, steps = list(drawings), len(model.chain)
    noisy = noised(model, torch.stack([drawings[name].float().cpu() for name in names]), check_count(seeds, "seeds"), seed)
    results = walked_back(model, noisy, seed + 1)
    height, width = model.event_shape[1:]
    tall, wide = (RESULTS // COLUMNS) * (height + 1) - 1, COLUMNS * (width + 1) - 1

    def compute(drawing, k, noise):
        at = names.index(drawing), noise - 1
        pictures = [_page(part, columns) for part, columns in ((noisy[0][at][None], 1), (noisy[k][at][None], 1))]
        return [*pictures, _page(results[k][at], COLUMNS)], k

    def backdrop(axes):
        grid = axes[0].figure.add_gridspec(1, 3, width_ratios=(width / height, width / height, wide / tall))
        for ax, where, (h, w) in zip(axes, grid, ((height, width), (height, width), (tall, wide)), strict=True):
            ax.set_subplotspec(where)
            ax.set(xlim=(0, w), ylim=(h, 0), aspect="equal", xticks=[], yticks=[], title=" ")
            ax.spines[:].set(visible=True, color="0.8")

    def draw(axes, drawn):
        pictures, k = drawn
        for ax, picture in zip(axes, pictures, strict=True):
            rows, columns = picture.shape[:2]
            ax.imshow(picture, extent=(0, columns, rows, 0), interpolation="nearest")
        back = f"{RESULTS} ways back, {k} step{'s' * (k > 1)}" if k else "no step"
        words = "the drawing", f"$x_{{{k}}}$, its noisy form" if k else "$x_0$, no noise", back
        for ax, text in zip(axes, words, strict=True):
            ax.text(0.5, 1.03, text, transform=ax.transAxes, ha="center", fontsize=12, color=style.INK)

    return Explorer(
        compute,
        draw,
        {
            "drawing": Choice(names, label="drawing"),
            "k": Stops({_told(k, steps): k for k in range(steps + 1)}, max(1, steps // 2), "from x_k, k"),
            "noise": Choice(tuple(range(1, seeds + 1)), label="noise ε", buttons=True),
        },
        backdrop=backdrop,
        panels=(1, 3),
        size=(11.0, 3.6),
        caption="A drawing; with noise, as the diffusion has it after k of its steps; and what the model makes of this one "
        "noisy picture in k steps back, six times with other z. Small k keeps all of the drawing, its faults, too; the last "
        "k has forgotten it.",
    )


def _told(k: int, steps: int) -> str:
    return "0, the drawing" if k == 0 else f"{k}, noise" if k == steps else str(k)


def _check(model: DenoisingDiffusionGAN, drawings: Mapping[str, Tensor]) -> None:
    shape = tuple(getattr(model, "event_shape", ()))
    if not isinstance(model, DenoisingDiffusionGAN) or len(shape) != 3 or shape[0] not in (1, 3):
        told = f"{type(model).__name__} of shape {shape}"
        raise ValueError(f"model must be a DenoisingDiffusionGAN of images (1 or 3, h, w); got {told}")
    if not drawings:
        raise ValueError("drawings must hold at least one drawing; got none")
    for name, drawing in drawings.items():
        if tuple(drawing.shape) != shape:
            raise ValueError(f"drawings must have the model's shape {shape}; got {tuple(drawing.shape)} for {name!r}")
        if not drawing.abs().amax() <= 1:
            raise ValueError(f"drawings must lie in [-1, 1]; got {float(drawing.abs().amax()):g} in {name!r}")


def _page(images: Tensor, columns: int) -> np.ndarray:
    """Images (n, c, h, w) as one picture (height, width, 3), uint8."""
    page = np.atleast_3d(mosaic_array(images, columns))
    return np.broadcast_to(page, (*page.shape[:2], 3))
