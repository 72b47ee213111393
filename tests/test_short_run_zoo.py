"""The energies of the zoo that are generators, and their recipes: what chapter 10 promises of them."""

from statistics import mean, median

import pytest
import torch

from gmcourse import recipes, scoreboard, zoo
from gmcourse.data import toy2d
from gmcourse.metrics import likelihood_gap
from gmcourse.recipes.keep import Keep
from gmcourse.recipes.recipe import Recipe
from gmcourse.recipes.short_run import IMAGES, PICTURES, TOYS, slowing

SEEDS = ("", "_seed1", "_seed2")
REACHED = {"swiss_roll": 0.25, "gaussian_grid9": 0.40}


def cards(name):
    return [zoo.card(name + end)["metrics"] for end in SEEDS if name + end in zoo.NAMES]


@pytest.mark.parametrize("data", TOYS)
def test_the_contrast_trains_a_flow_and_no_density(data):
    """Medians of three seeds, by an adaptive solver; as densities e^{−E/T} the same nets are all at least one nat worse, at
    every temperature."""
    found = cards(f"gradient_flow_{data}")
    assert len(found) == 3 and median(card["gap_dopri5"] for card in found) <= REACHED[data]
    assert all(card["ebm_gap"] >= card["ebm_gap_best"] >= card["gap_dopri5"] + 1 for card in found)


@pytest.mark.parametrize("data", TOYS)
def test_maximum_likelihood_of_the_same_flow_is_nearer(data):
    likely, contrast = (cards(name) for name in (f"gradient_flow_ml_{data}", f"gradient_flow_{data}"))
    assert len(likely) == 3 and max(card["gap_dopri5"] for card in likely) <= 0.10
    assert max(card["gap_dopri5"] for card in likely) < min(card["gap_dopri5"] for card in contrast)


@pytest.mark.parametrize("name", [f"gradient_flow_{kind}{data}" for kind in ("", "ml_") for data in TOYS])
def test_gaps_of_flows_are_measured_again(name):
    model, card = zoo.load(name), zoo.card(name)["metrics"]
    with torch.no_grad():
        gap = likelihood_gap(model, toy2d.get(recipes.get(name).data), n=2000)
    assert abs(gap.value - card["gap"]) < 0.02


@pytest.mark.parametrize("data", TOYS)
def test_likelihood_has_learned_no_errors_of_the_solver(data):
    assert all(abs(card["gap"] - card["gap_dopri5"]) < 0.005 for card in cards(f"gradient_flow_ml_{data}"))


def table_5_1(data):
    """Fréchet distances of the three rows, three trainings each."""
    rows = scoreboard.results(f"short_run_{data}").rows
    return {
        kind: [row for row in rows if row.model == f"short_run_{kind}_{data}"] for kind in ("noisy", "free", "adversarial")
    }


@pytest.mark.parametrize("data", PICTURES)
def test_the_rows_of_table_5_1_are_three_trainings_each(data):
    for found in table_5_1(data).values():
        assert [(row.seed, row.steps) for row in found] == [(seed, IMAGES["steps"]) for seed in range(3)]
        assert all(row.fid_of_data < row.fid < 12 for row in found)


@pytest.mark.parametrize("data", PICTURES)
def test_the_order_of_table_5_1_is_that_of_the_thesis(data):
    """In the mean: noise on the way is worst, the generator's loss best."""
    noisy, free, adversarial = (mean(row.fid for row in found) for found in table_5_1(data).values())
    assert noisy > free > adversarial


def test_the_rate_slows_down_in_the_second_half():
    assert [round(slowing(done), 6) for done in (0, 0.49, 0.5, 0.75, 1)] == [1, 1, 1, 0.55, 0.1]


def test_a_recipe_of_the_plane_holds_out_draws_that_training_does_not_depend_on():
    seen = []
    data = toy2d.get("gaussian_grid9")
    keep = Keep(lambda model, held_out: seen.append(held_out) or 0.0, rows=7, every=1)
    plain = recipes.get("short_run_noisy_gaussian_grid9")
    settings = {"steps": 2, "batch_size": 8, "progress": False}
    kept = Recipe("kept", "", plain.model, plain.data, None, {}, keep=keep)
    kept.train(kept.build(), data, **settings)
    kept.train(kept.build(), data, **settings)
    assert {tuple(x.shape) for x in seen} == {(7, 2)} and all(x.equal(seen[0]) for x in seen)
