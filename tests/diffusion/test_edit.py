"""Inpainting and SDEdit with exact scores, against conditionals and maps that are known in closed form."""

import math

import pytest
import torch
from problems.exact_noise import ExactNoise
from scipy.stats import kstest, wasserstein_distance

from gmcourse.data.mixtures import GaussianMixture
from gmcourse.data.toy1d import Mixture1D
from gmcourse.diffusion.edit import Inpainting, inpaint, noised, sdedit
from gmcourse.diffusion.reverse import ReverseDiffusion, falling_times
from gmcourse.diffusion.samplers import DDIM, Ancestral, run, walk
from gmcourse.diffusion.schedule import DiscreteDiffusion, linear_betas, vp_betas
from gmcourse.diffusion.sde import VE, VP

N = 600
CHAIN = DiscreteDiffusion(vp_betas(50))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=99):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def score(data, sde):
    def found(x, t):
        return data.diffused(*(float(v) for v in sde.marginal(t[0].double()))).score(x)

    return found


def given(data, y):
    """p(x_1 | x_2 = y) of an isotropic mixture in the plane: a mixture on the line, weights by Bayes' rule."""
    weights = data.weights * (-0.5 * ((y - data.means[:, 1]) / data.sigmas).square()).exp()
    return Mixture1D(weights, data.means[:, 0], data.sigmas)


def test_repeats_bring_what_is_filled_in_to_the_conditional_law():
    """x_2 = 0.5 rules out the heaviest of three modes: plain replacement still goes there, 20 repeats hardly."""
    data = GaussianMixture([0.5, 0.3, 0.2], [[-1.0, -0.5], [1.0, 0.5], [0.2, 1.0]], 0.3)
    known, mask = torch.tensor([[0.0, 0.5]]).expand(N, 2), torch.tensor([False, True])
    truth = given(data, 0.5).sample(20_000, generator=seeded(1)).numpy()
    chain, distances = DiscreteDiffusion(vp_betas(30)), []
    step = Ancestral(chain, ExactNoise(data, chain)).step
    for repeats in (1, 4, 20):
        found = inpaint(step, chain, known, mask, chain.times(), repeats=repeats, generator=seeded())
        assert (found[:, 1] == 0.5).all()
        distances.append(wasserstein_distance(found[:, 0].numpy(), truth))
    assert distances[0] > 1.2 * distances[1] > 2.4 * distances[2] and distances[2] < 0.2


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("sde", [VP(), VE(0.01, 8.0)], ids=["VP", "VE"])
def test_what_does_not_depend_on_the_known_part_keeps_its_law(sde, repeats):
    """Data N(0, 1) × N(m, c²): no matter what is known of the one, the other is drawn as it should; by an SDE's sampler."""
    m, c, known = 0.7, 0.4, 3.0 * torch.ones(4000, 2, dtype=torch.float64)
    grid = falling_times(sde, 60, spacing="log_snr")

    def slopes(x, t):
        alpha, sigma = (float(v) for v in sde.marginal(t[0].double()))
        widths = alpha**2 * torch.tensor([1.0, c**2]) + sigma**2
        return -(x - alpha * torch.tensor([0.0, m])) / widths

    step, mask = ReverseDiffusion(sde, slopes).step, torch.tensor([True, False])
    found = inpaint(step, sde, known, mask, grid, repeats=repeats, generator=seeded())
    alpha, sigma = (float(v) for v in sde.marginal(torch.tensor(grid[-1], dtype=torch.float64)))
    assert abs(found[:, 1].mean() - m) < 0.035 and abs(found[:, 1].std() / c - 1) < 0.11
    assert kstest((found[:, 0].numpy() - 3 * alpha) / sigma, "norm").pvalue > 1e-4  # with the noise of the last time


def test_a_row_may_have_a_mask_of_its_own_and_known_parts_are_kept_to_the_bit():
    data = GaussianMixture([1.0], [[0.0, 0.0]], 1.0)
    known, mask = normal(40, 2), normal(40, 2, seed=1) > 0
    found = inpaint(DDIM(CHAIN, ExactNoise(data, CHAIN)).step, CHAIN, known, mask, CHAIN.times(10), generator=seeded())
    assert torch.equal(found[mask], known[mask]) and (found[~mask] != known[~mask]).all()
    again = inpaint(DDIM(CHAIN, ExactNoise(data, CHAIN)).step, CHAIN, known, mask, CHAIN.times(10), generator=seeded())
    assert torch.equal(found, again)


def test_on_the_way_the_known_part_has_the_noise_of_the_time():
    data, known = GaussianMixture([1.0], [[0.0, 0.0]], 1.0), torch.full((4000, 2), 2.0, dtype=torch.float64)
    filled = Inpainting(Ancestral(CHAIN, ExactNoise(data, CHAIN)).step, CHAIN, known, torch.tensor([True, False]), repeats=2)
    path = CHAIN.times(5)
    for x, t in zip(walk(filled.step, normal(4000, 2), path, generator=seeded()), path, strict=True):
        if path[0] > t >= 0:
            bar = CHAIN.alpha_bars[t].item()
            assert kstest(x[:, 0].numpy(), "norm", (2 * math.sqrt(bar), math.sqrt(1 - bar))).pvalue > 1e-4
            assert abs(torch.corrcoef(x.T)[0, 1]) < 4.5 / 4000**0.5


@pytest.mark.parametrize(("repeats", "calls"), [(1, 10), (4, 37)])
def test_a_repeat_costs_a_step_and_the_last_step_has_none(repeats, calls):
    seen = []

    def step(x, t, s, generator):
        seen.append((t, s))
        return x

    inpaint(step, CHAIN, torch.zeros(3, 2), torch.tensor([True, False]), CHAIN.times(10), repeats=repeats)
    assert len(seen) == calls and seen[-1][1] == -1 and seen.count(seen[0]) == repeats


def test_going_up_again_undoes_the_step_in_law():
    """x_s with the right law, and x_t from it again: a step that notes what it is given sees N(0, 1) at every repeat."""
    seen = []

    def step(x, t, s, generator):  # N(0, 1) data: x_s given x_t by thesis (2.44) backwards
        seen.append(x[:, 0])
        now, then = (float(CHAIN.alpha_bars[v]) for v in (t, s))
        return math.sqrt(now / then) * x + math.sqrt(1 - now / then) * torch.randn(x.shape, generator=generator)

    known, mask = torch.zeros(20_000, 2), torch.tensor([False, True])
    filled = Inpainting(step, CHAIN, known, mask, repeats=4)
    filled.step(normal(20_000, 2).float(), 30, 20, seeded())
    for x in seen:
        assert kstest(x.numpy(), "norm").pvalue > 1e-4
    assert abs(torch.corrcoef(torch.stack(seen))[0, 3]) < 0.5  # and moves


@pytest.mark.parametrize("t0", [0, 12, 25, 49])
def test_sdedit_on_normal_data_is_its_closed_form(t0):
    """Data N(m, c²), sketch g: x_t0 ~ N(α g, σ²), which DDIM's linear steps, followed by hand, take to a Gaussian."""
    m, c, g = 0.7, 0.3, -0.5
    chain, bars = CHAIN, [*CHAIN.alpha_bars.tolist(), 1.0]
    mean, variance = math.sqrt(bars[t0]) * g, 1 - bars[t0]
    for t in range(t0, -1, -1):
        now, then = bars[t], bars[t - 1] if t else 1.0
        slope = (1 - now) ** 0.5 / (now * c**2 + 1 - now)  # ε = slope (x − α m)
        rest = math.sqrt(1 - then) - math.sqrt(then / now) * math.sqrt(1 - now)
        k = math.sqrt(then / now) + rest * slope
        mean, variance = k * mean - rest * slope * math.sqrt(now) * m, k**2 * variance
    eps, path = ExactNoise(Mixture1D([1.0], [m], c), chain), list(range(t0, -2, -1))
    found = sdedit(DDIM(chain, eps).step, chain, torch.full((4000,), g).double(), path, generator=seeded())
    assert kstest(found.numpy(), "norm", (mean, math.sqrt(variance))).pvalue > 1e-4
    if t0 == 49:
        assert (mean, variance**0.5) == pytest.approx((m, c), abs=0.05)
    if t0 == 0:
        assert abs(mean - g) < 0.1


def test_sdedit_by_an_sde_keeps_near_or_forgets_the_sketch():
    """Of two modes the sketch lies nearer to one: it is kept at small t0, and at t0 = 1 the modes come as in the data."""
    sde, data = VP(), GaussianMixture([0.3, 0.7], [[-1.5, 0.0], [1.5, 0.0]], 0.2)
    sampler, sketch = ReverseDiffusion(sde, score(data, sde)), torch.tensor([[-1.0, 0.3]]).expand(2000, 2)
    shares = []
    for start in (0.1, 1.0):
        found = sdedit(sampler.step, sde, sketch, falling_times(sde, 100, start=start), generator=seeded())
        shares.append((found[:, 0] < 0).double().mean().item())
        assert abs(found[:, 1].std() / 0.2 - 1) < 0.2
    assert shares[0] > 0.97 and abs(shares[1] - 0.3) < 4.5 * (0.21 / 2000) ** 0.5 + 0.02


def test_sdedit_from_the_end_is_sampling():
    chain = DiscreteDiffusion(linear_betas())
    eps = ExactNoise(Mixture1D(), chain)
    x, ddim = torch.full((100,), 2.0).double(), DDIM(chain, eps)
    start = noised(chain, x, 999, seeded())
    torch.testing.assert_close(
        sdedit(ddim.step, chain, x, chain.times(20), generator=seeded()), run(ddim.step, start, chain.times(20))
    )
    assert (start - torch.randn(100, generator=seeded(), dtype=torch.float64)).abs().max() < 0.02


KNOWN, MASK = torch.zeros(3, 2), torch.tensor([True, False])


def still(x, t, s, generator):
    return x


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: inpaint(still, CHAIN, KNOWN, MASK + 0.0, [3, 0]), "mask must be torch.bool, True where known; got torch.f"),
        (lambda: inpaint(still, CHAIN, KNOWN, MASK[:1], [3, 0]), r"mask must have the shape of known, \(3, 2\), or of"),
        (lambda: inpaint(still, CHAIN, KNOWN, MASK, [3, 0], repeats=0), "repeats must be a positive whole number; got 0"),
        (lambda: inpaint(still, CHAIN, KNOWN.long(), MASK, [3, 0]), r"known must be floats of shape \(n, \*event_shape"),
        (lambda: inpaint(still, CHAIN, KNOWN / 0, MASK, [3, 0]), "known must be finite, hidden parts, too; got NaN or inf"),
        (lambda: inpaint(still, CHAIN, KNOWN, MASK, [50, 0]), "t must lie in 0 … 49; got values from 50 to 50"),
        (lambda: inpaint(still, VP(), KNOWN, MASK, [1.5, 0.0]), r"t must lie in \[0, 1\]"),
        (lambda: inpaint(still, CHAIN, KNOWN, MASK, [3]), "times must be at least two, falling"),
        (lambda: sdedit(still, CHAIN, KNOWN[:0], [3, 0]), r"x must be floats of shape \(n, .* n > 0; got \(0, 2\)"),
        (lambda: sdedit(still, CHAIN, KNOWN, [0, 3]), "times must be at least two, falling"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
