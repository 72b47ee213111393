"""The best weights by a criterion are what a run leaves, whether it ends, is ended, diverges, or is taken up again."""

import math

import pytest
import torch
from torch import nn

from gmcourse import checkpoint
from gmcourse.checkpoint import CheckpointError
from gmcourse.fit import fit
from gmcourse.model import Trainable
from gmcourse.training.best import KeepBest


class Walk(Trainable):
    """Its one number goes down by lr at each step of SGD; it blows up when it passes `cliff`."""

    def __init__(self, cliff=-math.inf):
        super().__init__((1,))
        self.place, self.cliff = nn.Parameter(torch.zeros(())), cliff
        self.dropout = nn.Dropout()

    def loss(self, x):
        if self.place < self.cliff:
            raise FloatingPointError("over the cliff")
        return self.place + 0 * x[:, 0]


DATA = torch.zeros(8, 1)


def walk(best, steps=20, **settings):
    sgd = {"optimizer": torch.optim.SGD, "lr": 1.0, "batch_size": 8, "progress": False}
    return fit(best.model, DATA, steps=steps, callback=best, **sgd | settings)


def valley(model):
    """Lowest after 7 steps, where place = −7."""
    return (model.place + 7).square()


def test_the_weights_of_the_least_criterion_are_left_in_the_model():
    with KeepBest(Walk(), valley, every=2) as best:
        walk(best, 15)
    assert best.step in (6, 8) and best.value == 1.0 and best.model.place.item() == -best.step
    assert best.history == [(k, float((k - 7) ** 2)) for k in (*range(0, 16, 2), 15)]
    assert not best.model.training


def test_untrained_weights_are_kept_if_training_makes_them_worse():
    with KeepBest(Walk(), lambda m: -m.place, every=5) as best:
        walk(best)
    assert best.step == 0 and best.model.place.item() == 0


def test_where_moving_averages_are_kept_they_are_what_is_judged_and_left():
    with KeepBest(Walk(), valley, every=1) as best:
        walk(best, 30, ema=0.5)
    places, mean = [], None  # place = −k after k steps
    for k in range(1, 31):
        mean = -float(k) if mean is None else (mean - k) / 2
        places.append(mean)
    assert [seen for _, seen in best.history[1:]] == pytest.approx([(place + 7) ** 2 for place in places])
    assert best.model.place.item() == pytest.approx(min(places, key=lambda place: (place + 7) ** 2))


def test_looking_at_averages_does_not_touch_the_training():
    looked = Walk()
    with KeepBest(looked, lambda m: -m.place, every=2) as best:
        seen = []
        fit(looked, DATA, steps=9, callback=lambda k, m: best(k, m) or seen.append(m.place.item()), ema=0.9, lr=1.0,
            optimizer=torch.optim.SGD, batch_size=8, progress=False)  # fmt: skip
    assert seen == [-float(k) for k in range(1, 10)]


def test_patience_ends_the_run():
    with KeepBest(Walk(), valley, every=1, patience=3) as best:
        history = walk(best)
    assert history.steps == 10 and best.step == 7 and best.model.place.item() == -7


def test_a_run_that_diverges_leaves_the_best_weights_and_says_where_it_was():
    best = KeepBest(Walk(cliff=-11.5), valley, every=1)
    told = r"diverged after 12 steps: over the cliff; the model has the weights of step 7 again, .*criterion 0\)"
    with pytest.raises(FloatingPointError, match=told), best:
        walk(best)
    assert best.model.place.item() == -7 and not best.model.training
    assert all(p.requires_grad for p in best.model.parameters())


def test_other_errors_are_not_swallowed():
    best = KeepBest(Walk(), valley)
    with pytest.raises(ZeroDivisionError), best:
        raise ZeroDivisionError


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, FloatingPointError("chains diverged")], ids=str)
def test_a_criterion_that_is_not_finite_is_worse_than_any(bad):
    def criterion(model):
        if model.place > -4:
            return 5.0 + model.place.item() ** 2
        if isinstance(bad, Exception):
            raise bad
        return bad

    with KeepBest(Walk(), criterion, every=1) as best:
        walk(best, 6)
    assert best.step == 0 and best.value == 5.0
    assert [math.isfinite(value) for _, value in best.history][:6] == [True] * 4 + [False] * 2


def test_the_criterion_sees_evaluation_mode_the_same_noise_and_leaves_no_trace():
    """A run with the callback goes through the weights that one without goes through, and so does the caller's noise."""
    drawn, modes = [], []

    def criterion(model):
        drawn.append(float(torch.randn(())))
        modes.append((model.training, model.dropout.training, torch.is_grad_enabled()))
        return -model.weight.sum()

    def linear():
        torch.manual_seed(0)
        return Noisy()

    plain, watched = linear(), linear()
    torch.manual_seed(1)
    fit(plain, DATA, steps=9, batch_size=4, progress=False)
    after = torch.randn(())
    torch.manual_seed(1)
    best = KeepBest(watched, criterion, every=2)
    best.look(0)
    fit(watched, DATA, steps=9, batch_size=4, progress=False, callback=best)
    assert torch.equal(after, torch.randn(())) and torch.equal(plain.weight, watched.weight)
    assert len(set(drawn)) == 1 and len(drawn) == 5 and set(modes) == {(False, False, False)}


class Noisy(Trainable):
    """Its gradient is noise."""

    def __init__(self):
        super().__init__((1,))
        self.weight, self.dropout = nn.Parameter(torch.zeros(3)), nn.Dropout()

    def loss(self, x):
        return x[:, 0] + (self.weight * torch.randn(3)).sum()


def test_moving_averages_are_looked_at_when_the_run_is_over():
    """After ten steps the average of the last places, −5.5 and so on, is no place of the walk."""
    with KeepBest(Walk(), lambda m: (m.place + 5.5).square(), every=1) as best:
        walk(best, 10, ema=0.0)
    assert best.step in (5, 6) and best.value == 0.25
    model = Walk()
    expected, mean = 0.0, None
    for place in range(-1, -11, -1):
        mean = float(place) if mean is None else 0.9 * mean + 0.1 * place
        expected = mean
    with KeepBest(model, lambda m: (m.place - expected).square(), every=1) as best:
        walk(best, 10, ema=0.9)
    assert best.step == 10 and abs(model.place.item() - expected) < 1e-5


@pytest.mark.parametrize("killed", [5, 7, 12])
def test_a_search_that_was_interrupted_goes_on_to_the_same_end(tmp_path, killed):
    settings = {"steps": 20, "checkpoint_every": 3}

    class Killed(Exception):
        pass

    def search(name, stop=None):
        best = KeepBest(Walk(), valley, every=1, patience=8, path=tmp_path / f"{name}.best")

        def callback(step, model):
            if step == stop:
                raise Killed
            return best(step, model)

        with best:
            history = walk(best, **settings, checkpoint=tmp_path / f"{name}.run") if stop is None else fit(
                best.model, DATA, callback=callback, optimizer=torch.optim.SGD, lr=1.0, batch_size=8, progress=False,
                checkpoint=tmp_path / f"{name}.run", **settings,
            )  # fmt: skip
        return best, history

    whole, history = search("whole")
    with pytest.raises(Killed):
        search("parts", killed)
    parts, resumed = search("parts")
    assert (parts.step, parts.value, parts.history) == (whole.step, whole.value, whole.history) == (7, 0.0, whole.history)
    assert resumed.steps == history.steps == 15 and torch.equal(parts.model.place, whole.model.place)


def test_the_file_has_the_best_weights_and_any_model_can_load_it(tmp_path):
    with KeepBest(Walk(), valley, every=1, path=tmp_path / "best") as best:
        walk(best)
    model = Walk()
    card = checkpoint.load(tmp_path / "best", model)
    assert model.place.item() == -7 and card["best"]["step"] == 7 and card["best"]["value"] == 0


def test_bad_input_is_named(tmp_path):
    with pytest.raises(ValueError, match="every must be a positive whole number; got 0"):
        KeepBest(Walk(), valley, every=0)
    with pytest.raises(ValueError, match="patience must be a positive whole number; got -1"):
        KeepBest(Walk(), valley, patience=-1)
    model, path = Walk(), checkpoint.save(tmp_path / "other", Walk())
    with torch.no_grad():
        model.place.fill_(3.0)
    with pytest.raises(CheckpointError, match="holds no best weights; give another path, or resume=False"):
        KeepBest(model, valley, path=path).__enter__()
    assert model.place.item() == 3
