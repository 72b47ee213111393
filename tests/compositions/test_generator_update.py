"""The base's own step (4.30)–(4.34) against finite differences of a divergence found by quadrature."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from gmcourse import checkpoint
from gmcourse.compositions.generator_update import GeneratorUpdate, used_by_push
from gmcourse.compositions.negatives import Importance, NoiseChains
from gmcourse.compositions.tilted import Tilted
from gmcourse.ebm.energy import mlp_energy, score
from gmcourse.fit import fit
from gmcourse.gan.gan import GAN
from gmcourse.model import GenerativeModel, Likelihood, StandardNormal
from gmcourse.nets.mlp import MLP
from gmcourse.vae import Gaussian
from gmcourse.vae.builders import mlp_hierarchy, mlp_vae

N = 20_000


class Stretched(GenerativeModel):
    """x = μ + s ε with evenly spread ε instead of random ones, so that means over it are quadratures."""

    likelihood = Likelihood.EXACT

    def __init__(self, mean=0.4, log_scale=-0.3):
        super().__init__((1,))
        self.mean, self.log_scale = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (mean, log_scale))

    def noise(self, n, *, generator=None):
        """The quantiles of N(0, 1), (n, 1)."""
        return Normal(0.0, 1.0).icdf((torch.arange(n, dtype=torch.float64)[:, None] + 0.5) / n)

    def push(self, eps):
        """μ + s ε."""
        return self.mean + self.log_scale.exp() * eps


class Wave(nn.Module):
    """E(x) = a sin 2x + ½ b (x − 1)²."""

    def __init__(self):
        super().__init__()
        self.height, self.width = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (1.3, 0.7))

    def forward(self, x):
        return (self.height * torch.sin(2 * x) + 0.5 * self.width * (x - 1).square())[:, 0]


@torch.no_grad()
def divergence(mean, log_scale, base, energy) -> float:
    """KL(N(mean, scale²) ‖ q e^{−E}/Z) by the trapezoidal rule, q the base as it is."""
    grid = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
    log_p = Normal(base.mean, base.log_scale.exp()).log_prob(grid) - energy(grid[:, None])
    log_p = log_p - torch.trapezoid(log_p.exp(), grid).log()
    log_q = Normal(mean, math.exp(log_scale)).log_prob(grid)
    return float(torch.trapezoid(log_q.exp() * (log_q - log_p), grid))


def test_its_gradient_is_that_of_the_reverse_divergence():
    base, energy = Stretched(), Wave()
    model = GeneratorUpdate(Tilted(base, energy, Importance()))
    model.generator_loss(torch.zeros(N, 1, dtype=torch.float64)).mean().backward()
    here, h = (base.mean.item(), base.log_scale.item()), 1e-4
    goal = []
    for i in range(2):
        up, down = ([v + side * h * (i == j) for j, v in enumerate(here)] for side in (1, -1))
        goal.append((divergence(*up, base, energy) - divergence(*down, base, energy)) / (2 * h))
    assert abs(goal[0]) > 0.1 and abs(goal[1]) > 0.1
    assert base.mean.grad.item() == pytest.approx(goal[0], abs=2e-3)
    assert base.log_scale.grad.item() == pytest.approx(goal[1], abs=2e-3)


def test_the_energy_gets_no_gradient_from_the_generator():
    model = GeneratorUpdate(Tilted(mlp_vae(), energy := mlp_energy(2, (8,)), NoiseChains(2, 0.01)))
    model.generator_loss(torch.zeros(4, 2)).mean().backward()
    assert all(p.grad is None and p.requires_grad for p in energy.parameters())
    assert any(p.grad.abs().sum() > 0 for p in model.moved)


def copies(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(module, before) -> set[str]:
    return {name.split(".")[0] for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("mover", ["energy", "generator"])
def test_a_step_of_one_player_moves_nothing_of_the_other(mover):
    torch.manual_seed(0)
    model = GeneratorUpdate(Tilted(mlp_vae(likelihood=Gaussian(0.5, "global")), mlp_energy(2, (8,)), NoiseChains(2, 0.01)))
    base, energy = model.tilted.base, model.tilted.energy
    before = copies(base), copies(energy)
    sgd = {"energy": torch.optim.SGD, "generator": torch.optim.SGD}
    rates = {"energy": 1e-30, "generator": 1e-30} | {mover: 1e-2}
    fit(model, torch.randn(64, 2), steps=3, batch_size=16, lr=rates, optimizer=sgd, progress=False)
    moved = changed(base, before[0]), changed(energy, before[1])
    assert moved == ((set(), {"0"}) if mover == "energy" else ({"decoder", "likelihood_of_x"}, set()))


def test_the_parameters_that_push_uses_are_found():
    """Of a VAE the decoder and σ, of a hierarchy the path down, of a GAN the generator; flags stay as they were."""
    for base, wanted, not_wanted in (
        (mlp_vae(), {"decoder", "likelihood_of_x"}, {"encoder"}),
        (mlp_hierarchy(), {"start", "groups", "head", "likelihood_of_x"}, {"features"}),
        (GAN(MLP(2, 2), MLP(2, ()), event_shape=(2,), latent=2), {"generator"}, {"critic"}),
    ):
        base.requires_grad_(False)
        found = {id(p) for p in used_by_push(base)}
        parts = {name.split(".")[0] for name, p in base.named_parameters() if id(p) in found}
        assert parts == wanted and not parts & not_wanted
        assert not any(p.requires_grad or p.grad is not None for p in base.parameters())
    assert used_by_push(StandardNormal(2)) == []


def test_a_base_follows_its_energy_and_without_its_answer_runs_into_its_lowest_point():
    """First the divergence from the tilted model it began under falls; then the base has no width any more."""
    base, start = Stretched(0.0, 0.0), Stretched(0.0, 0.0)
    model = GeneratorUpdate(Tilted(base, Wave(), Importance()))
    energy, data = model.tilted.energy, torch.zeros(64, 1, dtype=torch.float64)
    settings = {"lr": {"energy": 1e-30, "generator": 0.02}, "progress": False}
    fit(model, data, steps=8, **settings)
    assert divergence(base.mean.item(), base.log_scale.item(), start, energy) < 0.9 * divergence(0.0, 0.0, start, energy)
    fit(model, data, steps=300, **settings)
    assert base.log_scale.item() < math.log(0.1) and score(energy, base.mean.detach()[None, None]).abs() < 0.05


def test_it_draws_and_scores_as_the_tilted_model_and_forgets_log_z():
    tilted = Tilted(mlp_vae(), mlp_energy(2, (8,)), Importance())
    model = GeneratorUpdate(tilted)
    draws = [m.sample(5, generator=torch.Generator().manual_seed(0)) for m in (model, tilted)]
    assert torch.equal(*draws)
    tilted.normalise(1000)
    assert model.likelihood is tilted.likelihood is Likelihood.LOWER_BOUND
    model.generator_loss(draws[0])
    assert tilted.log_z.isnan() and model.likelihood is Likelihood.UNNORMALIZED


def test_a_file_brings_it_back(tmp_path):
    one, other = (GeneratorUpdate(Tilted(mlp_vae(), mlp_energy(2, (8,)), Importance())) for _ in range(2))
    checkpoint.load(checkpoint.save(tmp_path / "model", one, {}), other)
    draws = [m.sample(5, generator=torch.Generator().manual_seed(0)) for m in (one, other)]
    assert torch.equal(*draws)


def test_only_given_parameters_are_moved_and_only_every_so_often():
    base = mlp_vae()
    model = GeneratorUpdate(Tilted(base, mlp_energy(2, (8,)), Importance()), base.likelihood_of_x.parameters(), every=5)
    before = copies(base)
    history = fit(model, torch.randn(64, 2), steps=10, progress=False)
    assert changed(base, before) == {"likelihood_of_x"} and len(history.losses["generator"]) == 2


def test_bad_input_is_named():
    energy = mlp_energy(2, (8,))
    with pytest.raises(ValueError, match="base must have parameters that push uses; StandardNormal has none"):
        GeneratorUpdate(Tilted(StandardNormal(2), energy, Importance()))
    with pytest.raises(ValueError, match="parameters must be the base's; 4 of 4 are not"):
        GeneratorUpdate(Tilted(mlp_vae(), energy, Importance()), energy.parameters())
    with pytest.raises(ValueError, match="every must be a positive whole number; got 0"):
        GeneratorUpdate(Tilted(mlp_vae(), energy, Importance()), every=0)
