"""Replay buffers: chains that stay, a share that begins anew, and what a checkpoint keeps of them."""

import pytest
import torch
from torch.distributions import Independent, Normal

from gmcourse import checkpoint, fit
from gmcourse.checkpoint import CheckpointError
from gmcourse.data.toy1d import Mixture1D
from gmcourse.data.toy2d import Gaussians8
from gmcourse.ebm.buffer import ReplayBuffer
from gmcourse.ebm.contrastive import MaximumLikelihood
from gmcourse.ebm.ebm import EBM
from gmcourse.ebm.energy import mlp_energy
from gmcourse.model import StandardNormal

START = StandardNormal(2)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_chains_begin_as_draws_of_start_that_the_seed_decides():
    first, again, other = (ReplayBuffer(START, 20_000, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.chains, again.chains) and not torch.equal(first.chains, other.chains)
    assert (first.chains.mean(0).abs() < 5 / 20_000**0.5).all() and first.chains.std().item() == pytest.approx(1, abs=0.02)


IMAGES = Independent(Normal(torch.zeros(3, 4, 4), 1.0), 3)


@pytest.mark.parametrize("start", [Mixture1D(), Normal(0.0, 1.0), Gaussians8(), IMAGES])
def test_events_of_any_shape_live_in_it(start):
    buffer = ReplayBuffer(start, 50)
    assert buffer.draw(7).shape == (7, *start.event_shape) and buffer.sample(80).shape == (80, *start.event_shape)


def test_what_is_put_lies_where_it_was_taken_from_and_the_rest_is_untouched():
    buffer = ReplayBuffer(START, 100, restart=0.0)
    before = buffer.chains.clone()
    x = buffer.draw(30)
    assert len({tuple(row) for row in x.tolist()}) == 30, "a chain was taken twice"
    buffer.put(x + 10)
    moved = (buffer.chains != before).all(1)
    assert moved.sum() == 30 and torch.equal(buffer.chains[~moved], before[~moved])
    assert torch.allclose(buffer.chains[moved], before[moved] + 10)


@pytest.mark.parametrize("restart", [0.0, 0.05, 0.5, 1.0])
def test_the_share_that_begins_anew_is_the_one_asked_for(restart):
    buffer = ReplayBuffer(START, 4000, restart=restart)
    buffer.chains.fill_(99.0)
    anew = (buffer.draw(4000) != 99.0).all(1).double().mean().item()
    assert anew == pytest.approx(restart, abs=5 * (restart * (1 - restart) / 4000) ** 0.5)


def test_chains_that_begin_anew_are_independent_draws_of_start():
    buffer = ReplayBuffer(START, 4000, restart=1.0)
    x = buffer.draw(4000)
    assert len({tuple(row) for row in x.tolist()}) == 4000
    assert (x.mean(0).abs() < 4.5 / 4000**0.5).all() and ((x.var(0) - 1).abs() < 4.5 * (2 / 4000) ** 0.5).all()


def test_every_chain_is_taken_in_time():
    """k draws of n among N leave a chain untouched with probability (1 − n/N)^k: e^{−10}."""
    buffer = ReplayBuffer(START, 100, restart=0.0)
    buffer.chains.zero_()
    for _ in range(100):
        buffer.put(buffer.draw(10, generator=None) + 1)
    assert buffer.chains.min() > 0 and buffer.chains.sum() == 2 * 1000


def test_a_generator_decides_the_draw_alone():
    buffer = ReplayBuffer(START, 100)
    assert torch.equal(buffer.draw(20, generator=seeded()), buffer.draw(20, generator=seeded()))
    assert torch.equal(buffer.sample(20, generator=seeded()), buffer.sample(20, generator=seeded()))


@pytest.mark.parametrize(
    ("act", "complaint"),
    [
        (lambda: ReplayBuffer(START, 10).draw(11), "capacity must be at least the number of chains drawn, 11; got 10"),
        (lambda: ReplayBuffer(START, 0), "capacity must be a positive"),
        (lambda: ReplayBuffer(START, 10, restart=1.5), "restart must be a probability; got 1.5"),
        (lambda: ReplayBuffer(torch.randn(5, 2)), "start must be a Distribution or a GenerativeModel; got Tensor"),
        (lambda: ReplayBuffer(Normal(torch.zeros(2), 1.0)), "start must be one distribution"),
        (lambda: ReplayBuffer(START, 10).put(torch.zeros(3, 2)), "draw"),
        (lambda: taken(3).put(torch.zeros(4, 2)), "x must hold the 3 chains"),
        (lambda: taken(3).put(torch.zeros(3, 5)), "x must have shape"),
    ],
)
def test_misuse_is_refused_by_name(act, complaint):
    with pytest.raises(ValueError, match=complaint):
        act()


def taken(n):
    buffer = ReplayBuffer(START, 10)
    buffer.draw(n)
    return buffer


@pytest.mark.parametrize("other", [ReplayBuffer(START, 21), ReplayBuffer(StandardNormal(3), 20)])
def test_chains_of_another_shape_are_refused_on_load(other):
    buffer = ReplayBuffer(START, 20)
    before = buffer.chains.clone()
    with pytest.raises(ValueError, match=r"chains must have shape \(20, 2\), \(capacity, \*event_shape\); the state"):
        buffer.load_state_dict(other.state_dict())
    assert torch.equal(buffer.chains, before)


def persistent(capacity=60):
    torch.manual_seed(3)
    objective = MaximumLikelihood(steps=3, step=0.02, start=ReplayBuffer(START, capacity))
    return EBM(mlp_energy(2, (16,)), objective, event_shape=(2,))


def test_chains_travel_with_the_model(tmp_path):
    model, other = persistent(), persistent()
    fit(model, Gaussians8(), steps=5, batch_size=20, progress=False)
    assert not torch.equal(model.objective.start.chains, other.objective.start.chains)
    checkpoint.save(tmp_path / "model.safetensors", model)
    checkpoint.load(tmp_path / "model.safetensors", other)
    assert torch.equal(model.objective.start.chains, other.objective.start.chains)
    with pytest.raises(CheckpointError, match=r"objective.start.chains has shape \(60, 2\), the model wants \(61, 2\)"):
        checkpoint.load(tmp_path / "model.safetensors", persistent(61))


def test_a_run_that_was_cut_short_goes_on_with_the_chains_it_had(tmp_path):
    whole, halves = persistent(), (persistent(), persistent())
    settings = {"batch_size": 20, "progress": False, "seed": 5}
    fit(whole, Gaussians8(), steps=8, **settings)
    for part, steps in zip(halves, (4, 8), strict=True):
        fit(part, Gaussians8(), steps=steps, checkpoint=tmp_path / "run.safetensors", **settings)
    for a, b in zip(whole.state_dict().values(), halves[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)
