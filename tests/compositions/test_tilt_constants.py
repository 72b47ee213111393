"""log Z of a tilted model, by draws, annealing, resampling and quadrature, against a closed form and one another."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal

from gmcourse import zoo
from gmcourse.compositions.annealed_tilt import AnnealedTilt
from gmcourse.compositions.negatives import Importance
from gmcourse.compositions.tilt_constants import log_z_annealed, log_z_quadrature
from gmcourse.compositions.tilted import Tilted
from gmcourse.ebm.energy import mlp_energy
from gmcourse.metrics.grid import Grid
from gmcourse.model import GenerativeModel, Likelihood, StandardNormal
from gmcourse.vae import VAE, Gaussian, GaussianEncoder, LatentGrid

SIGMA = 0.6


class Quadratic(nn.Module):
    """E(x) = ½λ‖x − c‖²."""

    def __init__(self, weight, centre=0.0):
        super().__init__()
        self.weight, self.centre = nn.Parameter(torch.tensor(weight)), nn.Parameter(torch.tensor(centre))

    def forward(self, x):
        return 0.5 * self.weight * (x - self.centre).flatten(1).square().sum(1)


def linear_vae(d: int) -> VAE:
    """x = W z + σ ε with z in two dimensions and x in d: N(0, WWᵀ + σ²I)."""
    torch.manual_seed(0)
    decoder = nn.Linear(2, d, bias=False)
    nn.init.normal_(decoder.weight)
    return VAE((d,), GaussianEncoder(nn.Linear(d, 4)), decoder, prior=StandardNormal(2), likelihood=Gaussian(SIGMA))


def closed_form(vae: VAE, energy: Quadratic) -> float:
    """∫ N(x; 0, C) e^{−½λ‖x − c‖²} dx = (2π/λ)^{d/2} N(c; 0, C + I/λ); −½ log|I + λC| for c = 0."""
    w, weight = vae.decoder.weight.detach(), energy.weight.item()
    eye = torch.eye(len(w))
    at = MultivariateNormal(torch.zeros(len(w)), w @ w.T + SIGMA**2 * eye + eye / weight)
    return 0.5 * len(w) * math.log(2 * math.pi / weight) + at.log_prob(energy.centre.detach().expand(len(w))).item()


def test_annealing_finds_the_closed_form_where_draws_of_the_base_do_not():
    """λ = 2, c = 2: a handful of draws of the base carry the weight, and a hundred times as many chains."""
    vae, energy = linear_vae(3), Quadratic(2.0, 2.0)
    tilted, stages = Tilted(vae, energy, Importance()), [(k / 40) ** 2 for k in range(41)]
    found, exact = log_z_annealed(tilted, n=1000, stages=stages, step=0.2, moves=2), closed_form(vae, energy)
    assert abs(found.value - exact) < 4 * found.stderr and found.stderr < 0.1, (found, exact)
    with pytest.warns(UserWarning, match="draws of the base carry the weight"):
        assert tilted.normalise(1000).ess < 0.1 * found.ess
    with pytest.warns(UserWarning, match=r"only \d\.\d of 100 chains carry the weight; take more stages"):
        log_z_annealed(tilted, n=100, stages=2)


@pytest.mark.filterwarnings("ignore:log Z")  # of 20 chains fewer than 30 count
def test_annealing_is_unbiased_for_z():
    """Few chains with timid moves: e^{log Z} over seeds against the closed form."""
    vae, energy = linear_vae(3), Quadratic(0.8)
    tilted = Tilted(vae, energy, Importance())
    found = torch.tensor([log_z_annealed(tilted, n=20, stages=3, seed=seed).value for seed in range(80)]).exp()
    assert abs(found.mean() - math.exp(closed_form(vae, energy))) < 4 * found.std() / 80**0.5


def test_with_one_stage_annealing_is_the_mean_over_draws_of_the_noise():
    tilted = Tilted(StandardNormal(2), Quadratic(0.8), Importance())
    found = log_z_annealed(tilted, n=4000, stages=1)
    assert abs(found.value + math.log(1.8)) < 4 * found.stderr
    assert abs(found.stderr - tilted.normalise(4000).stderr) < 0.1 * found.stderr


def test_quadrature_is_the_closed_form_in_the_plane():
    vae, energy = linear_vae(2), Quadratic(4.0, 2.0)
    grid = Grid([(-9.0, 9.0)] * 2, 80)
    found = log_z_quadrature(Tilted(vae, energy, Importance()), grid, LatentGrid(vae, resolution=60, extent=6.0).log_prob)
    assert abs(found - closed_form(vae, energy)) < 1e-3
    line = Tilted(StandardNormal(1), Quadratic(0.8), Importance())
    assert abs(log_z_quadrature(line, Grid([(-8.0, 8.0)])) + 0.5 * math.log(1.8)) < 1e-5


def test_four_ways_agree_on_a_flow_under_a_smooth_energy():
    """Of a trained RealNVP with 25 modes of width .084: cells of .027, a third of that."""
    torch.manual_seed(0)
    energy = mlp_energy(2, (64, 64), input_scale=4.0)
    nn.init.normal_([part for part in energy.modules() if isinstance(part, nn.Linear)][-1].weight, std=0.15)
    tilted = Tilted(zoo.load("flow_real_nvp_gaussians25"), energy, Importance())
    exact = log_z_quadrature(tilted, Grid([(-4.0, 4.0)] * 2, 300))
    with torch.no_grad():
        assert energy(tilted.base.sample(500)).std() > 0.5  # that there is something to find
    drawn, annealed = tilted.normalise(10_000), log_z_annealed(tilted, n=1000, stages=8, step=0.05)
    for found in (drawn, annealed):
        assert abs(found.value - exact) < 4 * found.stderr and found.stderr < 0.1, (found, exact)
    smc = AnnealedTilt(4, 0.05)
    runs = torch.tensor(
        [smc.run(tilted.base, energy, 300, torch.Generator().manual_seed(seed))[1] for seed in range(8)]
    ).exp()
    assert abs(runs.mean() - math.exp(exact)) < 6 * runs.std() / 8**0.5  # eight runs: Student's t
    assert runs.std() < 0.3 * math.exp(exact)


class Deaf(GenerativeModel):
    """A transport whose push depends on what mode it is in, and which counts."""

    likelihood = Likelihood.NONE

    def __init__(self):
        super().__init__((1,))
        self.norm = nn.BatchNorm1d(1)

    def noise(self, n, *, generator=None):
        """ε ~ N(0, I), (n, 2)."""
        return torch.randn(n, 2, generator=generator, dtype=self.norm.running_mean.dtype)

    def push(self, eps):
        """The sum, normed: statistics of a batch in training mode, none in evaluation mode."""
        return self.norm(eps.sum(1, keepdim=True))


def test_base_and_energy_are_asked_in_evaluation_mode_and_stay_as_they_were():
    """x = ε₁ + ε₂ ~ N(0, 2): Z = 1/√(1 + 2λ). Parts in training mode would see the statistics of a batch."""
    energy = nn.Sequential(nn.BatchNorm1d(1), Quadratic(0.5))
    tilted = Tilted(Deaf().double(), energy.double(), Importance()).train()
    before, state = {k: v.clone() for k, v in tilted.state_dict().items()}, torch.get_rng_state()
    found = log_z_annealed(tilted, n=1000, stages=4, step=0.3)
    assert abs(found.value + 0.5 * math.log(1 + 2 * 0.5)) < 4 * found.stderr + 1e-4  # the norms' 1e-5 under the root
    given = log_z_quadrature(tilted, Grid([(-12.0, 12.0)]), lambda x: Normal(0.0, 2**0.5).log_prob(x[:, 0]))
    assert abs(given + 0.5 * math.log(1 + 2 * 0.5)) < 1e-4
    assert all(part.training for part in energy.modules()) and torch.equal(torch.get_rng_state(), state)
    assert all(p.requires_grad and p.grad is None for p in energy.parameters())
    assert all(torch.equal(v, before[k]) or (v.isnan() & before[k].isnan()).all() for k, v in tilted.state_dict().items())


def test_a_grid_that_misses_the_base_is_told():
    tilted = Tilted(StandardNormal(2), Quadratic(0.8), Importance())
    with pytest.warns(UserWarning, match=r"the grid finds 0\.466 of the base's mass"):
        log_z_quadrature(tilted, Grid([(-1.0, 1.0)] * 2))
    with pytest.warns(UserWarning, match="of the base's mass; widen the box or take more points"):
        log_z_quadrature(tilted, Grid([(-8.0, 8.0)] * 2, 3))


def test_bad_input_is_named():
    vae = Tilted(linear_vae(2), Quadratic(0.8), Importance())
    with pytest.raises(ValueError, match="log_prob must be given where the base's own is not exact; VAE's is: lower bound"):
        log_z_quadrature(vae, Grid([(-1.0, 1.0)] * 2))
    with pytest.raises(ValueError, match="grid must have 3 axes, as x does; got 2"):
        log_z_quadrature(Tilted(StandardNormal(3), Quadratic(0.8), Importance()), Grid([(-1.0, 1.0)] * 2))
    with pytest.raises(ValueError, match="n must be at least 2 for a standard error; got 1"):
        log_z_annealed(vae, n=1)
    with pytest.raises(ValueError, match="energy must lie above -inf; got NaN"):
        log_z_annealed(Tilted(StandardNormal(1), lambda x: x.sum(1) * torch.nan, Importance()))
