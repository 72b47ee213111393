"""What the explorers of chapter 8 measure and draw, against closed forms, quadrature and other libraries' code."""

import math

import numpy as np
import pytest
import torch
from matplotlib.path import Path
from problems.explorers import check_same_picture
from sklearn.neighbors import KernelDensity
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from gmcourse.compositions import GenerativeLatentFlow, flow_prior_vae
from gmcourse.flows import real_nvp
from gmcourse.model import StandardNormal
from gmcourse.vae import GaussianEncoder, MixturePrior, gaussian_kl
from gmcourse.viz.explorers import latent_beta, latent_prior
from gmcourse.viz.explorers.latent_beta import run
from gmcourse.viz.explorers.latent_plane import EXTENT, LADDER, LatentPlane, bumps
from gmcourse.viz.explorers.latent_prior import MASS, Place, _outline, place
from gmcourse.viz.plane import grid

IMAGE = (1, 2, 2)
LABELS = torch.arange(60) % 10


def images(n=60):
    return torch.rand(n, *IMAGE, generator=torch.Generator().manual_seed(7)) * 2 - 1


class Linear(nn.Module):
    """x -> the first two pixels times `scale` plus `shift`, and, with σ, log σ beside them."""

    def __init__(self, scale=1.0, shift=0.0, sigma=None):
        super().__init__()
        self.scale, self.shift, self.sigma = nn.Parameter(torch.tensor(scale)), shift, sigma

    def forward(self, x):
        z = x.flatten(1)[:, :2] * self.scale + self.shift
        if self.sigma is None:
            return z
        return torch.cat((z, torch.full_like(z, 5 * math.atanh(math.log(self.sigma) / 5))), 1)


def decoder(latent=2):
    return nn.Sequential(nn.Linear(latent, 4), nn.BatchNorm1d(4), nn.Unflatten(1, IMAGE))


def vae(sigma=0.3, prior=None, **linear):
    torch.manual_seed(0)
    return flow_prior_vae(IMAGE, GaussianEncoder(Linear(sigma=sigma, **linear)), decoder(), prior or StandardNormal(2))


def glf(**linear):
    torch.manual_seed(0)
    flow = real_nvp((2,), layers=2, hidden=(8,))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return GenerativeLatentFlow(IMAGE, Linear(**linear), decoder(), flow)


def normals(n=2000, seed=0):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


# The plane


def test_posteriors_are_the_encoders_and_a_point_has_no_width():
    plane, point = LatentPlane(vae(sigma=0.3, scale=2.0, shift=1.0), images()), LatentPlane(glf(), images())
    assert torch.allclose(plane.mean, 2 * images().flatten(1)[:, :2] + 1)
    assert torch.allclose(plane.sigma, torch.tensor(0.3)) and (point.sigma == 0).all()
    assert torch.equal(point.codes, point.mean)
    drawn = (plane.codes - plane.mean) / 0.3
    assert abs(float(drawn.std()) - 1) < 4.5 / math.sqrt(2 * drawn.numel())


@pytest.mark.parametrize("model", [vae, glf])
def test_codes_have_mean_0_and_variance_1_in_units_and_places_are_their_inverse(model):
    plane = LatentPlane(model(scale=30.0, shift=5.0), images())
    u = plane.units(plane.codes)
    assert torch.allclose(u.mean(0), torch.zeros(2), atol=1e-5) and float(u.var(0).mean()) == pytest.approx(1, abs=1e-4)
    assert torch.allclose(plane.place(u), plane.codes, atol=1e-4)


def test_q_is_torchs_mixture_of_the_widened_posteriors():
    plane, z = LatentPlane(vae(), images()), 2 * normals(50)
    components = Independent(Normal(plane.mean, (plane.sigma.square() + plane.h**2).sqrt()), 1)
    mixture = MixtureSameFamily(Categorical(logits=torch.zeros(60)), components)
    assert torch.allclose(plane.log_q(z), mixture.log_prob(z), atol=1e-4)


def test_the_width_is_the_one_that_scikit_learns_kernels_prefer_when_each_code_is_left_out():
    plane = LatentPlane(glf(), images(40))
    codes = plane.codes.double().numpy()

    def left_out(h):
        kernels = [KernelDensity(bandwidth=h).fit(np.delete(codes, i, 0)) for i in range(len(codes))]
        return np.mean([kernel.score(codes[i : i + 1]) for i, kernel in enumerate(kernels)])

    scores = [left_out(h) for h in LADDER * plane.scale]
    assert plane.h == pytest.approx(LADDER[np.argmax(scores)] * plane.scale)
    assert 0 < np.argmax(scores) < len(LADDER) - 1
    assert float(plane._left_out(plane.h)) == pytest.approx(max(scores), abs=1e-3)


def test_both_densities_on_the_window_hold_nearly_all_of_their_mass():
    plane = LatentPlane(vae(scale=1.5), images())
    cell = (EXTENT[1] - EXTENT[0]) ** 2 / plane.densities()[0].numel()
    p, q = (float(density.sum()) * cell for density in plane.densities())
    assert q == pytest.approx(1, abs=0.01)
    reach = (EXTENT[1] * plane.scale - plane.centre.abs().numpy(), EXTENT[1] * plane.scale + plane.centre.abs().numpy())
    inside = np.prod([0.5 * (math.erf(a / math.sqrt(2)) + math.erf(b / math.sqrt(2))) for a, b in zip(*reach, strict=True)])
    assert p == pytest.approx(float(inside), abs=1e-3)


def test_the_mismatch_is_half_the_integral_of_the_difference():
    plane, extent, cells = LatentPlane(vae(shift=0.8), images()), (-7.0, 7.0, -7.0, 7.0), 200
    z = grid(extent, cells)
    wanted = 0.5 * float((plane.log_p(z).exp() - plane.log_q(z).exp()).abs().sum()) * (14 / cells) ** 2
    assert 0.2 < wanted < 0.9
    assert plane.mismatch(normals(20_000)) == pytest.approx(wanted, abs=4.5 * 0.5 / math.sqrt(20_000))


def test_where_p_is_q_there_is_no_mismatch():
    plane = LatentPlane(vae(), images())
    plane.log_p = plane.log_q
    assert plane.mismatch(normals(100)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("model", [vae, glf])
def test_pulling_undoes_pushing_and_tells_the_density_on_the_way(model):
    plane, eps = LatentPlane(model(), images()), normals(50)
    z = plane.push(eps)
    back, log_p = plane.pull(z)
    assert torch.allclose(back, eps, atol=1e-4) and torch.allclose(log_p, plane.log_p(z), atol=1e-4)
    assert torch.equal(z, eps) == (model is vae)


def test_images_are_means_and_of_evaluation_mode():
    model = vae().train()
    plane, z = LatentPlane(model, images()), normals(5)
    linear, norm, shape = model.decoder
    scaled = (linear(z) - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    assert torch.allclose(plane.decode(z), shape(scaled).detach(), atol=1e-5)
    assert torch.equal(plane.decode(z)[:1], plane.decode(z[:1]))


# latent_prior


def test_a_place_is_the_same_by_z_and_by_its_noise():
    plane = LatentPlane(glf(), images())
    by_noise = place(plane, "eps", 0.7, -0.4)
    by_z = place(plane, "z", *by_noise.u.tolist())
    assert np.allclose(by_noise.eps, (0.7, -0.4), atol=1e-4)
    for mine, other in zip(by_noise[:5], by_z[:5], strict=True):
        assert np.allclose(mine, other, atol=1e-3)
    assert np.allclose(by_noise.z, plane.place(torch.tensor(by_noise.u)).numpy(), atol=1e-5)


@pytest.mark.parametrize(("eps", "log_p", "log_q", "words"), [
    ((0.1, 0.0), -1.0, -3.0, "a hole: the prior comes here,\nno digit does"),
    ((0.1, 0.0), -1.0, -2.5, ""),
    ((2.5, 2.5), -3.0, -9.0, "neither comes here"),
    ((2.5, 2.5), -9.0, -8.0, "neither comes here"),
    ((2.5, 2.5), -9.0, -3.0, "digits are here, the prior\nrarely comes"),
])  # fmt: skip
def test_the_verdict_names_holes_where_the_prior_goes_and_expects_five_times_too_much(eps, log_p, log_q, words):
    zero = np.zeros(2)
    assert Place(zero, np.array(eps), zero, log_p, log_q, zero).verdict == words


def test_the_middle_of_a_prior_far_from_all_codes_is_called_a_hole():
    plane = LatentPlane(vae(sigma=0.1, shift=3.0), images())
    assert place(plane, "eps", 0.0, 0.0).verdict.startswith("a hole")
    assert place(plane, "z", 0.0, 0.0).verdict.startswith("digits are here")


def test_numbers_are_written_with_true_minus_signs():
    zero = np.zeros(2)
    words = Place(np.array([-1.0, 2.0]), zero - 1e-4, zero, -1.234, 0.5, zero).numbers
    assert words == ["(−1.00, 2.00)", "(0.00, 0.00)", "−1.23", "0.50"]


def test_the_outline_holds_the_mass_it_promises():
    density = bumps(grid(EXTENT, 96), torch.zeros(1, 2), torch.full((1, 2), 0.8)).exp().reshape(96, 96)
    line = _outline(density)
    assert np.isnan(line[-1]).all() and np.isfinite(line[:-1]).all()
    assert np.hypot(*line[:-1].T).mean() == pytest.approx(0.8 * math.sqrt(-2 * math.log(1 - MASS)), rel=0.02)
    two = bumps(grid(EXTENT, 96), torch.tensor([[-1.5, 0.0], [1.5, 0.0]]), torch.full((2, 2), 0.3)).exp().sum(1)
    line = _outline(two.reshape(96, 96))
    pieces = np.split(line, np.flatnonzero(np.isnan(line[:, 0])))
    paths = [Path(piece[np.isfinite(piece[:, 0])]) for piece in pieces if np.isfinite(piece).any()]
    inside = np.any([path.contains_points(grid(EXTENT, 96).numpy()) for path in paths], 0)
    assert len(paths) == 2 and float(two[torch.from_numpy(inside)].sum() / two.sum()) == pytest.approx(MASS, abs=0.02)


def models():
    return {"VAE": vae(), "GLF": glf()}


def test_every_way_of_looking_is_drawn_and_differs():
    explorer = latent_prior(models(), images(), LABELS)
    for control in ("model", "under", "points", "way"):
        values = explorer.controls[control].sweep(9)
        there = {"model": "GLF", "u1": 1.0}
        assert len({explorer.picture(**there | {control: value}) for value in values}) == len(values), control


def test_a_seed_settles_the_picture():
    check_same_picture(lambda: latent_prior(models(), images(), LABELS), {"model": "GLF", "points": "both", "u1": 1.0})
    check_same_picture(lambda: latent_beta({1: vae(), math.inf: glf()}, images(), LABELS), {"beta": math.inf})


# latent_beta


def test_the_gap_of_the_two_curves_is_the_kl_in_closed_form():
    model, x = vae(sigma=0.4, scale=2.0), images(1000)
    found = run(LatentPlane(model, x), x, normals(25))
    with torch.no_grad():
        wanted = gaussian_kl(model.encoder(x))
    assert found.nll - found.entropy == pytest.approx(float(wanted.mean()), abs=4.5 * 1.5 / math.sqrt(1000))


def test_numbers_do_not_depend_on_the_unit_of_z():
    x = images()
    small, large = (run(LatentPlane(vae(sigma=0.02 * c, scale=c), x), x, normals(25)) for c in (1.0, 20.0))
    assert small.sigma == pytest.approx(large.sigma, rel=1e-3) and small.entropy == pytest.approx(large.entropy, abs=1e-2)
    wanted = 2 * math.log(small.sigma) + math.log(2 * math.pi * math.e)
    assert small.entropy == pytest.approx(wanted, abs=1e-3)


def test_of_an_autoencoder_the_entropy_is_minus_infinity_and_the_rest_is_finite():
    x, model = images(), glf()
    found = run(LatentPlane(model, x), x, normals(25))
    assert found.sigma == 0 and found.entropy == -math.inf and math.isfinite(found.nll)
    assert found.error == pytest.approx(float((model.reconstruct(x) - x).square().mean()), rel=1e-4)
    assert found.samples.shape == (5 * 2 + 4, 5 * 2 + 4, 3)


def test_all_runs_and_widths_are_drawn_alone_and_together():
    explorer = latent_beta({1: vae(0.5), 10: vae(0.1), math.inf: glf()}, images(), LABELS)
    assert len({explorer.picture(beta=beta) for beta in (1, 10, math.inf)}) == 3
    assert explorer.picture(k=1) != explorer.picture(k=10)
    assert explorer.controls["beta"].options == {"1": 1, "10": 10, "∞": math.inf}
    for beta, model in ((4, vae()), (math.inf, glf())):
        assert latent_beta({beta: model}, images(), LABELS).picture()[1:4] == b"PNG"


class Blind(nn.Module):
    """An encoder of NaN."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(math.nan))

    def forward(self, x):
        return x.flatten(1)[:, :2] * self.weight


def with_three_latents():
    return GenerativeLatentFlow(IMAGE, nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), decoder(3), real_nvp((3,)))


def with_nans():
    return GenerativeLatentFlow(IMAGE, Blind(), decoder(), real_nvp((2,)))


@pytest.mark.parametrize("explore", [latent_prior, latent_beta])
@pytest.mark.parametrize(("make", "count", "complaint"), [
    (lambda: {}, 60, "models must hold at least one model; got none"),
    (lambda: {1: with_three_latents()}, 60, "the model must have two latents; got 3"),
    (lambda: {1: with_nans()}, 60, "the model's codes must be finite numbers; got NaN or inf"),
    (lambda: {1: vae(prior=MixturePrior(2))}, 60, "the model's prior must have push; MixturePrior has none"),
    (lambda: {1: vae()}, 1, "images must hold at least 2; got 1"),
    (lambda: {1: vae()}, 50, r"labels must have shape \(50,\), one per image; got \(60,\)"),
])  # fmt: skip
def test_what_cannot_be_shown_is_refused_by_name(explore, make, count, complaint):
    with pytest.raises(ValueError, match=complaint):
        explore(make(), images(count), LABELS if count != 1 else LABELS[:1])
