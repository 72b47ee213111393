"""Residual layers: contraction, the inverse by iteration, and four ways to one log-determinant."""

import math

import pytest
import torch
from torch import nn

from gmcourse.flows.builders_free import residual_flow
from gmcourse.flows.lipschitz import LipschitzMLP, LipSwish, SpectralLinear
from gmcourse.flows.residual import Residual

DIM = 4


def net(lipschitz=0.8, dim=DIM, **options):
    """As close to its bound as random signs allow: orthogonal weights, and units where LipSwish is nearly linear."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = LipschitzMLP(dim, (8, 8), lipschitz=lipschitz, **options).double()
        for linear in found.linears:
            nn.init.orthogonal_(linear.weight, 3.0)
            nn.init.constant_(linear.bias, 2.0)
    return found.eval()


def points(n=6, dim=DIM):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def autograd_jacobian(g, x):
    return torch.autograd.functional.jacobian(lambda x: g(x).sum(0), x).transpose(0, 1)


class Contraction(nn.Module):
    """g(x) = J x, with a bound that may be a lie."""

    def __init__(self, j, lipschitz):
        super().__init__()
        self.lipschitz = lipschitz
        self.register_buffer("j", torch.as_tensor(j, dtype=torch.float64))

    def function(self, context=None):
        return self

    def forward(self, x):
        return x @ self.j.mT

    def linearise(self, x):
        return self(x), self.j.expand(len(x), -1, -1)


def test_normalised_weights_have_the_bound_as_spectral_norm():
    linear = SpectralLinear(20, 30, 0.9).double()
    with torch.no_grad():
        linear.weight.mul_(10)
    assert torch.linalg.matrix_norm(linear.eval().normalised(), 2).item() == pytest.approx(0.9, rel=0.01)
    with torch.no_grad():
        linear.weight.mul_(1e-3)
    assert torch.equal(linear.normalised(), linear.weight)  # what already contracts is left alone


def test_power_iteration_follows_training_and_rests_in_eval_mode():
    linear = SpectralLinear(6, 5, 0.5).double()
    with torch.no_grad():
        linear.weight.copy_(torch.randn(5, 6, generator=torch.Generator().manual_seed(3)) * 4)
    before = linear.u.clone()
    linear.eval().normalised()
    assert torch.equal(linear.u, before)
    linear.train()
    for _ in range(200):
        linear.normalised()
    u, s, _ = torch.linalg.svd(linear.weight.detach())
    assert not torch.equal(linear.u, before) and abs(float(linear.u @ u[:, 0])) == pytest.approx(1, abs=1e-6)
    assert torch.allclose(linear.normalised(), linear.weight * 0.5 / s[0])


def test_lipswish_has_slope_at_most_one_for_every_width():
    x = torch.linspace(-300, 300, 60001, dtype=torch.float64, requires_grad=True)
    for raw in (-3.0, 0.5, 5.0):
        phi = LipSwish().double()
        phi.raw.data.fill_(raw)
        slope = torch.autograd.grad(phi(x).sum(), x)[0].abs().max().item()
        assert 0.9 < slope <= 1.0


@pytest.mark.parametrize("c", [0.3, 0.9])
def test_the_net_contracts_by_its_constant(c):
    g, x = net(c, context=2), 3 * points(500)
    context = torch.zeros(500, 2).double()
    norms = torch.linalg.matrix_norm(autograd_jacobian(lambda x: g(x, context), x), 2)
    assert norms.max() <= c * 1.01 and norms.max() > 0.4 * c


def test_tangents_carried_along_are_the_autograd_jacobian():
    g, x, context = net(context=2), points(), torch.ones(6, 2).double()
    y, found = g.function(context).linearise(x)
    assert torch.allclose(y, g(x, context), atol=1e-12)
    assert torch.allclose(found, autograd_jacobian(lambda x: g(x, context), x), atol=1e-12)


def test_series_stays_within_its_stated_error_and_the_bound_is_sharp():
    """For J = −c I the error is D Σ_{k>n} cᵏ/k, just below the bound."""
    c, layer = 0.7, Residual(Contraction(-0.7 * torch.eye(DIM), 0.7), log_det="series", terms=5)
    found = layer(points())[1]
    exact = DIM * math.log(1 - c)
    assert float((found - exact).abs().max()) <= layer.error_bound(DIM) <= 2 * float((found - exact).abs().min())
    layer, exact = Residual(net(), log_det="series"), Residual(net())(points())[1]
    for layer.terms in (1, 3, 10):
        assert (layer(points())[1] - exact).abs().max() <= layer.error_bound(DIM)
    assert layer.error_bound(DIM) == pytest.approx(DIM * 0.8**11 / (11 * 0.2))


def estimates(layer, x, rounds):
    """Log-determinants (rounds,) and their gradients (rounds, parameters), both averaged over the rows of x."""
    torch.manual_seed(0)
    values, gradients = [], []
    for _ in range(rounds):
        value = layer(x)[1].mean()
        values.append(value.detach())
        parts = torch.autograd.grad(value, list(layer.parameters()), allow_unused=True)
        gradients.append(torch.cat([part.flatten() for part in parts if part is not None]))
    return torch.stack(values), torch.stack(gradients)


def z_scores(draws, truth):
    """Of the mean of the draws, in standard errors."""
    return (draws.mean(0) - truth) / (draws.std(0) / len(draws) ** 0.5 + 1e-12)


@pytest.mark.parametrize(
    ("log_det", "terms", "rounds"), [("roulette", 1, 120), ("roulette", 2, 80), ("hutchinson", 12, 40)]
)
def test_noisy_log_determinants_and_their_gradients_have_the_exact_mean(log_det, terms, rounds):
    """The roulette without bias though it often stops after a term; the long series as good as without."""
    x = points(8).repeat(40, 1)
    truth, slope = estimates(Residual(net(0.6)), x, 1)
    values, gradients = estimates(Residual(net(0.6), log_det=log_det, terms=terms), x, rounds)
    assert values.std() > 0 and abs(z_scores(values, truth[0])) < 4
    score = z_scores(gradients, slope[0])
    assert score.abs().max() < 5.5 and score.square().mean() < 3  # hundreds of numbers at once


def test_one_term_alone_is_biased_and_the_roulette_mends_just_that():
    """For symmetric J all that is cut off has one sign in even powers: tr J overshoots log det(I + J)."""
    root = points(DIM)
    j = 0.6 * (root + root.mT) / torch.linalg.matrix_norm(root + root.mT, 2)
    truth = torch.linalg.slogdet(torch.eye(DIM) + j).logabsdet
    torch.manual_seed(0)
    layer, x = Residual(Contraction(j, 0.6), log_det="hutchinson", terms=1), points(2000)
    assert z_scores(layer(x)[1], truth) > 8
    layer.log_det = "roulette"
    means = torch.stack([layer(x)[1].mean() for _ in range(400)])
    assert abs(z_scores(means, truth)) < 4


@pytest.mark.parametrize(("c", "p", "terms"), [(0.5, 0.6, 1), (0.5, 0.6, 2), (0.8, None, None)])
def test_roulette_mean_and_variance_are_what_its_weights_say(c, p, terms):
    """J = −c I has vᵀJᵏv = D(−c)ᵏ for every v, so that only the random n makes noise: an exact sum over n."""
    options = {} if p is None else {"terms": terms, "continuation": p}
    layer = Residual(Contraction(-c * torch.eye(DIM), c), log_det="roulette", **options)
    p, terms = p or c, terms or 10  # the defaults
    more = torch.arange(150, dtype=torch.float64)  # further terms
    chance = (1 - p) * p**more
    k = torch.arange(1, terms + 150, dtype=torch.float64)
    partial = -DIM * torch.cumsum(c**k / k / p ** (k - terms).clamp(min=0), 0)[terms - 1 :]
    mean = float(chance @ partial)
    variance = float(chance @ (partial - mean) ** 2)
    assert mean == pytest.approx(DIM * math.log(1 - c), rel=1e-6)
    torch.manual_seed(0)
    found = torch.stack([layer(points(1))[1][0] for _ in range(1000)])
    assert float(found.mean()) == pytest.approx(mean, abs=4.5 * (variance / 1000) ** 0.5)
    assert float(found.var()) == pytest.approx(variance, rel=0.4)


@pytest.mark.parametrize(("log_det", "terms"), [("roulette", 2), ("hutchinson", 30)])
@pytest.mark.parametrize("direction", ["forward", "invert"])
def test_noisy_log_determinants_have_the_exact_gradient_by_the_point(log_det, terms, direction):
    layer, x = Residual(net(0.6)), points(3).requires_grad_()

    def slopes(rounds, copies):
        torch.manual_seed(0)
        found = []
        for _ in range(rounds):
            value = getattr(layer, direction)(x.repeat(copies, 1))[1].sum() / copies
            found.append(torch.autograd.grad(value, x)[0].flatten())
        return torch.stack(found)

    truth = slopes(1, 1)[0]
    layer.log_det, layer.terms = log_det, terms
    score = z_scores(slopes(60, 30), truth)
    assert truth.abs().max() > 0.05 and score.abs().max() < 5 and score.square().mean() < 3


@pytest.mark.parametrize("log_det", ["roulette", "hutchinson"])
def test_noisy_kinds_refuse_the_second_derivative_that_they_would_get_wrong(log_det):
    layer, x = Residual(net()), points().requires_grad_()
    torch.autograd.grad(layer(x)[1].sum(), x, create_graph=True)[0].square().sum().backward()
    layer.log_det = log_det
    assert torch.autograd.grad(layer(x)[1].sum(), x)[0].isfinite().all()
    with pytest.raises(RuntimeError, match="a noisy log_det has first derivatives only; got create_graph=True"):
        torch.autograd.grad(layer(x)[1].sum(), x, create_graph=True)


@pytest.mark.parametrize("weight", [1e-8, 1.0, 1e8])
def test_gradients_of_the_inverse_scale_with_the_loss(weight):
    """J = −0.97 I: dx/dz = 1/0.03, whatever the loss is multiplied by, and whatever it is for the other rows."""
    layer, z = Residual(Contraction(-0.97 * torch.eye(DIM), 0.97).float()), torch.ones(3, DIM, requires_grad=True)
    rows = weight * torch.tensor([1.0, 1e-5, 0.0])
    (layer.inverse(z).sum(1) * rows).sum().backward()
    torch.testing.assert_close(z.grad, (rows / 0.03)[:, None].expand(-1, DIM), rtol=1e-3, atol=0)


def test_inverse_alone_is_that_of_invert_and_draws_no_random_numbers():
    layer, z = Residual(net(), log_det="roulette"), points()
    before = torch.get_rng_state()
    x = layer.inverse(z)
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(x, layer.invert(z)[0])


def test_noisy_kinds_keep_no_graph_of_the_powers():
    """Memory does not grow with the number of terms: the graph behind the loss stays as long as it was."""

    def size(terms):
        seen, todo = set(), [Residual(net(), log_det="hutchinson", terms=terms)(points())[1].grad_fn]
        while todo:
            node = todo.pop()
            if node is not None and node not in seen:
                seen.add(node)
                todo += [following for following, _ in node.next_functions]
        return len(seen)

    assert size(20) == size(2)


def test_inverse_converges_at_the_promised_rate():
    layer = Residual(Contraction(0.5 * torch.eye(DIM), 0.5), tolerance=1e-6, max_iterations=30)
    z = points()
    assert torch.allclose(layer.inverse(z), z / 1.5, atol=2e-6)


def test_an_inverse_that_does_not_converge_says_so():
    layer = Residual(Contraction(1.5 * torch.eye(DIM), 0.9), max_iterations=50)
    with pytest.raises(RuntimeError, match=r"no fixed point after 50 iterations: residual .*, tolerance 3.6e-15"):
        layer.inverse(points())
    with pytest.raises(RuntimeError, match="no fixed point after 50 iterations: residual nan"):
        layer.inverse(torch.full((2, DIM), float("nan")).double())


def test_training_pushes_the_likelihood_up_and_the_flow_stays_invertible():
    torch.manual_seed(0)
    flow = residual_flow(layers=2, hidden=(16,), log_det="roulette", terms=2, lipschitz=0.7)
    x = torch.randn(64, 2) * torch.tensor([0.5, 1.4]) + 0.7
    optimiser = torch.optim.Adam(flow.parameters(), 4e-2)
    for _ in range(30):
        optimiser.zero_grad()
        flow.loss(x).mean().backward()
        optimiser.step()
    flow.eval()
    for _, layer in (block.layers for block in flow.chain.layers):
        layer.log_det = "exact"
    assert flow.log_prob(x).mean() > flow.base.log_prob(x).mean() + 0.1
    assert torch.allclose(flow.chain.inverse(flow.encode(x)[0]), x, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LipschitzMLP(2, lipschitz=1.0), r"lipschitz must lie in \(0, 1\).*; got 1.0"),
        (lambda: Residual(Contraction(torch.eye(2), 1.2)), r"net must have a Lipschitz constant .*; got 1.2"),
        (lambda: Residual(nn.Linear(2, 2)), r"net must have a Lipschitz constant .*; got None"),
        (lambda: Residual(net(), log_det="trace"), "log_det must be one of .*; got 'trace'"),
        (lambda: Residual(net(), continuation=1.0), r"continuation must lie in \(0, 1\); got 1.0"),
        (lambda: Residual(net(), tolerance=0.0), "tolerance must be positive; got 0.0"),
        (lambda: Residual(net(), terms=0), "terms must be a positive whole number; got 0"),
    ],
)
def test_bad_settings_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
