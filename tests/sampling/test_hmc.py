"""HMC: leapfrog is reversible, keeps volume and errs by ε²; the test makes the rest exact."""

import math

import pytest
import torch
from problems.gaussian_energy import GRID, SIGMA, GaussianEnergy, double_well, well_moment

from gmcourse.sampling import HMC, MALA


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=99):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def banana(x):
    """An energy that is no sum over coordinates and no quadratic."""
    return x[:, 0].square() / 2 + 2 * (x[:, 1] - x[:, 0].square() / 2).square()


MASSES = pytest.mark.parametrize("mass", [None, [0.5, 2.0], SIGMA], ids=["unit", "diagonal", "matrix"])


@MASSES
def test_leapfrog_backwards_leads_back(mass):
    sampler = HMC(banana, step=0.1, leaps=15, mass=mass)
    there, v = sampler.leapfrog(sampler.start(normal(20, 2)), normal(20, 2, seed=5))
    back, u = sampler.leapfrog(there, -v)
    assert torch.allclose(back.x, normal(20, 2), atol=1e-10) and torch.allclose(-u, normal(20, 2, seed=5), atol=1e-10)
    assert (there.x - back.x).abs().min(1).values.max() > 0.1


@MASSES
def test_leapfrog_keeps_volume(mass):
    """det ∂(x', v')/∂(x, v) = 1, by central differences."""
    sampler = HMC(banana, step=0.2, leaps=5, mass=mass)
    point, h = torch.cat([normal(2), normal(2, seed=3)]), 1e-5
    shifted = point + h * torch.cat([torch.eye(4).double(), -torch.eye(4).double()])
    end, v = sampler.leapfrog(sampler.start(shifted[:, :2]), shifted[:, 2:])
    ends = torch.cat([end.x, v], 1)
    jacobian = (ends[:4] - ends[4:]).T / (2 * h)
    assert (jacobian - torch.eye(4)).abs().max() > 0.5
    assert torch.linalg.det(jacobian).item() == pytest.approx(1.0, abs=1e-7)


@MASSES
def test_the_energy_error_is_of_order_two_in_the_step(mass):
    """Over a fixed time, max |ΔH| falls by four when the step is halved."""
    errors = []
    for k in (20, 40, 80, 160):
        sampler = HMC(banana, step=1.0 / k, leaps=k, mass=mass)
        state, v = sampler.start(normal(50, 2)), normal(50, 2, seed=5)
        end, u = sampler.leapfrog(state, v)
        errors.append((sampler.hamiltonian(end, u) - sampler.hamiltonian(state, v)).abs().mean())
    slopes = (torch.stack(errors).log().diff() / math.log(0.5)).tolist()
    assert slopes[1:] == pytest.approx([2.0, 2.0], abs=0.1)


@MASSES
def test_leapfrog_follows_the_exact_motion_of_a_gaussian(mass):
    """ẍ = −W⁻¹x from rest: x(t) = cos(√W⁻¹ t) x(0), by the eigenvectors of W."""
    matrix = torch.eye(2).double() if mass is None else torch.as_tensor(mass, dtype=torch.float64)
    matrix = matrix.diag() if matrix.ndim == 1 else matrix
    values, vectors = torch.linalg.eigh(matrix)
    x = normal(10, 2)
    sampler = HMC(GaussianEnergy(), step=1e-3, leaps=1000, mass=mass)
    end, _ = sampler.leapfrog(sampler.start(x), torch.zeros_like(x))
    assert torch.allclose(end.x, x @ vectors @ values.rsqrt().cos().diag() @ vectors.T, atol=1e-5)


def test_one_leap_is_mala():
    """ε² = η: the same proposals, the same tests, so from the same seed the same chain."""
    x = normal(100, 2)
    a = HMC(banana, step=0.5, leaps=1, temperature=1.3).trace(x, 30, generator=seeded())
    b = MALA(banana, step=0.25, temperature=1.3).trace(x, 30, generator=seeded())
    assert torch.allclose(a.x, b.x, atol=1e-9) and torch.equal(a.acceptance, b.acceptance)
    assert 0.5 < a.acceptance.mean() < 0.99


@pytest.mark.parametrize("step", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("options", [{}, {"temperature": 2.0}, {"mass": [0.3]}])
def test_hmc_keeps_the_double_well_at_any_step_size(step, options):
    temperature = options.get("temperature", 1.0)
    cdf = (-double_well(GRID) / temperature).softmax(0).cumsum(0)
    u = torch.rand(20_000, generator=seeded(7), dtype=torch.float64)
    x = GRID[torch.searchsorted(cdf, u).clamp(max=len(GRID) - 1)]
    found = HMC(double_well, step=step, leaps=4, **options).run(x, 25, generator=seeded())
    for power in (1, 2, 4):
        error = found.pow(power).std() / len(x) ** 0.5
        assert abs(found.pow(power).mean() - well_moment(power, temperature)) < 4.5 * error


def test_hmc_finds_a_correlated_gaussian_from_a_point():
    energy, n = GaussianEnergy(torch.linalg.inv(SIGMA)), 5000
    for mass in (None, torch.linalg.inv(SIGMA)):
        found = HMC(energy, step=0.25, leaps=7, mass=mass).run(torch.zeros(n, 2).double(), 30, generator=seeded())
        error = ((SIGMA.square() + SIGMA.diag()[:, None] * SIGMA.diag()) / n).sqrt()
        assert ((found.T.cov() - SIGMA).abs() < 4.5 * error).all()


def test_runaway_trajectories_are_rejected():
    """Far above 2/√L every proposal overflows; the chains stay where they are, finite."""
    x = normal(20, 2)
    trace = HMC(lambda x: x.pow(4).sum(1), step=5.0, leaps=20).trace(x, 10, generator=seeded())
    assert torch.equal(trace.x[-1], x) and (trace.acceptance == 0).all()
