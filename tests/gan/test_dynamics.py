"""The Dirac-GAN against autograd on the losses, matrix exponentials, and what its equations say in closed form."""

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from gmcourse.gan.dynamics import SLOPES, DiracGAN, alternating, consensus, flow, optimistic, simulate, simultaneous
from gmcourse.gan.objectives import OBJECTIVES

SLOPE = {"minimax": 0.5, "non-saturating": 0.5, "least-squares": 1.0, "wasserstein": 1.0, "hinge": 1.0}
BEND = {"minimax": 0.25, "non-saturating": 0.25, "least-squares": 1.0, "wasserstein": 0.0, "hinge": 0.0}  # f''(0)
ZERO_SUM = ("minimax", "wasserstein")
X = torch.tensor([[0.3, -0.4], [1.0, 0.5], [-2.0, 0.8], [1.5, 1.5], [2.0, -0.3], [-0.7, -1.9]], dtype=torch.float64)


def points(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def radius(x):
    return x.square().sum(-1).sqrt()


def descent(losses, x):
    """−∂(generator's loss)/∂θ, −∂(critic's loss)/∂ψ by autograd; losses (θ, ψ) -> generator's (n,), critic's (n,)."""
    theta, psi = (column.clone().requires_grad_() for column in x.unbind(1))
    of_generator, of_critic = losses(theta, psi)
    (d_theta,) = torch.autograd.grad(of_generator.sum(), theta, retain_graph=True)
    (d_psi,) = torch.autograd.grad(of_critic.sum(), psi)
    return -torch.stack([d_theta, d_psi], 1)


@pytest.mark.parametrize("name", SLOPES)
def test_the_field_is_the_descent_of_both_players_losses(name):
    objective = OBJECTIVES[name]

    def losses(theta, psi):
        regularisers = 0.7 / 2 * psi.square() + 0.3 * (psi.abs() - 1).square()
        return objective.generator(theta * psi), objective.critic(0 * psi, theta * psi) + regularisers

    assert torch.allclose(DiracGAN(name, r1=0.7, penalty=0.3).field(X), descent(losses, X))


@pytest.mark.parametrize("name", ["minimax", "non-saturating", "least-squares", "wasserstein"])
def test_instance_noise_is_the_mean_of_the_descent_over_noisy_data(name):
    z = torch.linspace(-6, 6, 4001, dtype=torch.float64)[:, None]
    weight = torch.exp(-z.square() / (2 * 0.6**2))
    weight, objective = weight / weight.sum(), OBJECTIVES[name]

    def losses(theta, psi):
        real, fake = psi * z, psi * (theta + z)
        critic = objective.critic(real.flatten(), fake.flatten()).view_as(fake)
        return (weight * objective.generator(fake.flatten()).view_as(fake)).sum(0), (weight * critic).sum(0)

    assert torch.allclose(DiracGAN(name, noise=0.6).field(X), descent(losses, X), atol=1e-10)


def test_instance_noise_under_hinge_is_right_to_its_jump():
    s = 0.6
    field = DiracGAN("hinge", noise=s).field(X)
    for (theta, psi), found in zip(X.tolist(), field.tolist(), strict=True):
        edges = sorted([-1 / psi - theta, 1 / psi])
        inside = [edge for edge in edges if abs(edge) < 8 * s]

        def slope(z, theta=theta, psi=psi):
            fake = (theta + z) * (psi * (theta + z) > -1)
            return -(fake - z * (psi * z < 1)) * norm.pdf(z, scale=s)

        wanted, _ = quad(slope, -8 * s, 8 * s, points=inside or None, limit=200)
        assert found == pytest.approx([psi, wanted], abs=0.004 / abs(psi))


def test_slides_45_has_the_right_field_under_two_wrong_signs():
    """Right-hand side of (45); as printed φ̇ = ∇_φ L₁ with L₁ = −log(1 − σ), and θ̇ = ∇_θ −log σ, both are its negative."""
    theta, phi = X.unbind(1)
    right = torch.stack([(1 - torch.sigmoid(theta * phi)) * phi, -torch.sigmoid(theta * phi) * theta], 1)
    assert torch.allclose(DiracGAN("non-saturating").field(X), right)
    printed = descent(lambda a, b: (torch.log(torch.sigmoid(a * b)), torch.log(1 - torch.sigmoid(a * b))), X)
    assert torch.allclose(printed, -right)


SMOOTH = [{}, {"r1": 0.5}, {"noise": 0.7}, {"r1": 0.2, "noise": 0.3}, {"penalty": 2.0, "one_sided": True}, {"clip": 0.1}]


@pytest.mark.parametrize("regularisers", SMOOTH)
@pytest.mark.parametrize("name", SLOPES)
def test_the_jacobian_at_the_equilibrium_is_that_of_autograd(name, regularisers):
    game = DiracGAN(name, **regularisers)
    wanted = game.jacobian(points((0.0, 0.0)))[0]
    assert torch.allclose(game.equilibrium_jacobian().double(), wanted, atol=1e-7)
    found, eigenvalues = game.eigenvalues(), torch.linalg.eigvals(wanted)
    assert torch.allclose(found.sum(), eigenvalues.sum().to(found), atol=1e-6)
    assert torch.allclose(found.prod(), eigenvalues.prod().to(found), atol=1e-6)


@pytest.mark.parametrize("name", SLOPES)
def test_without_regulariser_the_eigenvalues_are_imaginary(name):
    assert DiracGAN(name).eigenvalues().tolist() == pytest.approx([1j * SLOPE[name], -1j * SLOPE[name]])


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("name", SLOPES)
def test_r1_moves_the_eigenvalues_left(name, gamma):
    """−γ/2 ± √(γ²/4 − f'(0)²): left of the axis for any γ > 0, fastest at γ = 2f'(0)."""
    found = DiracGAN(name, r1=gamma).eigenvalues()
    root = (gamma**2 / 4 - SLOPE[name] ** 2 + 0j) ** 0.5
    assert found.tolist() == pytest.approx([-gamma / 2 + root, -gamma / 2 - root], abs=1e-6)
    fastest = DiracGAN(name, r1=2 * SLOPE[name]).eigenvalues()
    assert fastest.real.max() <= found.real.max() < 0


@pytest.mark.parametrize("name", SLOPES)
def test_instance_noise_damps_by_the_bend_of_the_losses(name):
    """−s²f'' ± √(s⁴f''² − f'²) at 0, Mescheder et al.'s; nothing for Wasserstein and hinge, whose losses are straight."""
    s, a, bend = 0.9, SLOPE[name], BEND[name]
    root = ((s**2 * bend) ** 2 - a**2 + 0j) ** 0.5
    assert DiracGAN(name, noise=s).eigenvalues().tolist() == pytest.approx([-(s**2) * bend + root, -(s**2) * bend - root])


def test_the_two_sided_penalty_leaves_no_jacobian_at_the_equilibrium():
    with pytest.raises(ValueError, match="kink"):
        DiracGAN(penalty=1.0).eigenvalues()


@pytest.mark.parametrize("name", ZERO_SUM)
def test_zero_sum_flows_keep_their_distance_from_the_equilibrium(name):
    path = flow(DiracGAN(name), X, (0, 5, 15), steps=150)
    assert torch.allclose(radius(path.x), radius(X).expand(3, -1), atol=1e-5)
    assert (path.x[1] - path.x[0]).abs().amax(1).min() > 0.1  # and it does move


def test_wasserstein_with_r1_is_the_matrix_exponential():
    matrix = torch.tensor([[0.0, 1.0], [-1.0, -0.8]], dtype=torch.float64)
    path = flow(DiracGAN("wasserstein", r1=0.8), X, (0, 1, 4), steps=100)
    for time, x in zip((0, 1, 4), path.x, strict=True):
        assert torch.allclose(x, X @ torch.linalg.matrix_exp(matrix * time).T, atol=1e-7)


def test_non_saturating_and_least_squares_flows_lose_energy():
    t = X.prod(1)
    assert torch.allclose((X * DiracGAN("non-saturating").field(X)).sum(1), -t * torch.tanh(t / 2))
    assert torch.allclose((X * DiracGAN("least-squares").field(X)).sum(1), -2 * t.square())


@pytest.mark.parametrize(("name", "constant", "time"), [("non-saturating", 8.0, 100), ("least-squares", 2.0, 25)])
def test_their_flows_converge_slower_than_any_exponential(name, constant, time):
    """r² → constant/τ from anywhere, where slides (45) has no convergence."""
    path = flow(DiracGAN(name), X[1:4], (0, time, 4 * time), steps=600)
    early, late = (path.times[1:, None] * path.x[1:].square().sum(-1) / constant - 1).abs().amax(1).tolist()
    assert early < 0.1 and late < 0.03


def test_wide_orbits_of_hinge_come_down_to_the_circle_of_radius_root_two():
    start = points((3.0, 0.1), (1.0, 0.5), (0.0, 2.5))
    end = radius(flow(DiracGAN("hinge"), start, (0, 8), steps=800).end)
    assert end.tolist() == pytest.approx([2**0.5, 1.25**0.5, 2**0.5], abs=0.02)


def test_a_clipped_critic_circles_at_its_bound():
    path = flow(DiracGAN("wasserstein", clip=0.5), points((1.0, 0.3), (0.2, 0.1)), (0, 6, 10), steps=400)
    assert radius(path.end).tolist() == pytest.approx([0.5, 0.05**0.5], abs=0.01)
    assert path.x[..., 1].abs().max() <= 0.5


def test_a_weak_gradient_penalty_drives_wasserstein_to_radius_four_over_pi():
    """½ d r²/dτ = −2λ|ψ|(|ψ| − 1), of mean zero over a circle of radius 4/π; the one-sided penalty leaves small circles."""
    start = points((1.0, 0.2), (0.4, 0.4))
    end = flow(DiracGAN("wasserstein", penalty=0.1), start, (0, 60), steps=1200).end
    assert radius(end).tolist() == pytest.approx([4 / math.pi] * 2, rel=0.03)
    one_sided = flow(DiracGAN("wasserstein", penalty=0.1, one_sided=True), start[1:], (0, 10), steps=200).end
    assert torch.allclose(radius(one_sided), radius(start[1:]), atol=1e-6)


def growth(name, rule, h, steps=40, **regularisers):
    """Length after `steps` updates from far inside the linear regime."""
    path = simulate(DiracGAN(name, **regularisers), points((1e-5, 0.0)), steps, step=h, rule=rule)
    return float(radius(path[-1])) / 1e-5


@pytest.mark.parametrize("name", SLOPES)
def test_simultaneous_steps_spiral_out_by_one_plus_h_squared(name):
    h = 0.3
    assert growth(name, simultaneous, h) == pytest.approx((1 + (h * SLOPE[name]) ** 2) ** 20, rel=1e-6)


@pytest.mark.parametrize("name", ["non-saturating", "least-squares"])
def test_simultaneous_steps_end_in_a_cycle_of_radius_root_two_h(name):
    h = 0.1
    path = simulate(DiracGAN(name), points((0.1, 0.0), (1.5, 0.5)), 4000, step=h)
    assert radius(path[-300:]).mean(0).tolist() == pytest.approx([(2 * h) ** 0.5] * 2, rel=0.02)


def test_alternating_steps_of_wasserstein_keep_an_ellipse():
    h = 0.7
    theta, psi = simulate(DiracGAN("wasserstein"), X, 300, step=h, rule=alternating()).unbind(-1)
    kept = theta.square() + psi.square() - h * theta * psi
    assert torch.allclose(kept, kept[0].expand_as(kept), rtol=1e-10)


@pytest.mark.parametrize("name", SLOPES)
@pytest.mark.parametrize("critic_steps", [1, 3])
def test_alternating_steps_are_bounded_up_to_a_largest_step(name, critic_steps):
    """The trace 2 − k h²a² of a matrix of determinant 1 must stay above −2: h < 2/(a√k)."""
    largest, rule = 2 / (SLOPE[name] * critic_steps**0.5), alternating(critic_steps)
    path = simulate(DiracGAN(name), points((1e-5, 0.0)), 300, step=0.95 * largest, rule=rule)
    assert radius(path).max() < 1e-5 * 20
    assert growth(name, rule, 1.05 * largest, 15) > 1e3


def test_each_player_has_its_own_step():
    """det = 1 and trace = 2 − h₁h₂ know the product only; the first step shows which is whose."""
    path = simulate(DiracGAN("wasserstein"), points((1.0, 2.0)), 1, step=(0.1, 0.3))
    assert path[1, 0].tolist() == pytest.approx([1.2, 1.7])
    alternated = simulate(DiracGAN("wasserstein"), points((1.0, 2.0)), 1, step=(0.1, 0.3), rule=alternating(2))
    assert alternated[1, 0].tolist() == pytest.approx([1.14, 1.4])


@pytest.mark.parametrize("name", SLOPES)
def test_optimistic_steps_converge_up_to_one_over_root_three(name):
    """λ² − (1 + 2iha)λ + iha = 0 has |λ| < 1 for ha < 1/√3."""
    largest = 3**-0.5 / SLOPE[name]
    assert growth(name, optimistic, 0.9 * largest, 200) < 1e-3
    assert growth(name, optimistic, 1.1 * largest, 80) > 1e2


@pytest.mark.parametrize("name", SLOPES)
def test_consensus_multiplies_by_its_complex_number(name):
    """|1 − h w a² + iha| each step."""
    h, w, a = 0.2, 0.8, SLOPE[name]
    assert growth(name, consensus(w), h) == pytest.approx(abs(1 - h * w * a**2 + 1j * h * a) ** 40, rel=1e-6)
    assert abs(1 - h * w * a**2 + 1j * h * a) < 1


def test_consensus_descends_the_length_of_the_field():
    game = DiracGAN("non-saturating", r1=0.3)
    x = X.clone().requires_grad_()
    (uphill,) = torch.autograd.grad(game.field(x).square().sum() / 2, x)
    wanted = X + 0.1 * (game.field(X) - 2.0 * uphill)
    assert torch.allclose(simulate(game, X, 1, step=0.1, rule=consensus(2.0))[1], wanted)


@pytest.mark.parametrize("name", SLOPES)
def test_r1_makes_simultaneous_steps_converge(name):
    """As fast as the larger of |1 + hμ|; critically damped: double eigenvalue −a."""
    a, h = SLOPE[name], 0.2
    found = growth(name, simultaneous, h, 200, r1=a)  # μ = −a/2 ± ia√3/2
    assert math.log(found) / 200 == pytest.approx(math.log(abs(1 + h * a * (-0.5 + 0.75**0.5 * 1j))), rel=0.05)
    assert radius(simulate(DiracGAN(name, r1=a), X, 800, step=h))[-1].max() < 1e-3


def test_clipping_holds_after_every_update():
    for rule in (simultaneous, optimistic, alternating(3), consensus()):
        path = simulate(DiracGAN("wasserstein", clip=0.4), points((1.0, 0.3)), 100, step=0.2, rule=rule)
        assert path[..., 1].abs().max() <= 0.4
        assert radius(path).max() < 2


def test_paths_keep_the_kind_of_numbers_and_begin_at_the_start():
    path = simulate(DiracGAN(noise=0.5), X.float(), 3, rule=alternating())
    assert path.dtype == torch.float32 and path.shape == (4, 6, 2)
    assert torch.equal(path[0], X.float())


def test_a_runaway_game_says_so():
    with pytest.raises(FloatingPointError, match="left the finite numbers"):
        simulate(DiracGAN("wasserstein"), points((1.0, 1.0)), 2000, step=5.0)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (lambda: DiracGAN("jensen"), "objective must be one of .*got 'jensen'"),
        (lambda: DiracGAN(r1=-1.0), "r1 must be finite and not negative; got -1.0"),
        (lambda: DiracGAN(penalty=math.nan), "penalty must be finite and not negative; got nan"),
        (lambda: DiracGAN(noise=math.inf), "noise"),
        (lambda: DiracGAN(clip=0.0), "clip must be positive; got 0.0"),
        (lambda: DiracGAN().field(torch.zeros(2)), r"x must be floats of shape \(n, 2\); got \(2,\)"),
        (lambda: DiracGAN().field(torch.zeros(1, 2, dtype=torch.long)), "x must be floats"),
        (lambda: simulate(DiracGAN(), X, 0), "steps must be a positive whole number; got 0"),
        (lambda: simulate(DiracGAN(), X, 5, step=-0.1), "step must be positive; got -0.1"),
        (lambda: simulate(DiracGAN(), X, 5, step=(0.1, 0.1, 0.1)), "step must be one number or two; got 3"),
        (lambda: alternating(0), "critic_steps must be a positive whole number; got 0"),
        (lambda: consensus(0.0), "weight must be positive; got 0.0"),
    ],
)
def test_bad_input_is_refused_by_name(wrong, complaint):
    with pytest.raises(ValueError, match=complaint):
        wrong()
