"""The game of two nets: who moves when and on what, what a critic learns, and what the generator then does."""

import math
from functools import partial

import ot
import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from gmcourse import fit
from gmcourse.gan import GAN, R1, Critic, GradientPenalty, Lazy
from gmcourse.model import Likelihood
from gmcourse.nets.mlp import MLP
from gmcourse.nets.spectral import spectrally_normalised

ADAM = partial(torch.optim.Adam, betas=(0.5, 0.9))


def plane(mean=(0.0, 0.0), scale=1.0):
    return Independent(Normal(torch.tensor(mean), scale), 1)


def small(seed=0, **settings):
    torch.manual_seed(seed)
    return GAN(MLP(2, 2, (16,)), MLP(2, (), (16,)), event_shape=(2,), latent=2, **settings)


class Beside(nn.Module):
    """A net of x and a label, one-hot, side by side."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.net = MLP(inputs, outputs, (32,))

    def forward(self, x, label):
        return self.net(torch.cat([x, label], 1))


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_a_gan_has_no_likelihood_and_costs_one_evaluation():
    gan = small()
    assert gan.likelihood is Likelihood.NONE and gan.nfe == 1
    with pytest.raises(NotImplementedError, match="none"):
        gan.log_prob(torch.zeros(1, 2))


def test_samples_are_the_generator_of_the_noise_and_of_the_seed():
    gan = small()
    eps = gan.noise(5, generator=torch.Generator().manual_seed(1))
    drawn = gan.sample(5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn, gan.generator(eps)) and not drawn.requires_grad
    assert torch.autograd.functional.jacobian(lambda e: gan.push(e).sum(0), eps).abs().sum() > 0


def test_the_generator_plays_on_every_so_manieth_step_and_only_its_own_parameters_move():
    gan, seen = small(critic_steps=3), []
    fit(gan, plane(), steps=7, batch_size=8, progress=False,
        callback=lambda step, model: seen.append((weights(model.generator), weights(model.critic))))
    generator_moved = [not torch.equal(a[0], b[0]) for a, b in zip(seen, seen[1:], strict=False)]
    critic_moved = [not torch.equal(a[1], b[1]) for a, b in zip(seen, seen[1:], strict=False)]
    assert generator_moved == [False, False, True, False, False, True]  # after steps 2 … 7; it also played in step 1
    assert all(critic_moved)


def test_no_gradient_of_the_critics_loss_reaches_the_generator():
    gan = small(regularisers=GradientPenalty())
    gan.critic_loss(torch.randn(8, 2)).mean().backward()
    assert all(p.grad is None for p in gan.generator.parameters())
    assert all(p.grad is not None for p in gan.critic.net.layers[0].parameters())


def test_players_have_their_own_rates_and_averages():
    gan, seen = small(), []
    still = weights(gan.critic)
    fit(gan, plane(), steps=3, batch_size=8, lr={"critic": 1e-30, "generator": 1e-2}, ema={"critic": None, "generator": 0.9},
        progress=False, callback=lambda _, model: seen.append(weights(model.generator)))
    torch.testing.assert_close(weights(gan.critic), still, rtol=0, atol=1e-12)
    mean = 0.9 * (0.9 * seen[0] + 0.1 * seen[1]) + 0.1 * seen[2]  # the average begins at the first weights
    torch.testing.assert_close(weights(gan.generator), mean)
    assert (seen[0] - seen[2]).abs().max() > 1e-3


def test_whoever_looks_at_a_clipped_critic_sees_no_weight_beyond_the_bound():
    gan, largest = small(objective="wasserstein", clip=0.02, critic_steps=10), []
    gan.critic.net.register_forward_pre_hook(lambda *_: largest.append(float(weights(gan.critic).abs().max())))
    fit(gan, plane(), steps=10, batch_size=8, lr=1e-2, progress=False)
    assert float(weights(gan.critic).abs().max()) > 0.02  # the last step has gone beyond
    gan.logits(torch.zeros(1, 2))
    assert len(largest) == 22 and max(largest) <= 0.02 + 1e-8


def test_the_loss_is_the_objectives_plus_the_penalties():
    torch.manual_seed(0)
    critic = Critic(MLP(2, ()), event_shape=(2,), regularisers=[R1(0.3), R1(0.1)])
    real, fake = torch.randn(2, 6, 2)
    slope = torch.func.vmap(torch.func.grad(lambda x: critic.net(x[None])[0]))(real)
    expected = nn.functional.softplus(-critic(real)) + nn.functional.softplus(critic(fake)) + 0.2 * slope.square().sum(1)
    torch.testing.assert_close(critic.loss((real, fake)), expected)


def test_a_critic_left_alone_learns_the_log_density_ratio():
    """p = N(1, 1) and q = N(−1, 1): log p/q = 2x, which a line can be."""
    torch.manual_seed(0)
    real, fake = torch.randn(2, 20_000, 1)
    critic = Critic(nn.Sequential(nn.Linear(1, 1), nn.Flatten(0)), event_shape=(1,))
    fit(critic, (real + 1, fake - 1), steps=400, batch_size=2000, lr=0.05, progress=False)
    slope, offset = weights(critic)
    assert abs(float(slope) - 2) < 0.1 and abs(float(offset)) < 0.06  # 4 standard errors of the last steps' averages


def test_a_critic_with_a_gradient_penalty_measures_the_transport_cost_and_what_the_soft_penalty_adds():
    """Fakes are data moved by 3: W₁ = 3. The best slope a of aW₁ − λ(a − 1)² is 1 + W₁/2λ, not 1."""
    torch.manual_seed(0)
    real, fake = torch.randn(2, 512, 2)
    fake = fake + torch.tensor([3.0, 0.0])
    exact = ot.emd2([], [], torch.cdist(real, fake).double().numpy())
    critic = Critic(MLP(2, (), (32, 32)), event_shape=(2,), objective="wasserstein", regularisers=GradientPenalty(10.0))
    fit(critic, (real, fake), steps=300, batch_size=256, lr=3e-3, optimizer=ADAM, progress=False)
    with torch.no_grad():
        by_critic = float(critic(real).mean() - critic(fake).mean())
    assert abs(by_critic / (exact * (1 + exact / 20)) - 1) < 0.04


def test_an_affine_generator_and_a_quadratic_critic_find_mean_and_standard_deviation():
    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.Parameter(torch.zeros(3))

        def forward(self, x):
            return torch.cat([torch.ones_like(x), x, x.square()], 1) @ self.weights

    torch.manual_seed(0)
    gan = GAN(nn.Linear(1, 1), Quadratic(), event_shape=(1,), latent=1, regularisers=R1(0.2))
    data = Independent(Normal(torch.tensor([0.7]), 0.4), 1)
    fit(gan, data, steps=800, batch_size=256, lr={"critic": 0.03, "generator": 0.01}, optimizer=ADAM,
        ema={"critic": None, "generator": 0.99}, progress=False)
    x = gan.sample(20_000, generator=torch.Generator().manual_seed(0))
    assert abs(float(x.mean()) - 0.7) < 0.05 and abs(float(x.std()) / 0.4 - 1) < 0.1


def test_a_conditional_gan_puts_each_class_in_its_place():
    torch.manual_seed(0)
    labels = torch.arange(2000) % 2
    x = 0.2 * torch.randn(2000, 2) + torch.tensor([[-1.0, 0.0], [1.0, 0.5]])[labels]
    gan = GAN(Beside(2 + 2, 2), Beside(2 + 2, ()), event_shape=(2,), latent=2, classes=2, regularisers=R1(0.1))
    averages = {"critic": None, "generator": 0.98}
    fit(gan, (x, labels), steps=600, batch_size=128, lr=2e-3, optimizer=ADAM, ema=averages, progress=False)
    for label, centre in ((0, (-1.0, 0.0)), (1, (1.0, 0.5))):
        found = gan.sample(500, labels=torch.full((500,), label)).mean(0)
        torch.testing.assert_close(found, torch.tensor(centre), rtol=0, atol=0.25)
    assert gan.sample(7).shape == (7, 2)


def test_an_interrupted_game_goes_on_to_the_same_weights(tmp_path):
    settings = {"steps": 12, "batch_size": 8, "progress": False, "checkpoint_every": 4}
    whole, parted = (small(regularisers=Lazy(R1(), 3), critic_steps=2) for _ in range(2))
    fit(whole, plane(), **settings)
    state = tmp_path / "run.safetensors"
    fit(parted, plane(), **settings, checkpoint=state, callback=lambda step, _: step == 5)
    fit(parted, plane(), **settings, checkpoint=state)
    assert torch.equal(weights(whole), weights(parted))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"objective": "wasserstein"}, "'wasserstein' needs a Lipschitz critic"),
        ({"objective": "wasserstein", "regularisers": R1()}, "got r1"),
        ({"objective": "hing"}, "objective must be one of"),
        ({"clip": -1.0}, "bound must be positive"),
        ({"critic_steps": 0}, "critic_steps must be a positive whole number"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(settings, words):
    with pytest.raises(ValueError, match=words):
        small(**settings)


def test_spectral_norm_is_seen_in_the_net_itself():
    critic = Critic(spectrally_normalised(MLP(2, ())), event_shape=(2,), objective="wasserstein")
    assert critic.regularised_by == ("spectral-norm",)


def test_penalties_refuse_batch_normalisation():
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1), nn.Flatten(0))
    with pytest.raises(ValueError, match="no batch normalisation under a r1; got 1"):
        Critic(net, event_shape=(2,), regularisers=R1())


def test_bad_labels_and_shapes_are_named():
    gan = GAN(Beside(3 + 2, 2), Beside(2 + 2, ()), event_shape=(2,), latent={"z": 2, "noise": 1}, classes=2)
    assert gan.noise_blocks == {"z": 2, "noise": 1} and gan.noise(4).shape == (4, 3)
    with pytest.raises(ValueError, match="labels must lie in 0 … 1; got 0 to 2"):
        gan.sample(3, labels=torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"labels must be whole numbers of shape \(2,\)"):
        gan.sample(2, labels=torch.tensor([0]))
    with pytest.raises(ValueError, match="labels must be given"):
        gan.push(gan.noise(2))
    with pytest.raises(ValueError, match="labels must be None"):
        small().sample(2, labels=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"the generator's x must have shape \(n, 2\)"):
        GAN(MLP(2, 3), MLP(2, ()), event_shape=(2,), latent=2).sample(1)
    with pytest.raises(ValueError, match=r"critic must return shape \(n,\); got \(3, 1\)"):
        Critic(MLP(2, 1), event_shape=(2,))(torch.zeros(3, 2))


def test_at_the_end_of_the_game_the_loss_is_two_log_two():
    """A critic that cannot tell says 0: 2 ln 2 nats, thesis (2.75)."""
    critic = Critic(MLP(2, ()), event_shape=(2,))
    nn.init.zeros_(critic.net.layers[-1].weight)
    nn.init.zeros_(critic.net.layers[-1].bias)
    loss = critic.loss((torch.randn(4, 2), torch.randn(4, 2)))
    torch.testing.assert_close(loss, torch.full((4,), 2 * math.log(2)))
