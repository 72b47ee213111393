"""The thesis' settings of chapter 5: its table and text, counts by hand, and one training step of every model."""

import math

import pytest
import torch
from torch import nn

from gmcourse import checkpoint
from gmcourse.compositions.dynamics import GradientFlow, Langevin
from gmcourse.compositions.self_contrast import SelfContrast, exact_likelihood
from gmcourse.compositions.short_run_settings import SETTINGS, fit_settings, short_run
from gmcourse.fit import fit
from gmcourse.model import Likelihood

# thesis 5.5.3, with nf of Table 5.2's caption
SECTION_5_5_3 = """
    name           nf  side  K   lr    batch  iterations
    mnist          32  32    40  5e-4  64     8000
    fashion_mnist  32  32    40  5e-4  64     8000
    cifar10        64  32    60  5e-4  64     40000
    celeba         32  64    60  5e-4  64     30000
"""
IMAGES = {row[0]: row[1:] for row in (line.split() for line in SECTION_5_5_3.strip().splitlines()[1:])}
PLANE = ("swiss_roll", "gaussian_grid9")
TABLE_5_2 = {"mnist": (1, 2, 2, 2), "fashion_mnist": (1, 2, 2, 2), "cifar10": (1, 2, 4, 8), "celeba": (1, 2, 4, 8, 16)}

# Σ (kernel² · in + 1) · out over the convolutions, and the last layer's inputs + 1; all end at 4 × 4
COUNTS = {
    "mnist": (9 * 1 + 1) * 32 + (16 * 32 + 1) * 64 + 2 * (16 * 64 + 1) * 64 + (16 * 64 + 1),
    "cifar10": (9 * 3 + 1) * 64 + (16 * 64 + 1) * 128 + (16 * 128 + 1) * 256 + (16 * 256 + 1) * 512 + (16 * 512 + 1),
    "celeba": (9 * 3 + 1) * 32
    + (16 * 32 + 1) * 64
    + (16 * 64 + 1) * 128
    + (16 * 128 + 1) * 256
    + (16 * 256 + 1) * 512
    + (16 * 512 + 1),
    "swiss_roll": (2 + 1) * 256 + 4 * (256 + 1) * 256 + (256 + 1),
}
CASES = [(name, kind) for name, row in SETTINGS.items() for kind in row.kinds]


@pytest.mark.parametrize("name", IMAGES)
def test_section_5_5_3_and_table_5_2_for_images(name):
    nf, side, steps, lr, batch, iterations = IMAGES[name]
    model = short_run(name)
    assert model.event_shape == (1 if "mnist" in name else 3, int(side), int(side))
    assert fit_settings(name) == {"lr": float(lr), "batch_size": int(batch), "steps": int(iterations)}
    convolutions = [layer for layer in model.energy if isinstance(layer, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [int(nf) * factor for factor in TABLE_5_2[name]]
    first, *others = [(c.kernel_size, c.stride) for c in convolutions]
    assert first == ((3, 3), (1, 1)) and set(others) == {((4, 4), (2, 2))}
    assert sum(isinstance(layer, nn.SiLU) for layer in model.energy) == len(convolutions)
    for kind, noise, weight in (("free", 0, 0), ("noisy", 0.1, 0), ("adversarial", 0, 1)):
        model = short_run(name, kind)
        way = model.dynamics
        assert isinstance(way, Langevin) and (way.steps, way.step, way.noise) == (int(steps), 0.1, noise)
        assert isinstance(model.objective, SelfContrast) and model.objective.generator == weight
        assert model.likelihood is (Likelihood.NONE if noise else Likelihood.EXACT)


@pytest.mark.parametrize("name", PLANE)
def test_section_5_5_3_in_the_plane(name):
    assert fit_settings(name) == {"lr": 1e-3, "batch_size": 800, "steps": 3000}
    model = short_run(name)
    way, net = model.dynamics, [layer for layer in model.energy.modules() if isinstance(layer, nn.Linear | nn.SiLU)]
    assert isinstance(way, GradientFlow) and (way.time, way.solver) == (0.2, "dopri5")
    assert way.settings["tolerance"] == 1e-5 and model.objective.generator == 0
    assert [layer.out_features for layer in net if isinstance(layer, nn.Linear)] == [256] * 5 + [1]
    assert short_run(name, "likelihood").objective is exact_likelihood


@pytest.mark.parametrize("name", COUNTS)
def test_the_energies_have_as_many_weights_as_the_table_gives_by_hand(name):
    assert sum(p.numel() for p in short_run(name).energy.parameters()) == COUNTS[name]


def test_the_counts_by_hand_in_numbers():
    assert COUNTS == {"mnist": 165_377, "cifar10": 2_763_393, "celeba": 2_795_329, "swiss_roll": 264_193}


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_small_model_makes_one_step_and_moves_all_weights_but_the_free_constant(name, kind):
    torch.manual_seed(0)
    model = short_run(name, kind, shrink=16, steps=None if name in PLANE else 2)
    before = {key: value.clone() for key, value in model.energy.named_parameters()}
    settings = fit_settings(name) | {"steps": 1, "batch_size": 4}
    history = fit(model, torch.randn(8, *model.event_shape), progress=False, **settings)
    still = [key for key, value in model.energy.named_parameters() if torch.equal(value, before[key])]
    assert set(still) <= {list(before)[-1]}  # E(x) − E(x⁻) does not know the last bias
    assert math.isfinite(history.losses["energy"][0]) and model.sample(2).isfinite().all()


@pytest.mark.parametrize("kind", ["free", "noisy", "adversarial"])
def test_the_full_model_of_mnist_makes_one_step_of_forty(kind):
    model = short_run("mnist", kind)
    history = fit(model, torch.randn(2, 1, 32, 32), progress=False, **fit_settings("mnist") | {"steps": 1, "batch_size": 2})
    assert history.steps == 1 and history.losses["energy"].isfinite().all()


def test_the_full_model_of_the_plane_makes_one_step_with_its_own_batch():
    torch.manual_seed(0)
    model = short_run("gaussian_grid9")
    assert fit(model, torch.randn(800, 2), progress=False, **fit_settings("gaussian_grid9") | {"steps": 1}).steps == 1
    x = model.sample(50)
    assert model.log_prob(x).isfinite().all() and model.nfe > 0


def test_weights_come_back_from_a_file_under_other_dynamics(tmp_path):
    torch.manual_seed(0)
    model = short_run("mnist", "noisy", shrink=16, steps=2)
    checkpoint.save(tmp_path / "m.safetensors", model)
    other = short_run("mnist", "free", shrink=16, steps=2)
    checkpoint.load(tmp_path / "m.safetensors", other)
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(model.energy(x), other.energy(x))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="name must be one of swiss_roll, .*, celeba; got 'svhn'"):
        short_run("svhn")
    with pytest.raises(ValueError, match="dynamics must be one of free, noisy, adversarial for 'mnist'; got 'likelihood'"):
        short_run("mnist", "likelihood")
    with pytest.raises(ValueError, match="dynamics must be one of free, likelihood for 'swiss_roll'; got 'noisy'"):
        short_run("swiss_roll", "noisy")
    with pytest.raises(ValueError, match="shrink must be a positive whole number; got 0"):
        short_run("mnist", shrink=0)
    with pytest.raises(ValueError, match="steps must be a positive whole number; got 0"):
        short_run("mnist", steps=0)
    with pytest.raises(ValueError, match="steps must be None where a solver chooses its own; got 5"):
        short_run("swiss_roll", steps=5)
