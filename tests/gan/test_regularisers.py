"""Penalties on linear and quadratic critics, whose slopes are known; constraints against the singular values."""

import copy

import pytest
import torch
from torch import nn

from gmcourse.gan.objectives import OBJECTIVES
from gmcourse.gan.regularisers import (
    LIPSCHITZ,
    R1,
    R2,
    REGULARISERS,
    Dragan,
    GradientPenalty,
    Lazy,
    check_pair,
    clip_weights,
)
from gmcourse.nets.spectral import spectrally_normalised

PENALTIES = [GradientPenalty(), GradientPenalty(one_sided=True), Dragan(), R1(), R2(), Lazy(R1(), 1)]
EACH = pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
W = torch.tensor([3.0, -4.0], dtype=torch.float64)  # of length 5


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batches(n=6, shape=(2,), shift=1.0):
    real, fake = torch.randn(2, n, *shape, generator=seeded(), dtype=torch.float64)
    return real, fake + shift


def linear(x):
    return x @ W


def quadratic(x):
    """½ xᵀAx with A = diag(1, 3): its slope is Ax."""
    return (x.square() @ torch.tensor([1.0, 3.0], dtype=x.dtype)) / 2


def net(seed=0, activation=nn.Tanh):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 16), activation(), nn.Linear(16, 1), nn.Flatten(0)).double()


@pytest.mark.parametrize(
    ("penalty", "value"),
    [
        (GradientPenalty(weight=2.0), 2 * (5 - 1) ** 2),
        (GradientPenalty(weight=2.0, target=7.0), 2 * (5 - 7) ** 2),
        (GradientPenalty(weight=2.0, target=7.0, one_sided=True), 0),
        (GradientPenalty(weight=2.0, target=4.0, one_sided=True), 2),
        (Dragan(weight=3.0), 3 * (5 - 1) ** 2),
        (R1(gamma=0.1), 0.05 * 25),
        (R2(gamma=0.1), 0.05 * 25),
        (Lazy(R1(gamma=0.1), 1), 0.05 * 25),
    ],
    ids=repr,
)
def test_of_a_linear_critic_only_its_length_counts(penalty, value):
    assert torch.allclose(penalty(linear, *batches()), torch.full((6,), float(value), dtype=torch.float64))


def test_of_a_quadratic_critic_r1_and_r2_are_the_squared_slopes_at_data_and_at_fakes():
    real, fake = batches()
    for penalty, x in ((R1(gamma=0.3), real), (R2(gamma=0.3), fake)):
        assert torch.allclose(penalty(quadratic, real, fake), 0.15 * (x[:, 0] ** 2 + 9 * x[:, 1] ** 2))


def test_the_gradient_penalty_looks_uniformly_along_the_lines_between_data_and_fakes():
    """D = ½x² has slope |x|. From 1 to 3 on the line, E(|x̂| − 1)² = ∫₀² s² ds/2 = 4/3, with variance 16/5 − 16/9."""
    n = 40_000
    real, fake = torch.full((n, 1), 1.0, dtype=torch.float64), torch.full((n, 1), 3.0, dtype=torch.float64)
    found = GradientPenalty(weight=1.0)(lambda x: x.square().sum(1) / 2, real, fake, generator=seeded())
    assert found.mean().item() == pytest.approx(4 / 3, abs=5 * ((16 / 5 - 16 / 9) / n) ** 0.5)
    assert found.min() < 1e-6 and 3.99 < found.max() <= 4


def test_dragan_looks_around_the_data_as_far_as_its_spread_says():
    """Data ±2, of deviation 2, and D = ½x²: |x̂| − 2 is ±σω with σ = 2·spread, but for the 3e-5 of the draws that cross 0."""
    n, spread = 40_000, 0.25
    real = torch.full((n, 1), 2.0, dtype=torch.float64)
    real[::2] *= -1
    dragan = Dragan(weight=1.0, target=2.0, spread=spread)
    found = dragan(lambda x: x.square().sum(1) / 2, real, real + 100, generator=seeded())
    square = (2 * spread) ** 2
    assert found.mean().item() == pytest.approx(square, abs=5 * square * (2 / n) ** 0.5 + 1e-4)


@EACH
def test_images_have_penalties_too(penalty):
    real, fake = batches(shape=(1, 4, 4))
    critic = nn.Sequential(nn.Conv2d(1, 3, 3), nn.SiLU(), nn.Flatten(), nn.Linear(12, 1), nn.Flatten(0)).double()
    assert penalty(critic, real, fake).shape == (6,)


@EACH
def test_gradients_for_the_weights_are_those_of_finite_differences(penalty):
    """The second derivative through ∇D, in every weight of a net."""
    critic, (real, fake) = net(), batches()
    with torch.no_grad():
        critic[0].weight.mul_(2)
        critic[2].weight.mul_(16)  # steep enough for the one-sided penalty
    names = list(dict(critic.named_parameters()))

    def value(*parameters):
        def forward(x):
            return torch.func.functional_call(critic, dict(zip(names, parameters, strict=True)), (x,))

        return penalty(forward, real, fake, generator=seeded()).mean()

    start = tuple(p.detach().clone().requires_grad_() for p in critic.parameters())
    assert value(*start) > 1e-3
    assert torch.autograd.gradcheck(value, start, atol=1e-6)


@EACH
def test_a_critic_of_relus_is_trained_through_its_weights(penalty):
    critic = net(activation=nn.ReLU)
    with torch.no_grad():
        critic[0].weight.mul_(8)
    penalty(critic, *batches()).mean().backward()
    assert critic[0].weight.grad.abs().max() > 1e-3


@EACH
def test_a_flat_critic_gives_no_nan(penalty):
    critic = net()
    nn.init.zeros_(critic[2].weight)
    penalty(critic, *batches()).mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in critic.parameters())


@EACH
def test_the_generator_is_not_trained_and_no_graph_is_built_without_gradients(penalty):
    critic, (real, fake) = net(), batches()
    fake.requires_grad_()
    penalty(critic, real, fake).mean().backward()
    assert fake.grad is None
    with torch.no_grad():
        assert not penalty(critic, real, fake).requires_grad


@EACH
def test_the_seed_decides_and_torchs_own_state_is_left_alone(penalty):
    critic, pair, state = net(), batches(), torch.get_rng_state()
    assert torch.equal(penalty(critic, *pair, generator=seeded(3)), penalty(critic, *pair, generator=seeded(3)))
    assert torch.equal(torch.get_rng_state(), state)


def test_lazy_r1_has_the_mean_of_r1_and_calls_the_critic_as_rarely_as_said():
    """Over 8000 coins, value and gradient are k·every/n times those of R1, k heads; k within 5 standard errors."""
    every, n, calls, generator = 8, 8000, 0, seeded()
    critic, (real, fake) = net(), batches()

    def counted(x):
        nonlocal calls
        calls += 1
        return critic(x)

    lazy, dense = Lazy(R1(gamma=0.2), every), R1(gamma=0.2)(critic, real, fake).mean()
    (wanted,) = torch.autograd.grad(dense, critic[0].weight)
    values = [lazy(counted, real, fake, generator=generator).mean() for _ in range(n)]
    (slope,) = torch.autograd.grad(sum(v for v in values) / n, critic[0].weight)
    error = 5 * ((every - 1) / n) ** 0.5  # of the mean of every·coin, whose variance is every − 1
    assert calls / n * every == pytest.approx(1, abs=error)
    assert (sum(v.item() for v in values) / n) / dense.item() == pytest.approx(1, abs=error)
    assert torch.allclose(slope, wanted, rtol=error, atol=1e-12)
    assert {round(v.item() / dense.item(), 9) for v in values} == {0.0, float(every)}


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: nn.Linear(7, 5), (7,)),
        (lambda: nn.Conv1d(3, 4, 3), (3, 8)),
        (lambda: nn.Conv2d(3, 6, 3), (3, 8, 8)),
        (lambda: nn.ConvTranspose2d(3, 6, 3), (3, 8, 8)),
    ],
    ids=["linear", "conv1d", "conv2d", "transposed"],
)
def test_spectral_norm_agrees_with_the_singular_values_once_it_has_converged(layer, shape):
    torch.manual_seed(0)
    layer = layer()
    with torch.no_grad():
        layer.weight.mul_(3)
    before = layer.weight.detach().clone()
    out_first = before.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else before
    largest = torch.linalg.svdvals(out_first.flatten(1)).max()
    net = spectrally_normalised(nn.Sequential(layer), power_iterations=5).train()
    for _ in range(40):
        net(torch.zeros(1, *shape))
    assert torch.allclose(before / net[0].weight, largest.expand_as(before), rtol=1e-3)


def test_a_normalised_net_of_linear_layers_and_relus_is_1_lipschitz():
    critic = spectrally_normalised(net(activation=nn.ReLU), power_iterations=20)
    for _ in range(10):
        critic(torch.zeros(1, 2).double())
    real, fake = batches(n=500, shift=3.0)
    assert ((critic(real) - critic(fake)).abs() <= (real - fake).norm(dim=1) * (1 + 1e-3)).all()
    assert R1(gamma=2.0)(critic, real, fake).max() <= 1 + 1e-3


def test_penalties_and_spectral_norm_can_be_trained_together():
    critic = spectrally_normalised(net())
    GradientPenalty()(critic, *batches()).mean().backward()
    assert critic[0].parametrizations.weight.original.grad.isfinite().all()


def test_clipping_moves_every_parameter_onto_the_nearest_allowed_value():
    critic = net()
    before = copy.deepcopy(critic)
    assert clip_weights(critic, 0.1) is critic
    for new, old in zip(critic.parameters(), before.parameters(), strict=True):
        assert torch.equal(new, old.detach().clamp(-0.1, 0.1)) and new.requires_grad
    assert max(p.abs().max().item() for p in before.parameters()) > 0.1


@pytest.mark.parametrize("game", OBJECTIVES)
@pytest.mark.parametrize("regulariser", [None, *REGULARISERS])
def test_only_wasserstein_without_a_lipschitz_critic_is_refused(game, regulariser):
    given = () if regulariser is None else (regulariser,)
    if game == "wasserstein" and regulariser not in LIPSCHITZ:
        with pytest.raises(ValueError, match=f"'wasserstein' needs a Lipschitz .*got {regulariser or 'no regulariser'}"):
            check_pair(game, *given)
    else:
        check_pair(game, *given)


def test_pairs_are_checked_for_objects_as_for_names():
    assert {penalty.name for penalty in PENALTIES} | {"weight-clipping", "spectral-norm"} == set(REGULARISERS)
    check_pair(OBJECTIVES["wasserstein"], R1(), GradientPenalty())
    with pytest.raises(ValueError, match="got r1 and r2"):
        check_pair(OBJECTIVES["wasserstein"], Lazy(R1(), 4), R2())


PLAIN = torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: R1(gamma=0), "gamma must be positive; got 0"),
        (lambda: R2(gamma=-1), "gamma must be positive; got -1"),
        (lambda: GradientPenalty(weight=-1), "weight must be positive; got -1"),
        (lambda: GradientPenalty(target=0), "target must be positive; got 0"),
        (lambda: Dragan(spread=0), "spread must be positive; got 0"),
        (lambda: Lazy(R1(), 0), "every must be a positive whole number; got 0"),
        (lambda: R1()(lambda x: x, PLAIN, PLAIN), r"critic must return shape \(n,\); got \(3, 2\)"),
        (lambda: R1()(lambda x: torch.zeros(3), PLAIN, PLAIN), "critic must be differentiable in x"),
        (lambda: R1()(linear, PLAIN, PLAIN[:2]), r"same shape; got \(3, 2\) and \(2, 2\)"),
        (lambda: clip_weights(net(), 0), "bound must be positive; got 0"),
        (lambda: clip_weights(spectrally_normalised(net()), 0.1), "plain weights to be clipped; 0 has a parametrization"),
        (lambda: spectrally_normalised(spectrally_normalised(net())), "to be normalised; 0 has a parametrization"),
        (lambda: spectrally_normalised(nn.ReLU()), "layers of kind Linear, Conv1d"),
        (lambda: spectrally_normalised(net(), power_iterations=0), "power_iterations must be a positive whole"),
        (lambda: check_pair("wgan", "r1"), "objective must be one of .*; got 'wgan'"),
        (lambda: check_pair("hinge", "dropout"), "regularisers must be among .*; got 'dropout'"),
        (lambda: check_pair("hinge", "weight-clipping", "spectral-norm"), "must not be both 'weight-clipping'"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
