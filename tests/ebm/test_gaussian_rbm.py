"""The Gaussian–Bernoulli machine against the mixture of 2^h Gaussians that it stands for, built from its joint by hand."""

import math
from itertools import product

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import kstest
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from gmcourse import Likelihood, fit
from gmcourse.data.mixtures import GaussianMixture
from gmcourse.ebm import boltzmann
from gmcourse.ebm.gaussian_rbm import GaussianRBM
from gmcourse.metrics import Grid


def machine(visible, hidden, seed=0, **options):
    """A machine in float64 whose parameters are random, σ of each unit included."""
    rbm = GaussianRBM(visible, hidden, **options).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in rbm.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
        rbm.log_sigma.mul_(0.3)
    return rbm


def mixture(rbm):
    """Σ_z p(z) N(b + Wz, σ²), p(z) ∝ exp(cᵀz) times what completing the square in E(x, z) leaves."""
    W, b, c, sigma = rbm.W.detach(), rbm.b.detach(), rbm.c.detach(), rbm.log_sigma.detach().exp()
    z = torch.tensor(list(product((0.0, 1.0), repeat=len(c))), dtype=W.dtype)
    means = b + z @ W.T
    logits = z @ c + 0.5 * ((means / sigma).square() - (b / sigma).square()).sum(1)
    return MixtureSameFamily(Categorical(logits=logits), Independent(Normal(means, sigma), 1)), z


@pytest.mark.parametrize(("visible", "hidden"), [(1, 3), (2, 4), (5, 2)])
def test_the_density_is_the_mixture_of_two_to_the_h_gaussians(visible, hidden):
    rbm = machine(visible, hidden)
    x = 2 * torch.randn(50, visible, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.allclose(rbm.log_prob(x), mixture(rbm)[0].log_prob(x))
    assert rbm.likelihood is Likelihood.EXACT


def test_events_may_be_plain_numbers():
    scalar, vector, x = machine((), 3), machine(1, 3), torch.linspace(-3, 3, 7, dtype=torch.float64)
    assert torch.allclose(scalar.log_prob(x), vector.log_prob(x[:, None]))
    z = scalar.hidden_probs(x)
    assert scalar.sample(5).shape == (5,) and torch.allclose(scalar.visible_mean(z), vector.visible_mean(z)[:, 0])


def test_the_density_integrates_to_one_over_the_plane_and_log_z_is_the_integral_of_the_free_energy():
    rbm = machine(2, 4)
    grid = Grid([(-16.0, 16.0), (-16.0, 16.0)], 400)
    with torch.no_grad():
        assert grid.integrate(rbm.log_prob(grid.nodes).exp()) == pytest.approx(1, abs=1e-6)
        assert grid.log_integrate(-rbm.free_energy(grid.nodes)) == pytest.approx(float(rbm.log_z()), abs=1e-6)


def test_free_energy_sums_the_joint_energy_over_the_hidden_states_and_hidden_probabilities_are_its_shares():
    rbm = machine(3, 4)
    x = 2 * torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z = mixture(rbm)[1]
    W, b, c, sigma = rbm.W.detach(), rbm.b.detach(), rbm.c.detach(), rbm.log_sigma.detach().exp()
    by_hand = -0.5 * (((x - b) / sigma) ** 2).sum(1)[:, None] + z @ c + (x / sigma**2) @ W @ z.T
    energies = torch.stack([rbm.energy(x, one.expand(len(x), -1)) for one in z], 1)
    assert torch.allclose(energies, -by_hand)
    assert torch.allclose(rbm.free_energy(x), -by_hand.logsumexp(1))
    assert torch.allclose(rbm.hidden_probs(x), by_hand.softmax(1) @ z)


def test_given_the_hidden_units_x_is_gaussian_as_quadrature_of_the_joint_says():
    rbm = machine(1, 2)
    for z in torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64):

        def weight(x, power=0, z=z):
            at = torch.tensor([[x]], dtype=torch.float64)
            return x**power * math.exp(-rbm.energy(at, z[None]).item())

        total, first, second = (quad(weight, -15, 15, args=(power,))[0] for power in (0, 1, 2))
        mean = first / total
        assert rbm.visible_mean(z[None]).item() == pytest.approx(mean, abs=1e-6)
        assert rbm.log_sigma.exp().item() ** 2 == pytest.approx(second / total - mean**2, abs=1e-6)


def test_block_gibbs_keeps_the_mixture_and_finds_it_from_anywhere():
    rbm = machine(1, 3)
    truth = mixture(rbm)[0]

    def cdf(x):
        component = truth.component_distribution.base_dist
        parts = Normal(component.loc[:, 0], component.scale[:, 0]).cdf(torch.from_numpy(x)[:, None])
        return (parts @ truth.mixture_distribution.probs).numpy()

    generator = torch.Generator().manual_seed(0)
    exact = rbm.sample(20_000, generator=generator)
    elsewhere = torch.full((20_000, 1), 5.0, dtype=torch.float64)
    for x in (exact, rbm.gibbs(exact, generator=generator), rbm.gibbs(elsewhere, 200, generator=generator)):
        assert kstest(x[:, 0].numpy(), cdf).pvalue > 1e-4
    assert kstest(rbm.gibbs(elsewhere, 1, generator=generator)[:, 0].numpy(), cdf).pvalue < 1e-10


def test_the_gradient_of_log_prob_is_that_of_the_mixture_for_every_parameter():
    rbm = machine(2, 3, learn_sigma=True)
    x = 2 * torch.randn(30, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rbm.log_prob(x).mean().backward()
    W, b, c, log_sigma = leaves = [p.detach().clone().requires_grad_() for p in (rbm.W, rbm.b, rbm.c, rbm.log_sigma)]
    z = mixture(rbm)[1]
    means, sigma = b + z @ W.T, log_sigma.exp()
    logits = z @ c + 0.5 * ((means / sigma).square() - (b / sigma).square()).sum(1)
    truth = MixtureSameFamily(Categorical(logits=logits), Independent(Normal(means, sigma), 1))
    truth.log_prob(x).mean().backward()
    for found, wanted in zip((rbm.W, rbm.b, rbm.c, rbm.log_sigma), leaves, strict=True):
        assert torch.allclose(found.grad, wanted.grad, atol=1e-10)


def test_the_loss_of_many_sweeps_has_the_gradient_of_the_log_likelihood_on_average():
    rbm = machine(2, 2, k=100, learn_sigma=True)
    data = torch.randn(4000, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rbm.log_prob(data).mean().backward()
    wanted = torch.cat([-p.grad.flatten() for p in rbm.parameters()])
    torch.manual_seed(0)
    found = []
    for part in data.split(100):  # the mean over parts is the mean over the data
        rbm.zero_grad()
        rbm.loss(part).mean().backward()
        found.append(torch.cat([p.grad.flatten() for p in rbm.parameters()]))
    found = torch.stack(found)
    error = found.std(0) / math.sqrt(len(found))
    assert ((found.mean(0) - wanted).abs() < 4.5 * error).all()
    assert (wanted.abs() > 8 * error).any()


def test_annealing_up_and_down_hold_log_z_between_them():
    rbm = machine(3, 5)
    truth, x = rbm.log_z().item(), rbm.sample(2000, generator=torch.Generator().manual_seed(0))
    for data in (None, x):
        up, down = rbm.log_z_ais(n=2000, stages=200, data=data), rbm.log_z_ais_reverse(x, stages=200, data=data)
        assert abs(up.value - truth) < 4.5 * up.stderr < 0.2
        assert abs(down.value - truth) < 4.5 * down.stderr < 0.2


def test_without_enumeration_samples_come_from_sweeps(monkeypatch):
    rbm = machine(2, 3, sweeps=200)
    truth = mixture(rbm)[0]
    monkeypatch.setattr(boltzmann, "EXACT_UNITS", 1)
    x = rbm.sample(4000, generator=torch.Generator().manual_seed(0))
    error = truth.variance.sqrt() / math.sqrt(4000)
    assert rbm.likelihood is Likelihood.UNNORMALIZED and ((x.mean(0) - truth.mean).abs() < 4.5 * error).all()


@pytest.mark.parametrize(("options", "bound"), [({}, 0.12), ({"k": 3, "chains": 512}, 0.4)])
def test_training_by_fit_finds_the_corners_of_a_rectangle_and_their_weights(options, bound):
    corners = [[-1.0, -0.75], [-1.0, 0.75], [1.0, -0.75], [1.0, 0.75]]
    truth = GaussianMixture([0.12, 0.18, 0.28, 0.42], corners, 0.3)
    torch.manual_seed(0)
    rbm = GaussianRBM(2, hidden=4, sigma=0.3, **options)
    x = truth.sample(2000, generator=torch.Generator().manual_seed(1))
    rbm.start_at(x)
    fit(rbm, truth, steps=500, batch_size=128, lr=5e-2, schedule=lambda done: 1 - done, progress=False)
    with torch.no_grad():  # one Gaussian is .87 nats away
        assert -0.02 < float((truth.log_prob(x) - rbm.log_prob(x)).mean()) < bound


def test_start_at_takes_the_means_and_widths_must_be_positive():
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    rbm = GaussianRBM(2, 3)
    rbm.start_at(x)
    assert torch.allclose(rbm.b, x.mean(0))
    assert not rbm.log_sigma.requires_grad
    with pytest.raises(ValueError, match="sigma must be positive and finite; got 0"):
        GaussianRBM(2, 3, sigma=0)


def test_images_keep_their_shape():
    rbm = GaussianRBM((1, 4, 4), 3)
    x = rbm.sample(5)
    assert x.shape == rbm.gibbs(x).shape == (5, 1, 4, 4) and rbm.loss(x).shape == (5,)
