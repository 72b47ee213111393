"""The game of an energy against itself: its gradient by the two separate updates, by unrolled steps, and by differences."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from gmcourse.compositions.dynamics import GradientFlow, Langevin
from gmcourse.compositions.self_contrast import SelfContrast, exact_likelihood, stopped
from gmcourse.compositions.short_run import ShortRun
from gmcourse.ebm.energy import mlp_energy

WAYS = [Langevin(4, 0.3, noise=0), Langevin(4, 0.3, noise=0.2), GradientFlow(0.5, steps=3)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small(dynamics, objective=None) -> ShortRun:
    torch.manual_seed(0)
    return ShortRun(mlp_energy(2, (8, 8)).double(), dynamics, event_shape=(2,), objective=objective)


def data(n=16):
    return torch.randn(n, 2, dtype=torch.float64, generator=seeded(1)) + 1


def slopes(model, loss):
    """Its gradient in all weights, as one vector."""
    found = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
    return torch.cat([g.flatten() for g in found])


def unrolled(model, eps):
    """G_θ(x₀) by plain steps, with a graph."""
    x, u = eps[:, :2], eps[:, 2:].reshape(len(eps), -1, 2)
    for k in range(model.dynamics.steps):
        at = x if x.requires_grad else x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(model.energy(at).sum(), at, create_graph=True)
        x = x - model.dynamics.step / 2 * slope + (model.dynamics.noise * u[:, k] if model.dynamics.noisy else 0)
    return x


def drawn(model, n=16, seed=7):
    """The noise that the objective draws after the same seed."""
    torch.manual_seed(seed)
    return model.noise(n)


@pytest.mark.parametrize("weight", [1.0, 0.3])
@pytest.mark.parametrize("way", WAYS)
def test_the_gradient_is_the_sum_of_those_of_its_two_updates(way, weight):
    """(5.14) = (5.1), with samples that are given, + w (5.13), with a critic that is a copy."""
    model = small(way, SelfContrast(weight))
    x, eps = data(), drawn(model)
    ends = model.push(eps)
    of_critic = slopes(model, (model.energy(x) - model.energy(ends.detach())).mean())
    critic = mlp_energy(2, (8, 8)).double()
    critic.load_state_dict(model.energy.state_dict())
    of_generator = slopes(model, critic(ends).mean())
    drawn(model)
    torch.manual_seed(7)
    found = slopes(model, model.loss(x).mean())
    assert of_generator.abs().max() > 1e-3
    assert torch.allclose(found, of_critic + weight * of_generator, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("way", WAYS[:2])
def test_the_generators_gradient_is_that_of_unrolled_steps_and_of_differences(way):
    """∇_θ of E_sg(G_θ(x₀)): backpropagation by hand, and (c(θ + h) − c(θ − h))/2h with the critic held at θ."""
    model = small(way)
    eps = drawn(model)
    critic = mlp_energy(2, (8, 8)).double()
    critic.load_state_dict(model.energy.state_dict())
    found = slopes(model, stopped(model.energy)(model.push(eps)).mean())
    assert torch.allclose(found, slopes(model, critic(unrolled(model, eps)).mean()), rtol=1e-10, atol=1e-14)
    vector = nn.utils.parameters_to_vector(model.parameters()).detach()
    with torch.no_grad():
        for i in found.abs().argsort(descending=True)[:10:3]:
            cost = []
            for sign in (1, -1):
                moved = vector.clone()
                moved[i] += sign * 1e-5
                nn.utils.vector_to_parameters(moved, model.parameters())
                cost.append(critic(model.push(eps)).mean())
            assert float((cost[0] - cost[1]) / 2e-5) == pytest.approx(float(found[i]), rel=1e-6)


def test_without_the_generators_term_no_gradient_goes_through_the_way():
    """The loss and its gradient are those of (5.1), at samples that are numbers; they are drawn without a graph."""
    model, seen = small(WAYS[0], SelfContrast()), []
    push = model.push
    model.push = lambda eps: seen.append(push(eps)) or seen[-1]
    x = data()
    torch.manual_seed(7)
    found = slopes(model, model.loss(x).mean())
    assert not seen[0].requires_grad
    exact = slopes(model, (model.energy(x) - model.energy(seen[0].detach())).mean())
    assert torch.allclose(found, exact, rtol=1e-12, atol=1e-15)
    assert all(p.requires_grad for p in model.parameters())


def normed():
    return nn.Sequential(spectral_norm(nn.Linear(2, 8)), nn.SiLU(), weight_norm(nn.Linear(8, 1)), nn.Flatten(0))


@pytest.mark.parametrize("build", [lambda: mlp_energy(2, (8,)), normed], ids=["plain", "normed"])
def test_no_gradient_reaches_the_critics_copy_though_it_is_the_same_function(build):
    torch.manual_seed(0)
    energy = build().eval()
    x = torch.randn(5, 2, requires_grad=True)
    found = stopped(energy)(x)
    assert torch.equal(found, energy(x))
    (slope,) = torch.autograd.grad(found.sum(), x, retain_graph=True)
    assert torch.equal(slope, torch.autograd.grad(energy(x).sum(), x)[0])
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        torch.autograd.grad(found.sum(), next(energy.parameters()))
    assert not stopped(energy)(x.detach()).requires_grad
    assert energy(x.detach()).requires_grad
    plain = lambda x: x.square().sum(1)  # noqa: E731
    assert stopped(plain) is plain


def test_the_value_is_that_of_its_terms_and_the_penalties_are_added():
    model = small(WAYS[0], SelfContrast(0.5, l2=0.1, penalty=lambda energy: torch.tensor(3.0)))
    x, eps = data(), drawn(model)
    with torch.no_grad():
        ends = model.push(eps)
        a, b = model.energy(x), model.energy(ends)
        drawn(model)
        torch.manual_seed(7)
        assert torch.allclose(model.loss(x), a - b + 0.1 * (a**2 + b**2) + 0.5 * b + 3, atol=1e-12)


def test_noise_on_the_data_blurs_them_alone():
    """E = ½x² at x = 0 and its noise of 0.5: ½·0.25 in the mean; the samples are at 0 as well."""
    still = lambda x: 0.5 * x.square().sum(1)  # noqa: E731
    model = ShortRun(still, Langevin(1, 2.0, noise=0), event_shape=(1,), objective=SelfContrast(data_noise=0.5))
    torch.manual_seed(0)
    loss = model.loss(torch.zeros(20_000, 1))
    assert abs(float(loss.mean()) - 0.125) < 5 * 0.125 * (2 / 20_000) ** 0.5


@pytest.mark.parametrize("way", [GradientFlow(0.5, steps=4), Langevin(4, 0.2, noise=0)])
def test_the_likelihoods_gradient_is_that_of_differences(way):
    model = small(way, exact_likelihood)
    x = data(6)
    found = slopes(model, model.loss(x).mean())
    vector = nn.utils.parameters_to_vector(model.parameters()).detach()
    i = int(found.abs().argmax())
    cost = []
    with torch.no_grad():
        for sign in (1, -1):
            moved = vector.clone()
            moved[i] += sign * 1e-5
            nn.utils.vector_to_parameters(moved, model.parameters())
            cost.append(-model.log_prob(x).mean())
    assert float((cost[0] - cost[1]) / 2e-5) == pytest.approx(float(found[i]), rel=1e-5)


MEMORY = """
import resource, sys, torch
from gmcourse.compositions.dynamics import Langevin
from gmcourse.compositions.self_contrast import SelfContrast
from gmcourse.compositions.short_run import ShortRun
from gmcourse.ebm.images import conv_energy
torch.set_num_threads(1)
batch, steps = int(sys.argv[1]), int(sys.argv[2])
model = ShortRun(conv_energy((3, 32, 32), "cifar10"), Langevin(steps, 0.1, noise=0), event_shape=(3, 32, 32),
                 objective=SelfContrast(1.0))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model.loss(torch.rand(batch, 3, 32, 32)).mean().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts other units elsewhere")
def test_sixty_steps_on_colour_images_fit_in_two_gigabytes():
    """Table 5.2's energy for CIFAR-10 and the generator's loss, for a batch of 64. What a step needs grows with the batch,
    not with the number of steps but for its K + 1 points: measured at a batch of 8 and two steps, and taken on."""
    out = subprocess.run([sys.executable, "-c", MEMORY, "8", "2"], capture_output=True, text=True, check=True)
    points = 64 * 3 * 32 * 32 * 4 * (60 + 1)
    assert 64 / 8 * int(out.stdout) * 1024 + points < 2e9


def test_what_is_not_finite_is_a_divergence_and_bad_settings_are_named():
    model = ShortRun(lambda x: torch.where(x[:, 0] > 3, torch.nan, x.sum(1)), Langevin(1, 0.1), event_shape=(2,))
    with pytest.raises(FloatingPointError, match="the energy is not finite at the data"):
        model.loss(torch.full((4, 2), 5.0))
    for settings, told in (
        ({"generator": -1}, "generator must not be negative; got -1"),
        ({"l2": -1}, "l2 must not be negative; got -1"),
        ({"data_noise": -1}, "data_noise must not be negative; got -1"),
    ):
        with pytest.raises(ValueError, match=told):
            SelfContrast(**settings)
    assert repr(SelfContrast(1, l2=0.1)) == "SelfContrast(generator=1, l2=0.1, data_noise=0)"
