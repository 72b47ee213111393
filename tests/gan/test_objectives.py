"""The five games: slopes and shapes of their losses, and which divergence a generator descends against the best critic."""

import math
import pickle

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch.nn import functional as F

from gmcourse.gan.objectives import OBJECTIVES, objective

T = torch.linspace(-6, 6, 41, dtype=torch.float64)
EVERY = pytest.mark.parametrize("name", OBJECTIVES)
SLOPES = {  # d/dt of (on real, on fake, for the generator), by hand
    "minimax": (lambda t: -1 / (1 + math.exp(t)), lambda t: 1 / (1 + math.exp(-t)), lambda t: -1 / (1 + math.exp(-t))),
    "non-saturating": (lambda t: -1 / (1 + math.exp(t)), lambda t: 1 / (1 + math.exp(-t)), lambda t: -1 / (1 + math.exp(t))),
    "least-squares": (lambda t: t - 1, lambda t: t + 1, lambda t: t - 1),
    "wasserstein": (lambda t: -1, lambda t: 1, lambda t: -1),
    "hinge": (lambda t: -1.0 * (t < 1), lambda t: 1.0 * (t > -1), lambda t: -1),
}


def slope(function, t):
    at = t.clone().requires_grad_()
    return torch.autograd.grad(function(at).sum(), at)[0]


@EVERY
def test_slopes_by_autograd_are_those_by_hand(name):
    game, t = OBJECTIVES[name], T + 0.01  # off the hinge's kinks
    real, fake, generated = (torch.tensor([by_hand(v) for v in t.tolist()], dtype=t.dtype) for by_hand in SLOPES[name])
    assert torch.allclose(slope(lambda at: game.critic(at, t), t), real)
    assert torch.allclose(slope(lambda at: game.critic(t, at), t), fake)
    assert torch.allclose(slope(game.generator, t), generated)


def test_cross_entropies_are_those_of_the_classifier():
    for name in ("minimax", "non-saturating"):
        wanted = F.binary_cross_entropy(T.sigmoid(), torch.ones_like(T), reduction="none")
        wanted = wanted + F.binary_cross_entropy(T.flip(0).sigmoid(), torch.zeros_like(T), reduction="none")
        assert torch.allclose(OBJECTIVES[name].critic(T, T.flip(0)), wanted)
    assert torch.allclose(OBJECTIVES["minimax"].generator(T), (1 - T.sigmoid()).log())
    assert torch.allclose(OBJECTIVES["non-saturating"].generator(T), -T.sigmoid().log())


@pytest.mark.parametrize("name", ["minimax", "wasserstein"])
def test_in_a_zero_sum_game_the_generator_gains_what_the_critic_loses_on_fakes(name):
    game = OBJECTIVES[name]
    assert torch.equal(game.generator(T), -game.on_fake(T))


@EVERY
def test_the_critic_wants_data_above_fakes_and_the_generator_wants_high_logits(name):
    game = OBJECTIVES[name]
    high, low = torch.full((3,), 0.5), torch.full((3,), -0.5)
    assert (game.critic(high, low) < game.critic(low, high)).all()
    assert (game.generator(high) < game.generator(low)).all()


def test_minimax_saturates_and_non_saturating_does_not():
    sure = torch.tensor([-30.0], dtype=torch.float64)
    assert slope(OBJECTIVES["minimax"].generator, sure).item() == pytest.approx(-math.exp(-30), rel=1e-9)
    assert slope(OBJECTIVES["non-saturating"].generator, sure).item() == pytest.approx(-1, rel=1e-9)


@EVERY
def test_logits_of_a_thousand_give_finite_losses_and_slopes_in_single_precision(name):
    game, t = OBJECTIVES[name], torch.tensor([-1e3, 1e3])
    for function in (game.on_real, game.on_fake, game.generator):
        assert function(t).isfinite().all() and slope(function, t).isfinite().all()
    assert game.critic(t, t).dtype == torch.float32


def through_samples(name, critic, shift):
    """d/dθ of the generator's mean loss for fakes θ + z, z ~ N(0, 1), at θ = shift, the critic held fixed."""
    z = torch.special.ndtri((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000)
    theta = torch.tensor(shift, dtype=torch.float64, requires_grad=True)
    OBJECTIVES[name].generator(critic(theta + z)).mean().backward()
    return theta.grad.item()


def kl_reverse(p, q):
    return q * math.log(q / p)


def twice_js(p, q):
    return p * math.log(2 * p / (p + q)) + q * math.log(2 * q / (p + q))


def from_least_squares(p, q):
    return 2 * (q - 2 * p * math.log(1 + q / p) - p**2 / (p + q))


@pytest.mark.parametrize(
    ("name", "divergence"),
    [
        ("minimax", twice_js),
        ("non-saturating", lambda p, q: kl_reverse(p, q) - twice_js(p, q)),
        ("least-squares", from_least_squares),
    ],
)
def test_against_the_best_critic_the_generator_descends_the_divergence_of_the_table(name, divergence):
    """Data N(0, 1), fakes N(θ, 1) at θ = 1: by the samples' path, and by scipy's integral of the divergence."""

    def at(theta):
        return quad(lambda x: divergence(norm.pdf(x), norm.pdf(x, theta)), -10, 11, epsabs=1e-12, limit=200)[0]

    log_odds = {"least-squares": lambda x: ((0.5 - x) / 2).tanh()}.get(name, lambda x: 0.5 - x)
    wanted = (at(1 + 1e-3) - at(1 - 1e-3)) / 2e-3
    assert wanted > 0.1
    assert through_samples(name, log_odds, 1.0) == pytest.approx(wanted, abs=2e-4)


def test_against_kantorovichs_critic_the_generator_descends_the_distance():
    """W₁ of N(0, 1) and N(θ, 1) is |θ|, and the best critic is −x."""
    assert through_samples("wasserstein", torch.neg, 1.0) == pytest.approx(1.0)


def test_only_wasserstein_needs_a_lipschitz_critic():
    """Its loss alone falls for ever as the critic grows."""
    real, fake = torch.tensor([1.0]), torch.tensor([-1.0])
    for game in OBJECTIVES.values():
        unbounded = game.critic(1e4 * real, 1e4 * fake).item() < -1
        assert game.needs_lipschitz == unbounded


@EVERY
def test_objectives_are_found_by_name_and_survive_pickling(name):
    game = objective(name)
    assert game.name == name and type(pickle.loads(pickle.dumps(game))) is type(game)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: objective("wgan"), "objective must be one of minimax, .*hinge; got 'wgan'"),
        (lambda: OBJECTIVES["hinge"].critic(torch.zeros(3, 1), torch.zeros(3)), r"real must .* shape \(n,\); got \(3, 1\)"),
        (lambda: OBJECTIVES["hinge"].critic(torch.zeros(3), torch.zeros(1)), "equally many; got 3 and 1"),
        (lambda: OBJECTIVES["hinge"].generator(torch.zeros(())), r"fake must hold logits of shape \(n,\); got \(\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
