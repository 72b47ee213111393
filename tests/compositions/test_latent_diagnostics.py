"""What lies between p(z) and q(z): each number against a closed form, quadrature or Monte Carlo."""

import math

import pytest
import torch
from torch import Tensor, nn

from gmcourse.compositions.flow_posterior import flow_posterior_vae
from gmcourse.compositions.latent_diagnostics import (
    entropy_term,
    holes,
    interpolate,
    mismatch,
    posterior_draws,
    posterior_variance,
)
from gmcourse.compositions.rae import RegularisedAutoencoder
from gmcourse.flows import real_nvp
from gmcourse.mixture import MixtureModel
from gmcourse.model import GenerativeModel, Likelihood, StandardNormal
from gmcourse.vae import VAE, Gaussian, GaussianEncoder


def gaussians(means: list, sigma: float) -> MixtureModel:
    """Equal weights, covariances σ² I."""
    k, d = len(means), len(means[0])
    return MixtureModel.from_parameters(torch.ones(k) / k, torch.tensor(means), sigma**2 * torch.eye(d).repeat(k, 1, 1))


def of_codes(prior: GenerativeModel) -> RegularisedAutoencoder:
    """The data are the codes: q is whatever x is drawn from."""
    return RegularisedAutoencoder(prior.event_shape, nn.Identity(), nn.Identity(), prior)


def linear_vae(sigma: Tensor, prior: GenerativeModel | None = None) -> VAE:
    """q(z|x) = N(2x, diag σ²), x = z/2 + noise, in the dimension of σ."""
    d = len(sigma)
    net, decoder = nn.Linear(d, 2 * d), nn.Linear(d, d)
    with torch.no_grad():
        net.weight.copy_(torch.cat([2 * torch.eye(d), torch.zeros(d, d)]))
        net.bias.copy_(torch.cat([torch.zeros(d), 5 * torch.atanh(sigma.log() / 5)]))  # GaussianEncoder clamps log σ softly
        decoder.weight.copy_(torch.eye(d) / 2)
        decoder.bias.zero_()
    return VAE((d,), GaussianEncoder(net), decoder, prior=prior or StandardNormal(d), likelihood=Gaussian(1.0))


def restless() -> RegularisedAutoencoder:
    encoder = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    return RegularisedAutoencoder((3,), encoder, nn.Linear(2, 3), StandardNormal(2)).train()


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_draws_of_a_vae_come_from_its_posteriors_and_the_seed_decides_them():
    sigma = torch.tensor([0.5, 0.1])
    vae, x = linear_vae(sigma), torch.tensor([[1.0, -1.0]]).expand(20_000, 2)
    z = posterior_draws(vae, x, generator=rng())
    assert not z.requires_grad
    assert ((z.mean(0) - torch.tensor([2.0, -2.0])).abs() < 5 * sigma / len(x) ** 0.5).all()
    assert torch.allclose(z.std(0), sigma, rtol=5 / (2 * len(x)) ** 0.5)
    state = torch.random.get_rng_state()
    assert torch.equal(posterior_draws(vae, x, generator=rng()), z)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_draws_of_an_autoencoder_are_its_codes_in_evaluation_mode():
    model, x = restless(), torch.randn(600, 3, generator=rng())
    found = posterior_draws(model, x)
    assert model.training and int(model.encoder[1].num_batches_tracked) == 0
    assert torch.equal(found, model.eval().encoder(x).detach()) and not found.requires_grad


def test_mismatch_finds_the_mmd_and_the_cross_entropy_of_shifted_gaussians():
    d, shift, h = 3, 0.8, 1.5
    model = of_codes(StandardNormal(d))
    x = torch.randn(2000, d, generator=rng()) + torch.tensor([shift, 0, 0])
    found = mismatch(model, x, bandwidth=h, generator=rng(1))
    wide = h**2 + 2  # E exp(−‖x − y‖²/2h²) of x − y ~ N(m, 2I) is (h²/wide)^(d/2) exp(−‖m‖²/2wide)
    mmd = 2 * (h**2 / wide) ** (d / 2) * (1 - math.exp(-(shift**2) / (2 * wide)))
    assert abs(found.mmd2.value - mmd) < 5 * found.mmd2.stderr and found.mmd2.stderr < mmd / 5
    nll = 0.5 * math.log(2 * math.pi) + 0.5 + shift**2 / (2 * d)
    assert abs(found.nll.value - nll) < 5 * found.nll.stderr and found.nll.stderr < 0.02


def test_mismatch_is_nothing_where_p_is_q_even_if_q_is_no_gaussian():
    p = gaussians([[-2.0, 0.0], [2.0, 0.0]], 0.3)
    found = mismatch(of_codes(p), p.sample(1500, generator=rng()), generator=rng(1))
    assert abs(found.mmd2.value) < 4 * found.mmd2.stderr
    entropy = math.log(2) + math.log(2 * math.pi * math.e * 0.3**2)  # two lumps that don't overlap
    assert abs(found.nll.value - entropy / 2) < 5 * found.nll.stderr


@pytest.mark.parametrize("likelihood", [Likelihood.NONE, Likelihood.UNNORMALIZED])
def test_a_prior_without_a_normalised_density_has_no_nll(likelihood):
    prior = StandardNormal(2)
    prior.likelihood = likelihood
    assert mismatch(of_codes(prior), torch.randn(50, 2, generator=rng())).nll is None


def test_entropy_is_the_sum_of_log_sigma_plus_a_constant():
    sigma = torch.tensor([0.5, 0.1, 1.5])
    vae, x = linear_vae(sigma), torch.randn(700, 3, generator=rng())
    found = entropy_term(vae, x)
    assert abs(found - float(sigma.log().sum() + 1.5 * math.log(2 * math.pi * math.e))) < 1e-4
    assert abs(found - float(torch.distributions.Normal(0, sigma).entropy().sum())) < 1e-4
    # as a loss up to constants: −Σ log σ, not −Σ log(σ)/2; and it falls as σ grows
    assert abs(entropy_term(linear_vae(2 * sigma), x) - found - 3 * math.log(2)) < 1e-4
    q = vae.encoder(x)
    z = q.sample((50,))
    surprise = -q.log_prob(z).detach()
    assert abs(found - float(surprise.mean())) < 5 * float(surprise.std()) / surprise.numel() ** 0.5


def test_entropy_of_a_bent_posterior_is_that_of_the_gaussian_plus_the_mean_log_determinant():
    torch.manual_seed(0)
    vae = flow_posterior_vae((3,), nn.Linear(3, 4 + 16), nn.Linear(2, 3), latent=2, kind="planar", layers=2)
    x = torch.randn(4000, 3)
    q = vae.encoder(x)
    draws = []
    for _ in range(20):
        start = q.start.rsample()
        z = q.chain.inverse(start, q.context)
        jacobian = torch.stack([torch.autograd.grad(z[:, j].sum(), start, retain_graph=True)[0] for j in (0, 1)], 1)
        draws.append(torch.linalg.det(jacobian).abs().log().detach())
    wanted = q.start.entropy().detach() + torch.stack(draws).mean(0)
    spread = float((-q.log_prob(q.rsample())).detach().std() / len(x) ** 0.5)
    assert abs(entropy_term(vae, x) - float(wanted.mean())) < 5 * spread


def test_posterior_variance_is_the_mean_of_sigma_squared_and_of_draws_where_there_is_no_formula():
    torch.manual_seed(0)
    sigma, x = torch.tensor([0.5, 0.1]), torch.randn(700, 2)
    assert torch.allclose(posterior_variance(linear_vae(sigma), x), sigma**2, rtol=1e-4)
    vae = flow_posterior_vae((2,), nn.Linear(2, 4 + 16), nn.Linear(2, 2), latent=2, kind="iaf", layers=2)
    at = x[:1].expand(20_000, 2)
    z = vae.encoder(at).rsample().detach()
    assert torch.allclose(posterior_variance(vae, x[:1].expand(1000, 2)), z.var(0), rtol=5 * (3 / len(z)) ** 0.5)


@pytest.mark.parametrize("kind", ["lumps", "high dimension", "vae"])
def test_the_hole_score_is_the_level_where_p_is_q(kind):
    if kind == "vae":  # q(z) = N(0, 4 + σ²) for x ~ N(0, I)
        sigma = torch.tensor([0.5, 0.2])
        prior = MixtureModel.from_parameters(torch.ones(1), torch.zeros(1, 2), torch.diag(4 + sigma**2)[None])
        model, draw = linear_vae(sigma, prior), StandardNormal(2).sample
    else:
        prior = gaussians([[-2.0, 0.0], [2.0, 0.0]], 0.3) if kind == "lumps" else StandardNormal(20)
        model, draw = of_codes(prior), prior.sample
    level, n, rows = 0.05, 4000, 4000
    share, z = holes(model, draw(rows, generator=rng()), n=n, level=level, generator=rng(1))
    spread = (level * (1 - level) * (1 / n + 2 / rows)) ** 0.5  # of the draws, and of the threshold from half of the rows
    assert abs(share.value - level) < 4 * spread
    assert len(z) == round(share.value * n)


def test_the_hole_score_of_two_narrow_lumps_is_the_mass_of_the_prior_outside_of_them():
    centre, sigma, level = 1.0, 0.3, 0.01
    q, p = gaussians([[-centre, 0.0], [centre, 0.0]], sigma), StandardNormal(2)
    line = torch.linspace(-5, 5, 501)
    grid = torch.cartesian_prod(line, line)
    log_q, cell = q.log_prob(grid), 0.02**2
    order = log_q.argsort()
    below = log_q[order[int((log_q[order].exp().cumsum(0) * cell < level).sum())]]
    wanted = float((p.log_prob(grid[log_q < below]).exp()).sum() * cell)
    assert 0.4 < wanted < 0.6
    found = [holes(of_codes(p), q.sample(6000, generator=rng(s)), n=3000, generator=rng(s)).share for s in range(3)]
    mean = sum(share.value for share in found) / 3
    assert abs(mean - wanted) < 0.045  # 4 times its spread over seeds, which is mostly that of the threshold
    assert found[0].stderr == pytest.approx((found[0].value * (1 - found[0].value) / 3000) ** 0.5)


def test_the_draws_that_lie_in_holes_come_with_it_the_farthest_first():
    q, p = gaussians([[-1.0, 0.0], [1.0, 0.0]], 0.1), StandardNormal(2)
    share, z = holes(of_codes(p), q.sample(4000, generator=rng()), n=1000, generator=rng())
    away = torch.cdist(z, torch.tensor([[-1.0, 0.0], [1.0, 0.0]])).amin(1)
    assert share.value > 0.9 and away.min() > 0.2
    assert (away.diff() < 0.2).all() and away[0] > away[-1] + 1
    again = holes(of_codes(p), q.sample(4000, generator=rng()), n=1000, generator=rng())
    assert torch.equal(again.z, z)


def test_a_narrow_prior_within_q_has_no_holes():
    x = torch.randn(2000, 2, generator=rng())
    share, z = holes(of_codes(gaussians([[0.0, 0.0]], 0.1)), x, n=500, generator=rng())
    assert share.value == 0 and z.shape == (0, 2)


def test_the_straight_way_halves_the_squared_norm_and_the_great_circle_keeps_it():
    d, n = 64, 2000
    a, b = torch.randn(2, n, d, generator=rng())
    model = of_codes(StandardNormal(d))
    straight = interpolate(model, a, b, 5)
    middle = straight[:, 2].square().sum(1)
    assert abs(float(middle.mean()) - d / 2) < 5 * float(middle.std()) / n**0.5
    assert torch.allclose(straight[:, 1], 0.75 * a + 0.25 * b, atol=1e-5)
    along = interpolate(model, a, b, 5, spherical=True)
    norms = a.norm(dim=1)[:, None] + torch.linspace(0, 1, 5) * (b.norm(dim=1) - a.norm(dim=1))[:, None]
    assert torch.allclose(along.norm(dim=2), norms, rtol=1e-5)
    unit = along / along.norm(dim=2, keepdim=True)
    turns = (unit[:, 1:] * unit[:, :-1]).sum(2).acos()
    assert torch.allclose(turns, (unit[:, :1] * unit[:, -1:]).sum(2).acos() / 4, atol=1e-3)


def test_both_ways_begin_and_end_where_push_leads():
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(5, 2), nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 5))
    model = RegularisedAutoencoder((5,), encoder, decoder, real_nvp((2,), layers=2)).train()
    a, b = torch.randn(2, 6, 2)
    for spherical in (False, True):
        images = interpolate(model, a, b, 4, spherical=spherical)
        assert images.shape == (6, 4, 5) and not images.requires_grad and model.decoder[1].training
        with torch.no_grad():
            model.eval()
            assert torch.allclose(images[:, 0], model.push(a), atol=1e-5)
            assert torch.allclose(images[:, -1], model.push(b), atol=1e-5)
            model.train()
    assert torch.allclose(interpolate(model, a, a, 3, spherical=True), interpolate(model, a, a, 3), atol=1e-5)


def test_the_noise_of_pixels_is_left_out_on_the_way():
    vae = linear_vae(torch.tensor([0.5, 0.1]))
    a, b = torch.randn(2, 6, 4, generator=rng())
    images = interpolate(vae, a, b, 3)
    assert torch.allclose(images[:, 1], (a + b)[:, :2] / 4, atol=1e-6)


def test_what_does_not_fit_is_refused():
    model, x = of_codes(StandardNormal(2)), torch.randn(100, 2, generator=rng())
    with pytest.raises(ValueError, match=r"level must lie in \(0, 1\); got 1"):
        holes(model, x, level=1)
    with pytest.raises(ValueError, match="x must have at least 198 rows for level=0.01; got 100"):
        holes(model, x)
    assert 0 <= holes(model, x.repeat(2, 1)[:198], n=10).share.value <= 1
    with pytest.raises(ValueError, match="k must be at most the number of data, 50; got 51"):
        holes(model, x, level=0.1, k=51)
    with pytest.raises(ValueError, match="n must be a positive whole number; got 0"):
        holes(model, x, level=0.1, n=0)
    with pytest.raises(ValueError, match="gives a distribution; this one gives points"):
        entropy_term(model, x)
    with pytest.raises(ValueError, match="model must have an encoder and a prior; got a StandardNormal"):
        mismatch(StandardNormal(2), x)
    with pytest.raises(ValueError, match=r"x must have shape \(n, 2\); got \(100, 3\)"):
        posterior_draws(model, torch.zeros(100, 3))
    with pytest.raises(ValueError, match=r"eps_a and eps_b must have the same shape \(n, 2\); got \(3, 2\) and \(1, 2\)"):
        interpolate(model, x[:3], x[:1])
    with pytest.raises(ValueError, match="steps must be at least 2, the two ends; got 1"):
        interpolate(model, x[:3], x[3:6], 1)
    for other in (-x[:1], 0 * x[:1]):
        with pytest.raises(ValueError, match="eps_a and eps_b must not be opposite, or 0"):
            interpolate(model, x[:1], other, spherical=True)
