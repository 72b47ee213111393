"""Critically damped Langevin diffusion against its moment equations, scipy's matrix exponential, and exact scores."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from torch.distributions import MultivariateNormal

from gmcourse.data.mixtures import GaussianMixture
from gmcourse.data.toy1d import Mixture1D
from gmcourse.diffusion import cld_samplers
from gmcourse.diffusion.cld import CLD, exact_score
from gmcourse.diffusion.cld_samplers import SSCS, CLDEuler, CLDFlow
from gmcourse.sampling import odeint, sdeint

PLAIN, RISING, HEAVY = CLD(), CLD(2.0, slope=4.0), CLD(6.0, mass_inverse=0.25, gamma=4.0, gamma0=0.3, slope=-5.0)
each_cld = pytest.mark.parametrize("cld", [PLAIN, RISING, HEAVY], ids=["plain", "rising", "heavy"])
EYE = torch.eye(2, dtype=torch.float64)
WIDTH = 0.5  # of Gaussian data around 0


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def at(t):
    return torch.tensor(t, dtype=torch.float64)


def matrix(parts):
    """(xx, xv, vv) as symmetric matrices."""
    xx, xv, vv = parts[:3]
    return torch.stack([torch.stack([xx, xv], -1), torch.stack([xv, vv], -1)], -1)


def slides_34(cld):
    """A as the slides have it."""
    return torch.tensor([[0, cld.mass_inverse], [-1, -cld.gamma * cld.mass_inverse]], dtype=torch.float64)


def solved(cld, start, times):
    """Covariances (k, 2, 2) at `times` by the moment equation Σ' = β (A Σ + Σ Aᵀ + [0, 0; 0, 2Γ])."""
    a, noise = slides_34(cld).numpy(), [[0, 0], [0, 2 * cld.gamma]]

    def rates(t, y):
        s = y.reshape(2, 2)
        return ((cld.beta + cld.slope * t) * (a @ s + s @ a.T + noise)).ravel()

    path = solve_ivp(rates, (0, times[-1]), start.numpy().ravel(), "DOP853", times, rtol=1e-11, atol=1e-13)
    return torch.tensor(path.y.T.reshape(-1, 2, 2))


def gaussian_law(cld, t):
    """Covariance of u_t for data N(0, WIDTH²)."""
    return matrix(cld.covariance(t, (WIDTH**2, 0.0, cld.gamma0 / cld.mass_inverse)))


def gaussian_score(cld):
    """∇_v log p_t of those data, u (n, 2)."""
    return lambda u, t: -torch.linalg.solve(gaussian_law(cld, t), u)[:, 1]


@each_cld
@pytest.mark.parametrize("start", ["zero", "hybrid", "wide"])
def test_covariances_solve_the_moment_equation(cld, start):
    mass = 1 / cld.mass_inverse
    parts = {"zero": (0.0, 0.0, 0.0), "hybrid": (0.0, 0.0, cld.gamma0 * mass), "wide": (2.0, 0.3, mass)}[start]
    times = torch.linspace(0, 1, 9, dtype=torch.float64)
    found = matrix(cld.covariance(times, None if start == "hybrid" else parts))
    assert torch.allclose(found, solved(cld, matrix([at(p) for p in parts]), times.numpy()), atol=1e-9)


@pytest.mark.parametrize(
    ("start", "t", "wanted"),
    [
        ((0, 0, 0), 0.05, (0.047422, 0.071893, 0.191588)),
        ((0, 0, 0), 0.25, (0.761900, 0.073262, 0.227105)),
        ((0, 0, 0), 1.0, (0.999984, 7.2e-6, 0.249997)),
        (None, 0.05, (0.050298, 0.074050, 0.193205)),
        (None, 0.25, (0.764830, 0.072530, 0.227289)),
    ],
)
def test_the_covariance_at_the_papers_settings(start, t, wanted):
    assert [float(p) for p in PLAIN.covariance(at(t), start)] == pytest.approx(wanted, abs=5e-6)


@each_cld
def test_the_mean_is_the_exponential_of_the_drift(cld):
    times = torch.linspace(0, 1, 5, dtype=torch.float64)
    a = slides_34(cld).numpy()
    wanted = [torch.tensor(expm(a * (cld.beta * t + cld.slope * t * t / 2))) for t in times.tolist()]
    assert torch.allclose(cld.mean_matrix(times), torch.stack(wanted), atol=1e-12)
    assert torch.allclose(cld.mean_matrix(times[2]), wanted[2], atol=1e-12)


@each_cld
def test_drift_and_noise_are_those_of_the_slides(cld):
    t = at([0.1, 0.7])
    beta = cld.beta + cld.slope * t
    assert torch.allclose(cld.drift(EYE, t), beta[:, None] * slides_34(cld).T)
    assert torch.allclose(cld.diffusion(t), (2 * cld.gamma * beta).sqrt())


def test_tiny_times_keep_their_digits_in_float32():
    """From u_0 known, Σ_xx = ⅔ Γ M⁻² B³ to first order, where 1 − (…) would leave nothing."""
    t = torch.tensor([1e-7, 1e-6, 1e-5])
    found, b = PLAIN.covariance(t, (0.0, 0.0, 0.0)).xx.double(), 4 * t.double()
    assert torch.allclose(found, 2 / 3 * 16 * b**3, rtol=4e-4) and PLAIN.covariance(t).xx.dtype == torch.float32


@each_cld
def test_who_is_at_rest_stays_at_rest_and_all_come_to_rest(cld):
    rest = matrix([at(1.0), at(0.0), at(1 / cld.mass_inverse)])
    times = torch.linspace(0, 1, 7, dtype=torch.float64)
    assert torch.allclose(matrix(cld.covariance(times, (1.0, 0.0, 1 / cld.mass_inverse))), rest.expand(7, 2, 2))
    late = matrix(cld.spread(at(80.0), (3.0, -0.2, 0.1)))
    assert torch.allclose(late, rest, atol=1e-9) and cld.propagator(at(80.0)).abs().max() < 1e-9


@each_cld
def test_the_factor_is_choleskys_and_ell_the_slope_of_the_velocity(cld):
    t = at([1e-3, 0.05, 0.4, 1.0])
    a, b, c = cld.covariance(t).factor()
    wanted = torch.linalg.cholesky(matrix(cld.covariance(t)))
    assert torch.allclose(torch.stack([a, b, c]), torch.stack([wanted[:, 0, 0], wanted[:, 1, 0], wanted[:, 1, 1]]))
    xx = cld.covariance(t).xx
    assert torch.allclose(1 / c, (xx / torch.linalg.det(matrix(cld.covariance(t)))).sqrt())


def test_critical_damping_forgets_fastest():
    """The slowest mode of A decays at 1/√M; for any other Γ it decays slower."""
    slowest = [max(torch.linalg.eigvals(slides_34(PLAIN) + at([[0, 0], [0, -4 * g]])).real) for g in (-0.5, 0.0, 0.5)]
    assert slowest[1] < min(slowest[0], slowest[2]) - 0.1 and slowest[1] == pytest.approx(-2, abs=1e-6)


@each_cld
def test_the_prior_is_the_law_at_rest(cld):
    prior, covariance = cld.prior((3,)), torch.tensor([1.0, 1 / cld.mass_inverse]).repeat_interleave(3).diag()
    law = MultivariateNormal(torch.zeros(6), covariance)
    u = prior.sample(20_000, generator=seeded())
    assert u.shape == (20_000, 2, 3) and prior.event_shape == (2, 3)
    assert torch.allclose(prior.log_prob(u), law.log_prob(u.flatten(1)), atol=1e-4)
    wanted = covariance.diag()
    assert ((u.flatten(1).var(0) - wanted).abs() < 4.5 * wanted * (2 / 20_000) ** 0.5).all()


@pytest.mark.parametrize("cld", [PLAIN, RISING], ids=["plain", "rising"])
@pytest.mark.parametrize("data", [Mixture1D(), GaussianMixture([0.3, 0.7], [[1.0, -0.5], [-1.0, 0.4]], [0.2, 0.6])])
def test_the_exact_score_is_the_slope_of_the_joint_density(cld, data):
    """∇_v by autograd of a mixture of Gaussians over (x, v), whose moments come from scipy."""
    k, d = len(data.means), data.event_shape.numel()
    u = torch.randn(40, 2, *data.event_shape, generator=seeded(), dtype=torch.float64)
    for t in (0.05, 0.3, 0.9):
        mean = torch.tensor(expm(slides_34(cld).numpy() * float(cld.clock(t))))[:, 0]
        terms = []
        y = u.clone().requires_grad_()
        for weight, m, sigma in zip(data.weights, data.means.reshape(k, d), data.sigmas, strict=True):
            start = torch.diag(at([float(sigma) ** 2, cld.gamma0 / cld.mass_inverse]))
            law = MultivariateNormal(torch.zeros(2, dtype=torch.float64), solved(cld, start, [t])[0])
            terms.append(weight.log() + law.log_prob(y.reshape(40, 2, d).mT - m[:, None] * mean).sum(1))
        (slope,) = torch.autograd.grad(torch.stack(terms).logsumexp(0).sum(), y)
        assert torch.allclose(exact_score(cld, data)(u, at(t).expand(40)), slope[:, 1], rtol=1e-6, atol=1e-6)


@each_cld
def test_the_probability_flow_preserves_the_laws(cld):
    """On Gaussians it is a linear map F, and F Σ(t) Fᵀ = Σ(s), forward and back."""
    flow = cld.probability_flow(gaussian_score(cld))
    for t, s in ((0.05, 0.9), (0.9, 0.05)):
        f = odeint(lambda t, u: flow(u, t), EYE, (t, s), steps=150).end.mT
        assert torch.allclose(f @ gaussian_law(cld, at(t)) @ f.mT, gaussian_law(cld, at(s)), atol=1e-6)


@each_cld
def test_the_reverse_diffusion_has_the_laws_of_the_forward_one(cld):
    """Its moment equation, its drift matrix read off from unit vectors; noise enters as time falls."""
    drift = cld.reverse(gaussian_score(cld))

    def rates(t, y):
        a, s = drift(EYE, at(t)).mT.numpy(), y.reshape(2, 2)
        return (a @ s + s @ a.T - [[0, 0], [0, float(cld.diffusion(at(t))) ** 2]]).ravel()

    start = gaussian_law(cld, at(1.0)).numpy().ravel()
    end = solve_ivp(rates, (1, 0.05), start, "DOP853", rtol=1e-10, atol=1e-12).y[:, -1]
    assert torch.allclose(torch.tensor(end.reshape(2, 2)), gaussian_law(cld, at(0.05)), atol=1e-7)


def test_forward_simulation_reaches_the_covariance():
    n, g = 10_000, torch.tensor([[0.0], [1.0]])
    v = 0.1 * torch.randn(n, generator=seeded())
    u = torch.stack([torch.zeros(n), v], 1)[..., None]
    end = sdeint(
        lambda t, u: RISING.drift(u, t), lambda t, u: RISING.diffusion(t) * g, u, (0, 0.4), steps=200, generator=seeded(1)
    ).end
    found, wanted = end.squeeze(2).mT.double().cov(), matrix(RISING.covariance(at(0.4)))
    error = ((wanted.square() + wanted.diag()[:, None] * wanted.diag()) / n).sqrt()
    assert ((found - wanted).abs() < 5 * error + 0.005).all()


def law_of_a_sampler(sampler, monkeypatch, times):
    """Its law at the last of `times` from the true one at the first, without chance: the step is linear in u and noise.

    Rows 0 and 1 follow the unit vectors of u; each further row is the answer to one number of the noise.
    """
    covariance, moved = gaussian_law(sampler.cld, at(times[0])), EYE
    for t, s in zip(times[:-1], times[1:], strict=True):
        used = 2

        def noise(u, _):
            nonlocal used
            z = torch.zeros_like(u)
            numbers = u[0].numel()
            z.reshape(len(u), -1)[used : used + numbers] = torch.eye(numbers, dtype=u.dtype)
            used += numbers
            return z

        monkeypatch.setattr(cld_samplers, "normal_like", noise)
        answers = sampler.step(torch.cat([EYE, torch.zeros(4, 2, dtype=torch.float64)]), t, s)
        p, responses = answers[:2].mT, answers[2:]
        covariance, moved = p @ covariance @ p.mT + responses.mT @ responses, p @ moved
    return covariance, moved


@pytest.mark.parametrize("cld", [PLAIN, RISING], ids=["plain", "rising"])
@pytest.mark.parametrize(
    ("make", "order", "evaluations"),
    [(CLDEuler, 1, 1), (SSCS, 1, 1), (lambda *a: SSCS(*a, order=2), 2, 2), (CLDFlow, 2, 2)],
    ids=["em", "sscs", "sscs2", "flow"],
)
def test_samplers_have_their_weak_order(cld, make, order, evaluations, monkeypatch):
    calls = []
    score = gaussian_score(cld)
    sampler = make(cld, lambda u, t: calls.append(t) or score(u, t))
    errors = []
    for steps in (64, 128):
        times = torch.linspace(0.6, 0.3, steps + 1, dtype=torch.float64).tolist()
        errors.append((law_of_a_sampler(sampler, monkeypatch, times)[0] - gaussian_law(cld, at(0.3))).norm())
    assert len(calls) == 192 * evaluations == 192 * sampler.evaluations
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.4)
    assert errors[1] < (0.02 if order == 1 else 2e-4)


@pytest.mark.parametrize("cld", [PLAIN, RISING], ids=["plain", "rising"])
@pytest.mark.parametrize("order", [1, 2])
def test_sscs_is_exact_at_rest_whatever_beta_does(cld, order, monkeypatch):
    """With s = −M⁻¹v only the linear part is left: three steps take e^{B(1)}, and the law at rest stays what it is."""
    sampler = SSCS(cld, lambda u, t: -cld.mass_inverse * u[:, 1], order=order)
    times = [1.0, 0.8, 0.3, 0.0]
    monkeypatch.setattr(f"{__name__}.gaussian_law", lambda cld, t: torch.diag(at([1.0, 1 / cld.mass_inverse])))
    covariance, moved = law_of_a_sampler(sampler, monkeypatch, times)
    back = slides_34(cld).numpy() * [[1, -1], [-1, 1]]
    assert torch.allclose(moved, torch.tensor(expm(back * (cld.beta + cld.slope / 2))), atol=1e-12)
    assert torch.allclose(covariance, gaussian_law(cld, None), atol=1e-12)
    frozen = sum((cld.beta + cld.slope * t) * (t - s) for t, s in zip(times[:-1], times[1:], strict=True))  # the pitfall
    assert (frozen == pytest.approx(4)) == (cld is PLAIN)


U, T = torch.zeros(3, 2, 2), torch.full((3,), 0.5)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: CLD(gamma=2.0), r"gamma must be 2/√mass_inverse = 1, critical damping; got 2.0"),
        (lambda: CLD(mass_inverse=-1.0), "mass_inverse must be positive; got -1.0"),
        (lambda: CLD(gamma0=0.0), "gamma0 must be positive; got 0.0"),
        (lambda: CLD(1.0, slope=-2.0), r"beta and slope must make β\(t\) ≥ 0 .* got 1 at t = 0, -1 at t = 1"),
        (lambda: PLAIN.covariance(torch.tensor([0.5, 1.5])), r"t must lie in \[0, 1\]; got values from 0.5 to 1.5"),
        (lambda: PLAIN.drift(torch.zeros(3, 3, 2), T), r"u must be floats of shape \(n, 2, .*got \(3, 3, 2\)"),
        (lambda: PLAIN.probability_flow(lambda u, t: u)(U, T), r"score must .* of x, \(3, 2\); got \(3, 2, 2\)"),
        (lambda: CLDEuler(PLAIN, lambda u, t: u).step(U, 0.5, 0.4), r"score must return the shape of x"),
        (lambda: CLDFlow(PLAIN, lambda u, t: u[:, 1]).step(U, 0.5, 0.6), "must satisfy 1 ≥ t > s ≥ 0; got t = 0.5, s = 0.6"),
        (lambda: SSCS(PLAIN, lambda u, t: u[:, 1], order=3), "order must be 1 or 2; got 3"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
