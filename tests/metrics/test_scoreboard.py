"""The scoreboard's numbers against models whose numbers are known, and its files."""

import csv
import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from gmcourse.data import toy2d
from gmcourse.metrics.scoreboard import Board, Row, draw_timed, measure, measured
from gmcourse.model import GenerativeModel, Likelihood, StandardNormal

DATA = toy2d.get("gaussians25")
FULL = Row("a", "VAE", "gaussians25", 0, 10, 1.5, 7, 1, 2.5, "lower bound", "bound", gap=0.4, w2=0.3, w2_floor=0.25,
           covered=25, modes=25, mode_kl=0.01, within=0.9, precision=0.8, recall=0.7)


class Truth(GenerativeModel):
    """Samples the data, shrunk towards one mode by `keep` of the modes; its log_prob is the truth's plus `offset`."""

    def __init__(self, keep: int = 25, likelihood: Likelihood = Likelihood.EXACT, offset: float = 0.0):
        super().__init__((2,))
        self.keep, self.likelihood, self.offset, self.nfe = keep, likelihood, offset, 3
        self.weight = nn.Parameter(torch.zeros(5))
        self.asked = []

    def sample(self, n, *, generator=None):
        self.asked.append(n)
        k = torch.randint(self.keep, (n,), generator=generator)
        return DATA.modes[k] + DATA.sigma * torch.randn(n, 2, generator=generator)

    def log_prob(self, x):
        return DATA.log_prob(x) + self.offset


class Pictures(GenerativeModel):
    """Gaussian noise as pictures, of mean `at` in the first pixel; with classes it notes the labels it was asked for."""

    def __init__(self, at: float = 0.0, classes: int = 0):
        super().__init__((1, 4, 4))
        self.at, self.classes, self.told = at, classes, []

    def sample(self, n, *, generator=None, labels=None):
        if labels is not None:
            self.told.append(labels)
        x = 0.2 * torch.randn(n, 1, 4, 4, generator=generator)
        x[:, 0, 0, 0] += self.at
        return x


def test_a_model_that_samples_the_truth_has_the_truths_numbers():
    found = measure(Truth(), DATA, n=1000)
    assert found["gap"] == 0 and found["gap_kind"] == "exact" and found["likelihood"] == "exact"
    assert found["covered"] == found["modes"] == 25 and found["mode_kl"] < 5 * 24 / (2 * 1000)
    assert found["within"] == pytest.approx(1 - math.exp(-8), abs=5 * (math.exp(-8) / 1000) ** 0.5)
    assert min(found["precision"], found["recall"]) > 0.92  # a ball of three neighbours misses one in twenty
    pairs = [measure(Truth(), DATA, n=1000, seed=seed) for seed in range(6)]
    apart = torch.tensor([pair["w2"] - pair["w2_floor"] for pair in pairs])
    assert abs(float(apart.mean())) < 4.5 * float(apart.std()) / 6**0.5  # no nearer than true samples are, no farther
    assert (found["nfe"], found["parameters"]) == (3, 5)


def test_a_collapsed_model_is_precise_and_covers_little():
    found = measure(Truth(keep=5), DATA, n=1000)
    assert found["covered"] == 5 and found["precision"] > 0.92 and found["recall"] < 0.25
    assert found["mode_kl"] == pytest.approx(math.log(5), abs=0.02)  # five modes of a fifth each, where 25 have 1/25
    # the five modes have x₁ = −2: all mass goes along x₁, by 0, 1, … 4
    assert found["w2"] == pytest.approx(math.sqrt((0 + 1 + 4 + 9 + 16) / 5), rel=0.08)


@pytest.mark.parametrize(
    ("likelihood", "offset", "kind", "gap"),
    [
        (Likelihood.EXACT, -0.5, "exact", 0.5),
        (Likelihood.LOWER_BOUND, -0.5, "bound", 0.5),
        (Likelihood.UNNORMALIZED, 3.0, "quadrature", 0.0),
        (Likelihood.NONE, 0.0, "n/a", None),
    ],
)
def test_the_gap_says_what_kind_of_number_it_is(likelihood, offset, kind, gap):
    found = measure(Truth(likelihood=likelihood, offset=offset), DATA, n=500)
    assert found["gap_kind"] == kind
    assert found["gap"] == (None if gap is None else pytest.approx(gap, abs=1e-4))


def test_a_better_density_takes_the_place_of_the_models_own():
    found = measure(Truth(likelihood=Likelihood.LOWER_BOUND, offset=-9.0), DATA, n=500, log_prob=DATA.log_prob)
    assert (found["gap"], found["gap_kind"]) == (0.0, "quadrature")


def test_data_without_modes_leave_their_columns_empty():
    model = StandardNormal(2)
    found = measure(model, toy2d.get("swiss_roll"), n=500)
    assert "covered" not in found and found["recall"] is not None and found["gap"] > 0


def test_numbers_depend_on_the_seed_alone():
    first, second, other = (measure(Truth(), DATA, n=500, seed=seed) for seed in (1, 1, 2))
    times = {name: None for name in ("ms_per_1000",)}
    assert first | times == second | times != other | times


def test_samples_are_timed_on_their_own_and_do_not_depend_on_the_batches_that_are_timed():
    model = Truth()
    x, milliseconds = draw_timed(model, 250, batch=100)
    assert x.shape == (250, 2) and model.asked == [2, 100, 100, 100] and 0 < milliseconds < 1000
    assert torch.equal(x, draw_timed(Truth(), 250, batch=100)[0])

    class Slow(Truth):
        def sample(self, n, *, generator=None):
            import time

            time.sleep(1e-5 * n)
            return super().sample(n, generator=generator)

    assert 10 <= draw_timed(Slow(), 100, batch=1000)[1] < 100  # 1000 samples at 10 µs


def test_images_are_compared_in_features_with_the_floor_beside_them():
    """In pixels the Fréchet distance of a shift by a is a² plus the chance that the floor shows."""
    data = 0.2 * torch.randn(800, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    found, x = measured(Pictures(at=2.0), (data, torch.zeros(800, dtype=torch.long)), n=400)
    assert x.shape == (400, 1, 4, 4) and found["gap"] is None and "w2" not in found
    assert found["fid"] == pytest.approx(4.0, abs=0.2) and found["fid_of_data"] < 0.05
    assert found["recall"] == 0 == found["precision"]


def test_a_model_with_classes_is_asked_for_each_equally_often():
    model = Pictures(classes=5)
    measure(model, torch.zeros(200, 1, 4, 4) + 0.1 * torch.randn(200, 1, 4, 4), n=100)
    assert all(labels.bincount(minlength=5).tolist() == [20] * 5 for labels in model.told[1:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measure(Truth(), DATA, n=3), "n must be at least 4: precision and recall"),
        (lambda: measure(Truth(), DATA, n=249), "n must be at least 250: mode coverage"),
        (lambda: measure(Pictures(), torch.zeros(99, 1, 4, 4), n=16), "n must be at least 17: fid"),
        (lambda: measure(Pictures(), torch.zeros(99, 1, 4, 4), n=50), "data must hold at least 100 images"),
        (lambda: measure(Truth(), torch.zeros(99, 1, 4, 4), n=40), r"data must have shape \(n, 2\)"),
        (lambda: measure(Truth(), DATA, n=0), "n must be a positive whole number; got 0"),
    ],
)
def test_too_few_samples_for_a_metric_are_refused_with_the_number_that_is_needed(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def board() -> Board:
    rows = [FULL, replace(FULL, seed=1, w2=0.5, gap=math.inf, covered=20),
            Row("b", "GAN", "gaussians25", 0, 9, 1.0, 7, 1, 2.0, "none", "n/a")]
    return Board(rows, {row.key: torch.randn(500, 2) for row in rows[:2]} | {"b/0": 2 * torch.rand(25, 1, 8, 8) - 1})


def test_a_board_comes_back_from_its_folder_as_it_was(tmp_path):
    mine = board()
    mine.write(tmp_path)
    back = Board.read(tmp_path)
    assert back.rows == mine.rows and list(back.samples) == list(mine.samples)
    assert (back.samples["a/0"] - mine.samples["a/0"]).abs().max() < 4e-3
    assert (back.samples["b/0"] - mine.samples["b/0"]).abs().max() <= 1 / 255 + 1e-6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["samples.safetensors", "scoreboard.csv", "scoreboard.json"]
    again = Board.read(back.write(tmp_path / "again"))
    assert again.rows == back.rows and all(torch.equal(again.samples[key], x) for key, x in back.samples.items())


def test_csv_and_json_hold_the_same_numbers(tmp_path):
    board().write(tmp_path)
    rows = json.loads((tmp_path / "scoreboard.json").read_text(), parse_constant=pytest.fail)["rows"]
    with open(tmp_path / "scoreboard.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows] == table
    assert table[1]["gap"] == "inf" and table[2]["w2"] == ""


def test_a_summary_has_means_and_deviations_over_seeds():
    first, second = board().summary()
    assert (first.model, first.seeds, first.worst_covered) == ("a", 2, 20) and first["w2"] == pytest.approx(0.4)
    assert first.spread["w2"] == pytest.approx(math.sqrt(2 * 0.1**2)) and first["gap"] == math.inf
    assert second["w2"] is None and second.spread["seconds"] is None


def test_a_table_leaves_out_what_no_model_has():
    head, cells = board().table()
    assert "FID" not in head and cells[0][head.index("W2")] == "0.400 ± 0.141"
    assert cells[1][head.index("W2")] == "n/a" and cells[0][head.index("gap")].startswith("≤ ")
    text = board()._repr_markdown_().splitlines()
    assert len(text) == 4 and len({line.count("|") for line in text}) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "scoreboard.json is no scoreboard: JSONDecodeError"),
        ("[]", "scoreboard.json is no scoreboard"),
        ('{"rows": [{"model": "a"}]}', "no columns family, data"),
        ('{"rows": [{"mode": "a"}]}', "unknown columns mode"),
    ],
)
def test_a_broken_board_is_named(tmp_path, text, message):
    board().write(tmp_path)
    (tmp_path / "scoreboard.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        Board.read(tmp_path)


def test_a_missing_board_and_broken_samples_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no scoreboard at .*; gmcourse scoreboard makes one"):
        Board.read(tmp_path)
    board().write(tmp_path)
    file = tmp_path / "samples.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match="samples.safetensors is not a whole safetensors file"):
        Board.read(tmp_path)
