r"""The thesis' tilted models of images with its own settings: Table 4.9, Table 4.10, sections 4.4.1 and 4.4.2.

    mnist, fashion_mnist         a DCGAN VAE, latent 100, cross entropy: no ε_x, x is the mean, in [0, 1]             4.4.1
    cifar10_small                the same with squared error                                                         4.4.1
    glow_mnist, glow_fashion     Glow, 2 levels of 16 steps, 64 channels                                             4.4.2
    glow_cifar10                 Glow, 3 levels of 32 steps, 256 channels                                            4.4.2
    cifar10, cifar10_persistent, celeba64, lsun64, celebahq256      a hierarchical VAE of 30, 30, 15, 15, 20 groups  4.4.3

All energies are residual nets, with weight normalisation, 0.2 times their spectral norms in the loss, and `ClippedAdam` at a
constant rate with weight decay 3e-5. What the source leaves open, and is chosen here: learning rate 1e-4 and the batch size
of the base in 4.4.1 and 4.4.2; where their energy halves; Adam's β, which are the released code's; widths, channels and
scales of the groups. NVAE itself is not here: `conv_hierarchy` has its groups, its shared path and its Δ posteriors, with
plain residual cells and one width. Glow's couplings have three-layer convolutions where the thesis has highway networks.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from gmcourse.compositions.negatives import NoiseChains
from gmcourse.compositions.persistence import Persistence
from gmcourse.compositions.tilted import Tilted
from gmcourse.ebm.energy import Energy, spectral_regularisation
from gmcourse.ebm.images import TABLE_4_9, resnet_energy
from gmcourse.flows.glow import glow
from gmcourse.model import GenerativeModel, StandardNormal, check_count
from gmcourse.nets.dcgan import DCCritic, DCGenerator
from gmcourse.training.clipped_adam import ClippedAdam
from gmcourse.vae import VAE, Bernoulli, Gaussian, GaussianEncoder
from gmcourse.vae.builders import conv_hierarchy

SPECTRAL, WEIGHT_DECAY, BETAS = 0.2, 3e-5, (0.99, 0.999)
PROBABILITY = 0.6  # of a chain from the buffer, in the end
SIX_BLOCKS = "64 64↓ 64 64 128↓ 128 128"  # "3 ResNet blocks with 64 hidden channels and 3 with 128", thesis 4.4.1
LATENT, WIDTH = 100, 64  # of the DCGAN VAEs


def dcgan_vae(image: Sequence[int], likelihood: nn.Module, shrink: int = 1) -> VAE:
    """A VAE whose decoder is a DCGAN's generator with batch normalisation, the encoder its mirror: thesis 4.4.1."""
    width, levels = max(1, WIDTH // shrink), 2 if image[1] % 8 else 3
    generator = DCGenerator(LATENT, image, width=width, levels=levels, norm=nn.BatchNorm2d)
    decoder = generator.layers[:-1] if isinstance(likelihood, Bernoulli) else generator  # logits, not tanh
    critic = DCCritic(image, width=width, levels=levels)
    encoder = GaussianEncoder(nn.Sequential(critic.features, nn.Linear(critic.logit.in_features, 2 * LATENT)))
    return VAE(image, encoder, decoder, prior=StandardNormal(LATENT), likelihood=likelihood)


def _glow(levels: int, depth: int, width: int, image: Sequence[int], shrink: int) -> GenerativeModel:
    return glow(image, levels=levels, depth=max(1, depth // shrink), width=max(1, width // shrink))


def _groups(scales: Sequence[tuple[int, int]], width: int, image: Sequence[int], shrink: int) -> GenerativeModel:
    """`scales` lists (groups, factor) from the top down; 20 channels each, as NVAE has."""
    latents = [(max(1, 20 // shrink), factor) for count, factor in scales for _ in range(count)]
    return conv_hierarchy(image, latents=latents, width=max(2, width // shrink), likelihood=Gaussian(0.1, "pixel"))


def _binary(image: Sequence[int], shrink: int) -> VAE:
    return dcgan_vae(image, Bernoulli(), shrink)


def _squared(image: Sequence[int], shrink: int) -> VAE:
    return dcgan_vae(image, Gaussian(0.1, "global"), shrink)


@dataclass(frozen=True)
class Setting:
    """One row of the thesis' settings.

    Args:
        image: shape (c, h, w).
        base: (image, what channels are divided by) -> the base, untrained.
        energy: widths of the blocks, for `resnet_energy`, or a column of Table 4.9.
        lr, batch_size: of the energy's training.
        steps, step: of the chains in training, Langevin steps and η.
        test_steps: of the chains that draw samples.
        l2: weight of the squared energies.
        buffer, ramp: chains that are kept, and draws in which their probability grows to 0.6; 0 for no buffer. With these
            bases it takes 6 GB for CIFAR-10, 24 GB for CelebA-HQ.
        iterations: of the energy's training, where the thesis names them.
        base_fit: settings of `fit` for the base, where the thesis names them.
    """

    image: tuple[int, int, int]
    base: Callable[[Sequence[int], int], GenerativeModel]
    energy: str
    lr: float
    batch_size: int
    steps: int
    step: float
    test_steps: int
    l2: float = 0.0
    buffer: int = 0
    ramp: int = 0
    iterations: int | None = None
    base_fit: dict = field(default_factory=dict)


def _small(image: tuple, base: Callable, epochs: int, batch_size: int, lr: float) -> Setting:
    """Sections 4.4.1 and 4.4.2: one energy and one chain for all."""
    base_fit = {"epochs": epochs, "batch_size": batch_size, "lr": lr}
    return Setting(image, base, SIX_BLOCKS, 1e-4, batch_size, 60, 0.01, 100, l2=0.1, base_fit=base_fit)


GREY, COLOUR, FACES, LARGE = (1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 256, 256)
GROUPS_30, GROUPS_15 = partial(_groups, [(30, 2)], 128), partial(_groups, [(5, 8), (10, 4)], 64)
GROUPS_20 = partial(_groups, [(4, 32), (4, 16), (4, 8), (8, 4)], 32)
GLOW_2 = partial(_glow, 2, 16, 64)

SETTINGS = {
    "mnist": _small(GREY, _binary, 256, 128, 1e-3),
    "fashion_mnist": _small(GREY, _binary, 256, 128, 1e-3),
    "cifar10_small": _small(COLOUR, _squared, 256, 128, 1e-3),
    "glow_mnist": _small(GREY, GLOW_2, 128, 64, 5e-4),
    "glow_fashion": _small(GREY, GLOW_2, 128, 64, 5e-4),
    "glow_cifar10": _small(COLOUR, partial(_glow, 3, 32, 256), 256, 64, 5e-4),
    "cifar10": Setting(COLOUR, GROUPS_30, "cifar10", 4e-5, 32, 10, 8e-5, 16, iterations=25_000),
    "cifar10_persistent": Setting(
        COLOUR, GROUPS_30, "cifar10", 4e-5, 32, 6, 6e-5, 16, buffer=10_000, ramp=5000, iterations=25_000
    ),
    "celeba64": Setting(FACES, GROUPS_15, "celeba64", 5e-5, 32, 10, 5e-6, 20, iterations=20_000),
    "lsun64": Setting(FACES, GROUPS_15, "lsun64", 4e-5, 32, 10, 4e-6, 20, buffer=10_000, ramp=5000, iterations=20_000),
    "celebahq256": Setting(LARGE, GROUPS_20, "celebahq256", 4e-5, 16, 6, 3e-6, 24, buffer=8000, ramp=3000, iterations=9000),
}


def vaebm(name: str, base: GenerativeModel | None = None, *, shrink: int = 1, steps: int | None = None) -> Tilted:
    """The tilted model of this name, its energy untrained.

    Args:
        base: trained on the data (`base_fit`); None builds the thesis', untrained, which is good for a look only.
        shrink: what all channels, the buffer, and the depth of Glow are divided by, for a small machine.
        steps: of the chains, in training and in sampling, if not the thesis'.

    Chains of 4.4.3 show the decoder's mean. Raises ValueError for another name, or a base of other images.

    >>> vaebm("mnist", shrink=16, steps=1).sample(2).shape
    torch.Size([2, 1, 28, 28])
    """
    row = setting(name)
    base = row.base(row.image, check_count(shrink, "shrink")) if base is None else base
    if tuple(base.event_shape) != row.image:
        raise ValueError(f"base must be of images {row.image} for {name!r}; got {tuple(base.event_shape)}")
    blocks = re.sub(r"\d+", lambda width: str(max(1, int(width[0]) // shrink)), TABLE_4_9.get(row.energy, row.energy))
    kept = None
    if row.buffer:
        size = max(row.batch_size, row.buffer // shrink)
        kept = Persistence(size, base.noise_blocks, probability=PROBABILITY, ramp=row.ramp)
    lengths = (row.steps, row.test_steps) if steps is None else (steps, steps)
    chains = NoiseChains(lengths[0], row.step, persistence=kept, sample_steps=lengths[1])
    means = isinstance(getattr(base, "likelihood_of_x", None), Gaussian)
    return Tilted(base, resnet_energy(row.image, blocks), chains, l2=row.l2, penalty=_spectral, show_mean=means)


def fit_settings(name: str) -> dict:
    """Keyword arguments of `fit` for the energy, its number of steps where the thesis has one."""
    row = setting(name)
    adam = partial(ClippedAdam, betas=BETAS, weight_decay=WEIGHT_DECAY)
    length = {} if row.iterations is None else {"steps": row.iterations}
    return {"lr": row.lr, "batch_size": row.batch_size, "optimizer": adam} | length


def setting(name: str) -> Setting:
    """The row of this name; ValueError lists the names there are."""
    if name not in SETTINGS:
        raise ValueError(f"name must be one of {', '.join(SETTINGS)}; got {name!r}")
    return SETTINGS[name]


def _spectral(energy: Energy) -> Tensor:
    return SPECTRAL * spectral_regularisation(energy)
