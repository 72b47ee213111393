"""Parallel tempering along the tilt: what its swaps accept, and the laws that come out on every rung."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from gmcourse.compositions.negatives import NoiseChains
from gmcourse.compositions.tempered_tilt import TemperedTilt, swap
from gmcourse.compositions.tilted import Tilted
from gmcourse.model import Likelihood, StandardNormal
from gmcourse.vae import VAE, Gaussian, GaussianEncoder

LAMBDA, SIGMA = 0.8, 0.6


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear_vae() -> VAE:
    torch.manual_seed(0)
    decoder = nn.Linear(2, 3, bias=False)
    nn.init.normal_(decoder.weight)
    return VAE((3,), GaussianEncoder(nn.Linear(3, 4)), decoder, prior=StandardNormal(2), likelihood=Gaussian(SIGMA))


def quadratic(x):
    return 0.5 * LAMBDA * x.square().sum(1)


def two_humps(x):
    """−log of ¼ N(−4, ½²) + ¾ N(4, ½²), less −log of the same with equal shares: only the masses differ."""
    left, right = (Normal(m, 0.5).log_prob(x[:, 0]) for m in (-4.0, 4.0))
    return torch.logaddexp(left, right) - math.log(2) - torch.logaddexp(left - math.log(4), right + math.log(0.75))


class EvenHumps:
    """A transport to ½ N(−4, ½²) + ½ N(4, ½²): steep between the two."""

    likelihood, event_shape, data_range, nfe = Likelihood.NONE, torch.Size([1]), (-math.inf, math.inf), 1

    def noise(self, n, *, generator=None):
        return torch.randn(n, 2, generator=generator)

    def push(self, eps):
        return 4 * torch.tanh(50 * eps[:, :1]) + 0.5 * eps[:, 1:]


@pytest.mark.parametrize(("first", "pairs"), [(0, [(0, 1), (2, 3)]), (1, [(1, 2)])])
def test_neighbours_change_places_as_often_as_metropolis_says(first, pairs):
    """The frequency over 20 000 ladders with the same energies, against the ratio of the products of the two laws."""
    n, ladder, energies = 20_000, torch.tensor([0.0, 0.2, 0.5, 1.0]), torch.tensor([1.0, 3.0, 0.0, 1.5])
    eps = torch.arange(4.0)[:, None, None].expand(4, n, 2)
    new, change = swap(eps, energies[:, None].expand(4, n), ladder, first=first, generator=seeded())
    untouched = set(range(4))
    for row, (i, j) in zip(change, pairs, strict=True):
        untouched -= {i, j}
        before = -ladder[i] * energies[i] - ladder[j] * energies[j]  # log h_i(ε_i) h_j(ε_j), but for the noise's own
        after = -ladder[i] * energies[j] - ladder[j] * energies[i]
        p = min(1.0, float((after - before).exp()))
        assert abs(float(row.float().mean()) - p) <= 5 * (p * (1 - p) / n) ** 0.5
        assert (new[i, row] == j).all() and (new[j, row] == i).all()
        assert (new[i, ~row] == i).all() and (new[j, ~row] == j).all()
    assert all((new[k] == k).all() for k in untouched)


def test_swaps_keep_the_law_of_every_rung():
    """In equilibrium: exact draws of N(0, 1/(1 + λ)) stay that when they are offered each other's places."""
    n, ladder = 40_000, torch.tensor([0.0, 0.4, 1.0])
    precision = 1 + ladder
    eps = torch.randn(3, n, 1, generator=seeded()) / precision.sqrt()[:, None, None]
    for first in (0, 1):
        eps, change = swap(eps, 0.5 * eps[..., 0].square(), ladder, first=first, generator=seeded(first + 1))
        assert 0.3 < change.float().mean() < 0.95
    variance = eps[..., 0].square().mean(1)
    assert ((variance * precision - 1).abs() < 5 * (2 / n) ** 0.5).all()


def test_every_rung_comes_to_its_own_law():
    """(C⁻¹ + λ_k Λ I)⁻¹ of a linear base under a quadratic energy, in the noise: (I + λ_k Λ JᵀJ)⁻¹."""
    base, n, rungs = linear_vae(), 6000, (0.0, 0.3, 1.0)
    jacobian = torch.cat([base.decoder.weight.detach(), SIGMA * torch.eye(3)], 1)
    eps = TemperedTilt(rungs, 0.4, sweeps=60).run(base, quadratic, n, seeded())
    assert eps.shape == (3, n, 5)
    for rung, drawn in zip(rungs, eps, strict=True):
        exact = (torch.eye(5) + rung * LAMBDA * jacobian.T @ jacobian).inverse()
        assert ((drawn.T @ drawn / n - exact).abs() < 7 / n**0.5).all()


def test_samples_have_the_tilted_covariance():
    base, n = linear_vae(), 6000
    w = base.decoder.weight.detach()
    exact = ((w @ w.T + SIGMA**2 * torch.eye(3)).inverse() + LAMBDA * torch.eye(3)).inverse()

    class Energy(nn.Module):
        def forward(self, x):
            return quadratic(x)

    x = Tilted(base, Energy(), TemperedTilt((0, 0.3, 1), 0.4, sweeps=60)).sample(n, generator=seeded())
    assert ((x.T @ x / n - exact).abs() < 7 * exact.diagonal().max() / n**0.5).all()


def test_the_ladder_carries_mass_between_basins_that_its_moves_cannot_cross():
    base, n, share = EvenHumps(), 4000, {}
    ways = {"tempered": TemperedTilt((0, 0.5, 1), 0.02, sweeps=20), "chains": NoiseChains(50, 0.02)}
    for name, way in ways.items():
        share[name] = float((base.push(way.draw(base, two_humps, n, seeded())) > 0).float().mean())
    assert abs(share["tempered"] - 0.75) < 5 * (0.75 * 0.25 / n) ** 0.5 and share["chains"] < 0.65, share


def test_negatives_are_even_and_without_a_graph_and_a_seed_repeats_them():
    base, way = linear_vae(), TemperedTilt((0, 0.5, 1), 0.1, sweeps=3, moves=2)
    one, other = (way(base, quadratic, 7, seeded(1)) for _ in range(2))
    assert torch.equal(one.x, other.x) and not one.x.requires_grad
    assert torch.equal(one.weights, torch.full((7,), 1 / 7))
    assert not way.state_dict()


@pytest.mark.parametrize("ladder", [(0.0,), (0.1, 1.0), (0.0, 0.9), (0.0, 0.5, 0.5, 1.0), (0.0, 0.7, 0.3, 1.0), ()])
def test_a_ladder_that_does_not_climb_from_nought_to_one_is_refused(ladder):
    with pytest.raises(ValueError, match=r"ladder must climb from 0 to 1; got \["):
        TemperedTilt(ladder, 0.1, sweeps=3)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="sweeps must be a positive whole number; got 0"):
        TemperedTilt((0, 1), 0.1, sweeps=0)
    with pytest.raises(ValueError, match="moves must be a positive whole number; got 0"):
        TemperedTilt((0, 1), 0.1, sweeps=1, moves=0)
    with pytest.raises(ValueError, match="step must be positive; got -1"):
        TemperedTilt((0, 1), -1, sweeps=1)
    with pytest.raises(ValueError, match="n must be a positive whole number; got 0"):
        TemperedTilt((0, 1), 0.1, sweeps=1).draw(StandardNormal(2), quadratic, 0)
