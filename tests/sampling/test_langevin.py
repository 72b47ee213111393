"""Langevin samplers against the laws they must have: closed forms for Gaussians, quadrature for a double well."""

import math
from functools import partial

import pytest
import torch
from problems.gaussian_energy import GRID, SIGMA, GaussianEnergy, double_well, well_moment

from gmcourse.data.toy1d import Mixture1D
from gmcourse.sampling import MALA, ULA, bias_against_step

N = 40_000


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape):
    return torch.randn(*shape, generator=seeded(99), dtype=torch.float64)


def within(value, truth, sigmas=4.5):
    """A variance from N independent chains: its standard error is truth·√(2/N)."""
    return abs(value - truth) < sigmas * abs(truth) * (2 / N) ** 0.5


@pytest.mark.parametrize(("step", "precision"), [(0.1, 1.0), (1.0, 1.0), (2.0, 1.0), (0.3, 5.0), (1.0, 0.25)])
def test_ula_on_a_gaussian_has_its_biased_variance(step, precision):
    """1/(λ(1 − ηλ/4)), from the fixed point of v = (1 − ηλ/2)² v + η."""
    x = normal(N) / precision**0.5
    found = ULA(GaussianEnergy(precision), step=step).run(x, 60, generator=seeded())
    assert within(found.square().mean(), 1 / (precision * (1 - step * precision / 4)))


@pytest.mark.parametrize("step", [0.5, 2.0])
def test_preconditioned_by_the_covariance_every_direction_has_the_same_bias(step):
    """M = Σ makes the chain that of N(0, I) in y = L⁻¹x, so the covariance is Σ/(1 − η/4)."""
    energy = GaussianEnergy(torch.linalg.inv(SIGMA))
    x = normal(N, 2) @ torch.linalg.cholesky(SIGMA).mT
    found = ULA(energy, step=step, preconditioner=SIGMA).run(x, 40, generator=seeded()).T.cov()
    wanted = SIGMA / (1 - step / 4)
    error = ((wanted.square() + wanted.diag()[:, None] * wanted.diag()) / N).sqrt()  # Wishart
    assert ((found - wanted).abs() < 4.5 * error).all()


def test_a_diagonal_preconditioner_is_the_matrix_with_that_diagonal():
    x, diagonal = normal(50, 3), torch.tensor([0.5, 1.0, 3.0])
    runs = [
        make(GaussianEnergy(), step=0.4, preconditioner=m).run(x, 10, generator=seeded())
        for make in (ULA, MALA)
        for m in (diagonal, diagonal.diag())
    ]
    assert torch.allclose(runs[0], runs[1]) and torch.allclose(runs[2], runs[3])


def test_preconditioning_is_the_same_chain_in_other_coordinates():
    """On y = L⁻¹x with energy E(Ly), the plain sampler does the same, step by step, tests included."""
    root = torch.linalg.cholesky(SIGMA)
    y = normal(200, 2)

    def energy(x):
        return x[:, 0].square() / 2 + x[:, 1].pow(4) + x.prod(1) / 3

    for make in (ULA, MALA):
        inside = make(lambda y: energy(y @ root.mT), step=0.3).run(y, 20, generator=seeded())
        outside = make(energy, step=0.3, preconditioner=SIGMA).run(y @ root.mT, 20, generator=seeded())
        assert torch.allclose(inside @ root.mT, outside, atol=1e-10)


def ula_second_moment(step):
    """E[x²] of ULA on the double well without any noise: the stationary vector of its kernel on a grid.

    The drift is taken from the sampler itself (a step at temperature 0); the noise is N(0, η).
    """
    grid = torch.linspace(-2.5, 2.5, 501, dtype=torch.float64)
    mean = ULA(double_well, step=step, temperature=0.0).run(grid, 1)
    log_kernel = -(grid - mean[:, None]).square() / (2 * step)
    kernel = log_kernel.softmax(1)
    for _ in range(17):  # 2^17 steps
        kernel = kernel @ kernel
        kernel = kernel / kernel.sum(1, keepdim=True)
    return float(kernel[len(grid) // 2] @ grid.square())


def test_the_bias_of_ula_is_of_order_one_in_the_step():
    steps = torch.tensor([0.001, 0.002, 0.004, 0.008], dtype=torch.float64)
    bias = torch.tensor([ula_second_moment(float(step)) - well_moment(2) for step in steps], dtype=torch.float64).abs()
    slope = (bias.log().diff() / steps.log().diff()).tolist()
    assert slope == pytest.approx([1.0] * 3, abs=0.05)


def test_bias_against_step_finds_the_bias_of_ula_and_none_of_mala():
    """On N(0, 1): E[x²] − 1 = (η/4)/(1 − η/4) for ULA, 0 for MALA."""
    steps = [0.2, 0.5, 1.0]
    x0, options = normal(1000), {"steps": 200, "skip": 40, "generator": seeded()}
    for kind, wanted in ((ULA, [s / 4 / (1 - s / 4) for s in steps]), (MALA, [0.0] * 3)):
        make = partial(lambda kind, step: kind(GaussianEnergy(), step=step), kind)
        found = bias_against_step(make, x0, torch.square, 1.0, steps, **options)
        assert ((found.value - torch.tensor(wanted)).abs() < 4.5 * found.stderr).all()
        assert found.stderr.max() < 0.02


def start_in_the_wells(n, temperature=1.0):
    """Draws of the double well by inversion on the grid: chains start in their stationary law."""
    cdf = (-double_well(GRID) / temperature).softmax(0).cumsum(0)
    return GRID[torch.searchsorted(cdf, torch.rand(n, generator=seeded(7), dtype=torch.float64)).clamp(max=len(GRID) - 1)]


@pytest.mark.parametrize("step", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("options", [{}, {"clip": 1.0}, {"temperature": 2.0}, {"preconditioner": [3.0]}])
def test_mala_keeps_the_double_well_at_any_step_size(step, options):
    """A stationary start must stay: the moments of 20 000 chains after 100 tests against quadrature."""
    temperature = options.get("temperature", 1.0)
    x = start_in_the_wells(20_000, temperature)
    found = MALA(double_well, step=step, **options).run(x, 100, generator=seeded())
    for power in (1, 2, 4):
        error = found.pow(power).std() / len(x) ** 0.5
        assert abs(found.pow(power).mean() - well_moment(power, temperature)) < 4.5 * error


def test_ula_with_that_step_does_not_keep_it():
    """The test above can fail: without the accept step the second moment is off by many standard errors."""
    found = ULA(double_well, step=0.05).run(start_in_the_wells(20_000), 100, generator=seeded()).square()
    assert abs(found.mean() - well_moment(2)) > 7 * found.std() / len(found) ** 0.5


def test_mala_with_any_drift_finds_the_mixture():
    """From outside the law, and with a drift that is not the score: the test alone makes it right."""
    data = Mixture1D([0.5, 0.5], [-0.8, 0.8], 0.5)
    sampler = MALA(lambda x: -data.log_prob(x), score=lambda x: -x / 2, step=0.6)
    found = sampler.run(normal(10_000), 100, generator=seeded())
    for x, p in ((torch.tensor(v), data.cdf(torch.tensor(v))) for v in (-1.0, -0.4, 0.0, 0.7)):
        assert abs((found <= x).double().mean() - p) < 4.5 * (p * (1 - p) / len(found)) ** 0.5


def test_acceptance_of_mala_falls_with_the_step_and_is_one_in_the_limit():
    rates = [MALA(double_well, step=s).trace(start_in_the_wells(500), 50).acceptance.mean() for s in (1e-4, 0.05, 0.3, 1.0)]
    assert rates[0] > 0.998 and all(a > b for a, b in zip(rates, rates[1:], strict=False))


def test_at_temperature_zero_ula_is_gradient_descent():
    x = normal(5, 3)
    assert torch.allclose(ULA(GaussianEnergy(), step=0.2, temperature=0.0).run(x, 7), 0.9**7 * x)


def test_clipping_limits_the_length_of_the_drift_chain_by_chain():
    x = torch.tensor([[0.3, 0.4], [30.0, 40.0]])
    moved = ULA(GaussianEnergy(), step=2.0, temperature=0.0, clip=1.0).run(x, 1) - x
    assert torch.allclose(moved, torch.tensor([[-0.3, -0.4], [-0.6, -0.8]]))


def test_clipped_ula_survives_a_quartic_from_far_out():
    def energy(x):
        return x.pow(4).sum(1)

    x = torch.full((10, 2), 20.0)
    assert ULA(energy, step=0.05, clip=10.0).run(x, 300, generator=seeded()).abs().max() < 5
    with pytest.raises(FloatingPointError):
        ULA(energy, step=0.05).run(x, 300)


def test_diverged_chains_are_counted_and_the_limit_is_named():
    """η > 4/λ: |1 − ηλ/2| > 1. The second coordinate, which stays, is λ; two of the five are too stiff for the step."""

    def score(x):
        return torch.stack([-x[:, 1] * x[:, 0], torch.zeros(len(x))], 1)

    x = torch.tensor([[1.0, 39.0], [1.0, 1.0], [1.0, 100.0], [1.0, 20.0], [-1.0, 50.0]])
    with pytest.raises(FloatingPointError, match="2 of 5 chains diverged; use a smaller step: .* step < 4/L"):
        ULA(score=score, step=0.1, temperature=0.0).run(x, 300)


def test_ula_is_stable_up_to_four_over_l():
    x = normal(100).float()
    assert ULA(GaussianEnergy(), step=3.9).run(x, 500, generator=seeded()).abs().max() < 50
    with pytest.raises(FloatingPointError, match="100 of 100 chains"):
        ULA(GaussianEnergy(), step=4.5).run(x, 600, generator=seeded())


def test_mala_rejects_proposals_without_a_finite_energy():
    """On [−1, 1] only, the energy is finite: what is left is the truncated Gaussian, E[x²] = 0.29112."""

    def energy(x):
        return torch.where(x.abs() < 1, x.square() / 2, torch.full_like(x, math.nan))

    found = MALA(energy, step=0.8).run(0.5 * normal(20_000).clamp(-1.5, 1.5), 100, generator=seeded())
    phi, mass = math.exp(-0.5) / math.sqrt(2 * math.pi), math.erf(1 / math.sqrt(2))
    error = found.square().std() / len(found) ** 0.5
    assert abs(found.square().mean() - (1 - 2 * phi / mass)) < 4.5 * error


def test_mala_rejects_proposals_of_minus_infinite_energy():
    """An overflow must not look like a perfect fit."""

    def energy(x):
        return torch.where(x < 1, x.square() / 2, torch.full_like(x, -math.inf))

    found = MALA(energy, step=0.8).run(torch.zeros(200), 50, generator=seeded())
    assert found.max() < 1 and found.std() > 0.3
