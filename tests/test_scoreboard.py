"""The scoreboard's runs: the same steps for all seeds, rows that can be repeated and resumed; its claims and its picture."""

import itertools
import json
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from gmcourse import Player, recipes, scoreboard, zoo
from gmcourse.metrics import scoreboard as measuring
from gmcourse.metrics.scoreboard import Board, Row
from gmcourse.model import GenerativeModel
from gmcourse.recipes import Recipe
from gmcourse.recipes.latent_flow import BETAS, FIT, PICTURES, TABLE
from gmcourse.scoreboard import budget, shipped
from gmcourse.scoreboard.run import datasets
from gmcourse.viz.trilemma import SIDES, trilemma_figure

TIMES = {"ms_per_1000": 0.0, "seconds": 0.0}


class Blob(GenerativeModel):
    """One Gaussian of learned width that starts near the origin at random; every loss is counted, and may be stopped."""

    losses, stop_at, pause = 0, None, 0.0

    def __init__(self):
        super().__init__((2,))
        self.at, self.log_width = nn.Parameter(0.1 * torch.randn(2)), nn.Parameter(torch.zeros(()))

    def loss(self, x):
        Blob.losses += 1
        if Blob.losses == Blob.stop_at:
            raise KeyboardInterrupt
        until = time.thread_time() + Blob.pause
        while time.thread_time() < until:
            pass
        z = (x + 0.1 * torch.randn_like(x) - self.at) / self.log_width.exp()
        return 0.5 * z.square().sum(1) + 2 * self.log_width

    def sample(self, n, *, generator=None):
        return (self.at + self.log_width.exp() * torch.randn(n, 2, generator=generator)).detach()


class Duel(Blob):
    """A second player moves every fifth step."""

    def players(self):
        return [Player("at", lambda: [self.at], self.loss), Player("width", lambda: [self.log_width], self.loss, every=5)]


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
    """Recipes of blobs, few samples to measure, and no losses so far."""
    tiny = {
        name: Recipe(name, name, model, data, None, {"steps": 7, "batch_size": 16, "lr": 1e-2}, family=family)
        for name, model, data, family in (
            ("blob", Blob, "gaussians25", "VAE"),
            ("duel", Duel, "gaussians25", "GAN"),
            ("aside", Blob, "gaussians25", None),
            ("rolled", Blob, "swiss_roll", "VAE"),
        )
    }
    monkeypatch.setattr(recipes, "RECIPES", tiny)
    monkeypatch.setattr(measuring, "SAMPLES", {"plane": 260, "images": 100})
    for name, value in (("losses", 0), ("stop_at", None), ("pause", 0.0)):
        monkeypatch.setattr(Blob, name, value)


def run(folder, **settings):
    settings = {"models": ["blob"], "seeds": (0,), "steps": 20, "device": "cpu", "progress": False} | settings
    return scoreboard.run("gaussians25", folder=folder, **settings)


def lasting(board):
    """All of a board that does not depend on the clock."""
    return [replace(row, **TIMES) for row in board.rows]


def test_rows_are_reproducible_by_seed(tmp_path):
    first, second, other = (run(tmp_path / str(k), seeds=(seed,)) for k, seed in enumerate((3, 3, 4)))
    assert lasting(first) == lasting(second)
    assert torch.equal(first.samples["blob/3"], second.samples["blob/3"])
    assert first.rows[0].w2 != other.rows[0].w2


def test_a_row_is_what_training_by_hand_gives(tmp_path):
    from gmcourse import fit

    (row,) = run(tmp_path, seeds=(2,)).rows
    model = recipes.get("blob").build(2)
    fit(model, recipes.get("blob").load_data(), steps=20, batch_size=16, lr=1e-2, seed=2, progress=False)
    by_hand = measuring.measure(model, recipes.get("blob").load_data("test"), seed=2)
    assert all(getattr(row, name) == value for name, value in by_hand.items() if name not in TIMES)
    assert (row.model, row.family, row.data, row.seed, row.steps) == ("blob", "VAE", "gaussians25", 2, 20)


def test_only_what_is_missing_is_made(tmp_path):
    first = run(tmp_path, seeds=(0, 1))
    assert Blob.losses == 40
    again = run(tmp_path, seeds=(0, 1, 2))
    assert Blob.losses == 60 and again.rows[:2] == first.rows
    assert torch.equal(again.samples["blob/1"], first.samples["blob/1"])
    run(tmp_path, seeds=(0,), steps=21)
    assert Blob.losses == 81  # other settings, another row
    assert Board.read(tmp_path).rows[0].steps == 21


def test_an_interrupted_row_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(Blob, "stop_at", 70)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, steps=120)
    assert not (tmp_path / "scoreboard.json").exists()
    monkeypatch.setattr(Blob, "stop_at", None)
    resumed = run(tmp_path, steps=120)
    assert Blob.losses == 70 + (120 - 50)  # checkpoints are 50 steps apart
    assert lasting(resumed) == lasting(run(tmp_path / "whole", steps=120))
    assert [path.suffix for path in (tmp_path / "rows").iterdir()] == [".safetensors"]


def test_all_seeds_make_as_many_steps_as_the_budget_affords(tmp_path, monkeypatch):
    monkeypatch.setattr(Blob, "pause", 0.01)
    board = run(tmp_path, seeds=(0, 1), steps=None, budget=0.5)
    (steps,) = {row.steps for row in board.rows}
    assert 15 <= steps < 50  # a step takes 10 ms and some more
    plan = json.loads((tmp_path / "plan.json").read_text())["blob"]
    assert plan == {"budget": 0.5, "device": "cpu", "model": "Blob()", "steps": steps}
    before = Blob.losses
    assert run(tmp_path, seeds=(0, 1), steps=None, budget=0.5).rows == board.rows and Blob.losses == before
    assert lasting(run(tmp_path / "again", steps={"blob": steps})) == lasting(board)[:1]


def test_players_who_move_now_and_then_count_in_the_time_of_a_step(monkeypatch):
    """Five steps of the duel take six moves."""
    monkeypatch.setattr(Blob, "pause", 0.01)
    recipe = recipes.get("duel")
    found = budget.seconds_per_step(recipe.build(), recipe, recipe.load_data(), 5, 0.1)
    assert 0.012 <= found < 0.03
    assert budget.affordable_steps(recipe, recipe.load_data(), 1e-3) == 5


def test_steps_are_afforded_by_work_not_by_waiting(monkeypatch):
    """While the thread sleeps, as it does when another program has the core, its clock stands still."""
    recipe = recipes.get("blob")
    model = recipe.build()
    awake = model.loss
    monkeypatch.setattr(model, "loss", lambda x: (time.sleep(0.02), awake(x))[1])
    assert budget.seconds_per_step(model, recipe, recipe.load_data(), 1, 0.01) < 0.015


def test_every_recipe_with_a_family_joins(tmp_path):
    board = run(tmp_path, models=None, steps=5)
    assert [(row.model, row.family) for row in board.rows] == [("blob", "VAE"), ("duel", "GAN")]
    assert run(tmp_path, models=["aside"], steps=5).rows[0].family == "Blob"
    assert datasets() == ["gaussians25", "swiss_roll"]


def test_progress_leaves_a_line_for_each_row(tmp_path, capsys):
    run(tmp_path, models=["blob", "duel"], progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["blob, seed 0", "duel, seed 0"]
    assert "20 steps" in lines[0] and "W2 " in lines[0] and "of 25 modes" in lines[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: scoreboard.run("nope", folder=f), "data must be one of gaussians25, swiss_roll; got 'nope'"),
        (lambda f: run(f, models=["blub"]), "recipe must be one of aside, blob, duel, rolled; got 'blub'"),
        (lambda f: run(f, models=["rolled"]), "models must be recipes of gaussians25; rolled is of swiss_roll"),
        (lambda f: run(f, models=[]), "models must name at least one recipe"),
        (lambda f: run(f, steps={"blub": 5}), "steps must be of the models that are trained; got some of blub"),
        (lambda f: run(f, budget=0), "budget must be a positive number of seconds; got 0"),
        (lambda f: run(f, steps=0), "steps must be a positive whole number; got 0"),
        (lambda f: run(f, load=True), "models must have weights in the zoo; there are none of blob"),
        (lambda f: scoreboard.results("nope"), "data must be one of .*; got 'nope'"),
    ],
)
def test_what_cannot_be_done_is_refused(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(tmp_path)
    assert Blob.losses == 0


def test_weights_of_the_zoo_are_measured_with_the_steps_on_their_card(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(measuring, "SAMPLES", {"plane": 500, "images": 100})
    (row,) = run(tmp_path, models=["flow_spline_gaussians25"], load=True).rows
    training = zoo.card("flow_spline_gaussians25")["training"]
    assert (row.steps, row.seconds, row.family) == (training["steps"], training["seconds"], "flow")
    assert row.covered == 25 and row.gap < 0.05
    assert run(tmp_path, models=["flow_spline_gaussians25"], load=True).rows == [row]


def family(name, *, seeds=2, outside=0.3, **numbers):
    """Rows of a family with this share of its samples outside of the data; of true ones it is 0.3."""
    settings = {"gap_kind": "n/a", "likelihood": "none", "nfe": 1, "parameters": 100, "ms_per_1000": 1.0}
    settings |= {"covered": 25, "modes": 25, "recall": 0.9, "precision": 1 - outside, "precision_of_data": 0.7} | numbers
    row = Row(f"{name}_model", name, "gaussians25", 0, 10, 1.0, **settings)
    return [replace(row, seed=seed, precision=row.precision * (1 - 0.01 * seed)) for seed in range(seeds)]


def judged(rows):
    return {(v.claim.family, v.claim.text): v.verdict for v in scoreboard.verdicts(Board(rows))}


def test_claims_are_told_from_the_numbers():
    good = family("flow", likelihood="exact", parameters=50)
    slow = family("diffusion", nfe=100, ms_per_1000=500.0, outside=0.35, likelihood="exact", gap=0.2, gap_kind="exact")
    collapsed = family("GAN", outside=0.8)
    collapsed[1] = replace(collapsed[1], covered=12, precision=0.6)
    found = judged(good + slow + collapsed)
    assert found["GAN", "loses modes"] == found["GAN", "training is unstable"] == "supported"
    assert found["GAN", "has no likelihood"] == found["GAN", "samples fast"] == "supported"
    assert found["GAN", "samples of excellent quality"] == "contradicted"
    assert found["diffusion", "samples extremely slowly"] == "supported"
    assert found["diffusion", "samples of excellent quality"] == "supported"
    assert found["diffusion", "good likelihood"] == "contradicted"
    assert found["flow", "uses its parameters poorly"] == found["flow", "samples of low quality"] == "contradicted"
    assert found["flow", "likelihood is exact"] == "supported"
    assert found["VAE", "samples fast"] == "not measured" == found["EBM", "any network can be an energy"]


def test_chance_is_no_verdict():
    """What true samples vary by between themselves supports nothing, and a bound contradicts nothing."""
    flow, sharp = "uses its parameters poorly", "smooths less than maximum likelihood"
    assert judged(family("flow", outside=0.34) + family("VAE", parameters=50, outside=0.31))["flow", flow] == "contradicted"
    assert judged(family("flow", outside=0.6) + family("VAE", parameters=50))["flow", flow] == "supported"
    for precision, verdict in ((0.951, "contradicted"), (0.99, "supported")):
        assert judged(family("EBM", precision=precision) + family("VAE", precision=0.95))["EBM", sharp] == verdict
        assert judged(family("EBM", precision=0.99) + family("flow", precision=precision))["EBM", sharp] != verdict
    clothes = family("GAN", modes=None, covered=None, recall=0.3) + family("VAE", modes=None, covered=None)
    assert judged(clothes)["GAN", "loses modes"] == "not measured"
    for gap, verdict in ((0.05, "supported"), (0.2, "not measured")):
        assert judged(family("diffusion", gap=gap, gap_kind="bound"))["diffusion", "good likelihood"] == verdict


def test_a_spread_over_seeds_needs_seeds_and_a_comparison_needs_others():
    alone = judged(family("GAN", seeds=1))
    assert alone["GAN", "training is unstable"] == alone["GAN", "samples of excellent quality"] == "not measured"


def test_quality_below_the_floor_is_chance():
    """With 0.2 and 0.35 outside both are as near as true samples, with 0.3, allow to tell."""
    found = judged(family("flow", outside=0.2) + family("diffusion", outside=0.35))
    assert found["diffusion", "samples of excellent quality"] == "supported"


def test_claims_of_the_thesis_have_rules_or_are_left_open():
    assert len(scoreboard.CLAIMS) == 24
    assert {claim.family for claim in scoreboard.CLAIMS} == {"VAE", "flow", "EBM", "diffusion", "GAN"}
    assert all(bool(claim.column) == bool(claim.rule) for claim in scoreboard.CLAIMS)
    with pytest.raises(ValueError, match="board must be of one data set; got gaussians25, rings"):
        scoreboard.verdicts(Board([*family("GAN"), replace(family("VAE")[0], data="rings")]))


def test_names_in_the_figure_do_not_cover_each_other():
    near = {f"composition {k}": (0.3 + 0.01 * k, 500.0 + 10 * k) for k in range(4)}
    places = {"VAE": (0.5, 2.0), "flow": (0.3, 8.0), "GAN": (0.51, 1.8), **near}
    board = Board([row for name, (outside, ms) in places.items() for row in family(name, outside=outside, ms_per_1000=ms)])
    figure = trilemma_figure(board)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text() in places]
    assert len(boxes) == len(places) and len(SIDES) == 24
    assert figure._repr_png_().startswith(b"\x89PNG")
    trilemma_figure(Board(family("GAN", outside=0.0) + family("VAE"))).draw_without_rendering()  # log of no distance
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"


def test_the_figure_wants_one_data_set():
    for rows in ([], [*family("GAN"), replace(family("VAE")[0], data="rings")]):
        with pytest.raises(ValueError, match="board must hold rows of one data set"):
            trilemma_figure(Board(rows))


BOARDS = [shipped.FOLDER / name for name in (*scoreboard.DATA, "fashion_mnist_long")]


@pytest.mark.parametrize("folder", BOARDS, ids=lambda path: path.name)
def test_results_that_come_with_the_course_are_whole_and_small(folder, monkeypatch):
    monkeypatch.undo()
    board = scoreboard.results(folder.name)
    assert {row.data for row in board.rows} == {folder.name.removesuffix("_long")}
    assert set(board.samples) == {row.key for row in board.rows}
    assert {row.model for row in board.rows} <= set(recipes.RECIPES)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 400_000
    trilemma_figure(board)


@pytest.mark.parametrize("data", PICTURES)
def test_the_comparison_of_chapter_8_is_whole_and_small(data, monkeypatch):
    monkeypatch.undo()
    board = scoreboard.results(f"autoencoders_{data}")
    seeds = {}
    for row in board.rows:
        assert row.data == data and row.steps == FIT["steps"]
        seeds.setdefault(row.model.removesuffix(f"_{data}"), set()).add(row.seed)
    ladders = {f"{name}_beta{beta}" for name in ("vae", "flow_prior") for beta in BETAS} if data != "emoji" else set()
    assert seeds.keys() >= set(TABLE) | ladders and all(found == {0, 1, 2} for found in seeds.values())
    assert {f"{name}_{data}/0" for name in TABLE} == board.samples.keys()
    assert sum(path.stat().st_size for path in (shipped.FOLDER / f"autoencoders_{data}").iterdir()) <= 1_200_000


@pytest.mark.parametrize("data", ["mnist", "fashion_mnist"])
def test_in_the_comparison_the_orderings_of_the_thesis_hold_that_chapter_8_says_hold(data, monkeypatch):
    """By the mean over three seeds, and more than the spread of both."""
    monkeypatch.undo()
    lines = {line.model.removesuffix(f"_{data}"): line for line in scoreboard.results(f"autoencoders_{data}").summary()}

    def clearly_better(one, other):
        return lines[one]["fid"] + lines[one].spread["fid"] < lines[other]["fid"] - lines[other].spread["fid"]

    for other in ("vae_beta1", "flow_prior_beta1", "flow_posterior"):
        assert clearly_better("glf", other)
    assert lines["flow_posterior"]["fid"] > 0.85 * lines["vae_beta1"]["fid"]  # GLF: less than a third
    assert lines["glf"]["fid"] < 0.34 * lines["vae_beta1"]["fid"]
    distance = [abs(lines[f"flow_prior_beta{beta}"]["fid"] - lines["glf"]["fid"]) for beta in BETAS]
    assert max(distance[1:]) < 0.2 * distance[0]
    assert clearly_better("glf", "vae_beta100") and clearly_better("vae_beta10", "vae_beta400")
