"""The learned Stein discrepancy against Gaussians, where the best critic and its value are known."""

import pytest
import torch
from problems.energy_families import COVARIANCE, MEAN, Quadratic, gaussian
from torch import nn

from gmcourse import fit
from gmcourse.data.mixtures import GaussianMixture
from gmcourse.ebm.ebm import EBM
from gmcourse.ebm.energy import mlp_energy
from gmcourse.ebm.score_matching import explicit_score_matching
from gmcourse.ebm.stein import SteinDiscrepancy
from gmcourse.fit import cosine
from gmcourse.metrics.grid import Grid
from gmcourse.nets.mlp import MLP
from gmcourse.randomness import seeded

MODEL_MEAN, MODEL_COVARIANCE = torch.tensor([0.0, 0.4]).double(), torch.tensor([[1.3, -0.2], [-0.2, 0.8]]).double()
EXACT_AND_RANDOM = pytest.mark.parametrize("projections", [None, 2])


def model():
    return Quadratic(Quadratic.of(MODEL_MEAN, MODEL_COVARIANCE))


def best_critic(penalty):
    """f* = (s_θ − ∇ log p)/(2λ): for two Gaussians a linear map."""
    p, q = COVARIANCE.inverse(), MODEL_COVARIANCE.inverse()
    critic = nn.Linear(2, 2).double()
    with torch.no_grad():
        critic.weight.copy_((p - q) / (2 * penalty))
        critic.bias.copy_((q @ MODEL_MEAN - p @ MEAN) / (2 * penalty))
    return critic


def fisher():
    """E_p‖s_θ − ∇ log p‖² of the two Gaussians: tr(A Σ Aᵀ) + |A m + b|², with s_θ − ∇ log p = A x + b."""
    critic = best_critic(0.5)
    at_mean = critic(MEAN).detach()
    return torch.trace(critic.weight.detach() @ COVARIANCE @ critic.weight.detach().T) + at_mean @ at_mean


@pytest.mark.parametrize("penalty", [0.5, 2.0])
@EXACT_AND_RANDOM
def test_the_best_critic_is_the_difference_of_the_scores_over_twice_the_penalty(penalty, projections):
    """Its loss has gradient 0 there, and the value −E‖s_θ − ∇ log p‖²/(4λ)."""
    critic, energy, x = best_critic(penalty), model(), gaussian(100_000, 0)
    objective = SteinDiscrepancy(critic, penalty=penalty, projections=projections)
    shares, losses = [], []
    with seeded(0):
        for part in x.chunk(100):
            loss = objective.critic_loss(energy, part)
            losses.append(loss.detach())
            shares.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss.mean(), list(critic.parameters()))]))
    shares, losses = torch.stack(shares), torch.cat(losses)
    assert (shares.mean(0).abs() < 4.5 * shares.std(0) / 10).all()
    assert (losses.mean() + fisher() / (4 * penalty)).abs() < 4.5 * losses.std() / len(losses) ** 0.5


def test_with_penalty_one_half_the_critics_gain_is_the_fisher_divergence():
    """Thesis (2.40), by quadrature for a net as the energy and a critic that is put together of known scores."""
    p = GaussianMixture([0.4, 0.6], [[-1.0, 0.0], [1.0, 0.3]], 0.7)
    torch.manual_seed(0)
    energy = mlp_energy(2, (8,), input_scale=2.0).double()
    grid = Grid.around(p, points=150, margin=0.3)
    weights = p.log_prob(grid.nodes).exp() * grid.cell

    class Best(nn.Module):
        def forward(self, x):
            slope = torch.autograd.grad(energy(x).sum(), x, create_graph=True)[0]
            return -slope + torch.autograd.grad(-p.log_prob(x).sum(), x, create_graph=True)[0]

    gain = -(weights @ SteinDiscrepancy(Best()).critic_loss(energy, grid.nodes)).detach()
    truth = weights @ explicit_score_matching(energy, grid.nodes, p.score).detach()
    assert truth > 0.5 and gain == pytest.approx(float(truth), rel=1e-6)


@EXACT_AND_RANDOM
def test_steins_identity_holds_where_the_model_is_the_data(projections):
    """E_p[s·f + tr ∇f] = 0 for any critic, and not where it is another model."""
    torch.manual_seed(0)
    objective = SteinDiscrepancy(MLP(2, 2, (16,), activation=nn.ReLU, input_scale=2.0).double(), projections=projections)
    x = gaussian(200_000, 0)
    with torch.no_grad():
        at_truth = objective(Quadratic(Quadratic.of(MEAN, COVARIANCE)), x)
        beside = objective(model(), x)
    assert at_truth.mean().abs() < 4.5 * at_truth.std() / len(x) ** 0.5
    assert beside.mean().abs() > 10 * beside.std() / len(x) ** 0.5


def test_each_player_moves_its_own_weights():
    torch.manual_seed(0)
    objective, energy, x = SteinDiscrepancy(MLP(2, 2, (8,))), mlp_energy(2, (8,)), torch.randn(20, 2)
    objective(energy, x).mean().backward()
    assert all(p.grad is None for p in objective.parameters())
    assert any(p.grad.abs().max() > 0 for p in energy.parameters() if p.grad is not None)
    energy.zero_grad(set_to_none=True)
    objective.critic_loss(energy, x).mean().backward()
    assert all(p.grad.abs().max() > 0 for p in objective.parameters())
    assert all(p.grad is None for p in energy.parameters())


def test_the_energys_gradient_is_that_of_the_squared_difference_of_scores_at_the_best_critic():
    """∇_θ of ½E‖s_θ − ∇ log p‖² is E[(s_θ − ∇ log p)·∇_θ s_θ], which is what f* at λ = ½ gives: envelope theorem."""
    energy, x = model(), gaussian(5000, 0)
    (stein,) = torch.autograd.grad(SteinDiscrepancy(best_critic(0.5))(energy, x).mean(), energy.theta)
    data_score = lambda x: -(x - MEAN) @ COVARIANCE.inverse()  # noqa: E731
    (explicit,) = torch.autograd.grad(explicit_score_matching(energy, x, data_score).mean(), energy.theta)
    assert explicit.abs().max() > 0.1 and torch.allclose(stein, explicit)


def test_the_game_finds_mean_and_covariance_of_gaussian_data():
    """Played by fit with a linear critic, which is all that Gaussians need."""
    x = gaussian(4000, 5)
    ebm = EBM(Quadratic(), SteinDiscrepancy(nn.Linear(2, 2).double(), every=2), event_shape=(2,))
    assert [(p.name, p.every) for p in ebm.players()] == [("critic", 1), ("energy", 2)]
    fit(ebm, x, steps=500, batch_size=1000, lr={"critic": 5e-2, "energy": 3e-2}, schedule=cosine(), progress=False)
    truth = Quadratic.of(x.mean(0), torch.cov(x.T))
    assert torch.allclose(ebm.energy.theta.detach(), truth, atol=0.05)
    assert (truth - torch.tensor([1.0, 0, 1, 0, 0]).double()).abs().max() > 1  # where it started


def test_images_and_points_on_the_line_will_do():
    for shape, critic in (((), MLP(1, 1)), ((1, 3, 3), MLP((1, 3, 3), (1, 3, 3)))):
        objective, energy, x = SteinDiscrepancy(critic), mlp_energy(shape), torch.randn(5, *shape)
        assert objective(energy, x).shape == objective.critic_loss(energy, x).shape == (5,)
        with torch.no_grad():
            plain = objective.critic_loss(energy, x)
        assert not plain.requires_grad and torch.allclose(plain, objective.critic_loss(energy, x), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: SteinDiscrepancy(MLP(2, 2), penalty=0.0), "penalty must be positive; got 0.0"),
        (lambda x: SteinDiscrepancy(MLP(2, 2), projections=0), "projections must be a positive whole number; got 0"),
        (lambda x: SteinDiscrepancy(MLP(2, 2), every=0), "every must be a positive whole number; got 0"),
        (lambda x: SteinDiscrepancy(MLP(2, 1))(mlp_energy(2), x), r"critic must return the shape of x, \(5, 2\)"),
        (lambda x: SteinDiscrepancy(MLP(2, 2))(nn.Linear(2, 1), x), r"energy must return shape \(n,\); got \(5, 1\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.randn(5, 2))
