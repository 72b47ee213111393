"""Densities along curves against other quadratures, closed forms and scikit-learn's generators."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import simpson
from scipy.spatial import cKDTree
from scipy.special import ive
from scipy.stats import ks_2samp
from sklearn.datasets import make_moons, make_swiss_roll

from gmcourse.data import curves, toy2d
from gmcourse.data.curves import CurveDensity
from gmcourse.data.nearby import View, by_cell

F64 = torch.float64
T = np.linspace(0, 1, 8_001)
NOISES = [(1.0, 0.0), (0.98, 0.2), (0.6, 0.8), (0.1, 0.995)]


def roll_by_hand(t=T):
    angle = 1.5 * np.pi * (1 + 2 * t)
    return [np.stack([angle * np.cos(angle), angle * np.sin(angle)], 1) / 7.5]


def moons_by_hand(t=T):
    c, s = np.cos(np.pi * t), np.sin(np.pi * t)
    return [np.stack([c, s], 1), np.stack([1 - c, 0.5 - s], 1)]


def rings_by_hand(t=T):
    return [r * np.stack([np.cos(2 * np.pi * t), np.sin(2 * np.pi * t)], 1) for r in (0.5, 1.0, 1.5, 2.0)]


def pinwheel_by_hand(t=T):
    r = 0.4 + 1.6 * t
    angles = [2 * np.pi * k / 5 + 0.5 * (np.exp(r / 2) - 1) for k in range(5)]
    return [np.stack([r * np.cos(a), r * np.sin(a)], 1) for a in angles]


CURVES = {
    "swiss_roll": (roll_by_hand, 0.25 / 7.5),
    "two_moons": (moons_by_hand, 0.1),
    "rings": (rings_by_hand, 0.08),
    "pinwheel": (pinwheel_by_hand, 0.1),
}
every = pytest.mark.parametrize("name", CURVES)


def log_prob_by_hand(name: str, x: np.ndarray, alpha: float = 1.0, sigma: float = 0.0) -> np.ndarray:
    """Simpson's rule with 8000 steps on every branch, as (minimum of the exponent) + log of the rest."""
    branches, own = CURVES[name]
    variance = (alpha * own) ** 2 + sigma**2
    values = []
    for point in x:
        exponents = [-((point - alpha * c) ** 2).sum(1) / (2 * variance) for c in branches()]
        top = max(e.max() for e in exponents)
        integral = np.mean([simpson(np.exp(e - top), x=T) for e in exponents])
        values.append(top + np.log(integral / (2 * np.pi * variance)))
    return np.array(values)


@every
@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_log_prob_agrees_with_a_dense_quadrature(name, noise):
    """On samples far below 1e-5, and to 1e-3 up to five more σ away in any direction."""
    p = toy2d.get(name).diffused(*noise)
    generator = torch.Generator().manual_seed(0)
    on = p.sample((40,), generator=generator).to(F64)
    off = on + 5 * p.sigma * torch.nn.functional.normalize(torch.randn(40, 2, generator=generator), dim=1)
    for x, allowed in ((on, 3e-7), (off, 1e-3)):
        assert np.abs(p.log_prob(x).numpy() - log_prob_by_hand(name, x.numpy(), *noise)).max() < allowed


@every
def test_more_nodes_change_nothing(name, monkeypatch):
    """Twice the nodes on panels of half the length: the error of the rule used is below 1e-7 on samples."""
    p = toy2d.get(name)
    x = p.sample((1000,), generator=torch.Generator().manual_seed(0)).to(F64)
    monkeypatch.setattr(curves, "RULE", 32)
    monkeypatch.setattr(curves, "PANEL", 4.0)
    monkeypatch.setattr(curves, "REACH", 100.0)
    finer = toy2d.get(name)
    assert len(finer._nodes.means) > 2 * len(p._nodes.means)
    assert (p.log_prob(x) - finer.log_prob(x)).abs().max() < 1e-7
    assert ((p.score(x) - finer.score(x)) * p.sigma).abs().max() < 1e-6


@every
def test_sums_over_nearby_nodes_equal_sums_over_all(name):
    """With points on and off the curve, an outlier and a NaN among them, in float64."""
    p = toy2d.get(name)
    x = p.sample((5000,), generator=torch.Generator().manual_seed(0)).to(F64)
    x[::3] += torch.randn(len(x[::3]), 2, generator=torch.Generator().manual_seed(1), dtype=F64)
    x[17], x[18, 1] = torch.tensor([300.0, -500.0]), math.nan
    assert torch.allclose(by_cell(View.log_prob, p._nodes, x), p._nodes.log_prob(x), atol=1e-7, equal_nan=True)
    near, all_ = by_cell(View.score, p._nodes, x), p._nodes.score(x)
    assert torch.allclose(near * p.sigma, all_ * p.sigma, atol=1e-7, equal_nan=True)
    assert near[18].isnan().all() and near.isnan().sum() == 2


def test_rings_agree_with_their_closed_form():
    """A ring of radius r in polar coordinates: p(ρ) = I₀(ρr/σ²) exp(−(ρ² + r²)/2σ²)/2πσ², and its logarithmic slope."""
    p, radii = toy2d.Rings(), np.array([0.5, 1.0, 1.5, 2.0])
    rho, s2 = np.linspace(0.01, 3.5, 500)[:, None], 0.08**2
    bell = np.exp(-((rho - radii) ** 2) / (2 * s2)) / (2 * np.pi * s2)
    density = (ive(0, rho * radii / s2) * bell).mean(1)
    slope = ((ive(1, rho * radii / s2) * radii - ive(0, rho * radii / s2) * rho) / s2 * bell).mean(1) / density
    angle = torch.linspace(0, 40, 500, dtype=F64)
    x = torch.from_numpy(rho) * torch.stack([angle.cos(), angle.sin()], 1)
    trusted = np.log(density) > -50
    assert np.abs(p.log_prob(x).numpy() - np.log(density))[trusted].max() < 1e-6
    radial = (p.score(x) * x).sum(1).numpy() / rho[:, 0]
    assert np.abs(radial - slope)[trusted].max() < 1e-4
    assert (p.score(x) - torch.from_numpy(radial[:, None] / rho) * x).abs().max() < 1e-3


def two_sample(x: np.ndarray, y: np.ndarray, name: str) -> float:
    """p-value (Bonferroni) of Kolmogorov–Smirnov tests on eight projections, the radius and the distance to the curve."""
    tree = cKDTree(np.concatenate(CURVES[name][0]()))
    angles = np.pi * np.arange(8) / 8
    features = [lambda v, a=a: v @ [np.cos(a), np.sin(a)] for a in angles]
    features += [lambda v: np.linalg.norm(v, axis=1), lambda v: tree.query(v)[0]]
    return min(ks_2samp(f(x), f(y)).pvalue for f in features) * len(features)


def ours(name: str, n: int = 20_000) -> np.ndarray:
    return toy2d.get(name).sample((n,), generator=torch.Generator().manual_seed(0)).double().numpy()


def sklearn_roll(n: int = 20_000, noise: float = 0.25) -> np.ndarray:
    return make_swiss_roll(n, noise=noise, random_state=1)[0][:, [0, 2]] / 7.5


def sklearn_moons(n: int = 20_000, noise: float = 0.1) -> np.ndarray:
    return make_moons(n, noise=noise, random_state=1)[0]


@pytest.mark.parametrize(("name", "theirs"), [("swiss_roll", sklearn_roll), ("two_moons", sklearn_moons)])
def test_samples_are_those_of_scikit_learn(name, theirs):
    assert two_sample(ours(name), theirs(), name) > 0.05


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: 1.03 * x,
        lambda x: x[:, ::-1],
        lambda x: x + 0.03,
        lambda x: sklearn_roll(noise=0.27),
        lambda x: sklearn_roll(noise=0.23),
        lambda x: x[np.random.default_rng(0).random(len(x)) < np.linalg.norm(x, axis=1)],
    ],
    ids=["larger", "mirrored", "shifted", "more noise", "less noise", "not uniform along t"],
)
def test_a_wrong_roll_is_told_from_scikit_learn(wrong):
    assert two_sample(ours("swiss_roll"), wrong(sklearn_roll()), "swiss_roll") < 1e-3


def test_the_roll_has_the_log_likelihood_of_scikit_learns_samples():
    log_p = toy2d.SwissRoll().log_prob(torch.from_numpy(sklearn_roll(200_000)))
    assert abs(log_p.mean() + toy2d.SwissRoll().entropy()) < 4 * log_p.std() / len(log_p) ** 0.5


@pytest.mark.parametrize("sigma", [0.015, 0.3, 2.0])
@pytest.mark.parametrize("name", ["SwissRoll", "Rings"])
def test_any_width_integrates_to_one(name, sigma):
    """Along rays through the origin: ∫ p ρ dρ dθ, with steps of at most σ/1.5 in both directions."""
    p = getattr(toy2d, name)(sigma=sigma)
    reach = 2.0 + 7 * sigma
    step = min(0.05, sigma / 1.5)
    rho = torch.arange(step / 2, reach, step, dtype=F64)
    theta = torch.arange(math.ceil(2 * math.pi * reach / step), dtype=F64)
    total = 0.0
    for part in theta.split(200):
        angle = part[:, None] * (2 * math.pi / len(theta))
        x = torch.stack([rho * angle.cos(), rho * angle.sin()], -1)
        total += (p.log_prob(x).exp() * rho).sum().item() * step * 2 * math.pi / len(theta)
    assert abs(total - 1) < 1e-4


def test_a_curve_of_ones_own():
    """A straight line of length 4: uniform along it, Gaussian across, erf at the ends."""
    line = CurveDensity(lambda t: torch.stack([4 * t - 2, 0 * t], -1)[None], sigma=0.1)
    x = torch.tensor([[0.3, 0.05], [1.9, 0.0], [2.1, -0.1], [-2.5, 0.0]], dtype=F64)
    along = (torch.special.ndtr((x[:, 0] + 2) / 0.1) - torch.special.ndtr((x[:, 0] - 2) / 0.1)) / 4
    across = torch.distributions.Normal(0.0, 0.1).log_prob(x[:, 1])
    assert torch.allclose(line.log_prob(x), along.log() + across, atol=1e-6)
    with pytest.raises(ValueError, match=r"curve must map t \(n,\) to points \(branches, n, 2\); got \(4001, 2\)"):
        CurveDensity(lambda t: torch.stack([t, t], -1), sigma=0.1)
