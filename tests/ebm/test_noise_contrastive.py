"""Noise contrast learns log Z with the energy: against Gaussians in closed form and against quadrature for nets."""

import math

import pytest
import torch
from problems.energy_families import COVARIANCE, MEAN, Pair, Quadratic, estimates, expected_gradient, gaussian, minimise
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal, Uniform

from gmcourse import StandardNormal, fit
from gmcourse.data.mixtures import GaussianMixture
from gmcourse.data.toy1d import Mixture1D
from gmcourse.ebm.ebm import EBM
from gmcourse.ebm.energy import mlp_energy
from gmcourse.ebm.noise_contrastive import ConditionalNoiseContrast, NoiseContrast
from gmcourse.ebm.score_matching import implicit_score_matching
from gmcourse.fit import cosine
from gmcourse.metrics.grid import Grid

TWO = GaussianMixture([0.4, 0.6], [[-1.0], [1.0]], 0.7)
WIDE = MultivariateNormal(torch.zeros(2, dtype=torch.float64), 2 * torch.eye(2, dtype=torch.float64))
LINE = Independent(Normal(torch.zeros(1, dtype=torch.float64), 1.8 * torch.ones(1, dtype=torch.float64)), 1)


def gaussian_log_z(theta):
    """log ∫ e^{−½xᵀPx + hᵀx} dx = log 2π − ½ log|P| + ½ hᵀP⁻¹h."""
    precision = torch.stack([torch.stack([theta[0], theta[1]]), torch.stack([theta[1], theta[2]])])
    return math.log(2 * math.pi) - 0.5 * torch.logdet(precision) + 0.5 * theta[3:] @ precision.inverse() @ theta[3:]


def double(objective):
    return objective.double()


@pytest.mark.parametrize("ratio", [1, 4])
def test_gaussian_parameters_and_log_z_are_recovered_with_error_bars(ratio):
    def fit_one(seed):
        return minimise(double(NoiseContrast(WIDE, ratio=ratio)), Quadratic(), gaussian(4000, seed), seed)

    mean, error = estimates(fit_one)
    truth = Quadratic.of(MEAN, COVARIANCE)
    truth = torch.cat([truth, gaussian_log_z(truth)[None]])
    assert error.max() < 0.05 and error[-1] < 0.02
    assert ((mean - truth).abs() < 4.5 * error).all()


def test_the_gradient_vanishes_at_the_mixture_and_its_log_z_and_not_beside_either():
    """Pair leaves out log √(2π), so that is log Z. The parameters are θ and log Z, in this order."""
    x = TWO.sample(100_000, generator=torch.Generator().manual_seed(0)).double()
    objective = double(NoiseContrast(LINE))
    with torch.no_grad():
        objective.log_z.fill_(math.log(2 * math.pi) / 2)
    mean, error = expected_gradient(objective, Pair(Pair.of(TWO)), x)
    assert (mean.abs() < 4.5 * error).all()
    mean, error = expected_gradient(objective, Pair(Pair.of(TWO) + 0.2), x)
    assert (mean.abs() > 10 * error).any()
    with torch.no_grad():
        objective.log_z.add_(0.1)
    mean, error = expected_gradient(objective, Pair(Pair.of(TWO)), x)
    assert (mean[-1] > 10 * error[-1]).all()


def test_for_one_noise_draw_per_datum_the_loss_is_that_of_the_thesis_with_its_sign_turned():
    """−J of (2.43), with both densities written out, for the same noise."""
    x, energy = gaussian(50, 0), Quadratic(Quadratic.of(MEAN, COVARIANCE))
    objective = double(NoiseContrast(WIDE))
    with torch.no_grad():
        objective.log_z.fill_(1.3)
        torch.manual_seed(0)
        loss = objective(energy, x)
        torch.manual_seed(0)
        noise = WIDE.sample((50,))

        def p_and_q(x):
            return (-energy(x) - 1.3).exp(), WIDE.log_prob(x).exp()

        (p, q), (p_noise, q_noise) = p_and_q(x), p_and_q(noise)
    want = -(p / (p + q)).log() - (q_noise / (p_noise + q_noise)).log()
    assert torch.allclose(loss, want)


@pytest.mark.parametrize("ratio", [1, 3])
def test_the_least_loss_is_that_of_bayes_rule(ratio):
    """At the truth, the mean entropy of 'datum or noise' by quadrature: E_p[−log P] + ν E_q[−log(1 − P)], P = p/(p + νq)."""
    grid = Grid([(-9.0, 9.0)], 3000)
    nodes = grid.nodes[:, None]
    p, q = TWO.log_prob(nodes).exp(), LINE.log_prob(nodes).exp()
    share = p / (p + ratio * q)
    want = grid.integrate(-p * share.log() - ratio * q * torch.log1p(-share))
    objective = double(NoiseContrast(LINE, ratio=ratio))
    with torch.no_grad():
        objective.log_z.fill_(math.log(2 * math.pi) / 2)
        torch.manual_seed(1)
        loss = objective(Pair(Pair.of(TWO)), TWO.sample(200_000, generator=torch.Generator().manual_seed(0)).double())
    assert (loss.mean() - want).abs() < 4.5 * loss.std() / len(loss) ** 0.5


def test_a_net_trained_by_fit_knows_its_log_z_to_two_hundredths_of_a_nat():
    """The learned number against the integral of the learned energy, and the density against the truth."""
    p = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.5]], 0.5)
    box = Independent(Uniform(torch.full((2,), -3.5), torch.full((2,), 3.5)), 1)
    torch.manual_seed(0)
    ebm = EBM(mlp_energy(2, (32, 32)), NoiseContrast(box, ratio=2), event_shape=(2,), box=[(-3.5, 3.5)] * 2)
    fit(ebm, p, steps=600, batch_size=512, lr=1e-2, schedule=cosine(), ema=0.99, progress=False)
    assert abs(ebm.objective.log_z.item() - ebm.log_z()) < 0.02
    x = p.sample(10_000, generator=torch.Generator().manual_seed(1))
    assert -0.005 < (p.log_prob(x) - ebm.log_prob(x)).mean() < 0.03
    direct = ebm.objective.log_prob(ebm.energy, x)
    assert torch.allclose(direct, ebm.log_prob(x), atol=0.02)


def test_the_log_z_of_an_energy_that_is_not_trained_can_be_learned_alone():
    """A plain function has no weights. Here ∫ e^{−‖x‖²} dx = π."""
    ebm = EBM(lambda x: x.square().sum(1), NoiseContrast(StandardNormal(2)), event_shape=(2,))
    x = 0.5**0.5 * torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    fit(ebm, x, steps=300, batch_size=2000, lr=3e-2, schedule=cosine(), progress=False)
    assert abs(ebm.objective.log_z.item() - math.log(math.pi)) < 0.03


def test_data_beyond_the_noise_are_certain_and_harm_nobody():
    box = Independent(Uniform(torch.zeros(2), torch.ones(2)), 1)
    objective, energy = NoiseContrast(box), mlp_energy(2, (8,))
    loss = objective(energy, torch.full((3, 2), 5.0))
    assert (objective.logit(energy, torch.full((3, 2), 5.0)) == math.inf).all() and loss.isfinite().all()
    loss.mean().backward()
    assert all(p.grad.isfinite().all() for p in [*energy.parameters(), objective.log_z])


def test_noise_with_parameters_is_not_trained():
    noise = StandardNormal(2)
    noise.weight = nn.Parameter(torch.zeros(()))
    ebm = EBM(mlp_energy(2, (8,)), NoiseContrast(noise), event_shape=(2,))
    (player,) = ebm.players()
    assert {id(p) for p in player.parameters()} == {id(p) for p in [*ebm.energy.parameters(), ebm.objective.log_z]}
    fit(ebm, torch.randn(100, 2), steps=5, progress=False)
    assert ebm.objective.log_z != 0 and noise.weight == 0
    assert "objective.log_z" in ebm.state_dict()


def test_no_gradient_reaches_the_noise():
    mean, energy = torch.zeros(2, requires_grad=True), mlp_energy(2, (8,))
    NoiseContrast(MultivariateNormal(mean, torch.eye(2)), ratio=2)(energy, torch.randn(5, 2)).mean().backward()
    assert mean.grad is None and all(p.grad is not None for p in energy.parameters())


@pytest.mark.parametrize("noise", [Mixture1D(), Normal(0.0, 2.0)], ids=lambda q: type(q).__name__)
def test_any_noise_will_do_and_the_global_seed_decides(noise):
    objective, energy, x = NoiseContrast(noise, ratio=3), mlp_energy(()), torch.randn(7)
    losses = []
    for _ in range(2):
        torch.manual_seed(2)
        losses.append(objective(energy, x))
    assert losses[0].shape == (7,) and torch.equal(*losses)
    assert not torch.equal(losses[0], objective(energy, x))
    assert objective.double()(energy.double(), x.double()).dtype == torch.float64


def test_conditional_contrast_recovers_gaussian_parameters_with_error_bars():
    objective = ConditionalNoiseContrast(0.7, ratio=2)
    mean, error = estimates(lambda seed: minimise(objective, Quadratic(), gaussian(6000, seed), seed))
    assert error.max() < 0.05
    assert ((mean - Quadratic.of(MEAN, COVARIANCE)).abs() < 4.5 * error).all()


@pytest.mark.parametrize("sigma", [0.3, 1.5])
def test_conditional_contrast_is_stationary_at_the_mixture_for_noise_of_any_width(sigma):
    x = TWO.sample(100_000, generator=torch.Generator().manual_seed(0)).double()
    mean, error = expected_gradient(ConditionalNoiseContrast(sigma), Pair(Pair.of(TWO)), x)
    assert (mean.abs() < 4.5 * error).all()
    mean, error = expected_gradient(ConditionalNoiseContrast(sigma), Pair(Pair.of(TWO) + 0.3), x)
    assert (mean.abs() > 8 * error).any()


def test_conditional_contrast_of_a_narrow_neighbourhood_is_implicit_score_matching():
    """(loss − 2 ln 2)/(σ²/2) → tr ∇s + ½‖s‖² at each point; odd orders of σ cancel between ε and −ε."""
    torch.manual_seed(0)
    energy, points, sigma = mlp_energy(2, (8,), input_scale=3.0).double(), torch.randn(5, 2, dtype=torch.float64), 0.02
    eps = torch.randn(200_000, 1, 2, dtype=torch.float64)
    with torch.no_grad():
        here = energy(points)
        ups = [energy((points + sign * sigma * eps).flatten(0, 1)).unflatten(0, (-1, 5)) - here for sign in (1, -1)]
        each = sum(nn.functional.softplus(-up) for up in ups) - 2 * math.log(2)
        limit, error = each.mean(0) * 2 / sigma**2, each.std(0) * 2 / sigma**2 / 200_000**0.5
        torch.manual_seed(1)
        objective = ConditionalNoiseContrast(sigma, ratio=10)
        direct = objective(energy, points.repeat(4000, 1)).unflatten(0, (4000, 5))
        want = implicit_score_matching(energy, points)
    assert ((limit - want).abs() < 4.5 * error + 5e-3).all()
    direct_error = direct.std(0) * 2 / sigma**2 / len(direct) ** 0.5
    assert (((direct.mean(0) - 2 * math.log(2)) * 2 / sigma**2 - want).abs() < 4.5 * direct_error).all()


def test_conditional_contrast_does_not_mind_a_constant_in_the_energy():
    energy, x, losses = mlp_energy(2), torch.randn(5, 2), []
    for shift in (0.0, 7.0):
        torch.manual_seed(0)
        losses.append(ConditionalNoiseContrast(0.5, ratio=3)(lambda x, shift=shift: energy(x) + shift, x))
    assert losses[0].shape == (5,) and torch.allclose(*losses, atol=1e-5)
    assert repr(ConditionalNoiseContrast(0.5, ratio=3)) == "ConditionalNoiseContrast(sigma=0.5, ratio=3)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: NoiseContrast("normal"), "noise must be a Distribution or a GenerativeModel; got str"),
        (lambda x: NoiseContrast(Normal(torch.zeros(2), 1.0)), r"noise must be one distribution, .*; got \(2,\)"),
        (lambda x: NoiseContrast(WIDE, ratio=0), "ratio must be a positive whole number; got 0"),
        (lambda x: NoiseContrast(WIDE)(nn.Linear(2, 1).double(), x.double()), r"energy must return shape \(n,\)"),
        (lambda x: NoiseContrast(StandardNormal(3))(mlp_energy(2), x), r"noise must have the event shape of x, \(2,\)"),
        (lambda x: ConditionalNoiseContrast(0.0), "sigma must be positive; got 0.0"),
        (lambda x: ConditionalNoiseContrast(0.1, ratio=0), "ratio must be a positive whole number; got 0"),
        (lambda x: ConditionalNoiseContrast(0.1)(nn.Linear(2, 1), x), r"energy must return shape \(n,\); got \(10, 1\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.randn(5, 2))
