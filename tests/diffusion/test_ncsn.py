"""NCSN: the five techniques against the numbers of the papers, the loss against its minimiser, samples against the law."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from torch import nn

from gmcourse.data.mixtures import GaussianMixture
from gmcourse.diffusion.ncsn import (
    NCSN,
    count_of_scales,
    largest_scale,
    noise_scales,
    overlap,
    step_size,
    width_after,
)
from gmcourse.fit import fit
from gmcourse.nets.denoiser import Denoiser
from gmcourse.nets.mlp import MLP

DATA = GaussianMixture([0.8, 0.2], [[-3.0, 0.0], [3.0, 0.0]], 0.3)
SIGMAS = noise_scales(10.0, 0.1, 20)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Exact(nn.Module):
    """F = σ s of the exact score of any data with `diffused`; it is told t, which runs evenly in log σ."""

    def __init__(self, data, sigmas):
        super().__init__()
        self.data, self.first, self.last = data, float(sigmas[0]), float(sigmas[-1])
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x, t):
        sigma = self.last * (self.first / self.last) ** t.double()
        levels, where = sigma.unique(return_inverse=True)
        scores = torch.stack([s * self.data.diffused(1.0, float(s)).score(x) for s in levels])
        return scores[where, torch.arange(len(x))].to(x)


def test_the_scales_of_ncsnv2_have_its_ratio_and_overlap():
    """σ 50 → 0.01 in 232 steps: γ = 1.03756, technique 2 gives 0.567 in 32·32·3 dimensions."""
    sigmas = noise_scales(50.0, 0.01, 232)
    ratios = sigmas[:-1] / sigmas[1:]
    assert len(sigmas) == 232 and torch.allclose(ratios, torch.tensor(1.03756, dtype=torch.float64), atol=5e-6)
    assert sigmas[0].item() == pytest.approx(50) and sigmas[-1].item() == pytest.approx(0.01)
    assert overlap(3072, ratios[0].item()) == pytest.approx(0.567, abs=5e-4)


def test_overlap_is_the_share_of_noise_that_the_next_scale_explains():
    """Lengths of σ ε, counted, that lie within three widths, γ/√2, of the lengths of γσ ε."""
    d, ratio, n = 784, 1.05, 4000
    lengths = torch.randn(n, d, generator=seeded()).norm(dim=1)
    share = ((lengths - ratio * math.sqrt(d)).abs() < 3 * ratio / math.sqrt(2)).double().mean().item()
    assert share == pytest.approx(overlap(d, ratio), abs=4.5 * 0.5 / n**0.5 + 0.01)


@pytest.mark.parametrize("d", [5, 64, 3072])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_count_is_the_least_that_overlaps_enough(d, share):
    count = count_of_scales(d, 50.0, 0.01, share=share)
    least, one_less = (overlap(d, 5000.0 ** (1 / (L - 1))) for L in (count, count - 1))
    assert least >= share > one_less


def test_the_largest_scale_is_the_largest_distance():
    data = torch.randn(700, 2, 3, generator=seeded())  # more than one block
    assert largest_scale(data) == pytest.approx(pdist(data.flatten(1).numpy()).max(), rel=1e-6)


def test_the_width_after_some_steps_is_that_of_the_chains():
    """The recursion of Langevin in N(0, σ² I), x ← (1 − e) x + √(2e) σ z from N(0, γ²σ²), one variance at a time."""
    for step, ratio, steps in ((0.062, 1.03756, 5), (0.5, 2.0, 3)):
        variance = ratio**2
        for _ in range(steps):
            variance = (1 - step) ** 2 * variance + 2 * step
        assert width_after(step, ratio, steps) == pytest.approx(variance, rel=1e-12)


def test_the_step_size_of_ncsnv2_comes_out():
    """ε = 6.2e-6 at σ_L = 0.01 with five steps each: Song & Ermon 2020, table of settings for CIFAR-10."""
    assert step_size(1.03756, 5) * 0.01**2 == pytest.approx(6.2e-6, rel=5e-3)


@pytest.mark.parametrize("ratio", [1.01, 1.5, 5.0])
@pytest.mark.parametrize("steps", [1, 5, 100])
def test_no_step_size_leaves_the_width_nearer_to_right(ratio, steps):
    widths = width_after(np.linspace(1e-4, 0.9999, 5000), ratio, steps)
    best = width_after(step_size(ratio, steps), ratio, steps)
    assert 1 < best < widths.min() + 1e-6


def test_the_loss_is_least_at_the_exact_score_and_known_there():
    """N(0, w² I): ½ σ² E‖s + ε/σ‖² = ½ d w²/(w² + σ²), averaged over the scales; a score off by a factor c adds
    ½ (c − 1)² d σ²/(w² + σ²)."""
    w, n, sigmas = 0.8, 40_000, noise_scales(5.0, 0.1, 10)
    exact = Exact(GaussianMixture([1.0], [[0.0, 0.0]], w), sigmas)
    x = w * torch.randn(n, 2, generator=seeded())
    for c in (1.0, 0.8, 1.3):
        net = lambda x, t, c=c: c * exact(x, t)  # noqa: E731
        torch.manual_seed(0)
        losses = NCSN(net, sigmas, event_shape=(2,), conditional=True).loss(x)
        wanted = (w**2 + (c - 1) ** 2 * sigmas**2) / (w**2 + sigmas**2)
        assert losses.shape == (n,)
        assert abs(losses.mean().item() - wanted.mean().item()) < 4.5 * losses.std().item() / n**0.5


def test_an_unconditional_net_is_divided_by_sigma_and_never_told_it():
    """Technique 3: s(x, σ) = F(x)/σ."""
    net, x = MLP(2, 2, (16,)), torch.randn(7, 2, generator=seeded())
    ncsn, sigma = NCSN(net, SIGMAS, event_shape=(2,)), torch.linspace(0.1, 10.0, 7)
    torch.testing.assert_close(ncsn.score(x, sigma), net(x) / sigma[:, None])
    torch.testing.assert_close(ncsn.score(x, 0.5), net(x) / 0.5)


def test_a_conditional_net_is_told_where_sigma_stands_between_the_ends():
    seen = []
    net = lambda x, t: seen.append(t) or x  # noqa: E731
    ncsn = NCSN(net, [4.0, 2.0, 1.0], event_shape=(2,), conditional=True)
    ncsn.score(torch.zeros(3, 2), torch.tensor([4.0, 2.0, 1.0]))
    ncsn.score(torch.zeros(2, 2), 2.0)
    assert torch.allclose(seen[0], torch.tensor([1.0, 0.5, 0.0])) and torch.allclose(seen[1], torch.tensor([0.5, 0.5]))


def test_with_the_exact_score_the_weights_and_places_of_far_modes_come_out():
    n = 2000
    ncsn = NCSN(Exact(DATA, SIGMAS), SIGMAS, event_shape=(2,), conditional=True, steps_each=10)
    x = ncsn.sample(n, generator=seeded())
    left = x[x[:, 0] < 0]
    assert abs(len(left) / n - 0.8) < 4.5 * (0.16 / n) ** 0.5 + 0.01
    assert ((left.mean(0) - DATA.modes[0]).abs() < 4.5 * 0.3 / len(left) ** 0.5 + 0.01).all()
    assert ((left.std(0) / 0.3 - 1).abs() < 0.1).all()


def test_samples_have_the_variance_of_the_chains_recursion():
    """Gaussian data: the variance goes through every level's Langevin steps (25) and Tweedie's, in closed form."""
    w, e, each, sigmas, n = 0.8, 0.1, 3, [3.0, 1.0, 0.5], 40_000
    ncsn = NCSN(
        Exact(GaussianMixture([1.0], [[0.0, 0.0]], w), sigmas),
        sigmas, event_shape=(2,), conditional=True, steps_each=each, eps_step=e,
    )  # fmt: skip
    variance = sigmas[0] ** 2
    for sigma in sigmas:
        for _ in range(each):
            variance = (1 - e * sigma**2 / (w**2 + sigma**2)) ** 2 * variance + 2 * e * sigma**2
    variance *= (w**2 / (w**2 + sigmas[-1] ** 2)) ** 2
    found = ncsn.sample(n, generator=seeded()).var(0)
    assert ((found / variance - 1).abs() < 4.5 * (2 / n) ** 0.5).all()
    assert ncsn.nfe == 10


def test_a_trained_net_finds_the_modes_and_their_weights():
    """A few seconds of training: nearly all samples lie by a mode, and the weights are right within a tenth."""
    torch.manual_seed(0)
    net = Denoiser(2, (64, 64))
    ncsn = NCSN(net, noise_scales(6.0, 0.2, 12), event_shape=(2,), conditional=True, steps_each=10)
    fit(ncsn, DATA, steps=500, batch_size=256, lr=3e-3, progress=False)
    x = ncsn.sample(1000, generator=seeded())
    near = (x[:, None] - DATA.modes).norm(dim=2) < 1.0
    assert near.any(1).float().mean() > 0.9
    assert near[:, 0].float().mean().item() == pytest.approx(0.8, abs=0.1)


def test_samples_are_repeatable_without_gradients_and_leave_the_mode_of_training():
    ncsn = NCSN(MLP(2, 2, (16,)), [1.0, 0.5], event_shape=(2,), steps_each=2, eps_step=0.1).train()
    first, second, other = (ncsn.sample(4, generator=seeded(k)) for k in (0, 0, 1))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert not first.requires_grad and ncsn.training
    assert "sigmas" in ncsn.state_dict() and "eps_step=0.1" in repr(ncsn)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: noise_scales(1.0, 2.0, 5), "0 < smallest < largest; got largest = 1.0, smallest = 2.0"),
        (lambda: noise_scales(1.0, 0.1, 1), "count must be at least 2"),
        (lambda: count_of_scales(2, 50.0, 0.01), "d be at least 5"),
        (lambda: count_of_scales(100, 50.0, 0.01, share=0.999), "share must be below 0.9973"),
        (lambda: largest_scale(torch.zeros(1, 2)), r"data must be at least two.*got shape \(1, 2\)"),
        (lambda: step_size(1.0, 5), "ratio must be above 1; got 1.0"),
        (lambda: step_size(1.1, 0), "steps must be a positive whole number; got 0"),
        (lambda: NCSN(MLP(2, 2), [1.0, 2.0], event_shape=(2,)), "positive and falling; got"),
        (lambda: NCSN(MLP(2, 2), [1.0], event_shape=(2,)), "at least two"),
        (lambda: NCSN(MLP(2, 2), [1.0, 0.0], event_shape=(2,)), "positive and falling"),
        (lambda: NCSN(MLP(2, 2), [2.0, 1.0], event_shape=(2,), eps_step=-1.0), "eps_step must be positive"),
        (lambda: NCSN(MLP(2, 2), [2.0, 1.0], event_shape=(2,), steps_each=0), "steps_each must be a positive whole number"),
        (lambda: NCSN(MLP(2, 1), [2.0, 1.0], event_shape=(2,)).loss(torch.zeros(3, 2)), "net must return the shape of x"),
        (lambda: NCSN(MLP(2, 2), [2.0, 1.0], event_shape=(2,)).loss(torch.zeros(3, 4)), r"x must have shape \(n, 2\)"),
        (lambda: NCSN(MLP(2, 2), [2.0, 1.0], event_shape=(2,)).sample(0), "n must be a positive whole number; got 0"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
