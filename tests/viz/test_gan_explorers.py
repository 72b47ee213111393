"""What the explorers of GANs draw, against the library's own dynamics, closed forms, and other code."""

import math

import numpy as np
import pytest
import torch
from problems.explorers import check_same_picture
from scipy.integrate import quad
from scipy.stats import norm
from torch import nn

from gmcourse import fit
from gmcourse.data import toy2d
from gmcourse.gan import dynamics
from gmcourse.gan.gan import GAN
from gmcourse.gan.objectives import OBJECTIVES
from gmcourse.nets.mlp import MLP
from gmcourse.nets.style import StyleGenerator
from gmcourse.viz.explorers import dirac
from gmcourse.viz.explorers.gan_training import ARROWS, Film, _coloured, _outlines, _scene, at, gan_training, slopes
from gmcourse.viz.explorers.style_mixing import GAP, Sources, labelled, page, style_mixing, walked
from gmcourse.viz.mosaic import enlarge
from gmcourse.viz.plane import grid, on_grid

TOY = toy2d.get("gaussians25")
PLACES = torch.tensor([[0.3, -0.4], [1.0, 0.5], [-2.0, 0.8], [1.5, 1.5], [2.0, -0.3], [-0.7, -1.9]], dtype=torch.float64)
GAMES = [
    {},
    {"r1": 0.7},
    {"penalty": 0.4},
    {"penalty": 0.4, "one_sided": True},
    {"noise": 0.6},
    {"clip": 0.5},
]
SMOOTH = ("wasserstein", "non-saturating", "least-squares", "wasserstein", "minimax")
RULES = {
    "simultaneous": dynamics.simultaneous,
    "alternating": dynamics.alternating(),
    "optimistic": dynamics.optimistic,
    "consensus": dynamics.consensus(),
}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# The Dirac-GAN


@pytest.mark.parametrize("settings", GAMES, ids=str)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_field_in_floats_is_the_librarys(objective, settings):
    game = dynamics.DiracGAN(objective, **settings)
    found = [dirac.Duel(game).field(tuple(x)) for x in PLACES.tolist()]
    tolerance = 5e-3 if objective == "hinge" and game.noise else 1e-6  # there the library sums over a jump
    assert torch.allclose(torch.tensor(found, dtype=torch.float64), game.field(PLACES), rtol=0, atol=tolerance)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("k", range(len(GAMES)))
def test_steps_in_floats_are_those_of_simulate(k, rule):
    game, start = dynamics.DiracGAN(SMOOTH[k % len(SMOOTH)], **GAMES[k]), (1.5, 0.0)
    path = dirac.steps(dirac.Duel(game), start, dirac.RULES[rule], 0.1, count=16)
    wanted = dynamics.simulate(game, torch.tensor([start], dtype=torch.float64), 16, step=0.1, rule=RULES[rule])[:, 0]
    assert np.allclose(path, wanted.numpy(), atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"r1": 0.5}, {"clip": 0.5}, {"penalty": 0.3, "one_sided": True}], ids=str)
def test_the_flow_in_floats_is_the_librarys_where_it_is_smooth_and_near_it_at_corners(settings):
    game = dynamics.DiracGAN("wasserstein", **settings)
    path = dirac.flow(dirac.Duel(game), (1.5, 0.0), 10.0, 0.05)
    wanted = dynamics.flow(game, torch.tensor([[1.5, 0.0]], dtype=torch.float64), (0.0, 10.0), steps=200).end[0]
    assert len(path) == 201
    assert np.allclose(path[-1], wanted.numpy(), atol=0.02 if "clip" in settings or "penalty" in settings else 1e-5)


def test_the_flow_of_a_wasserstein_game_is_a_circle_and_steps_multiply_its_radius():
    duel, h = dirac.Duel(dynamics.DiracGAN("wasserstein")), 0.2
    path = dirac.flow(duel, (1.5, 0.0), math.pi / 2, 0.05)
    assert np.allclose(path[-1], (0, -1.5), atol=1e-6) and np.allclose(np.hypot(*path.T), 1.5, atol=1e-6)
    spiral = np.hypot(*dirac.steps(duel, (1.5, 0.0), dirac.simultaneous, h).T)
    assert np.allclose(spiral, 1.5 * math.sqrt(1 + h * h) ** np.arange(len(spiral)))


@pytest.mark.parametrize(("mean", "width"), [(0.3, 0.5), (-2.0, 1.5), (1.0, 4.0)])
def test_slopes_under_noise_are_means_by_scipys_quadrature(mean, width):
    def expected(function):
        return quad(lambda t: function(t) * norm.pdf(t, mean, width), mean - 10 * width, mean + 10 * width, limit=200)[0]

    sigmoid = 1 / (1 + np.exp(-np.linspace(-1, 1, 3)))
    assert np.allclose([dirac._sigmoid(t) for t in (-1, 0, 1)], sigmoid)
    wanted = expected(lambda t: 1 / (1 + math.exp(-t))), expected(lambda t: 0.25 / math.cosh(t / 2) ** 2)
    assert dirac._logistic(mean, width) == pytest.approx(wanted, abs=1e-3)
    assert dirac._hinge(mean, width) == pytest.approx((norm.sf(-1, mean, width), norm.pdf(-1, mean, width)))


def test_r1_bends_the_circle_inwards_at_the_rate_of_its_eigenvalues():
    explorer = dirac.dirac_gan()

    def compute(**values):
        return explorer._compute(**(explorer.values | values))

    _, path, _, _, words = compute(regulariser="R1, γ", strength=0.5, h=0.1)
    factor = float(words.rsplit("= ", 1)[1])
    late = np.hypot(*path.T)[80:]
    rate = np.polyfit(np.arange(len(late)), np.log(late), 1)[0]
    assert words.startswith("λ = −0.25 ± 0.97i") and math.exp(rate) == pytest.approx(factor, abs=2e-3)
    assert compute(regulariser="R1, γ", rule="alternating")[-1] == "λ = −0.25 ± 0.97i"
    assert compute(regulariser="R1, γ", strength=2.0, rule="alternating")[-1] == "λ = −1, −1"
    assert "no Jacobian" in compute(regulariser="gradient penalty, λ")[-1]


def test_what_becomes_of_the_players_is_said():
    start = (1.5, 0.0)
    duel = dirac.Duel(dynamics.DiracGAN("wasserstein"))
    assert dirac._fate(dirac.steps(duel, start, dirac.simultaneous, 0.02)) == "after 200 steps at distance 1.6"
    spiral = dirac.steps(duel, start, dirac.simultaneous, 0.15)
    since = next(k for k in range(len(spiral)) if (np.abs(spiral[k:]).max(1) > dirac.EXTENT[1]).all())
    assert dirac._fate(spiral) == f"out of the window since step {since}"
    far = dirac.steps(duel, start, dirac.simultaneous, 0.5)
    assert len(far) < 200 and np.isfinite(far).all() and dirac._fate(far) == f"ran away within {len(far) - 1} steps"


def test_every_game_is_drawn_at_the_ends_of_its_sliders():
    explorer, pictures = dirac.dirac_gan(), set()
    for k, regulariser in enumerate(dirac.REGULARISERS):
        for end in range(2):
            strength, h, radius = ((0.05, 0.02, 0.1), (2.0, 0.5, 2.5))[end]
            objective, rule = list(OBJECTIVES)[(k + end) % 5], list(dirac.RULES)[(k + 2 * end) % 4]
            values = {"objective": objective, "regulariser": regulariser, "rule": rule}
            path, (smooth, _) = explorer._compute(**values, strength=strength, h=h, radius=radius)[1:3]
            assert np.isfinite(path).all() and np.isfinite(smooth).all()
            pictures.add(explorer.picture(**values, strength=strength, h=h, radius=radius))
    assert len(pictures) == 2 * len(dirac.REGULARISERS)


# Training


class Bowl(nn.Module):
    """Logits −‖x − c‖²/2, whose slopes are c − x."""

    def __init__(self, centre):
        super().__init__()
        self.centre = nn.Parameter(torch.tensor(centre))

    def forward(self, x):
        return -0.5 * (x - self.centre).square().sum(1)


class Shift(nn.Module):
    """x = ε + shift."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(2))

    def forward(self, eps):
        return eps + self.shift


def game(centre=(0.5, -1.0), objective="non-saturating"):
    return GAN(Shift(), Bowl(centre), event_shape=(2,), latent=2, objective=objective)


def filmed(steps=4, **kwargs):
    film = Film(every=2, **kwargs)
    model = game()
    for step in range(steps + 1):
        film(step, model)
        with torch.no_grad():
            model.generator.shift += 0.5
    return film


def test_a_film_holds_the_same_noise_pushed_by_the_generator_of_that_step():
    film = filmed()
    assert list(film.samples) == list(film.logits) == [0, 2, 4]
    assert film.samples[0].shape == (500, 2) and film.logits[0].shape == (60, 60)
    assert torch.allclose(film.samples[2] - film.samples[0], torch.ones(500, 2), atol=1e-6)
    assert abs(film.samples[0].mean()) < 4.5 / math.sqrt(1000)


def test_a_film_in_a_training_changes_nothing_of_it():
    histories = []
    for film in (None, Film(every=3, fakes=20)):
        torch.manual_seed(0)
        model = GAN(MLP(2, 2, (8,)), MLP(2, (), (8,)), event_shape=(2,), latent=2)
        histories.append(fit(model, TOY, steps=7, batch_size=16, callback=film, progress=False).losses)
    assert list(film.samples) == [3, 6]
    for name, losses in histories[0].items():
        assert torch.equal(torch.as_tensor(losses), torch.as_tensor(histories[1][name]))


def test_logits_and_slopes_on_the_window_are_those_of_a_bowl_in_closed_form():
    extent = (-2.0, 4.0, -3.0, 1.0)
    film = filmed(extent=extent)
    centres = torch.linspace(-2, 4, 121)[1::2], torch.linspace(-3, 1, 121)[1::2]
    x, y = torch.meshgrid(*centres, indexing="xy")
    assert torch.allclose(film.logits[0], -0.5 * ((x - 0.5).square() + (y + 1).square()), atol=1e-5)
    wanted = torch.tensor([0.5, -1.0]) - grid(extent, ARROWS)
    assert torch.allclose(slopes(film.logits[0], extent), wanted, atol=1e-4)


def test_the_logit_at_a_point_is_that_of_its_cell():
    logits = torch.arange(16.0).reshape(4, 4)
    places = torch.tensor([[0.1, 0.1], [3.9, 0.1], [0.5, 3.5], [9.0, 1.5], [-5.0, -5.0]])
    assert at(logits, places, (0.0, 4.0, 0.0, 4.0)).tolist() == [0, 3, 12, 7, 0]


def test_the_critics_colours_do_not_see_a_constant_and_are_white_half_way():
    """As are the logits of Wasserstein's critic, which are known up to a constant."""
    film = filmed()
    real = TOY.sample(500, generator=seeded(0))
    first = _scene(film, 0, TOY, real)
    film.logits[0] = film.logits[0] + 8.0
    other = _scene(film, 0, TOY, real)
    assert np.abs(first.colours.astype(int) - other.colours.astype(int)).max() <= 2 and first.says == other.says
    heights = torch.linspace(-1, 1, 65).expand(65, 65)
    colours = _coloured(heights)[0].astype(int)
    assert (colours[32, :3] > 250).all() and colours[-1, 2] > colours[-1, 0] + 100 and colours[0, 0] > colours[0, 1]


def test_what_is_said_of_the_critic_is_the_difference_of_its_means():
    film = filmed()
    real = TOY.sample(500, generator=seeded(0))
    critic = Bowl((0.5, -1.0))
    apart = float((critic(real).mean() - critic(film.samples[0].clamp(-3, 3)).mean()).detach())
    said = _scene(film, 0, TOY, real).says.replace("−", "-").split("= ")[1]
    assert float(said) == pytest.approx(apart, abs=0.05)


def test_outlines_are_level_lines_of_the_density():
    extent = (-3.0, 3.0, -3.0, 3.0)
    lines = _outlines(on_grid(TOY.log_prob, extent, 128).exp(), extent)
    assert len(lines) == 25
    reach = [math.dist(line.mean(0), TOY.modes[(TOY.modes - torch.from_numpy(line.mean(0))).norm(dim=1).argmin()].tolist())
             for line in lines]
    radius = np.mean([np.hypot(*(line - line.mean(0)).T).mean() for line in lines])
    assert max(reach) < 0.03 and radius == pytest.approx(TOY.sigma * math.sqrt(2 * math.log(10)), rel=0.1)


def test_modes_are_counted_and_other_data_get_a_distance():
    film, perfect = filmed(), filmed()
    for step in perfect.samples:
        perfect.samples[step] = TOY.sample(500, generator=seeded(step))
    explorer = gan_training({"shifted": film, "perfect": perfect}, TOY)

    def scene(**values):
        return explorer._compute(**(explorer.values | values))[1]

    assert scene(film="perfect").score == 25 and scene(film="perfect").reached == "25 of 25 modes, 100 % within 4σ"
    assert scene(film="shifted", snapshot=0).score < 25
    moons = toy2d.get("two_moons")
    x = moons.sample(500, generator=seeded(0))
    near, far = (_scene(film, step, moons, x).score for step in (0, 4))
    middle = film.samples[4].mean(0) - x.mean(0)
    assert near < far and far >= 0.95 * float(middle.norm()) / math.sqrt(2)  # a shift by μ alone has ‖μ‖/√2


def test_a_film_that_ends_early_stands_still_at_its_end():
    explorer = gan_training({"short": filmed(steps=2), "long": filmed(steps=8)}, TOY)
    times = [explorer._compute("short", k)[2] for k in range(5)]
    assert times == [0, 2, 2, 2, 2] and [explorer._compute("long", k)[2] for k in range(5)] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(("make", "complaint"), [
    (lambda: gan_training({}, TOY), "films must hold at least one film; got none"),
    (lambda: gan_training({"new": Film()}, TOY), "films must hold at least two pictures each; 'new' has 0"),
    (lambda: gan_training({"a": filmed(), "b": filmed(extent=TOY)}, TOY), "films must have one window"),
    (lambda: gan_training({"a": filmed()}, torch.distributions.Normal(0.0, 1.0)), r"data must have event shape \(2,\)"),
    (lambda: Film(every=0), "every must be a positive whole number; got 0"),
    (lambda: Film(resolution=50), "resolution must be a multiple of 12; got 50"),
    (lambda: style_mixing(net(), 0), "n must be a positive whole number; got 0"),
])  # fmt: skip
def test_what_cannot_be_shown_is_refused_by_name(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


# Style mixing


def net(image=(1, 8, 8)):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = StyleGenerator(image, 16, 16, width=4, levels=1)
        for layer in generator.synthesis:
            nn.init.constant_(layer.strength, 0.5)
        generator.mean_style.normal_()
    return generator.eval()


def images(sources, crossover=2, psi=1.0, noise=1, t=0.0):
    """Sources A, sources B, mixes (row of B, column of A)."""
    n = sources.n
    a, b, mixes = sources.images(crossover, psi, noise, t).split((n, n, n * n))
    return a, b, mixes.unflatten(0, (n, n))


def test_rows_are_of_b_and_columns_of_a_and_the_crossover_runs_from_one_to_the_other():
    sources = Sources(net(), 3, 0)
    a, b, mixes = images(sources, crossover=0)
    assert torch.allclose(mixes, b[:, None].expand_as(mixes), atol=1e-5)
    a, b, mixes = images(sources, crossover=sources.generator.layers)
    assert torch.allclose(mixes, a.expand_as(mixes), atol=1e-5)
    a, b, mixes = images(sources)
    assert (mixes - a).abs().max() > 0.01 and (mixes - b[:, None]).abs().max() > 0.01


def test_a_mix_is_what_the_generator_says_of_these_layers_and_the_ends_are_its_images():
    generator = net()
    sources = Sources(generator, 3, 0)
    eps = torch.randn(9, sum(generator.noise_blocks.values()), generator=seeded(0))
    eps[:, 16:] = eps[0, 16:].clone()
    with torch.no_grad():
        for t, rows in ((0.0, eps[:3]), (1.0, eps[3:6])):
            assert torch.allclose(images(sources, t=t)[0], generator(rows), atol=1e-5)
        assert torch.allclose(images(sources)[1], generator(eps[6:]), atol=1e-5)
        w = generator.style(eps[[1, 8], :16])
        layers = torch.stack([w[0], w[0], w[1], w[1]])[None]
        assert torch.allclose(images(sources)[2][2, 1], generator.synthesise(layers, eps[:1, 16:])[0], atol=1e-5)


def test_truncated_to_nothing_all_images_are_one_and_noise_is_shared_by_all():
    sources = Sources(net(), 3, 0)
    first = sources.images(2, 0.0, 1, 0.3)
    assert torch.allclose(first, first[:1].expand_as(first), atol=1e-5)
    calm, other = sources.images(2, 0.0, 0, 0.3), sources.images(2, 0.0, 2, 0.3)
    assert len({float(x.flatten()[0]) for x in (first, calm, other)}) == 3


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
def test_the_walk_keeps_the_law_of_the_noise_where_a_straight_line_does_not(t):
    a, b = torch.randn(2, 20_000, 4, generator=seeded(0), dtype=torch.float64)
    covariance = walked(a, b, t).T.cov()
    assert (covariance - torch.eye(4)).abs().max() < 5 * math.sqrt(2 / 20_000)
    straight = ((1 - t) * a + t * b).var()
    assert float(straight) == pytest.approx((1 - t) ** 2 + t**2, rel=0.03)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_page_has_an_empty_corner_a_on_top_and_b_on_the_left(channels):
    n, size = 2, 8
    values = torch.linspace(-1, 0.5, n * (n + 2))
    whole = page(values[:, None, None, None].expand(-1, channels, size, size), n)
    pixels = whole if channels == 1 else whole[..., 0]
    places = [0, size + GAP, 2 * size + GAP + 1]
    read = [[int(pixels[y + 1, x + 1]) for x in places] for y in places]
    grey = ((values + 1) * 127.5).round().int().tolist()
    assert read == [[255, *grey[:2]], [grey[2], *grey[4:6]], [grey[3], *grey[6:8]]]
    large, corner = enlarge(whole, 9), 9 * size
    words = labelled(large, n, "1", "2 to 4")
    assert (words[:corner, :corner] < 128).any() and np.array_equal(words[:, corner + 36 :], large[:, corner + 36 :])


@pytest.mark.parametrize(("make", "values"), [
    (lambda: gan_training({"a": filmed(), "b": filmed(8)}, TOY), {"film": "b", "snapshot": 1}),
    (dirac.dirac_gan, {"objective": "hinge", "regulariser": "instance noise, s"}),
    (lambda: style_mixing(net((3, 8, 8)), 2), {"t": 0.5, "crossover": 1, "psi": 0.7}),
])  # fmt: skip
def test_the_same_values_give_the_same_picture(make, values):
    check_same_picture(make, values)
