"""Exponential tilting against closed forms: a linear-Gaussian base under a quadratic energy, and ratios of Gaussians."""

import math
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal

from gmcourse import checkpoint
from gmcourse.compositions.annealed_tilt import AnnealedTilt
from gmcourse.compositions.negatives import Importance, NoiseChains, noise_energy
from gmcourse.compositions.persistence import Persistence
from gmcourse.compositions.tilted import Tilted
from gmcourse.ebm.energy import mlp_energy
from gmcourse.fit import cosine, fit
from gmcourse.flows import Flow, ffjord, real_nvp
from gmcourse.flows.elementwise import Affine, Elementwise
from gmcourse.gan import GAN
from gmcourse.mixture import MixtureModel
from gmcourse.model import Likelihood, StandardNormal
from gmcourse.sampling import HMC, MALA, ULA
from gmcourse.vae import VAE, Bernoulli, Gaussian, GaussianEncoder, mlp_hierarchy, mlp_vae

LAMBDA, SIGMA = 0.8, 0.6


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Quadratic(nn.Module):
    """E(x) = ½λ‖x − c‖²."""

    def __init__(self, weight=LAMBDA, centre=0.0):
        super().__init__()
        self.weight, self.centre = nn.Parameter(torch.tensor(weight)), nn.Parameter(torch.tensor(centre))

    def forward(self, x):
        return 0.5 * self.weight * (x - self.centre).flatten(1).square().sum(1)


def linear_vae() -> VAE:
    """x = W z + σ ε with z in two dimensions and x in three: N(0, WWᵀ + σ²I)."""
    torch.manual_seed(0)
    decoder = nn.Linear(2, 3, bias=False)
    nn.init.normal_(decoder.weight)
    return VAE((3,), GaussianEncoder(nn.Linear(3, 4)), decoder, prior=StandardNormal(2), likelihood=Gaussian(SIGMA))


def covariance_of(vae: VAE) -> torch.Tensor:
    w = vae.decoder.weight.detach()
    return w @ w.T + SIGMA**2 * torch.eye(3)


def test_log_z_of_a_linear_base_under_a_quadratic_energy():
    """log Z = −½ log|I + λC|."""
    base = linear_vae()
    exact = -0.5 * torch.logdet(torch.eye(3) + LAMBDA * covariance_of(base))
    found = Tilted(base, Quadratic(), Importance()).normalise(20_000)
    assert abs(found.value - float(exact)) < 4 * found.stderr and found.stderr < 0.02


WAYS = {"chains": NoiseChains(200, 0.3, sampler=MALA), "weights": Importance(20), "stages": AnnealedTilt(5, 0.5, moves=3)}


@pytest.mark.parametrize("negatives", WAYS.values(), ids=WAYS)
def test_samples_of_it_have_the_tilted_covariance(negatives):
    """(C⁻¹ + λI)⁻¹, though the base's density of x is nowhere used."""
    base, n = linear_vae(), 6000
    exact = (covariance_of(base).inverse() + LAMBDA * torch.eye(3)).inverse()
    x = Tilted(base, Quadratic(), negatives).sample(n, generator=seeded())
    error = 6 * exact.diagonal().max() / n**0.5
    assert (x.mean(0).abs() < error).all() and ((x.T @ x / n - exact).abs() < error).all()


def test_without_an_energy_it_is_the_base():
    base = real_nvp((2,))
    tilted = Tilted(base, Quadratic(weight=0.0), Importance())
    assert tilted.normalise(100) == (0.0, 0.0, 100.0)
    x = torch.randn(5, 2)
    assert torch.equal(tilted.log_prob(x), base.log_prob(x))
    eps = torch.randn(5, 2)
    assert torch.equal(noise_energy(base, tilted.energy)(eps), 0.5 * eps.square().sum(1))


def test_stages_find_the_same_log_z():
    """Unbiased for Z: the mean of e^{log Z} over runs, against the closed form."""
    base = linear_vae()
    exact = math.exp(-0.5 * float(torch.logdet(torch.eye(3) + LAMBDA * covariance_of(base))))
    generator, smc = seeded(), AnnealedTilt(4, 0.5)
    found = torch.tensor([smc.run(base, Quadratic(), 200, generator)[1] for _ in range(60)]).exp()
    assert abs(found.mean() - exact) < 4 * found.std() / 60**0.5 and found.std() < 0.2 * exact


class TwoHumps(nn.Module):
    """−log of ¼ N(−4, ½²) + ¾ N(4, ½²), less −log of the same with equal shares: only the masses differ."""

    def forward(self, x):
        left, right = (Normal(m, 0.5).log_prob(x[:, 0]) for m in (-4.0, 4.0))
        even = torch.logaddexp(left, right) + math.log(0.5)
        return even - torch.logaddexp(left + math.log(0.25), right + math.log(0.75))


class EvenHumps(nn.Module):
    """A transport to ½ N(−4, ½²) + ½ N(4, ½²): steep between the two."""

    likelihood, event_shape, data_range, nfe = Likelihood.NONE, torch.Size([1]), (-math.inf, math.inf), 1

    def noise(self, n, *, generator=None):
        """ε ~ N(0, I), (n, 2)."""
        return torch.randn(n, 2, generator=generator)

    def push(self, eps):
        """The first number says which hump."""
        return 4 * torch.tanh(50 * eps[:, :1]) + 0.5 * eps[:, 1:]


def test_stages_weights_and_jumps_carry_mass_between_basins_and_chains_do_not():
    """Three quarters belong to the right. Chains that begin evenly have nowhere to cross."""
    share = {}
    jumping = NoiseChains(5, 0.02, jumps=20)
    for name, way in {**WAYS, "chains": NoiseChains(50, 0.02), "stages": AnnealedTilt(3, 0.02), "jumps": jumping}.items():
        share[name] = float((EvenHumps().push(way.draw(EvenHumps(), TwoHumps(), 4000, seeded())) > 0).float().mean())
    assert all(abs(share[name] - 0.75) < 0.04 for name in ("weights", "stages", "jumps")), share
    assert share["chains"] < 0.65


class LogRatio(nn.Module):
    """E = log q − log p of N(0, 1) and N(1, ½²)."""

    def forward(self, x):
        return (Normal(0.0, 1.0).log_prob(x) - Normal(1.0, 0.5).log_prob(x))[:, 0]


def test_the_log_ratio_of_two_laws_tilts_the_one_into_the_other():
    tilted = Tilted(StandardNormal(1), LogRatio(), NoiseChains(300, 0.1, sampler=MALA))
    found = tilted.normalise(20_000)
    assert abs(found.value) < 4 * found.stderr
    x = torch.linspace(-1, 3, 9)[:, None]
    assert torch.allclose(tilted.unnormalised(x), Normal(1.0, 0.5).log_prob(x)[:, 0], atol=1e-5)
    drawn = tilted.sample(4000, generator=seeded())
    assert abs(drawn.mean() - 1) < 0.05 and abs(drawn.std() - 0.5) < 0.03


def test_a_step_in_the_noise_is_a_step_in_x_scaled_by_the_variance():
    """Thesis 4.3.3 as an identity: the same chain, with η in ε and with σ²η, coordinate by coordinate, in x."""
    layer = Elementwise((2,), Affine())
    base = Flow(StandardNormal(2), [layer])
    torch.manual_seed(0)
    nn.init.normal_(next(layer.parameters()), std=0.5)
    with torch.no_grad():
        mu = base.push(torch.zeros(1, 2))[0]
        sigma = (base.push(torch.eye(2)) - mu).diagonal()
    energy, eps, eta = Quadratic(2.0, 0.3), torch.randn(50, 2), 0.1
    ends = NoiseChains(5, eta).run(base, energy, eps, seeded(3))

    def of_x(x):
        return energy(x) + 0.5 * ((x - mu) / sigma).square().sum(1)

    chain = ULA(of_x, step=eta, preconditioner=sigma.square())
    with torch.no_grad():
        assert torch.allclose(base.push(ends), chain.run(base.push(eps), 5, generator=seeded(3)), atol=1e-5)


def test_the_gradient_is_that_of_the_exact_likelihood():
    """On the line, where ∇(E(x) + log Z) comes from quadrature."""
    energy, x = Quadratic(0.5, 0.7), torch.randn(64, 1, generator=seeded()) + 1
    grid = torch.linspace(-12, 12, 20_001)[:, None]
    log_z = (Normal(0.0, 1.0).log_prob(grid)[:, 0] - energy(grid)).logsumexp(0) + math.log(24 / 20_000)
    goal = torch.autograd.grad((energy(x).mean() + log_z), list(energy.parameters()))
    torch.manual_seed(0)
    tilted = Tilted(StandardNormal(1), energy, Importance(pool=4000))
    found = torch.autograd.grad(tilted.loss(x).mean(), list(energy.parameters()))
    assert torch.allclose(torch.stack(found), torch.stack(goal), atol=0.01)


@pytest.mark.parametrize("negatives", [partial(NoiseChains, 10, 0.2), partial(Importance, 4)], ids=["chains", "weights"])
def test_training_finds_the_tilt_and_moves_nothing_of_the_base(negatives):
    """Data N(0.8, 0.6²) under a base N(0, 1): the gap, a nat before, closes; the base stays bitwise, statistics too."""
    torch.manual_seed(0)
    base = Flow(StandardNormal(2), [Elementwise((2,), Affine())])
    base.add_module("norm", nn.BatchNorm1d(2))
    before = {name: value.clone() for name, value in base.state_dict().items()}
    tilted = Tilted(base, mlp_energy(2, (32,)), negatives(), l2=0.01)
    data = 0.8 + 0.6 * torch.randn(2000, 2)
    fit(tilted, data, steps=200, lr=1e-2, schedule=cosine(), batch_size=128, progress=False)
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())
    tilted.normalise(20_000)
    truth = MultivariateNormal(torch.full((2,), 0.8), 0.36 * torch.eye(2)).log_prob(data).mean()
    with torch.no_grad():
        gap, gap_of_base = (truth - model.log_prob(data).mean() for model in (tilted, base))
    assert gap_of_base > 0.9 and -0.05 < gap < 0.15


def test_chains_of_a_buffer_go_on_in_training_only():
    base, energy = StandardNormal(2), Quadratic()
    negatives = NoiseChains(3, 0.1, persistence=Persistence(8, 2, probability=1.0))
    kept = negatives.persistence.buffer.chains.clone()
    negatives.eval()(base, energy, 8)
    assert torch.equal(negatives.persistence.buffer.chains, kept)
    negatives.train()(base, energy, 8)
    assert not torch.equal(negatives.persistence.buffer.chains, kept)


def test_what_log_prob_means():
    plain = Tilted(StandardNormal(2), Quadratic(), Importance())
    assert plain.likelihood is Likelihood.UNNORMALIZED
    plain.normalise(1000)
    assert plain.likelihood is Likelihood.EXACT
    plain.loss(torch.zeros(2, 2))  # who trains on has another Z
    assert plain.likelihood is Likelihood.UNNORMALIZED
    bound = Tilted(linear_vae(), Quadratic(), Importance())
    bound.normalise(1000)
    assert bound.likelihood is Likelihood.LOWER_BOUND


def test_a_file_brings_back_energy_and_log_z(tmp_path):
    one, other = (Tilted(StandardNormal(2), Quadratic(w), Importance()) for w in (0.5, 0.9))
    one.normalise(1000)
    checkpoint.load(checkpoint.save(tmp_path / "tilted.safetensors", one, {}), other)
    x = torch.randn(4, 2)
    assert torch.equal(one.log_prob(x), other.log_prob(x))


def test_few_draws_that_carry_the_weight_are_told():
    tilted = Tilted(StandardNormal(2), Quadratic(50.0, 6.0), Importance())
    with pytest.warns(UserWarning, match=r"only 1\.\d of 2000 draws of the base carry the weight"):
        tilted.normalise(2000)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="base must be a transport, with noise and push; MixtureModel has no noise"):
        Tilted(MixtureModel(3, 2), Quadratic(), Importance())
    with pytest.raises(ValueError, match=r"energy must return shape \(n,\); got \(2, 1\)"):
        Tilted(StandardNormal(2), nn.Linear(2, 1), Importance())
    with pytest.raises(ValueError, match="l2 must not be negative; got -1"):
        Tilted(StandardNormal(2), Quadratic(), Importance(), l2=-1.0)
    with pytest.raises(ValueError, match="step must be positive; got 0"):
        NoiseChains(10, 0.0)
    with pytest.raises(ValueError, match="stages must be a positive whole number; got 0"):
        AnnealedTilt(0, 0.1)
    with pytest.raises(ValueError, match="pool must be a positive whole number; got 0"):
        Importance(0)


def test_chains_that_diverge_stop_the_training():
    tilted = Tilted(StandardNormal(2), Quadratic(1e6), NoiseChains(50, 1.0))
    with pytest.raises(FloatingPointError, match="diverged; use a smaller step"):
        tilted.loss(torch.randn(4, 2))


def test_the_law_of_few_samples_is_the_tilted_law_too():
    """A single draw at a time: nine of ten belong to the right, though the base puts one of two there."""

    def share(way):
        right = [EvenHumps().push(way.draw(EvenHumps(), TwoHumps(), 1, seeded(k))) > 0 for k in range(200)]
        return float(torch.cat(right).float().mean())

    assert abs(share(Importance()) - 0.75) < 0.13 and abs(share(AnnealedTilt(3, 0.02)) - 0.75) < 0.13


def test_a_base_whose_push_gives_means_has_no_likelihood():
    """Σ q e^{−E} over binary images is not E[e^{−E(mean)}]: the two laws differ."""
    base = mlp_vae((3,), hidden=(4,), likelihood=Bernoulli())
    tilted = Tilted(base, Quadratic(), Importance())
    tilted.normalise(100)
    assert tilted.likelihood is Likelihood.NONE
    with pytest.raises(NotImplementedError, match="means of x"):
        tilted.log_prob(torch.zeros(2, 3))


def test_asking_for_a_likelihood_moves_nothing_of_a_base_with_batch_norm():
    base = Flow(StandardNormal(2), [Elementwise((2,), Affine())])
    base.extra = nn.BatchNorm1d(2)
    tilted = Tilted(base, nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1), nn.Flatten(0)), Importance()).train()
    before = {name: t.clone() for name, t in tilted.state_dict().items()}
    tilted.log_prob(torch.randn(5, 2))
    assert all(torch.equal(before[name], t) or t.isnan().all() for name, t in tilted.state_dict().items())


def test_log_z_is_kept_where_the_loss_is_only_looked_at():
    tilted = Tilted(StandardNormal(2), Quadratic(), Importance())
    tilted.normalise(100)
    with torch.no_grad():
        tilted.loss(torch.randn(4, 2))
    assert not tilted.log_z.isnan()
    tilted.loss(torch.randn(4, 2))
    assert tilted.log_z.isnan()


class Broken(nn.Module):
    """Finite at first, then NaN."""

    broken = False

    def forward(self, x):
        return x.square().sum(1) * (math.nan if self.broken else 1.0)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_an_energy_that_is_no_number_is_told_as_such(way):
    energy = Broken()
    tilted = Tilted(StandardNormal(2), energy, way)
    energy.broken = True
    with pytest.raises(FloatingPointError, match="not finite"):
        tilted.loss(torch.randn(4, 2))


def test_a_collapse_of_the_weights_in_training_is_told_once():
    tilted = Tilted(StandardNormal(2), Quadratic(weight=-400.0), Importance())
    with pytest.warns(UserWarning, match="draws of the base carry the weight"):
        tilted.loss(torch.randn(4, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tilted.loss(torch.randn(4, 2))


def test_log_z_of_one_draw_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        Tilted(StandardNormal(2), Quadratic(), Importance()).normalise(1)


BASES = {
    "coupling flow": lambda: real_nvp((2,)),
    "continuous flow": lambda: ffjord((2,), hidden=(8,), steps=2),
    "VAE": lambda: mlp_vae((2,), hidden=(8,)),
    "hierarchical VAE": lambda: mlp_hierarchy((2,), width=8),
    "GAN": lambda: GAN(nn.Linear(3, 2), nn.Linear(2, 1), event_shape=(2,), latent=3),
}


@pytest.mark.parametrize("build", BASES.values(), ids=BASES)
def test_any_transport_is_tilted_by_the_same_code(build):
    """A step moves the energy and nothing of the base; chains, by HMC too, stages and weights draw from it."""
    torch.manual_seed(0)
    tilted = Tilted(build(), mlp_energy(2, (8,)), NoiseChains(2, 0.01))
    before = {name: p.clone() for name, p in tilted.named_parameters()}
    fit(tilted, torch.randn(16, 2), steps=1, batch_size=8, progress=False)
    moved = {name for name, p in tilted.named_parameters() if not torch.equal(p, before[name])}
    assert moved and all(name.startswith("energy.") for name in moved)
    for way in (NoiseChains(2, 0.01, sampler=partial(HMC, leaps=2)), AnnealedTilt(2, 0.01), Importance(2)):
        tilted.negatives = way
        x = tilted.sample(5, generator=seeded())
        assert x.shape == (5, 2) and x.isfinite().all()
