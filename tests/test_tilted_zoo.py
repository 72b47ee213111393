"""The tilted models of the zoo and their recipes: what chapter 9 promises of them."""

import pytest
import torch
from torch import nn

from gmcourse import recipes, scoreboard, zoo
from gmcourse.compositions.negatives import Importance, NoiseChains
from gmcourse.data import toy2d
from gmcourse.metrics import mode_report
from gmcourse.model import Trainable
from gmcourse.recipes.keep import Keep, beside
from gmcourse.recipes.measures import by_quadrature
from gmcourse.recipes.recipe import Recipe

IMAGES = ("mnist", "fashion_mnist")


def gap(name):
    return zoo.card(name)["metrics"]["gap"]


def test_gaps_in_the_plane_are_what_the_course_promises():
    """By plain Langevin within a tenth of a nat, with moves that carry mass within three hundredths; the cards are measured
    again elsewhere."""
    assert gap("vaebm_langevin_gaussians25") <= 0.10 and gap("vaebm_gaussians25") <= 0.03
    assert gap("vaebm_swiss_roll") <= gap("vae_swiss_roll") / 3
    assert gap("tilted_flow_gaussians25") <= gap("flow_real_nvp_gaussians25") / 2


@pytest.mark.parametrize("way", [NoiseChains(40, 0.003, jumps=20), Importance(8)], ids=["chains", "weights"])
def test_samples_of_the_tilted_vae_reach_all_modes_evenly(way):
    """98 % within four standard deviations of one, and a KL of their shares of at most 0.01 nats."""
    model, data = zoo.load("vaebm_gaussians25"), toy2d.get("gaussians25")
    model.negatives = way
    report = mode_report(model.sample(5000, generator=torch.Generator().manual_seed(0)), data)
    assert report.covered == 25 and report.within >= 0.98 and report.kl <= 0.01


@pytest.mark.parametrize("name", [f"tilted_{kind}_{data}" for kind in ("vae", "hvae") for data in IMAGES])
def test_chains_on_images_come_nearer_to_the_data_than_their_base(name):
    """A quarter of the card's samples, so distances are larger; the gain is there."""
    recipe, model = recipes.get(name), zoo.load(name)
    found, card = recipe.measure(model, recipe.load_data("test")[:250]), zoo.card(name)["metrics"]
    assert found["fid"] < 0.9 * found["fid_of_base"] and card["fid"] <= 0.85 * card["fid_of_base"]


@pytest.mark.parametrize("data", IMAGES)
def test_three_trainings_of_the_energy_agree(data):
    """Fifteen per cent below the base for each seed."""
    rows = scoreboard.results(f"tilted_{data}").rows
    bases, tilts = ([row for row in rows if row.model == name] for name in (f"vae_{data}", f"tilted_vae_{data}"))
    assert [row.seed for row in bases] == [row.seed for row in tilts] == [0, 1, 2]
    assert all(tilt.fid <= 0.85 * base.fid for base, tilt in zip(bases, tilts, strict=True))


class Centre(Trainable):
    """A point that goes to the mean of the data."""

    def __init__(self):
        super().__init__((2,))
        self.centre = nn.Parameter(torch.zeros(2))

    def loss(self, x):
        """Squared distances, (n,)."""
        return (x - self.centre).square().sum(1)


def test_a_recipe_that_keeps_the_best_holds_rows_back_and_a_finished_run_can_be_called_again(tmp_path):
    """Training goes to 1, the rows held out are at 0.3: what is kept passed by there."""
    seen = []

    def criterion(model, held_out):
        seen.append(held_out)
        return float((held_out - model.centre).norm())

    x = torch.cat([torch.ones(8, 2), torch.full((3, 2), 0.3)])
    settings = {"batch_size": 8, "lr": 0.1, "steps": 10}
    recipe = Recipe("centre", "", Centre, "mnist", None, settings, keep=Keep(criterion, rows=3, every=1))
    state, model = tmp_path / "run.safetensors", recipe.build()
    history = recipe.train(model, x, checkpoint=state, progress=False)
    assert history.steps == 10 and all(torch.equal(held_out, x[-3:]) for held_out in seen) and len(seen) >= 10
    assert (model.centre - 0.3).abs().max() < 0.05
    again = recipe.build()
    recipe.train(again, x, checkpoint=state, progress=False)
    assert torch.equal(again.centre, model.centre) and beside(state).exists()
    for change in (lambda: None, state.unlink):  # a run that begins anew does not take the old run's best
        change()
        fresh = recipe.build()
        recipe.train(fresh, x, checkpoint=state, resume=False, lr=1e-9, progress=False)
        assert fresh.centre.abs().max() < 1e-6


def test_too_few_rows_to_hold_some_back_are_refused():
    recipe = Recipe("centre", "", Centre, "mnist", None, {"steps": 1}, keep=Keep(lambda model, held_out: 0.0, rows=3))
    with pytest.raises(ValueError, match="data must be a tensor of more than the 3 rows"):
        recipe.train(recipe.build(), torch.ones(3, 2), progress=False)


def test_a_tilted_model_without_log_z_has_no_density_to_be_measured():
    model = zoo.load("vaebm_gaussians25")
    assert by_quadrature(model) is not None
    model.log_z.fill_(torch.nan)
    assert by_quadrature(model) is None
