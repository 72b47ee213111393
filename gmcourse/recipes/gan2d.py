"""Recipes of chapter 6 in the plane: one pair of nets on 25 Gaussians, and what keeps them from collapse, one at a time.

Both nets see their input through Fourier features. The critic must tell modes a tenth of the data's spread apart; and the
generator must tear a round cloud into 25 pieces, which is as fast a function of its noise.
"""

from functools import partial

import torch
from torch import nn

from gmcourse.gan.gan import GAN
from gmcourse.gan.regularisers import R1, R2, GradientPenalty
from gmcourse.nets.embedding import FourierFeatures
from gmcourse.nets.mlp import MLP
from gmcourse.nets.spectral import spectrally_normalised
from gmcourse.recipes.measures import modes, transport
from gmcourse.recipes.recipe import Recipe

ADAM = partial(torch.optim.Adam, betas=(0.5, 0.9), fused=True)
LIPSCHITZ = {"objective": "wasserstein", "regularisers": GradientPenalty(0.1)}


def late(done: float) -> float:
    """Constant for half of the run, then linearly to 0: a game does not come to rest by itself."""
    return min(1.0, 2 * (1 - done))


def net(outputs: int | tuple, scale: float) -> nn.Sequential:
    """(n, 2) -> (n, outputs), or (n,) for (): Fourier features of this scale, then three layers of 64."""
    features = FourierFeatures(2, 16, scale)
    return nn.Sequential(features, MLP(features.outputs, outputs, (64, 64, 64)))


def plane_gan(*, spectral: bool = False, **game) -> GAN:
    """A GAN of the plane; `game` goes to `GAN`."""
    critic = net((), 4.0)
    critic = spectrally_normalised(critic) if spectral else critic
    return GAN(net(2, 3.0), critic, event_shape=(2,), latent=2, **game)


_FIT = {"batch_size": 256, "lr": {"critic": 2e-3, "generator": 2e-3}, "optimizer": ADAM, "schedule": late}
_FIT |= {"steps": 2000, "ema": {"critic": None, "generator": 0.99}}

# what is changed: summary, the game, settings of fit
CURES: dict[str, tuple[str, dict, dict]] = {
    "plain": ("the non-saturating game, nothing added", {}, {}),
    "batch": ("batches of 1024 instead of 256", {}, {"batch_size": 1024}),
    "clip": ("Wasserstein's, weights clipped to 0.1", {"objective": "wasserstein", "clip": 0.1}, {}),
    "spectral": ("Wasserstein's, spectral norm", {"objective": "wasserstein", "spectral": True}, {}),
    "r1": ("R1 at the data", {"regularisers": R1(0.05)}, {}),
    "r1_r2": ("R1 at the data and R2 at the fakes", {"regularisers": (R1(0.05), R2(0.05))}, {}),
    "wgan_gp": ("Wasserstein's, gradient penalty", LIPSCHITZ, {}),
}


def _cure(kind: str) -> Recipe:
    summary, game, settings = CURES[kind]
    name, model = f"gan_{kind}_gaussians25", partial(plane_gan, **game)
    family = "plain GAN" if kind == "plain" else None  # the others' best speaks for GANs
    settings = {**_FIT, **settings}
    return Recipe(name, f"GAN of 25 Gaussians: {summary}", model, "gaussians25", modes, settings, family=family)


def _best(data: str, **settings) -> Recipe:
    """What helped, for longer, in larger batches."""
    summary = f"GAN of {data.replace('_', ' ')}: Wasserstein's, gradient penalty, larger batches, longer"
    measure = modes if data == "gaussians25" else transport
    settings = {**_FIT, "steps": 4000, "batch_size": 512, **settings}
    return Recipe(f"gan_{data}", summary, partial(plane_gan, **LIPSCHITZ), data, measure, settings, family="GAN")


RECIPES = (*map(_cure, CURES), _best("gaussians25"), _best("swiss_roll"))
