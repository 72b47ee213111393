"""What every density of the plane promises, and the numbers that define each of them."""

import copy
import math
import pickle
import time

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from gmcourse.data import toy2d
from gmcourse.data.known import KnownDensity

F64 = torch.float64
NOISE = (0.8, 0.3)


def density(name: str) -> KnownDensity:
    """The set of that name; after a `~`, with noise added."""
    return toy2d.get(name[1:]).diffused(*NOISE) if name.startswith("~") else toy2d.get(name)


SHARP = list(toy2d.NAMES)
ALL = SHARP + ["~" + name for name in SHARP]
every = pytest.mark.parametrize("name", ALL)
every_sharp = pytest.mark.parametrize("name", SHARP)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def width(p: KnownDensity) -> float:
    """σ of the Gaussians that p is made of; 0 for the sharp checkerboard."""
    return float(p.sigmas[0] if hasattr(p, "sigmas") else p.sigma)


def cell_centres(reach: float, step: float) -> torch.Tensor:
    """Centres of the square cells of side `step` that tile [−reach, reach]², (n, n, 2), float64."""
    axis = torch.arange(-reach, reach, step, dtype=F64) + step / 2
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)


def around(p: KnownDensity, n: int, seed: int = 0) -> torch.Tensor:
    """n points in float64: half of them samples, half anywhere in the window of p."""
    low, high = torch.tensor(p.extent, dtype=F64).view(2, 2).unbind(1)
    anywhere = low + (high - low) * torch.rand(n - n // 2, 2, generator=seeded(seed), dtype=F64)
    return torch.cat([p.sample((n // 2,), generator=seeded(seed)).to(F64), anywhere])


def p_value_of_samples(p: KnownDensity, x: torch.Tensor) -> float:
    """Pearson's χ² test of samples x against log_prob integrated over the bins of a histogram, of side 1/8."""
    reach = math.ceil(max(map(abs, p.extent)))
    bins, fine = 16 * reach, math.ceil(0.5 / (width(p) or 0.1))  # steps of σ/4
    masses = p.log_prob(cell_centres(reach, 1 / 8 / fine)).exp() / (8 * fine) ** 2
    expected = masses.view(bins, fine, bins, fine).sum((1, 3)).numpy() * len(x)
    found = np.histogram2d(*x.numpy().T, bins=bins, range=[[-reach, reach]] * 2)[0]
    rich = expected >= 5
    expected = np.append(expected[rich], len(x) - expected[rich].sum())
    found = np.append(found[rich], len(x) - found[rich].sum())
    keep = expected > 1e-3
    return chi2.sf(((found - expected)[keep] ** 2 / expected[keep]).sum(), keep.sum() - 1)


@every
def test_density_integrates_to_one(name):
    """Cells of side 1/80 match the squares of the board, and are finer than every σ."""
    mass = density(name).log_prob(cell_centres(3.6, 1 / 80)).exp().sum() / 80**2
    assert abs(mass - 1) < 2e-7


@every
@pytest.mark.parametrize("n", [400, 6000], ids=["few", "many"])  # the curves sum few and many points in different ways
def test_score_is_the_gradient_of_log_prob(name, n):
    p = density(name)
    x = around(p, n)
    x = x[p.log_prob(x).isfinite()].requires_grad_()
    gradient = torch.autograd.grad(p.log_prob(x).sum(), x)[0]
    assert torch.allclose(p.score(x), gradient, rtol=1e-9, atol=1e-9 * (1 + gradient.abs().max().item()))


@every
def test_log_prob_has_second_derivatives(name):
    """The Hessian of log p, by differentiating the score, equals that by differentiating log_prob twice."""
    p = density(name)
    x = p.sample((2,), generator=seeded()).to(F64)
    by_score = torch.stack([torch.autograd.functional.jacobian(p.score, point[None])[0, :, 0] for point in x])
    twice = torch.stack([torch.autograd.functional.hessian(lambda v: p.log_prob(v), point) for point in x])
    assert torch.allclose(by_score, twice, rtol=1e-8, atol=1e-7)


@every
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("n", [64, 6000], ids=["few", "many"])
def test_far_points_have_finite_correct_values(name, dtype, n):
    """At a distance R ≫ 1 every density is like a Gaussian at the origin: log p ≈ −R²/2σ², score ≈ −x/σ²."""
    p = density(name)
    if name == "checkerboard":
        assert (p.log_prob(torch.tensor([[3e3, 4e3]])) == -math.inf).all()
        assert (p.score(torch.tensor([[3e3, 4e3]])) == 0).all()
        return
    sigma = width(p)
    direction = torch.randn(n, 2, generator=seeded(), dtype=dtype)
    for distance in (1e3, 1e7, 1e12):
        x = (distance * direction / direction.norm(dim=1, keepdim=True)).requires_grad_()
        log_p, score = p.log_prob(x), p.score(x).detach()
        slope = torch.autograd.grad(log_p.sum(), x)[0]
        assert torch.allclose(log_p, torch.full_like(log_p, -(distance**2) / (2 * sigma**2)), rtol=8e-3)
        for value in (score, slope):
            assert ((value * sigma**2 + x.detach()).norm(dim=1) < 4e-3 * distance).all()


@every
def test_absurd_points_give_no_nan(name):
    """1e30² is beyond float32: log p ends at its lowest number, and no NaN appears."""
    p, x = density(name), torch.tensor([[1e30, -1e30], [0.5, 0.5]])
    log_p = p.log_prob(x)
    assert not log_p.isnan().any() and not p.score(x).isnan().any()
    assert log_p[0] < -1e37 and torch.equal(log_p[1:], p.log_prob(x[1:]))


@every
@pytest.mark.parametrize("n", [3, 6000], ids=["few", "many"])
def test_nan_stays_where_it_is(name, n):
    p = density(name)
    x = p.sample((n,), generator=seeded())
    clean = p.log_prob(x.double())
    x[1, 0] = math.nan
    log_p = p.log_prob(x.double())
    assert log_p[1].isnan()
    others = torch.arange(n) != 1
    assert torch.allclose(log_p[others], clean[others], atol=1e-6)


@every
def test_entropy_is_the_mean_of_minus_log_prob(name):
    p = density(name)
    parts = [-p.log_prob(p.sample((250_000,), generator=seeded(s))) for s in range(4)]
    surprise = torch.cat(parts).double()
    assert (surprise.mean() - p.entropy()).abs() < 4 * surprise.std() / 1000 + 1e-6


@pytest.mark.parametrize(
    ("name", "true"),
    [
        ("gaussians25", -1.1005),
        ("gaussians25", -math.log(25) - math.log(2 * math.pi * 0.0839**2) - 1),
        ("gaussians25_dot", 2.0139),
        ("gaussian_grid9", -1.2409),
        ("gaussians8", -math.log(8) - math.log(2 * math.pi * 0.1**2) - 1),
        ("swiss_roll", -0.459),
        ("checkerboard", -math.log(8)),
    ],
)
def test_true_log_likelihoods_are_those_of_the_benchmarks(name, true):
    assert abs(-toy2d.get(name).entropy().item() - true) < 1e-3


@every
def test_entropy_is_computed_once(name):
    p = density(name)
    first = p.entropy()
    start = time.process_time()
    again = p.entropy()
    assert time.process_time() - start < 0.005
    assert first.shape == () and torch.equal(first, again)


@every
def test_samples_follow_the_density(name):
    p = density(name)
    assert p_value_of_samples(p, p.sample((200_000,), generator=seeded(1))) > 1e-3


@every_sharp
def test_the_test_of_samples_can_fail(name):
    p = density(name)
    assert p_value_of_samples(p, 1.02 * p.sample((200_000,), generator=seeded(1))) < 1e-6


@every_sharp
def test_diffused_is_the_law_of_scaled_and_noised_samples(name):
    alpha, sigma = NOISE
    x = toy2d.get(name).sample((200_000,), generator=seeded(2))
    noisy = alpha * x + sigma * torch.randn(x.shape, generator=seeded(3))
    assert p_value_of_samples(density("~" + name), noisy) > 1e-3


@every_sharp
def test_diffused_is_the_convolution_with_a_gaussian(name):
    """p_σ(x) = ∫ p(y) N(x; α y, σ² I) dy, summed over a grid."""
    (alpha, sigma), step = NOISE, 1 / 80
    p = toy2d.get(name)
    y = cell_centres(2.7, step).view(-1, 2)
    mass = p.log_prob(y).exp() * step**2
    x = p.diffused(alpha, sigma).sample((20,), generator=seeded()).to(F64)
    kernel = (-(x[:, None] - alpha * y).square().sum(-1) / (2 * sigma**2)).exp() / (2 * math.pi * sigma**2)
    error = kernel @ mass / p.diffused(alpha, sigma).log_prob(x).exp() - 1
    assert error.abs().max() < (2e-4 if name == "checkerboard" else 1e-6)  # the midpoint rule at its edges is O(step²)


@every_sharp
def test_diffusing_twice_is_diffusing_once(name):
    """α₂(α₁x + σ₁ε) + σ₂ε' has scale α₁α₂ and noise √(α₂²σ₁² + σ₂²); with (1, 0) nothing happens."""
    p = toy2d.get(name)
    twice, once = p.diffused(0.9, 0.3).diffused(0.7, 0.5), p.diffused(0.63, math.hypot(0.21, 0.5))
    x = around(once, 400)
    assert torch.allclose(twice.log_prob(x), once.log_prob(x), rtol=1e-7)
    x = p.sample((400,), generator=seeded()).to(F64)
    assert torch.allclose(p.diffused(1.0, 0.0).log_prob(x), p.log_prob(x), rtol=1e-9)


@every_sharp
def test_all_signal_lost_leaves_a_gaussian(name):
    x = torch.randn(50, 2, generator=seeded(), dtype=F64)
    expected = torch.distributions.Normal(0.0, 1.3).log_prob(x).sum(1)
    assert torch.allclose(toy2d.get(name).diffused(0.0, 1.3).log_prob(x), expected)
    almost = toy2d.get(name).diffused(1e-6, 1.3).log_prob(x)
    assert torch.allclose(almost, expected, atol=1e-4)


@every
def test_mean_and_variance_are_those_of_the_samples(name):
    p = density(name)
    x = p.sample((400_000,), generator=seeded()).double()
    error = x.std(0) / len(x) ** 0.5
    assert ((x.mean(0) - p.mean).abs() < 4 * error).all()
    assert ((x.var(0) - p.variance).abs() < 4 * (x - p.mean).square().std(0) / len(x) ** 0.5).all()


@every
def test_samples_depend_on_the_seed_alone(name):
    p = density(name)
    x = p.sample((7,), generator=seeded(5))
    assert torch.equal(x, p.sample((7,), generator=seeded(5)))
    assert not torch.equal(x, p.sample((7,), generator=seeded(6)))
    torch.manual_seed(5)
    y = p.sample((7,))
    torch.manual_seed(5)
    assert torch.equal(y, p.sample((7,)))
    state = torch.get_rng_state()
    p.sample((7,), generator=seeded(5))
    assert torch.equal(state, torch.get_rng_state())


@every
def test_shapes_and_dtypes(name):
    p = density(name)
    assert isinstance(p, torch.distributions.Distribution)
    assert (p.batch_shape, p.event_shape) == ((), (2,))
    assert p.sample().shape == (2,)
    assert p.sample((3, 4)).shape == (3, 4, 2)
    assert p.sample(5).shape == (5, 2)
    assert p.sample((0,)).shape == (0, 2) and p.log_prob(torch.zeros(0, 2)).shape == (0,)
    for dtype in (torch.float32, F64):
        x = p.sample((3, 4)).to(dtype)
        assert (p.log_prob(x).shape, p.log_prob(x).dtype) == ((3, 4), dtype)
        assert (p.score(x).shape, p.score(x).dtype) == ((3, 4, 2), dtype)
    assert p.log_prob(x[0, 0]).shape == ()
    assert torch.allclose(p.log_prob(x[:, 1:3]), p.log_prob(x)[:, 1:3])


@every
def test_float32_is_accurate(name):
    """float32 keeps log p to 1e-4 and the score to 1e-5 of 1/σ on samples, few or many."""
    p = density(name)
    x = p.sample((20_000,), generator=seeded())
    for part in (x, x[:500]):
        assert (p.log_prob(part) - p.log_prob(part.double())).abs().max() < 1e-4
        error = (p.score(part) - p.score(part.double())).abs().max()
        assert error * width(p) < 1e-5


@every
def test_window_holds_the_samples(name):
    p = density(name)
    xmin, xmax, ymin, ymax = p.extent
    x, y = p.sample((10_000,), generator=seeded()).T
    inside = (x > xmin) & (x < xmax) & (y > ymin) & (y < ymax)
    assert inside.double().mean() > 0.999
    assert x.max() - x.min() > 0.6 * (xmax - xmin) and y.max() - y.min() > 0.6 * (ymax - ymin)


@every
def test_support_is_honest(name):
    """The support holds every sample, and log p is finite on the support, −inf off it."""
    p = density(name)
    x = torch.cat([p.sample((50_000,), generator=seeded()), around(p, 2000).float()])
    assert p.support.check(x[:50_000]).all()
    assert torch.equal(p.support.check(x), p.log_prob(x) > -math.inf)


@every_sharp
def test_modes_are_local_maxima(name):
    p = toy2d.get(name)
    count = {"gaussians25": 25, "gaussians25_dot": 25, "gaussian_grid9": 9, "gaussians8": 8}.get(name)
    if count is None:
        assert p.modes is None
        return
    assert p.modes.shape == (count, 2) and p.modes.dtype == torch.get_default_dtype()
    assert p.score(p.modes.double()).abs().max() < 1e-4
    ring = p.sigma * torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert (p.log_prob(p.modes[:, None] + ring) < p.log_prob(p.modes)[:, None] - 0.49).all()


def test_centres_are_those_of_the_benchmarks():
    grid = torch.cartesian_prod(torch.arange(-2.0, 3.0), torch.arange(-2.0, 3.0))
    assert torch.allclose(toy2d.Gaussians25().modes, grid)
    assert torch.allclose(toy2d.Gaussians25Dot().modes, 2 * grid / 2.828)
    inner = grid[grid.abs().amax(1) <= 1]
    assert torch.allclose(toy2d.GaussianGrid9().modes, 1.5 * inner)
    ring = toy2d.Gaussians8().modes
    assert torch.allclose(ring.norm(dim=1), torch.tensor(2.0)) and torch.allclose(ring[0], torch.tensor([2.0, 0.0]))
    gaps = (ring - ring.roll(1, 0)).norm(dim=1)
    assert torch.allclose(gaps, torch.full_like(gaps, 4 * math.sin(math.pi / 8)))


@every
def test_densities_can_be_copied_and_sent_to_other_processes(name):
    p = density(name)
    x = p.sample((5,), generator=seeded())
    for twin in (copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
        assert torch.equal(twin.log_prob(x), p.log_prob(x)) and torch.equal(twin.sample(5, generator=seeded()), x)


@pytest.mark.gpu
@every
def test_cuda_gives_the_same_numbers(name):
    p = density(name)
    x = p.sample((20_000,), generator=torch.Generator("cuda").manual_seed(0))
    assert x.device.type == "cuda" and p_value_of_samples(p, x.cpu()) > 1e-3
    log_p, score = p.log_prob(x), p.score(x)
    assert (log_p.device, score.device) == (x.device, x.device)
    assert torch.allclose(log_p.cpu().double(), p.log_prob(x.cpu().double()), atol=1e-4)
