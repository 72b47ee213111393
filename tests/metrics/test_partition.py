"""log Z where it is known: quadrature, unbiasedness of Z, the closed form of the ESS, and the two slices of the sandwich."""

import math

import pytest
import torch
from scipy import integrate
from torch import nn

from gmcourse import StandardNormal
from gmcourse.data.mixtures import GaussianMixture
from gmcourse.data.toy1d import Mixture1D
from gmcourse.metrics import partition
from gmcourse.metrics.grid import Grid
from gmcourse.metrics.partition import (
    LogZ,
    annealed_log_weights,
    ess,
    log_z_ais,
    log_z_ais_reverse,
    log_z_grid,
    log_z_importance,
)
from gmcourse.sampling import ULA

LOG_2PI = math.log(2 * math.pi)


class Bell(nn.Module):
    """E = ‖x − mean‖²/2σ², so log Z = d/2 ln 2πσ², and exact samples are at hand."""

    def __init__(self, mean: float, sigma: float, d: int):
        super().__init__()
        self.mean, self.sigma, self.d = nn.Parameter(torch.tensor(mean)), sigma, d
        self.log_z = d * (LOG_2PI / 2 + math.log(sigma))

    def forward(self, x):
        return (x - self.mean).square().sum(1) / (2 * self.sigma**2)

    def exact(self, n: int, seed: int = 0) -> torch.Tensor:
        noise = torch.randn(n, self.d, generator=torch.Generator().manual_seed(seed))
        return self.mean.detach() + self.sigma * noise


TWO = GaussianMixture([0.3, 0.7], [[-1.5, 0.0], [1.5, 0.5]], [0.5, 0.6])
SHIFT = 3.7  # E = −log p + SHIFT has log Z = −SHIFT


def hilly(x):
    return SHIFT - TWO.log_prob(x)


def test_the_grid_integrates_known_energies():
    assert log_z_grid(Bell(0.5, 0.7, 2), Grid([(-5.0, 6.0)] * 2)) == pytest.approx(Bell(0.5, 0.7, 2).log_z, abs=1e-5)
    assert log_z_grid(hilly, Grid.around(TWO)) == pytest.approx(-SHIFT, abs=1e-9)


def test_the_grid_agrees_with_scipy_on_a_double_well():
    wanted, _ = integrate.quad(lambda x: math.exp(-((x**2 - 1) ** 2) * 3), -4, 4, epsabs=1e-13)
    assert log_z_grid(lambda x: 3 * (x**2 - 1) ** 2, Grid([(-4.0, 4.0)])) == pytest.approx(math.log(wanted), abs=1e-10)


def test_a_wall_of_infinite_energy_has_no_mass():
    quarter = log_z_grid(lambda x: torch.where(x > 0, 0.0, math.inf).sum(1).to(x), Grid([(-1.0, 1.0)] * 2, 100))
    assert quarter == pytest.approx(0.0, abs=1e-12)


def test_the_mean_weight_is_unbiased_for_z_and_its_logarithm_is_low():
    few = [log_z_importance(hilly, StandardNormal(2), n=10, seed=s) for s in range(500)]
    ratios = torch.tensor([found.value + SHIFT for found in few], dtype=torch.float64)
    z = ratios.exp()
    assert abs(z.mean() - 1) < 4 * z.std() / 500**0.5
    assert ratios.mean() < -5 * ratios.std() / 500**0.5


@pytest.mark.parametrize("d", [1, 3])
def test_the_ess_of_gaussian_ratios_has_its_closed_form(d):
    """n / E[w²] for E[w] = 1: with base N(0, I) and target N(0, s² I), E[w²] = (s √(2 − s²))^{−d}."""
    s, n = 0.6, 200_000
    found = log_z_importance(Bell(0.0, s, d), StandardNormal(d), n=n)
    assert found.ess == pytest.approx(n * (s * math.sqrt(2 - s**2)) ** d, rel=0.01)
    assert found.stderr == pytest.approx(math.sqrt(1 / found.ess - 1 / n), rel=1e-4)


def test_ess_counts_equal_weights_and_does_not_see_their_scale():
    assert ess(torch.zeros(7)) == pytest.approx(7) and ess(torch.tensor([0.0, -math.inf, 0.0])) == pytest.approx(2)
    w = torch.tensor([0.1, 0.5, 2.0, 0.0])
    assert ess(w.log() + 3000) == pytest.approx(float(w.sum() ** 2 / w.square().sum()), rel=1e-3)


def test_the_standard_error_is_the_scatter_over_repetitions():
    base = GaussianMixture([1.0], [[0.0, 0.0]], 1.4)
    found = [log_z_importance(hilly, base, n=400, seed=seed) for seed in range(200)]
    z = torch.tensor([(value + SHIFT) / stderr for value, stderr, _ in found])
    assert abs(z.mean()) < 0.35 and 0.8 < z.std() < 1.2


@pytest.mark.parametrize("seed", [0, 1])
def test_both_ways_find_the_known_z_within_their_standard_errors(seed):
    base, options = GaussianMixture([1.0], [[0.0, 0.0]], 1.4), {"stages": 25, "step": 0.5, "seed": seed}
    samples = TWO.sample(2000, generator=torch.Generator().manual_seed(seed + 10))
    for found in (log_z_ais(hilly, base, n=2000, **options), log_z_ais_reverse(hilly, base, samples, **options)):
        assert abs(found.value + SHIFT) < 4 * found.stderr < 0.15 and found.ess > 500


@pytest.mark.parametrize("stages", [3, 20])
def test_forward_annealing_is_unbiased_for_z_however_little_it_moves(stages):
    """E[w] = Z for any moves that keep the bridges."""
    x = StandardNormal(2).sample(20_000, generator=torch.Generator().manual_seed(0))
    betas = torch.linspace(0, 1, stages + 1).tolist()
    w = (annealed_log_weights(hilly, StandardNormal(2), x, betas, step=0.4, seed=1) + SHIFT).double().exp()
    assert abs(w.mean() - 1) < 4 * w.std() / 20_000**0.5


def test_moves_with_a_test_are_what_keeps_it_unbiased(monkeypatch):
    """The same with unadjusted moves of that size misses Z by many standard errors, so the test above can fail."""
    monkeypatch.setattr(partition, "MALA", ULA)
    x = StandardNormal(2).sample(20_000, generator=torch.Generator().manual_seed(0))
    betas = torch.linspace(0, 1, 21).tolist()
    w = (annealed_log_weights(hilly, StandardNormal(2), x, betas, step=0.4, seed=1) + SHIFT).double().exp()
    assert abs(w.mean() - 1) > 8 * w.std() / 20_000**0.5


@pytest.mark.parametrize("d", [2, 10])
def test_the_sandwich_holds_the_truth_and_closes_with_more_stages(d):
    """E[log w] < log Z < E of the same backwards, each by more than 4 standard errors; eight times the stages close it."""
    bell, gaps, chains = Bell(0.8, 0.5, d), [], 1000
    start = StandardNormal(d).sample(chains, generator=torch.Generator().manual_seed(3))
    for stages in (4, 32):
        betas, step = torch.linspace(0, 1, stages + 1).tolist(), lambda beta: 1 / (1 + 3 * beta)
        up = annealed_log_weights(bell, StandardNormal(d), start, betas, step=step, seed=1)
        down = -annealed_log_weights(bell, StandardNormal(d), bell.exact(chains), betas[::-1], step=step, seed=2)
        assert up.mean() + 4 * up.std() / chains**0.5 < bell.log_z < down.mean() - 4 * down.std() / chains**0.5
        gaps.append(down.mean() - up.mean())
    assert gaps[0] > 2.5 * gaps[1]


def test_annealing_succeeds_in_ten_dimensions_where_importance_sampling_fails():
    bell, base = Bell(1.0, 0.4, 10), StandardNormal(10)
    options = {"stages": torch.linspace(0, 1, 151) ** 2, "step": lambda beta: 1.2 / (1 + 5 * beta)}
    plain, bridged = log_z_importance(bell, base, n=2000), log_z_ais(bell, base, n=500, **options)
    assert plain.ess < 20 < 120 < bridged.ess
    upper = log_z_ais_reverse(bell, base, bell.exact(500), **options)
    for found in (bridged, upper):
        assert abs(found.value - bell.log_z) < 4 * found.stderr < 0.4


def test_a_mixture_on_the_line_agrees_with_quadrature():
    target, base = Mixture1D(), torch.distributions.Normal(0.0, 1.5)
    found = log_z_ais(lambda x: -2 * target.log_prob(x), base, n=1000, stages=40, step=0.02, moves=3)
    truth = log_z_grid(lambda x: -2 * target.log_prob(x), Grid.around(target))
    assert abs(found.value - truth) < 4 * found.stderr < 0.4


def test_one_stage_forward_is_importance_sampling():
    """With K = 1 nothing moves: the same weights, so the same relation of standard error and ESS to Z."""
    found = [log_z_ais(hilly, StandardNormal(2), n=4000, stages=1, seed=s) for s in range(3)]
    plain = log_z_importance(hilly, StandardNormal(2), n=200_000)
    for value, stderr, count in found:
        assert abs(value + SHIFT) < 4 * stderr and count / 4000 == pytest.approx(plain.ess / 200_000, rel=0.25)


def test_a_seed_fixes_everything_and_no_gradient_is_left_behind():
    bell, base, x = Bell(0.2, 0.8, 3), StandardNormal(3), Bell(0.2, 0.8, 3).exact(20)
    for estimate in (
        lambda seed: log_z_importance(bell, base, n=50, seed=seed),
        lambda seed: log_z_ais(bell, base, n=20, stages=5, seed=seed),
        lambda seed: log_z_ais_reverse(bell, base, x, stages=5, seed=seed),
    ):
        torch.manual_seed(0)
        state = torch.get_rng_state()
        assert estimate(1) == estimate(1) != estimate(2)
        assert torch.equal(state, torch.get_rng_state())
    assert bell.mean.grad is None
    assert str(LogZ(1.23456, 0.01234, 56.7)) == "1.235 ± 0.012 (ESS 57)"


NORMAL = StandardNormal(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_z_importance(hilly, NORMAL, n=1), "n must be at least 2"),
        (lambda: log_z_importance(hilly, hilly), "base must be able to sample"),
        (lambda: log_z_importance(lambda x: x, NORMAL), r"energy must return shape \(n,\)"),
        (lambda: log_z_importance(lambda x: -x.exp().exp().exp().sum(1), NORMAL), "energy must lie above -inf; got an over"),
        (lambda: log_z_importance(lambda x: x[:, 0] * 0 + math.inf, NORMAL), "no sample has any weight"),
        (lambda: log_z_ais(hilly, NORMAL, stages=0), "stages must be a positive whole number"),
        (lambda: log_z_ais(hilly, NORMAL, stages=[0.0, 0.7, 0.5, 1.0]), "betas that increase from 0 to 1; got"),
        (lambda: log_z_ais(hilly, NORMAL, stages=[0.0, 0.7]), "betas that increase from 0 to 1; got"),
        (lambda: log_z_ais(hilly, NORMAL, moves=0), "moves must be a positive whole number"),
        (lambda: log_z_ais(hilly, NORMAL, step=-0.1), "step must be positive; got -0.1"),
        (lambda: log_z_ais(lambda x: torch.where(x > 0, x, math.inf).sum(1), NORMAL), "same support"),
        (lambda: log_z_ais_reverse(hilly, NORMAL, torch.zeros(1, 2)), "at least 2 samples"),
        (lambda: ess(torch.zeros(2, 2)), r"log_weights must have shape \(n,\), n > 0; got \(2, 2\)"),
        (lambda: ess(torch.tensor([0.0, math.nan])), "log_weights must be numbers or -inf"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
