r"""What a StyleGAN's coarse layers decide and what its fine ones do: images with the styles of two sources (thesis 2.5.3).

    w = f(z),     layers 1 … k by the style of A, layers k + 1 … by that of B           style mixing (Karras et al. 2019)
    w ← w̄ + ψ (w − w̄)                                                                  truncation
    z_t = cos(πt/2) z_0 + sin(πt/2) z_1                                                 the walk of A's

For independent z_0, z_1 ~ N(0, I) every z_t is N(0, I) again: its covariance is (cos² + sin²) I. The straight line
(1 − t) z_0 + t z_1 has ((1 − t)² + t²) I, half as much at half way, in a shell where a generator has seen nothing. (This is
spherical interpolation for two directions at a right angle, as draws in many dimensions nearly are. A StyleGAN divides z by
its length first, so that a straight line would pass the same images, but faster in its middle.)
"""

import math
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gmcourse.model import check_count
from gmcourse.nets.style import StyleGenerator
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, Slider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.mosaic import enlarge, mosaic_array

NOISES = {"none": 0, "one draw": 1, "another draw": 2}
GAP, CELL = 4, 84  # pixels: of the images between sources and mixes, and about how wide an image is on the screen


def walked(start: Tensor, end: Tensor, t: float) -> Tensor:
    """cos(πt/2) start + sin(πt/2) end: N(0, I) for all t where both are."""
    return math.cos(math.pi * t / 2) * start + math.sin(math.pi * t / 2) * end


class Sources:
    """Fixed draws, and the images that they and their mixes make.

    Args:
        generator: in evaluation mode, wherever it lives.
        n: sources A, and as many B.
        seed: of the draws.
    """

    def __init__(self, generator: StyleGenerator, n: int, seed: int):
        self.generator, self.n = generator, n
        length, like = sum(generator.noise_blocks.values()), next(generator.parameters())
        draws = torch.randn(3 * n, length, generator=torch.Generator().manual_seed(seed))
        z, pixels = generator.split(draws.to(like))
        self.start, self.end, self.fine = z.split(n)
        self.noises = torch.stack((torch.zeros_like(pixels[0]), pixels[0], pixels[1]))

    @torch.no_grad()
    def images(self, crossover: int, psi: float, noise: int, t: float) -> Tensor:
        """Sources A (n), sources B (n), and their mixes (n², B by B), all with one noise: (n (n + 2), c, h, w)."""
        net, n = self.generator, self.n
        styles = net.style(torch.cat((walked(self.start, self.end, t), self.fine)))
        styles = net.truncate(styles, psi)
        a, b = styles.split(n)
        mixes = net.mix(a.repeat(n, 1), b.repeat_interleave(n, 0), crossover)
        layers = torch.cat((net.mix(styles, styles, 0), mixes))
        return net.synthesise(layers, self.noises[noise].expand(len(layers), -1)).float().cpu()


def page(images: Tensor, n: int) -> np.ndarray:
    """Images as `Sources.images` orders them: A on top, B on the left, the mixes between, and an empty corner; uint8."""
    parts = zip(images.split((n, n, n * n)), (n, 1, n), strict=True)
    top, left, mixes = (mosaic_array(part, columns) for part, columns in parts)
    width, height = left.shape[1] + GAP, top.shape[0] + GAP
    whole = np.full((height + mixes.shape[0], width + mixes.shape[1], *mixes.shape[2:]), 255, np.uint8)
    whole[: top.shape[0], width:] = top
    whole[height:, : left.shape[1]] = left
    whole[height:, width:] = mixes
    return whole


def labelled(picture: np.ndarray, n: int, coarse: str, fine: str) -> np.ndarray:
    """The page with words in its empty corner: which layers are by A, to the right, and which by B, below."""
    image = Image.fromarray(picture)
    corner, pen, ink = image.width / (n + 1), ImageDraw.Draw(image), style.INK if image.mode == "RGB" else 38
    pen.text((corner, 0), f"A: layers\n{coarse}  →", ink, _font(), anchor="ra", align="right")
    pen.text((0, corner), f"B: layers\n{fine}  ↓", ink, _font(), anchor="ld")
    return np.asarray(image)


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 13)


def style_mixing(generator: StyleGenerator, n: int = 4, *, seed: int = 0) -> Explorer:
    """Mix the styles of two rows of sources, coarse layers by A, fine ones by B; truncate, change the noise, walk.

    Args:
        generator: trained; it is put into evaluation mode.
        n: sources of each kind; n (n + 2) images are made at each move.
        seed: of all draws.

    Raises ValueError for n below 1.
    """
    sources, layers = Sources(generator.eval(), check_count(n), seed), generator.layers

    def compute(crossover, psi, noise, t):
        return page(sources.images(crossover, psi, noise, t), n), crossover

    def draw(axes, drawn):
        picture, crossover = drawn
        scale = max(1, round(CELL * (n + 1) / picture.shape[1]))
        return labelled(enlarge(picture, scale), n, _span(1, crossover), _span(crossover + 1, layers))

    return Explorer(
        compute,
        draw,
        {
            "crossover": Slider(0, layers, 1, layers // 2, label="layers by A"),
            "psi": Slider(0.0, 1.2, 0.05, 1.0, label="truncation ψ"),
            "noise": Choice(NOISES, value=1, label="noise of the pixels"),
            "t": Slider(0.0, 1.0, 0.02, 0.0, label="walk of the A's, t"),
        },
        size=(5.4, 5.4),
        caption="Top: sources A; left: sources B; within, images whose first layers, the coarse ones, have the style of the "
        "A above and the others that of the B beside. ψ draws all styles to their mean. The noise is one for all images. "
        "The walk takes every A to another draw, on a sphere.",
    )


def _span(first: int, last: int) -> str:
    return "none" if first > last else f"{first}" if first == last else f"{first} to {last}"
