"""What the explorers of what denoising diffusion GANs do measure and draw, against oracles and quadrature."""

import importlib
import math

import numpy as np
import pytest
import torch
from problems.explorers import check_same_picture
from scipy.stats import multivariate_normal
from torch import nn

from gmcourse.compositions.ddgan import DenoisingDiffusionGAN
from gmcourse.data import toy2d
from gmcourse.data.images import emoji_names, load_images
from gmcourse.data.mixtures import GaussianMixture
from gmcourse.data.strokes import painted, stroke_drawings
from gmcourse.diffusion.edit import marginal_at
from gmcourse.diffusion.schedule import DiscreteDiffusion, betas_of_levels, vp_betas
from gmcourse.viz.explorers import denoising_latent, few_steps, strokes

latent, few, drawn = (
    importlib.import_module(f"gmcourse.viz.explorers.{name}") for name in ("denoising_latent", "few_steps", "strokes")
)
DATA = GaussianMixture([0.5, 0.2, 0.3], [[-1.0, -1.0], [1.0, -0.5], [0.0, 1.0]], [0.1, 0.2, 0.15])
PARTS = [v.tolist() for v in (DATA.weights, DATA.means, DATA.sigmas)]
CHAIN = DiscreteDiffusion(betas_of_levels([0.3, 1.0, 5.0]))


def gan(generator, chain=CHAIN, shape=(2,), size=2, **settings):
    return DenoisingDiffusionGAN(generator, nn.Identity(), chain, event_shape=shape, latent=size, **settings)


class Oracle(nn.Module):
    """Φ(z_1) picks the mode by its true probability, and the component's own mean is said."""

    def forward(self, x, t, z):
        law = latent.posterior(DATA, *marginal_at(CHAIN, int(t[0])), x[0])
        k = torch.searchsorted(law.weights.cumsum(0)[:-1], torch.special.ndtr(z[:, 0].double()), right=True)
        return law.means[k].float()


class Always(nn.Module):
    """One answer to everything."""

    def __init__(self, said):
        super().__init__()
        self.register_buffer("said", torch.as_tensor(said))
        self.asked = 0

    def forward(self, x, t, z):
        self.asked += len(x)
        return self.said.expand(x.shape)


class Bell(nn.Module):
    """A draw of x_0 given x_t for data N(μ, s² I), z its noise: μ′ = (μ/s² + α x_t/σ²)/(1/s² + α²/σ²)."""

    def __init__(self, chain, mean, width):
        super().__init__()
        self.chain, self.mean, self.width = chain, mean, width

    def law(self, x, t):
        alpha, sigma = marginal_at(self.chain, t)
        narrow = 1 / (1 / self.width**2 + alpha**2 / sigma**2)
        return narrow * (self.mean / self.width**2 + alpha * x / sigma**2), math.sqrt(narrow)

    def forward(self, x, t, z):
        mean, width = self.law(x, int(t[0]))
        return mean + width * z.reshape(x.shape)


# What z decides


@pytest.mark.parametrize(("t", "xt"), [(0, [0.5, 0.1]), (1, [-0.3, 0.4]), (2, [0.9, -1.2])])
def test_the_posterior_is_bayes_rule_on_a_grid(t, xt):
    alpha, sigma = marginal_at(CHAIN, t)
    law = latent.posterior(DATA, alpha, sigma, torch.tensor(xt))
    axis = np.linspace(-3, 3, 601)
    x = np.stack(np.meshgrid(axis, axis), -1)
    parts = [w * multivariate_normal(m, s**2).pdf(x) for w, m, s in zip(*PARTS, strict=True)]
    likely = np.exp(-((np.array(xt) - alpha * x) ** 2).sum(-1) / (2 * sigma**2))
    mass = np.array([(part * likely).sum() for part in parts])
    assert np.allclose(law.weights, mass / mass.sum(), atol=1e-5)
    for part, mean, width, whole in zip(parts, law.means.numpy(), law.sigmas.tolist(), mass, strict=True):
        found = (part * likely)[..., None] / whole
        assert np.allclose(mean, (found * x).sum((0, 1)), atol=1e-4)
        spread = math.sqrt((found * (x - mean) ** 2).sum() / 2)
        assert width == pytest.approx(spread, abs=1e-4)


def test_a_generator_that_draws_from_the_posterior_has_countries_of_the_right_areas():
    explorer = denoising_latent(gan(Oracle()), DATA, count=3)
    for t in range(3):
        for k in (1, 2, 3):
            scene = explorer._compute(t, k, 0.0, 0.0, "area")[0]
            assert torch.allclose(scene.shares, scene.law.weights.float(), atol=1 / latent.SIDE)
            assert scene.apart <= 1 / latent.SIDE


def test_a_generator_that_does_not_hear_z_misses_all_modes_but_one():
    explorer = denoising_latent(gan(Always([1.0, -0.5])), DATA, count=3)
    scene, _, _, _, chosen, mode = explorer._compute(2, 1, 0.5, -1.0, "z")
    assert mode == 1 and chosen.tolist() == [1.0, -0.5] and scene.shares.tolist() == [0, 1, 0]
    assert scene.apart == pytest.approx(1 - float(scene.law.weights[1]))
    assert len(np.unique(scene.maps["z"].reshape(-1, 3), axis=0)) == 1


def test_cells_of_the_second_map_hold_equal_shares_of_z():
    """Each coordinate of N(0, I) by its quantiles: mean 0, the variance nearly 1, and a quarter below −0.6745 exactly."""
    z = latent.latents()["area"]
    assert torch.allclose(z.mean(0), torch.zeros(2), atol=1e-4) and torch.allclose(z.var(0), torch.ones(2), atol=0.03)
    assert (z < -0.67449).double().mean(0).tolist() == [0.25, 0.25]


def test_the_chosen_z_lies_where_the_map_says_and_what_it_leads_to_is_the_models_own():
    model = gan(Oracle())
    explorer = denoising_latent(model, DATA, count=2, seed=4)
    clean, eps = latent.observations(DATA, 2, 4)
    for view, where in (("z", (0.7, -0.3)), ("area", (0.75804, 0.38209))):
        _, _, _, at, chosen, mode = explorer._compute(1, 2, 0.7, -0.3, view)
        assert np.allclose(at, where, atol=1e-4)
        xt = CHAIN.q_sample(clean[1:], 1, eps[1:])
        assert np.allclose(chosen, model.predict(xt, torch.tensor([1]), torch.tensor([[0.7, -0.3]]))[0])
        assert mode == int((DATA.means - torch.from_numpy(chosen)).norm(dim=1).argmin())


def test_modes_have_colours_of_their_own_and_neighbours_far_ones():
    colours = latent.colours_of(25)
    apart = np.linalg.norm(colours[:, None] - colours, axis=-1) + np.eye(25)
    assert apart.min() > 0.08
    lattice = np.arange(25).reshape(5, 5)
    for one, other in ((lattice[1:], lattice[:-1]), (lattice[:, 1:], lattice[:, :-1])):
        assert apart[one, other].min() > 0.2


# Few steps


def test_misplaced_is_the_share_that_would_have_to_move():
    data = toy2d.get("gaussians25")
    centres = data.modes
    inside = 1 - math.exp(-8)
    assert few.misplaced(centres.repeat(40, 1), data) == pytest.approx(1 - inside, abs=1e-6)
    assert few.misplaced(centres[:1].expand(100, 2), data) == pytest.approx(0.96, abs=1e-3)
    assert few.misplaced(centres + 0.5, data) == pytest.approx(inside, abs=1e-6)
    half = torch.cat((centres, centres + torch.tensor([0.5, 0.0])))
    assert few.misplaced(half, data) == pytest.approx(0.5, abs=1e-3)


def test_draws_from_the_data_have_what_is_called_chance():
    data, generator = toy2d.get("gaussians25"), torch.Generator().manual_seed(0)
    found = torch.tensor([few.misplaced(data.sample((500,), generator=generator), data) for _ in range(60)])
    assert few.by_chance(500, data) == pytest.approx(float(found.mean()), abs=4.5 * float(found.std()) / 60**0.5)


def clouds(n=200):
    data = toy2d.get("gaussians25")
    return {(name, price): data.sample((n,), generator=torch.Generator().manual_seed(k)) + (0.5 if price < 8 else 0)
            for k, name in enumerate(("A", "B")) for price in (2, 4, 8, 16)}  # fmt: skip


def one_mode(steps):
    return gan(Always([0.0, 0.0]), DiscreteDiffusion(vp_betas(steps)))


def test_it_says_from_how_many_evaluations_on_a_sampler_is_as_good():
    data = toy2d.get("gaussians25")
    explorer = few_steps({1: one_mode(1), 4: one_mode(4)}, clouds(), data)
    assert explorer.values == {"T": 4, "sampler": "A", "price": 8}
    one, other, _, words = explorer._compute(4, "A", 2)
    assert one.misplaced == pytest.approx(0.96, abs=1e-3) and other.misplaced == pytest.approx(1, abs=1e-3)
    assert words == "A needs 8 for as few" and one.words == "1 of 25 modes, 100 % within 4σ"
    assert len(other.within) == 0 and len(other.beside) == 200 and len(one.within) == 200
    shifted = {key: x + 0.5 if key[1] >= 8 else x for key, x in clouds().items()}
    worse = few_steps({1: one_mode(1), 2: one_mode(2)}, shifted, data)
    assert worse._compute(1, "B", 2)[3] == "B needs more than 16 for as few"


# Strokes


@pytest.mark.parametrize(("name", "kind"), [
    ("face", "slightly_smiling_face|blush"), ("heart", "heart"), ("tree", "deciduous_tree"),
    ("circle", "large_blue_circle"), ("rainbow", "rainbow"),
])  # fmt: skip
def test_each_drawing_is_nearest_to_what_it_is_meant_for_among_all_emoji(name, kind):
    images, drawing = load_images("emoji")[0], stroke_drawings()[name]
    assert drawing.shape == (3, 32, 32) and drawing.min() >= -1 and drawing.max() <= 1
    nearest = emoji_names()[int((images - drawing).square().flatten(1).sum(1).argmin())]
    assert nearest in kind.split("|")


def test_a_painted_half_plane_has_a_hard_edge_and_pixels_are_means():
    image = painted([(lambda x, y: x < 0.5 + 1 / 64, "#ff0000")])
    assert (image[:, :, 15] == torch.tensor([1.0, -1.0, -1.0])[:, None]).all() and (image[:, :, 17] == 1).all()
    assert torch.allclose(image[:, 0, 16], torch.tensor([1.0, 0.0, 0.0]))


IMAGE = (1, 8, 8)
SKETCH = {"cross": torch.eye(8)[None] * 2 - 1, "grey": torch.zeros(IMAGE)}


def image_gan(generator, **settings):
    return gan(generator, DiscreteDiffusion(vp_betas(3)), IMAGE, 64, **settings)


def test_noise_is_one_for_all_k_and_grows_as_the_chain_says():
    model = image_gan(Always(0.0))
    noisy = drawn.noised(model, torch.stack(list(SKETCH.values())), 2, seed=3)
    assert noisy.shape == (4, 2, 2, *IMAGE)
    assert all(torch.equal(noisy[0, k, s], picture) for k, picture in enumerate(SKETCH.values()) for s in (0, 1))
    eps = []
    for k, bar in enumerate(torch.cumprod(1 - vp_betas(3), 0).tolist(), 1):
        eps.append((noisy[k, 0] - math.sqrt(bar) * SKETCH["cross"]) / math.sqrt(1 - bar))
        assert torch.allclose(noisy[k, 1], math.sqrt(1 - bar) * eps[-1], atol=1e-5)
    assert torch.allclose(eps[0], eps[1], atol=1e-4) and torch.allclose(eps[0], eps[2], atol=1e-4)
    assert abs(float(eps[0].std()) - 1) < 4.5 / math.sqrt(2 * 128) and not torch.allclose(eps[0][0], eps[0][1], atol=0.1)


def test_results_are_what_the_last_step_says_and_none_is_taken_from_the_drawing_itself():
    model = image_gan(Always(0.25))
    noisy = drawn.noised(model, SKETCH["cross"][None], 2, seed=0)
    found = drawn.walked_back(model, noisy, seed=1)
    assert found.shape == (4, 1, 2, drawn.RESULTS, *IMAGE)
    assert (found[0] == SKETCH["cross"]).all() and (found[1:] == 0.25).all()
    assert model.generator.asked == (1 + 2 + 3) * 2 * drawn.RESULTS


def test_with_the_true_posterior_results_have_the_law_of_the_data_given_x_k():
    """q(x_0 | x_k) of Gaussian data, whatever k: pixels, less its mean and over its width, are N(0, 1)."""
    chain = DiscreteDiffusion(vp_betas(3))
    bell = Bell(chain, 0.3, 0.4)
    model = gan(bell, chain, IMAGE, 64)
    noisy = drawn.noised(model, torch.stack(list(SKETCH.values())), 4, seed=3)
    found = drawn.walked_back(model, noisy, seed=5)
    for k in (1, 2, 3):
        mean, width = bell.law(noisy[k], k - 1)
        z = (found[k] - mean.unsqueeze(2)) / width
        assert abs(float(z.mean())) < 4.5 / z.numel() ** 0.5
        assert abs(float(z.var()) - 1) < 4.5 * math.sqrt(2 / z.numel())


# All


@pytest.fixture(scope="module")
def explorers():
    data = toy2d.get("gaussians25")
    return (
        denoising_latent(gan(Oracle()), DATA, count=2),
        few_steps({1: one_mode(1), 2: gan(Always([1.0, 0.0]), DiscreteDiffusion(vp_betas(2)))}, clouds(), data),
        strokes(gan(Bell(DiscreteDiffusion(vp_betas(3)), 0.3, 0.4), DiscreteDiffusion(vp_betas(3)), IMAGE, 64), SKETCH),
    )


def test_every_control_changes_the_picture(explorers):
    for explorer in explorers:
        for control in explorer.controls:
            values = explorer.controls[control].sweep(3)
            assert len({explorer.picture(**{control: value}) for value in values}) == len(values), control


def test_a_seed_settles_the_pictures_whatever_the_global_one():
    check_same_picture(lambda: denoising_latent(gan(Oracle()), DATA, count=2), {"z1": -1.0})
    data, chain = toy2d.get("gaussians25"), DiscreteDiffusion(vp_betas(2))
    model = gan(Bell(chain, 0.0, 0.4), chain)
    check_same_picture(lambda: few_steps({2: model}, clouds(), data), {"price": 2})
    picture = gan(Bell(chain, 0.3, 0.4), chain, IMAGE, 64)
    check_same_picture(lambda: strokes(picture, SKETCH), {"k": 2})


@pytest.mark.parametrize(("make", "complaint"), [
    (lambda: denoising_latent(nn.Identity(), DATA), r"model must be a DenoisingDiffusionGAN of the plane; got Identity"),
    (lambda: denoising_latent(image_gan(Oracle()), DATA), r"of the plane; got DenoisingDiffusionGAN of shape \(1, 8, 8\)"),
    (lambda: denoising_latent(gan(Oracle(), size=3), DATA), "latent = 2; got 3"),
    (lambda: denoising_latent(gan(Oracle(), parameterization="direct"), DATA), "got parameterization 'direct'"),
    (lambda: denoising_latent(gan(Oracle()), toy2d.get("two_moons")), "data must be a GaussianMixture of the plane"),
    (lambda: denoising_latent(gan(Oracle()), DATA, count=0), "count must be"),
    (lambda: few_steps({}, clouds(), DATA), "models must hold at least one model; got none"),
    (lambda: few_steps({4: one_mode(2)}, clouds(), DATA), "models must be .* by their T; got .* for 4"),
    (lambda: few_steps({2: one_mode(2)}, {}, DATA), "diffusion_samples must have each sampler at the same evaluations"),
    (lambda: few_steps({2: one_mode(2)}, {("A", 2): 0, ("A", 4): 0, ("B", 2): 0}, DATA), "same evaluations, two or more"),
    (lambda: few_steps({2: one_mode(2)}, {("A", k): torch.zeros(k, 2) for k in (2, 4)}, DATA), "all have one shape"),
    (lambda: strokes(gan(Oracle()), SKETCH), r"model must be a .* of images \(1 or 3, h, w\); got .* of shape \(2,\)"),
    (lambda: strokes(image_gan(Always(0.0)), {}), "drawings must hold at least one drawing; got none"),
    (lambda: strokes(image_gan(Always(0.0)), {"a": torch.zeros(8, 8)}), r"shape \(1, 8, 8\); got \(8, 8\) for 'a'"),
    (lambda: strokes(image_gan(Always(0.0)), {"a": torch.full(IMAGE, 2.0)}), r"must lie in \[-1, 1\]; got 2 in 'a'"),
    (lambda: strokes(image_gan(Always(0.0)), SKETCH, seeds=0), "seeds must be"),
])  # fmt: skip
def test_what_cannot_be_shown_is_refused_by_name(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()
