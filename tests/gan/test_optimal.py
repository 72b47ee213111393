"""The best critics against brute force, and their losses against divergences from scipy's quadrature and exact transport."""

import math

import ot
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch.distributions import MultivariateNormal, Normal

from gmcourse.data.toy1d import Mixture1D
from gmcourse.gan.objectives import OBJECTIVES
from gmcourse.gan.optimal import (
    game_value,
    least_critic_loss,
    optimal_critic,
    optimal_discriminator,
    wasserstein_critic,
)
from gmcourse.metrics.grid import Grid

POINTWISE = [name for name, game in OBJECTIVES.items() if not game.needs_lipschitz]
P, Q = Mixture1D([0.5, 0.5], [-1.5, 1.5], 0.4), Mixture1D([1.0], [0.3], 1.0)
GRID = Grid([(-9.0, 11.0)])


def p_at(x):
    return 0.5 * norm.pdf(x, -1.5, 0.4) + 0.5 * norm.pdf(x, 1.5, 0.4)


def q_at(x):
    return norm.pdf(x, 0.3, 1.0)


def integral(function):
    return quad(function, -9, 11, points=[-1.5, 0.0, 0.3, 1.5], epsabs=1e-11, limit=400)[0]


def entropy_term(a, m):
    return a * math.log(a / m) if a > 0 else 0.0


def js():
    def integrand(x):
        p, q = p_at(x), q_at(x)
        return (entropy_term(p, (p + q) / 2) + entropy_term(q, (p + q) / 2)) / 2

    return integral(integrand)


def tv():
    return integral(lambda x: abs(p_at(x) - q_at(x))) / 2


def triangular():
    return integral(lambda x: (p_at(x) - q_at(x)) ** 2 / (p_at(x) + q_at(x)))


@pytest.mark.parametrize("name", POINTWISE)
def test_the_optimal_critic_is_the_argmin_of_the_loss_among_all_values(name):
    """p ℓ₊(t) + q ℓ₋(t) over 8001 values of t, at pairs of densities from 1 : 20 to 20 : 1."""
    game, t = OBJECTIVES[name], torch.linspace(-4, 4, 8001, dtype=torch.float64)
    p = torch.tensor([0.05, 0.2, 0.45, 0.55, 0.8, 0.95], dtype=torch.float64)
    best = optimal_critic(name, p.log(), (1 - p).log())
    loss = p[:, None] * game.on_real(t) + (1 - p)[:, None] * game.on_fake(t)
    assert torch.allclose(t[loss.argmin(1)], best, atol=1e-3)


def test_the_discriminator_is_p_over_p_plus_q_and_stays_so_in_far_tails():
    x = torch.linspace(-3, 4, 30, dtype=torch.float64)
    log_p, log_q = P.log_prob(x), Q.log_prob(x)
    wanted = log_p.exp() / (log_p.exp() + log_q.exp())
    assert torch.allclose(optimal_discriminator(log_p, log_q).sigmoid(), wanted)
    far = torch.tensor([-2000.0, -math.inf, 0.0, -math.inf]), torch.tensor([-2001.0, 0.0, -math.inf, -math.inf])
    assert optimal_discriminator(*far).tolist() == [1.0, -math.inf, math.inf, 0.0]


def test_the_value_of_the_game_is_twice_the_js_divergence_minus_2_ln_2():
    assert js() > 0.1
    assert game_value(P, Q, GRID) == pytest.approx(2 * js() - 2 * math.log(2), abs=1e-7)


def test_the_game_ends_at_minus_2_ln_2_and_starts_at_0():
    assert game_value(P, P, GRID) == pytest.approx(-2 * math.log(2), abs=1e-12)
    assert game_value(Normal(-5.0, 0.1), Normal(5.0, 0.1), GRID) == pytest.approx(0.0, abs=1e-6)


def test_the_value_of_the_game_in_the_plane_is_that_on_the_line_for_laws_that_differ_in_one_coordinate():
    eye = torch.eye(2, dtype=torch.float64)
    p, q = (MultivariateNormal(torch.tensor([m, 0.0], dtype=torch.float64), eye) for m in (0.0, 1.5))
    plane = game_value(p, q, Grid([(-7.0, 8.5), (-7.0, 7.0)], 80))
    line = game_value(Mixture1D([1.0], [0.0], 1.0), Mixture1D([1.0], [1.5], 1.0), Grid([(-7.0, 8.5)]))
    assert plane == pytest.approx(line, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("minimax", lambda: 2 * math.log(2) - 2 * js()),
        ("non-saturating", lambda: 2 * math.log(2) - 2 * js()),
        ("least-squares", lambda: 1 - triangular() / 2),
        ("hinge", lambda: 2 - 2 * tv()),
    ],
)
def test_the_least_loss_of_the_critic_is_the_divergence_of_the_table(name, wanted):
    assert least_critic_loss(name, P, Q, GRID) == pytest.approx(wanted(), abs=1e-5)


def test_least_squares_divergence_is_pearsons_between_p_plus_q_and_2q():
    pearson = integral(lambda x: (2 * q_at(x) - (p_at(x) + q_at(x))) ** 2 / (p_at(x) + q_at(x)))
    assert 2 - 2 * least_critic_loss("least-squares", P, Q, GRID) == pytest.approx(pearson, abs=1e-7)


@pytest.mark.parametrize(("mean", "width", "wanted"), [(2.0, 1.0, 2.0), (0.0, 2.0, math.sqrt(2 / math.pi))])
def test_wassersteins_least_loss_is_minus_the_distance_in_closed_form(mean, width, wanted):
    """|m| for a shift; |s − 1| E|z| for a stretch."""
    p, q = Mixture1D([1.0], [0.0], 1.0), Mixture1D([1.0], [mean], width)
    assert -least_critic_loss("wasserstein", p, q, Grid([(-16.0, 16.0)])) == pytest.approx(wanted, abs=1e-4)


def test_wassersteins_least_loss_is_that_of_exact_transport():
    """POT's distance between 200 000 quantiles of either law."""
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    p = torch.cat([Normal(m, 0.4).icdf((torch.arange(100_000, dtype=torch.float64) + 0.5) / 1e5) for m in (-1.5, 1.5)])
    wanted = ot.wasserstein_1d(p.numpy(), Normal(0.3, 1.0).icdf(u).numpy())
    assert -least_critic_loss("wasserstein", P, Q, GRID) == pytest.approx(float(wanted), abs=1e-4)


def test_kantorovichs_critic_is_1_lipschitz_and_no_other_such_critic_does_better():
    f, nodes = wasserstein_critic(P, Q, GRID), GRID.nodes
    slopes = f.diff() / nodes.diff()
    assert slopes.abs().max() <= 1 + 1e-9 and slopes.max() > 0.99 and slopes.min() < -0.99
    difference = P.log_prob(nodes).exp() - Q.log_prob(nodes).exp()
    best = GRID.integrate(f * difference)
    for other in (-nodes, nodes, (3 * nodes).sin() / 3, -nodes.abs(), nodes.tanh(), (nodes - 1).abs()):
        assert GRID.integrate(other * difference) < best - 1e-3


def test_between_laws_that_do_not_overlap_wassersteins_critic_has_slope_where_the_discriminator_has_none():
    """Data at −5, fakes at 5: each fake goes back over the whole way at slope −1, while 1 − D* is 1 on all of them."""
    p, q = Mixture1D([1.0], [-5.0], 0.1), Mixture1D([1.0], [5.0], 0.1)
    f, nodes = wasserstein_critic(p, q, GRID), GRID.nodes
    fakes = (nodes - 5).abs() < 0.4
    assert torch.allclose(f[fakes].diff() / GRID.cell, torch.tensor(-1.0, dtype=torch.float64))
    log_odds = optimal_discriminator(p.log_prob(nodes), q.log_prob(nodes))[fakes]
    assert log_odds.max() < -1e3
    assert OBJECTIVES["minimax"].on_generated(log_odds).diff().abs().max() == 0.0
    assert wasserstein_critic(p, p, GRID).abs().max() == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimal_critic("wasserstein", torch.zeros(1), torch.zeros(1)), "objective 'wasserstein' is no function"),
        (lambda: optimal_critic("gan", torch.zeros(1), torch.zeros(1)), "objective must be one of .*; got 'gan'"),
        (lambda: game_value(P, Q, Grid([(0.0, 1.0)])), "p must be a density whose mass the grid holds; .* is 0.05"),
        (lambda: wasserstein_critic(P, Q, Grid([(-1.0, 1.0)] * 2)), "grid must be on the line; got 2 axes"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
