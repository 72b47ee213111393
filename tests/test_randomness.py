"""Seeds decide, and leave no trace."""

import pytest
import torch
from torch.distributions import Normal

from gmcourse.data import toy2d
from gmcourse.model import StandardNormal
from gmcourse.randomness import draw, seeded

SOURCES = [Normal(0.0, 1.0), StandardNormal(2), toy2d.get("two_moons")]


def test_within_a_seed_decides_and_afterwards_nothing_has_happened():
    torch.manual_seed(5)
    undisturbed = torch.randn(3)
    torch.manual_seed(5)
    with seeded(0):
        first = torch.randn(3)
    assert torch.equal(torch.randn(3), undisturbed)
    with seeded(0):
        assert torch.equal(torch.randn(3), first)


def test_the_state_comes_back_after_an_error():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with pytest.raises(KeyError), seeded(0):
        torch.randn(3)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), state)


def test_other_devices_are_not_reseeded(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("a GPU was reseeded"))
    with seeded(0, "cpu"):
        torch.randn(1)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
def test_a_generator_decides_what_any_source_draws(source):
    state = torch.get_rng_state()
    a, b, c = (draw(source, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c) and len(a) == 4
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.gpu
def test_on_a_gpu_that_gpu_is_seeded_and_put_back():
    torch.cuda.manual_seed(5)
    state = torch.cuda.get_rng_state()
    with seeded(0, "cuda"):
        first = torch.randn(3, device="cuda")
    assert torch.equal(torch.cuda.get_rng_state(), state)
    with seeded(0, "cuda"):
        assert torch.equal(torch.randn(3, device="cuda"), first)
