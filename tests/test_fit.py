"""The training loop: what a step sees, what a run leaves, how it stops and goes on."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal
from torch.utils.data import TensorDataset

from gmcourse import GenerativeModel, Player, checkpoint, fit
from gmcourse.checkpoint import CheckpointError
from gmcourse.fit import cosine
from gmcourse.training.feed import Share, batches


class Mean(GenerativeModel):
    """Fits a mean by squared error: the minimum is known. Keeps the batches it saw."""

    def __init__(self, noise: float = 0.0):
        super().__init__((2,))
        self.mean, self.noise, self.seen = nn.Parameter(torch.zeros(2)), noise, []

    def loss(self, x):
        self.check_batch(x)
        self.seen.append(x.clone())
        return (x + self.noise * torch.randn_like(x) - self.mean).square().sum(1)


class Duel(GenerativeModel):
    """Two players with opposite interests in the same product; the second moves every third step."""

    def __init__(self):
        super().__init__((2,))
        self.a, self.b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
        self.moved = []

    def players(self):
        def play(name, sign):
            self.moved.append((name, self.a.requires_grad, self.b.requires_grad))
            return sign * self.a * self.b

        return [
            Player("a", lambda: [self.a], lambda x: play("a", 1.0)),
            Player("b", lambda: [self.b], lambda x: play("b", -1.0), every=3),
        ]


DATA = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)) + 3


def run(model=None, **options):
    model = model or Mean(0.1)
    defaults = {"steps": 20, "batch_size": 10, "progress": False, "lr": 0.05}
    return model, fit(model, DATA, **{**defaults, **options})


def test_it_finds_a_known_minimum():
    model, history = run(steps=2000, schedule=cosine(), model=Mean())
    assert torch.allclose(model.mean, DATA.mean(0), atol=0.02)
    assert history.steps == 2000 and history.losses["mean"].shape == (2000,) and not model.training


def test_an_epoch_sees_every_row_once_in_a_new_order():
    model, history = run(model=Mean(), epochs=2, steps=None)
    first, second = torch.cat(model.seen[:10]), torch.cat(model.seen[10:])
    assert history.steps == 20 and not torch.equal(first, second)
    for seen in (first, second):
        assert torch.equal(seen.sort(0).values, DATA.sort(0).values)


def test_processes_share_an_epoch_without_overlap():
    shares = [torch.cat([r for r in Share(5, seed=1, rank=k, world=2).rows(40, 0, 4)]) for k in range(2)]
    assert sorted(torch.cat(shares).tolist()) == list(range(40))


@pytest.mark.parametrize("data", [DATA, (DATA,), TensorDataset(DATA)])
def test_tensor_tuple_and_dataset_give_the_same_batches(data):
    got = [b[0] if isinstance(b, tuple) else b for b in batches(data, Share(10), 3, 6)]
    wanted = list(batches(DATA, Share(10), 3, 6))
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_a_distribution_gives_fresh_samples_every_step():
    model = Mean()
    fit(model, MultivariateNormal(torch.ones(2), torch.eye(2)), steps=5, batch_size=4, progress=False)
    assert len({tuple(x.flatten().tolist()) for x in model.seen}) == 5


def test_the_seed_decides_everything_and_the_callers_random_state_is_untouched():
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    (a, _), (b, _), (c, _) = run(seed=1), run(seed=1), run(seed=2)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(a.mean, b.mean) and not torch.equal(a.mean, c.mean)


def test_players_move_in_turn_while_the_others_hold_still():
    model = Duel()
    fit(model, DATA, steps=6, lr={"a": 0.1, "b": 0.2}, optimizer=torch.optim.SGD, progress=False)
    assert [m[0] for m in model.moved] == ["a", "b", "a", "a", "a", "b", "a", "a"]
    assert all((name == "a") == a and (name == "b") == b for name, a, b in model.moved)
    assert model.a.requires_grad and model.b.requires_grad


def test_simultaneous_gradients_match_a_loop_by_hand():
    model = Duel()
    fit(model, DATA, steps=6, lr={"a": 0.1, "b": 0.2}, optimizer=torch.optim.SGD, progress=False)
    a, b = 1.0, 1.0
    for step in range(6):
        a -= 0.1 * b
        if step % 3 == 0:
            b += 0.2 * a
    assert (model.a.item(), model.b.item()) == pytest.approx((a, b), abs=1e-6)


def test_moving_average_is_the_recursion_it_claims_to_be():
    raw = []
    model, _ = run(model=Mean(), ema=0.9, callback=lambda step, m: raw.append(m.mean.detach().clone()) and None)
    average = raw[0]
    for value in raw[1:]:
        average = 0.9 * average + 0.1 * value
    assert torch.allclose(model.mean, average, atol=1e-6)


def test_clipping_bounds_the_step():
    model, _ = run(model=Mean(), steps=1, lr=1.0, clip=0.01, optimizer=torch.optim.SGD)
    assert model.mean.norm().item() == pytest.approx(0.01, rel=1e-3)


def test_schedule_scales_the_learning_rate():
    model, _ = run(model=Mean(), steps=1, schedule=lambda done: 0.0)
    assert torch.equal(model.mean, torch.zeros(2))
    factor = cosine(0.1)
    assert [round(factor(t), 3) for t in (0.0, 0.05, 0.1, 0.55, 1.0)] == [0, 0.5, 1, 0.5, 0]


def test_a_callback_can_end_the_run():
    assert run(callback=lambda step, model: step == 7)[1].steps == 7


@pytest.mark.parametrize("stop", [1, 7, 13])
def test_a_resumed_run_ends_bitwise_where_an_uninterrupted_one_ends(tmp_path, stop):
    options = {"ema": 0.9, "schedule": cosine(0.2), "checkpoint_every": 5}
    whole, history = run(**options, checkpoint=tmp_path / "whole")
    path = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        run(**options, checkpoint=path, callback=lambda step, m: _interrupt(step == stop))
    resumed, again = run(**options, checkpoint=path)
    assert torch.equal(whole.mean, resumed.mean)
    assert torch.equal(history.losses["mean"], again.losses["mean"]) and again.steps == 20


def _interrupt(now: bool):
    if now:
        raise KeyboardInterrupt


SCRIPT = """
    import sys, torch
    from gmcourse import fit
    from gmcourse.vae import mlp_vae
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = mlp_vae(hidden=(16,))
    data = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    fit(model, data, steps=600, batch_size=32, checkpoint=sys.argv[1], checkpoint_every=7, ema=0.9, progress=False)
    from gmcourse import checkpoint
    checkpoint.save(sys.argv[2], model)
"""


def test_a_run_killed_again_and_again_ends_with_the_same_weights(tmp_path):
    """SIGKILL leaves no time to tidy up: whatever is on the disk at that moment must do."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))

    def start(name):
        return subprocess.Popen([sys.executable, script, tmp_path / f"{name}.run", tmp_path / f"{name}.end"])

    assert start("whole").wait() == 0
    kills = 0
    for delay in (0.0, 0.05, 0.11, 0.3):
        process = start("killed")
        before = _digest(tmp_path / "killed.run")
        while _digest(tmp_path / "killed.run") == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(delay)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills >= 2, "the script ended before it could be killed"
    assert start("killed").wait() == 0
    whole, killed = (checkpoint.read(tmp_path / f"{name}.end")[0] for name in ("whole", "killed"))
    assert whole.keys() == killed.keys() and all(torch.equal(whole[k], killed[k]) for k in whole)


def _digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def test_a_checkpoint_of_another_run_is_refused_unless_told_to_overwrite(tmp_path):
    run(checkpoint=tmp_path / "run")
    with pytest.raises(CheckpointError, match="belongs to another run.*resume=False"):
        run(checkpoint=tmp_path / "run", seed=5)
    assert run(checkpoint=tmp_path / "run", seed=5, resume=False)[1].steps == 20


def test_a_broken_checkpoint_is_refused_with_its_path(tmp_path):
    run(checkpoint=tmp_path / "run")
    blob = (tmp_path / "run").read_bytes()
    (tmp_path / "run").write_bytes(blob[: len(blob) // 2])
    with pytest.raises(CheckpointError, match="run is not a whole"):
        run(checkpoint=tmp_path / "run")


class Explodes(Mean):
    """Its loss is not a number from the 12th batch on."""

    def loss(self, x):
        loss = super().loss(x)
        return loss * float("nan") if len(self.seen) > 12 else loss


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_last_good_state(tmp_path):
    model = Explodes()
    with pytest.raises(FloatingPointError, match=r"player 'explodes' is nan at step 12; .*run \(step 10\)"):
        run(model=model, checkpoint=tmp_path / "run", checkpoint_every=5)
    assert model.mean.isfinite().all(), "the bad loss must not reach the weights"
    tensors, card = checkpoint.read(tmp_path / "run")
    assert card["steps"] == 10 and tensors["model/mean"].isfinite().all()


class Breaks(Mean):
    """Its losses are finite and its gradient is not from the 8th batch on."""

    def loss(self, x):
        loss = super().loss(x)
        return loss + (0 * self.mean.sum()).sqrt() if len(self.seen) > 7 else loss


def test_weights_that_are_not_finite_never_replace_a_good_checkpoint(tmp_path):
    with pytest.raises(FloatingPointError, match=r"step 8; .*run \(step 5\)"):
        run(model=Breaks(), checkpoint=tmp_path / "run", checkpoint_every=5)
    with pytest.raises(FloatingPointError, match=r"a parameter is not finite after step 7; .*again \(step 4\)"):
        run(model=Breaks(), checkpoint=tmp_path / "again", checkpoint_every=4)
    for name in ("run", "again"):
        assert checkpoint.read(tmp_path / name)[0]["model/mean"].isfinite().all()


def test_a_moving_average_that_the_checkpoint_lacks_is_named(tmp_path):
    run(checkpoint=tmp_path / "run")
    with pytest.raises(CheckpointError, match="belongs to another run.*with moving average"):
        run(checkpoint=tmp_path / "run", ema=0.9)


def test_without_a_checkpoint_the_error_says_so():
    with pytest.raises(FloatingPointError, match="no checkpoint was kept"):
        run(model=Explodes())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": None}, "either steps or epochs"),
        ({"epochs": 1}, "either steps or epochs"),
        ({"steps": 0}, "steps must be a positive"),
        ({"batch_size": 0}, "batch_size must be a positive"),
        ({"lr": 0}, "lr must be positive"),
        ({"lr": {"other": 1.0}}, "no setting for player 'mean'"),
        ({"ema": 1.0}, r"ema must lie in \[0, 1\)"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (torch.zeros(0, 2), ValueError, "data is empty"),
        (torch.zeros(5, 3), ValueError, r"data must have shape \(n, 2\)"),
        (torch.tensor([[0.0, float("nan")]]), ValueError, "row 0"),
        (MultivariateNormal(torch.zeros(3), torch.eye(3)), ValueError, r"event shape \(2,\) for Mean; got \(3,\)"),
        ([[1.0, 2.0]], TypeError, "data must be a tensor"),
        ((DATA, DATA[:3]), ValueError, "same length"),
        (DATA.double(), ValueError, "data must have the model's dtype, torch.float32; got torch.float64"),
    ],
)
def test_bad_data_are_refused_before_the_first_step(data, error, message):
    with pytest.raises(error, match=message):
        fit(Mean(), data, steps=1, progress=False)


def test_epochs_of_an_endless_distribution_are_refused():
    with pytest.raises(ValueError, match="a Distribution never ends"):
        fit(Mean(), MultivariateNormal(torch.zeros(2), torch.eye(2)), epochs=1, progress=False)


def test_a_player_without_parameters_is_refused():
    model = Mean()
    model.mean.requires_grad_(False)
    with pytest.raises(ValueError, match="player 'mean' has no parameters to train"):
        run(model=model)


def test_a_run_leaves_one_tidy_line(capsys):
    run(progress=True)
    out = capsys.readouterr().out
    assert out.startswith("Mean: 20 steps in ") and "mean loss" in out and out.count("\n") == 1


def test_history_plots_itself_and_reads_well():
    from matplotlib.figure import Figure

    _, history = run()
    ax = history.plot(Figure().subplots())
    assert ax.get_xlabel() == "step" and len(ax.lines) == 2
    assert repr(history).startswith("History(20 steps in ")


DDP = """
    import sys, torch
    from gmcourse import GenerativeModel, checkpoint, fit
    from torch import nn
    import torch.distributed as dist

    class Mean(GenerativeModel):
        def __init__(self):
            super().__init__((2,))
            self.mean = nn.Parameter(torch.full((2,), float(dist.is_initialized())))
            self.noise = []

        def loss(self, x):
            noise = torch.randn_like(x)
            self.noise.append(noise.sum())
            return (x + noise - self.mean).square().sum(1)

    torch.set_num_threads(1)
    data = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    model = Mean()
    options = {"accelerator": "cpu", "devices": 2, "progress": False, "checkpoint": sys.argv[1]}
    history = fit(model, data, steps=5, batch_size=8, **options)
    rank = dist.get_rank()
    seen = {"mean": model.mean, "noise": torch.stack(model.noise)}
    checkpoint.write(f"{sys.argv[1]}.{rank}", seen, {"steps": history.steps})
"""


def test_two_processes_share_weights_but_not_noise(tmp_path):
    script = tmp_path / "ddp.py"
    script.write_text(textwrap.dedent(DDP))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    subprocess.run([sys.executable, script, tmp_path / "run"], check=True, timeout=180, env=env)
    (first, card), (second, _) = (checkpoint.read(tmp_path / f"run.{rank}") for rank in range(2))
    assert card["steps"] == 5
    assert torch.equal(first["mean"], second["mean"]) and not torch.equal(first["mean"], torch.zeros(2))
    assert not torch.equal(first["noise"], second["noise"])


def test_mixed_precision_trains_on_data_that_are_not_rounded():
    model, history = run(precision="bf16-mixed", steps=200, clip=10.0)
    assert model.mean.dtype == torch.float32 and (model.mean - DATA.mean(0)).norm() < 1
    assert {x.dtype for x in model.seen} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_model_on_the_gpu_is_trained_there():
    model, _ = run(model=Mean().cuda(), steps=500)
    assert model.mean.is_cuda and torch.allclose(model.mean.cpu(), DATA.mean(0), atol=0.2)
