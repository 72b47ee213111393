"""The game of codes: what the critic learns and where it sends the encoder, against quadrature; who moves; the outcome."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from gmcourse import checkpoint, fit
from gmcourse.compositions.adversarial_ae import WAEGAN, AdversarialAutoencoder
from gmcourse.fit import cosine
from gmcourse.gan import OBJECTIVES, R1, Critic
from gmcourse.model import StandardNormal
from gmcourse.nets.mlp import MLP

GAMES = [AdversarialAutoencoder, WAEGAN]
ADAM = partial(torch.optim.Adam, betas=(0.5, 0.9))
LINE = torch.linspace(-12, 12, 6001, dtype=torch.float64)
CELL = float(LINE[1] - LINE[0])


class Quadratic(nn.Module):
    """Logits a + b z + c z² of z (n, 1): the family of all log-ratios of two Gaussians."""

    def __init__(self, *start):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(start or (0.0, 0.0, 0.0), dtype=torch.float64))

    def forward(self, z):
        return features(z[:, 0]) @ self.weights


class Affine(nn.Module):
    """z = m + s x."""

    def __init__(self, mean, scale):
        super().__init__()
        self.at = nn.Parameter(torch.tensor([mean, scale], dtype=torch.float64))

    def forward(self, x):
        return self.at[0] + self.at[1] * x


def features(z):
    return torch.stack([torch.ones_like(z), z, z.square()], -1)


def log_ratio(mean, scale):
    """Coefficients of log N(z; 0, 1)/N(z; mean, scale²) in 1, z, z²."""
    return torch.tensor([
        math.log(scale) + mean**2 / (2 * scale**2), -mean / scale**2, (1 / scale**2 - 1) / 2
    ], dtype=torch.float64)


def densities(mean, scale):
    return (Normal(m, s).log_prob(LINE).exp() for m, s in ((0.0, 1.0), (mean, scale)))


def js(mean, scale):
    """JS(N(0, 1), N(mean, scale²)) in nats, by the midpoint rule."""
    p, q = densities(mean, scale)
    middle = (p + q) / 2
    return float((torch.special.xlogy(p, p / middle) + torch.special.xlogy(q, q / middle)).nan_to_num().sum()) * CELL / 2


def on_the_line(game, mean, scale, *weights, objective="non-saturating"):
    """Codes N(mean, scale²) of x ~ N(0, 1), in float64."""
    prior = StandardNormal(1).double()
    critic = Critic(Quadratic(*weights), event_shape=(1,), objective=objective)
    return game((1,), Affine(mean, scale), nn.Linear(1, 1).double(), prior, critic)


def small(game, critic=None, encoder=None, **settings):
    torch.manual_seed(0)
    critic = critic or Critic(MLP(2, (), (32,)), event_shape=(2,), regularisers=R1(0.1))
    return game((4,), encoder or nn.Linear(4, 2), nn.Linear(2, 4), StandardNormal(2), critic, **settings)


def plane_in_four(n, seed=0):
    """2-D Gaussian data off the origin in 4-D, of deviations 2 and 0.5 along two axes that are at right angles."""
    axes = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0, -1.0]]) / 2
    u = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)) * torch.tensor([2.0, 0.5])
    return u @ axes + 1.0


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def play(model, rates, steps=2, **settings):
    fit(model, plane_in_four(64), steps=steps, batch_size=32, lr=rates, progress=False, **settings)


@pytest.mark.parametrize(("mean", "scale"), [(1.0, 0.7), (-0.5, 1.6)])
@pytest.mark.parametrize("game", GAMES)
def test_a_trained_critic_is_the_log_ratio_of_prior_and_codes_and_its_loss_tells_js(game, mean, scale):
    """Maximum likelihood of a logistic regression: its errors are those of Fisher's information, by quadrature."""
    n, model = 20_000, on_the_line(game, mean, scale)
    x = torch.randn(n, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    solver = torch.optim.LBFGS(model.critic.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        torch.manual_seed(2)
        loss = model.critic_loss(x).mean()
        loss.backward()
        return loss

    solver.step(closure)
    p, q = densities(mean, scale)
    information = torch.einsum("g,ga,gb->ab", p * q / (p + q), features(LINE), features(LINE)) * CELL
    error = (torch.linalg.inv(information).diagonal() / n).sqrt()
    assert ((model.critic.net.weights - log_ratio(mean, scale)).abs() < 4.5 * error).all()
    assert log_ratio(mean, scale).abs().min() > 10 * error.max()

    torch.manual_seed(3)
    fresh = model.critic_loss(torch.randn(n, 1, dtype=torch.float64)).detach()
    assert abs(fresh.mean() - (2 * math.log(2) - 2 * js(mean, scale))) < 4.5 * fresh.std() / n**0.5


@pytest.mark.parametrize(("mean", "scale"), [(0.9, 1.0), (0.0, 0.6), (-0.6, 1.5)])
@pytest.mark.parametrize("objective", ["minimax", "non-saturating"])
def test_against_the_best_critic_the_encoder_is_sent_to_the_prior(objective, mean, scale):
    """Minimax: along the gradient of 2 JS. Non-saturating: of KL(q‖p) − 2 JS, which is 2 KL(½(p + q)‖p)."""
    model = on_the_line(AdversarialAutoencoder, mean, scale, *log_ratio(mean, scale), objective=objective)
    n = 200_000
    x = torch.randn(n, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = torch.autograd.grad(model.encoder_loss(x).mean(), model.encoder.at)[0]

    def goal(m, s):
        p, q = densities(m, s)
        middle = (p + q) / 2
        return 2 * js(m, s) if objective == "minimax" else 2 * float((middle * (middle / p).log()).sum()) * CELL

    wanted = torch.tensor([
        (goal(mean + a, scale + b) - goal(mean - a, scale - b)) / 2e-4 for a, b in ((1e-4, 0.0), (0.0, 1e-4))
    ], dtype=torch.float64)
    z = (mean + scale * x).requires_grad_()
    slope = torch.autograd.grad(model.fooling_loss(z).sum(), z)[0]
    error = torch.cat([slope, slope * x], 1).std(0) / n**0.5
    assert ((found - wanted).abs() < 4.5 * error + 1e-6).all()
    away = torch.tensor([mean, scale - 1], dtype=torch.float64)
    assert float(found @ away) > 10 * float(error @ away.abs())


def test_the_players_of_an_aae_are_three_of_whom_two_share_the_encoder():
    model = small(AdversarialAutoencoder)
    players = {p.name: {id(q) for q in p.parameters()} for p in model.players()}
    encoder, decoder, critic = ({id(q) for q in part.parameters()} for part in (model.encoder, model.decoder, model.critic))
    assert list(players) == ["autoencoder", "critic", "encoder"]
    assert players == {"autoencoder": encoder | decoder, "critic": critic, "encoder": encoder}


def test_the_players_of_a_wae_gan_are_two():
    model = small(WAEGAN)
    players = {p.name: {id(q) for q in p.parameters()} for p in model.players()}
    assert list(players) == ["critic", "autoencoder"]
    assert players["critic"] == {id(q) for q in model.critic.parameters()}
    assert players["autoencoder"] == {id(q) for part in (model.encoder, model.decoder) for q in part.parameters()}


@pytest.mark.parametrize(("game", "who", "moved"), [
    (AdversarialAutoencoder, "autoencoder", {"encoder", "decoder"}),
    (AdversarialAutoencoder, "critic", {"critic"}),
    (AdversarialAutoencoder, "encoder", {"encoder"}),
    (WAEGAN, "autoencoder", {"encoder", "decoder"}),
    (WAEGAN, "critic", {"critic"}),
])
def test_each_player_moves_its_own_parameters_only(game, who, moved):
    """The others have rates that are lost in rounding."""
    model = small(game)
    parts = {"encoder": model.encoder, "decoder": model.decoder, "critic": model.critic}
    before = {name: weights(part) for name, part in parts.items()}
    play(model, {p.name: 1e-2 if p.name == who else 1e-30 for p in model.players()})
    assert {name for name, part in parts.items() if not torch.equal(before[name], weights(part))} == moved
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("game", GAMES)
def test_the_critics_loss_leads_nowhere_but_to_the_critic(game):
    model = small(game)
    model.critic_loss(plane_in_four(8)).mean().backward()
    assert all(p.grad is None for part in (model.encoder, model.decoder) for p in part.parameters())
    assert all(p.grad is not None for p in model.critic.net.layers[0].parameters())


def test_the_shared_encoder_has_a_step_of_each_of_its_two_players():
    """Under SGD, with a critic who stands still: two gradient steps, the second taken where the first has led."""
    model, by_hand = small(AdversarialAutoencoder), small(AdversarialAutoencoder)
    x = plane_in_four(32)
    fit(model, x, steps=1, batch_size=32, optimizer=torch.optim.SGD, progress=False,
        lr={"autoencoder": 0.02, "critic": 1e-30, "encoder": 0.3})
    for loss, rate, parts in (
        (lambda: (x - by_hand.decoder(by_hand.encoder(x))).square().sum(1) / 2, 0.02, [by_hand.encoder, by_hand.decoder]),
        (lambda: -nn.functional.logsigmoid(by_hand.critic.net(by_hand.encoder(x))), 0.3, [by_hand.encoder]),
    ):
        parameters = [p for part in parts for p in part.parameters()]
        for p, g in zip(parameters, torch.autograd.grad(loss().mean(), parameters), strict=True):
            p.data -= rate * g
    assert torch.allclose(weights(model.encoder), weights(by_hand.encoder), atol=1e-6)
    assert torch.allclose(weights(model.decoder), weights(by_hand.decoder), atol=1e-6)


@pytest.mark.parametrize("game", GAMES)
def test_who_fools_the_critic_plays_on_every_so_manieth_step(game):
    model, seen = small(game, critic_steps=3), []
    who = "encoder" if game is AdversarialAutoencoder else "autoencoder"
    rates = {p.name: 1e-2 if p.name in (who, "critic") else 1e-30 for p in model.players()}
    play(model, rates, steps=7, callback=lambda step, m: seen.append((weights(m.encoder), weights(m.critic))))
    moved = [[not torch.equal(a[i], b[i]) for a, b in zip(seen, seen[1:], strict=False)] for i in (0, 1)]
    assert moved == [[False, False, True, False, False, True], [True] * 6]


def test_the_losses_of_both_are_distortion_and_game():
    for game, weight in ((partial(WAEGAN, weight=3.0), 3.0), (AdversarialAutoencoder, 1.0)):
        model, x = small(game, beta=0.5), plane_in_four(16)
        distortion = 0.5 * (x - model.reconstruct(x)).square().sum(1) / 2
        fooling = -nn.functional.logsigmoid(model.critic.net(model.encode(x)))
        assert torch.allclose(model.loss(x), distortion + weight * fooling, rtol=1e-5)
    assert torch.allclose(model.reconstruction_loss(x), distortion, rtol=1e-5)


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_of_the_gans_can_be_played(game, name):
    clip = 0.05 if OBJECTIVES[name].needs_lipschitz else None
    model = small(game, Critic(MLP(2, (), (8,)), event_shape=(2,), objective=name, clip=clip))
    before = weights(model.encoder), weights(model.critic)
    play(model, 1e-3)
    assert not torch.equal(before[0], weights(model.encoder)) and not torch.equal(before[1], weights(model.critic))
    assert clip is None or weights(model.critic).abs().max() <= 0.05 + 1e-3  # clipped before it is looked at next


def test_batch_normalisation_sees_the_batch_once_for_each_player():
    norm = nn.BatchNorm1d(2)
    model = small(AdversarialAutoencoder, encoder=nn.Sequential(nn.Linear(4, 2), norm))
    play(model, 1e-3, steps=2)
    assert int(norm.num_batches_tracked) == 6
    x = plane_in_four(3)
    assert torch.equal(model.encode(x)[:1], model.encode(x[:1])) and int(norm.num_batches_tracked) == 6


def trained(game, rates, steps, **settings):
    critic = Critic(MLP(2, (), (32,)), event_shape=(2,), regularisers=R1(0.3))
    model, x = small(game, critic, **settings), plane_in_four(2000)
    fit(model, x, steps=steps, batch_size=64, lr=rates, optimizer=ADAM, schedule=cosine(), progress=False)
    return model, x


def from_the_prior(z):
    """Largest departure of the moments of z from those of N(0, I)."""
    return max(float(z.mean(0).abs().max()), float((z.T.cov() - torch.eye(2)).abs().max()))


@pytest.mark.parametrize(("game", "rates", "steps", "settings"), [
    (AdversarialAutoencoder, {"autoencoder": 1e-2, "critic": 2e-2, "encoder": 1e-2}, 500, {}),
    (WAEGAN, {"critic": 4e-2, "autoencoder": 2e-2}, 250, {"weight": 3.0}),
])
def test_trained_codes_follow_the_prior_and_samples_the_data(game, rates, steps, settings):
    model, x = trained(game, rates, steps, **settings)
    assert from_the_prior(model.encode(x)) < 0.45
    assert (x - model.reconstruct(x)).square().mean() < 0.05  # of a variance of 1.1 per axis
    drawn = model.sample(4000, generator=torch.Generator().manual_seed(0))
    assert (drawn.mean(0) - x.mean(0)).abs().max() < 0.3
    assert (drawn.T.cov() - x.T.cov()).abs().max() < 0.4


@pytest.mark.parametrize(("game", "rates", "settings"), [
    (AdversarialAutoencoder, {"autoencoder": 2e-2, "critic": 4e-2, "encoder": 1e-30}, {}),
    (WAEGAN, {"critic": 4e-2, "autoencoder": 2e-2}, {"weight": 1e-6}),
])
def test_without_the_game_codes_do_not_follow_the_prior(game, rates, settings):
    model, x = trained(game, rates, 100, **settings)
    assert from_the_prior(model.encode(x)) > 1.0


@pytest.mark.parametrize("game", GAMES)
def test_a_run_that_stops_goes_on_to_the_same_weights(game, tmp_path):
    """Two optimisers on one encoder: each has its own moments on the disk."""
    whole, halves = small(game), small(game)
    play(whole, 1e-2, steps=6)
    play(halves, 1e-2, steps=3, checkpoint=tmp_path / "run.safetensors")
    halves = small(game)
    play(halves, 1e-2, steps=6, checkpoint=tmp_path / "run.safetensors")
    assert torch.equal(weights(whole), weights(halves))


@pytest.mark.parametrize("game", GAMES)
def test_a_saved_model_comes_back(game, tmp_path):
    model, other = small(game), small(game)
    play(model, 1e-2)
    x = plane_in_four(5, seed=1)
    assert not torch.equal(model.encode(x), other.encode(x))
    checkpoint.save(tmp_path / "game.safetensors", model)
    checkpoint.load(tmp_path / "game.safetensors", other)
    assert torch.equal(model.reconstruct(x), other.reconstruct(x))
    assert torch.equal(weights(model.critic), weights(other.critic))


@pytest.mark.parametrize(("make", "word"), [
    (lambda: small(WAEGAN, weight=0.0), "weight must be positive"),
    (lambda: small(WAEGAN, weight=-2.0), "weight must be positive"),
    (lambda: small(AdversarialAutoencoder, beta=0.0), "beta must be positive"),
    (lambda: small(AdversarialAutoencoder, critic_steps=0), "critic_steps must be a positive"),
    (lambda: small(AdversarialAutoencoder, Critic(MLP(3, ()), event_shape=(3,))), r"codes of shape \(2,\)"),
    (lambda: small(WAEGAN, Critic(MLP(2, ()), event_shape=(2,), classes=4)), "without labels; got one of .* with 4 classes"),
    (lambda: small(AdversarialAutoencoder, encoder=nn.Linear(4, 3)), "prior of z"),
    (lambda: small(AdversarialAutoencoder).critic_loss(torch.zeros(2, 3)), "x must have shape"),
    (lambda: small(AdversarialAutoencoder).encoder_loss(torch.zeros(2, 3)), "x must have shape"),
    (lambda: small(AdversarialAutoencoder).reconstruction_loss(torch.zeros(2, 3)), "x must have shape"),
])
def test_bad_input_is_named(make, word):
    with pytest.raises(ValueError, match=word):
        make()
