"""Recipes of chapter 4: one energy net, every objective, on 25 Gaussians; a convolutional energy on digits and clothes."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Uniform

from gmcourse.ebm import (
    EBM,
    ConditionalNoiseContrast,
    MaximumLikelihood,
    NoiseContrast,
    ReplayBuffer,
    SteinDiscrepancy,
    conv_energy,
    denoising_score_matching,
    implicit_score_matching,
    minimum_probability_flow,
    mlp_energy,
    sliced_score_matching,
)
from gmcourse.ebm.ebm import Objective
from gmcourse.ebm.energy import Energy
from gmcourse.fit import cosine
from gmcourse.nets.embedding import FourierFeatures
from gmcourse.nets.mlp import MLP
from gmcourse.recipes.measures import energies, gap_to_truth
from gmcourse.recipes.recipe import Recipe
from gmcourse.sampling import MALA, ULA

SIDE = 2.8  # of the plane that energies are normalised over
_FIT = {"batch_size": 512, "lr": 2e-3, "schedule": cosine(0.05), "clip": 5.0}
_IMAGES = {
    "steps": 1000,
    "batch_size": 64,
    "lr": 1e-3,
    "schedule": cosine(0.05),
    "clip": 0.1,
    "optimizer": partial(torch.optim.Adam, betas=(0.0, 0.999)),
    "checkpoint_every": 100,
}


def uniform(*shape: int, side: float = 1.0) -> Independent:
    """Independent numbers, uniform in [-side, side]."""
    edge = torch.full(shape, side)
    return Independent(Uniform(-edge, edge), len(shape))


def _chains(**settings) -> MaximumLikelihood:
    return MaximumLikelihood(steps=10, step=0.003, **settings)


def _critic() -> nn.Sequential:
    return nn.Sequential(FourierFeatures(2, 32), MLP(2 + 2 * 32, 2, (64, 64)))


# name: what makes the objective, steps
OBJECTIVES: dict[str, tuple[Callable[[], Objective], int]] = {
    "cd": (partial(_chains, l2=0.001), 1500),
    "pcd": (lambda: _chains(l2=0.1, start=ReplayBuffer(uniform(2, side=SIDE), capacity=2000)), 1500),
    "ism": (lambda: implicit_score_matching, 1500),
    "ssm": (lambda: partial(sliced_score_matching, variance_reduced=True), 1500),
    "dsm": (lambda: partial(denoising_score_matching, sigma=0.05), 1500),
    "nce": (lambda: NoiseContrast(uniform(2, side=SIDE), ratio=2), 1500),
    "cnce": (lambda: ConditionalNoiseContrast(0.2, 2), 1500),
    "mpf": (lambda: partial(minimum_probability_flow, sigma=0.3, neighbours=4), 1500),
    "stein": (lambda: SteinDiscrepancy(_critic(), every=2), 2000),
}


def plane(objective: Objective, **settings) -> EBM:
    """A small energy with Fourier features, normalised over the square; `settings` of the EBM."""
    energy = mlp_energy(2, (64, 64), features=32)
    return EBM(energy, objective, event_shape=(2,), start=uniform(2, side=SIDE), box=[(-SIDE, SIDE)] * 2, **settings)


def within_walls(energy: Energy) -> MALA:
    """Chains that never leave the square: outside of it noise contrast has shown the energy neither data nor noise."""

    def walled(x: Tensor) -> Tensor:
        return torch.where((x.abs() <= SIDE).all(1), energy(x), torch.inf)

    return MALA(walled, step=0.01)


def image_ebm() -> EBM:
    """A net like the thesis' (Table 5.2) with fewer channels; persistent chains that hardly see any noise (T = 5·10⁻⁶)."""
    shape, chain = (1, 28, 28), {"step": 20.0, "temperature": 5e-6, "clip": 0.1}
    buffer = ReplayBuffer(uniform(*shape), capacity=500)
    objective = MaximumLikelihood(steps=20, start=buffer, l2=0.1, data_noise=0.03, **chain)
    sampler = partial(ULA, **chain)
    energy = conv_energy(shape, (16, 32, 64, 64))
    return EBM(energy, objective, event_shape=shape, start=buffer.start, sampler=sampler, steps=80)


def _recipe(kind: str, data: str) -> Recipe:
    make, steps = OBJECTIVES[kind]
    summary = f"energy of {data.replace('_', ' ')} by {kind}"
    lr = {"critic": 3e-3, "energy": 1e-3} if kind == "stein" else _FIT["lr"]
    settings = {**_FIT, "steps": steps, "lr": lr}
    family = "EBM" if kind == "nce" else None  # the best of them speaks for all
    chains = {"sampler": within_walls} if kind == "nce" else {}
    return Recipe(
        f"ebm_{kind}_{data}", summary, lambda: plane(make(), **chains), data, gap_to_truth, settings, family=family
    )


def _images(data: str) -> Recipe:
    source = "thesis Table 5.2 with channels 16, 32, 64, 64; chains as Du and Mordatch 2019"
    summary = f"convolutional energy of {data}"
    return Recipe(f"ebm_{data}", summary, image_ebm, data, energies, _IMAGES, source=source, family="EBM")


RECIPES = (
    *(_recipe(kind, "gaussians25") for kind in OBJECTIVES),
    _recipe("nce", "swiss_roll"),
    _images("mnist"),
    _images("fashion_mnist"),
)
