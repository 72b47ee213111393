r"""The thesis' denoising diffusion GANs with its own settings: Tables 6.6 to 6.8, section 6.4.7. All have T = 4 and (6.15).

    cifar10         32 × 32: U-Net of 128 channels × (1, 2, 2, 2), latents of 256; discriminator down to 2 × 2
    celeba_hq       256 × 256: 64 channels × (1, 1, 2, 2, 4, 4), latents of 100; discriminator down to 4 × 4
    lsun_church     256 × 256: 128 channels × (1, 1, 2, 2, 4, 4), latents of 100; the same discriminator
    stacked_mnist   as cifar10 but for the length of the training; images brought to 32 × 32
    gaussians25     perceptrons of 3 × 512, everything by concatenation

U-Nets have two residual blocks a level, attention at 16 × 16 (and at the bottom), filtered changes of size, skips over √2
and NCSN++'s progressive input. All are trained by Adam with betas (0.5, 0.9); images with a cosine, R1, averaged generators.

Departures: time enters a block where it is normalised, as z does, not by addition; the norms before attention and before
the last convolution are without z; convolutions begin at PyTorch's values but for the last of each block, at zero; NCSN++
asks for its own. The source leaves open, and chosen here are: the length of z and of τ(t) on points, 2 and 16, and Adam's
betas there, those of images; images in [−1, 1], for which the tanh is; how many rows the spread of a batch is of, all; R1 at
every step, where the authors' code has it at each 15th or 10th, not rescaled, so that their γ is in effect so much smaller.
On points the thesis names no R1, cosine, average.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from gmcourse.compositions.ddgan import DenoisingDiffusionGAN
from gmcourse.diffusion.schedule import DiscreteDiffusion, vp_betas
from gmcourse.fit import cosine
from gmcourse.gan.regularisers import R1
from gmcourse.model import check_count
from gmcourse.nets.embedding import SinusoidalTime
from gmcourse.nets.plane_pair import PointCritic, PointGenerator
from gmcourse.nets.styled import Styled
from gmcourse.nets.time_critic import TimeCritic
from gmcourse.nets.unet import UNet

STEPS, LAYERS = 4, 3  # T, and layers of the mapping network
HIDDEN = (512,) * 3
ADAM = partial(torch.optim.Adam, betas=(0.5, 0.9))


@dataclass(frozen=True)
class Pictures:
    """One column of Tables 6.6 to 6.8.

    Args:
        image: shape (c, h, w).
        width, multipliers, attention: of the U-Net; attention by level.
        latent, style: lengths of z and w.
        channels, down: of the discriminator.
        gamma: of R1.
        lr: of the generator; the discriminator's is 1e-4.
        ema: decay of the generator's average.
    """

    image: tuple[int, int, int]
    width: int
    multipliers: Sequence[int]
    attention: Sequence[int]
    latent: int
    style: int
    channels: Sequence[int]
    down: Sequence[bool]
    gamma: float
    lr: float
    ema: float
    batch_size: int
    iterations: int

    def nets(self, shrink: int = 1) -> tuple[Styled, TimeCritic]:
        """Generator and discriminator, all widths divided by `shrink`."""
        width, style = _multiple(self.width / shrink), max(1, self.style // shrink)
        net = UNet(
            self.image,
            width=width,
            multipliers=self.multipliers,
            blocks=2,
            attention=self.attention,
            context=style,
            time=SinusoidalTime(width),
            fir=True,
            pyramid=True,
        )
        channels = [_multiple(c / shrink) for c in self.channels]
        critic = TimeCritic(self.image, channels, down=self.down, time=SinusoidalTime(channels[0]))
        return Styled(net, self.latent, style, layers=LAYERS), critic

    def build(self, shrink: int) -> DenoisingDiffusionGAN:
        """The model."""
        shape, penalty = {"event_shape": self.image, "latent": self.latent}, R1(self.gamma)
        return DenoisingDiffusionGAN(*self.nets(shrink), DiscreteDiffusion(vp_betas(STEPS)), regularisers=penalty, **shape)

    def fit(self) -> dict:
        """Keyword arguments of `fit`."""
        players = {
            "lr": {"discriminator": 1e-4, "generator": self.lr},
            "ema": {"discriminator": None, "generator": self.ema},
        }
        return players | {
            "optimizer": ADAM,
            "schedule": cosine(),
            "batch_size": self.batch_size,
            "steps": self.iterations,
        }


@dataclass(frozen=True)
class Points:
    """The toy of 6.4.7."""

    latent: int = 2

    def nets(self, shrink: int = 1) -> tuple[PointGenerator, PointCritic]:
        """Generator and discriminator, all widths divided by `shrink`."""
        hidden = [max(1, width // shrink) for width in HIDDEN]
        return PointGenerator((2,), self.latent, hidden), PointCritic((2,), hidden)

    def build(self, shrink: int) -> DenoisingDiffusionGAN:
        """The model."""
        chain, shape = DiscreteDiffusion(vp_betas(STEPS)), {"event_shape": (2,), "latent": self.latent}
        return DenoisingDiffusionGAN(*self.nets(shrink), chain, **shape)

    def fit(self) -> dict:
        """Keyword arguments of `fit`."""
        return {"lr": 1e-4, "optimizer": ADAM, "batch_size": 512, "steps": 50_000}


SMALL = {"channels": (128, 128, 256, 512, 512, 512), "down": (False, True, True, True, True), "gamma": 0.05, "lr": 1.6e-4}
SMALL |= {"width": 128, "multipliers": (1, 2, 2, 2), "attention": (1,), "latent": 256, "style": 512}
SMALL |= {"ema": 0.9999, "batch_size": 128}
LARGE = {"image": (3, 256, 256), "multipliers": (1, 1, 2, 2, 4, 4), "attention": (4,), "latent": 100, "style": 256}
LARGE |= {"channels": (128, 256, 512, 512, 512, 512, 512), "down": (True,) * 6, "gamma": 1.0, "ema": 0.999}

SETTINGS: dict[str, Pictures | Points] = {
    "cifar10": Pictures(image=(3, 32, 32), iterations=400_000, **SMALL),
    "stacked_mnist": Pictures(image=(3, 32, 32), iterations=150_000, **SMALL),
    "celeba_hq": Pictures(width=64, lr=1.6e-4, batch_size=32, iterations=750_000, **LARGE),
    "lsun_church": Pictures(width=128, lr=2e-4, batch_size=64, iterations=600_000, **LARGE),
    "gaussians25": Points(),
}


def ddgan(name: str, *, shrink: int = 1) -> DenoisingDiffusionGAN:
    """The thesis' model of this name, untrained.

    Args:
        shrink: what all widths are divided by, for a small machine.

    Raises ValueError for another name.

    >>> ddgan("gaussians25", shrink=64).sample(2).shape
    torch.Size([2, 2])
    """
    return setting(name).build(check_count(shrink, "shrink"))


def fit_settings(name: str) -> dict:
    """Keyword arguments of `fit`: both players' rates, Adam, the batch, the number of steps.

    >>> fit_settings("lsun_church")["lr"]
    {'discriminator': 0.0001, 'generator': 0.0002}
    """
    return setting(name).fit()


def setting(name: str) -> Pictures | Points:
    """The row of this name; ValueError lists the names there are."""
    if name not in SETTINGS:
        raise ValueError(f"name must be one of {', '.join(SETTINGS)}; got {name!r}")
    return SETTINGS[name]


def _multiple(width: float) -> int:
    """The multiple of four next below, at least four."""
    return max(4, int(width) // 4 * 4)
