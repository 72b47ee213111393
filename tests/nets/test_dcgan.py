"""Nets of image GANs: shapes, whose logit depends on whom, labels by projection, and a critic that learns a ratio."""

import pytest
import torch
from torch import nn

from gmcourse.nets.dcgan import DCCritic, DCGenerator
from gmcourse.nets.spectral import spectrally_normalised

SMALL = (2, 8, 12)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(("image", "levels"), [((1, 28, 28), 2), ((3, 32, 32), 3), (SMALL, 1), (SMALL, 2)])
def test_noise_becomes_images_within_the_range_of_data_and_images_become_logits(image, levels):
    net = DCGenerator(6, image, width=4, levels=levels)
    x = net(random(5, 6))
    assert x.shape == (5, *image) and x.abs().max() <= 1
    assert DCCritic(image, width=4, levels=levels, minibatch_std=True)(x).shape == (5,)


@pytest.mark.parametrize("wrap", [lambda net: net, spectrally_normalised])
def test_without_minibatch_std_a_logit_depends_on_its_own_row_only(wrap):
    """What penalties on the slope take for granted: the Jacobian of logits with respect to rows is diagonal."""
    net, x = wrap(DCCritic(SMALL, width=4)), random(4, *SMALL)
    slopes = torch.autograd.functional.jacobian(net, x).flatten(2).norm(dim=2)
    assert (slopes.diagonal() > 1e-3).all()
    assert (slopes - slopes.diagonal().diag()).abs().max() == 0


def test_with_minibatch_std_logits_depend_on_all_rows():
    net, x = DCCritic(SMALL, width=4, minibatch_std=True), random(4, *SMALL)
    slopes = torch.autograd.functional.jacobian(net, x).flatten(2).norm(dim=2)
    assert (slopes > 1e-6).all()


def test_images_do_not_depend_on_each_other_nor_on_the_mode():
    """No statistics of the batch, none that run along: what is trained is what is sampled."""
    net, eps = DCGenerator(6, SMALL, width=4), random(4, 6)
    assert torch.allclose(net(eps), torch.cat([net(row[None]) for row in eps]), atol=1e-6)
    assert torch.equal(net(eps), net.eval()(eps)) and not list(net.buffers())


def test_the_norm_is_exchangeable():
    """Batch normalisation as Radford et al. have it, or none."""
    batch = DCGenerator(6, SMALL, width=4, norm=nn.BatchNorm2d)
    assert sum(isinstance(part, nn.BatchNorm2d) for part in batch.modules()) == 2
    assert not any(isinstance(part, nn.GroupNorm) for part in DCGenerator(6, SMALL, norm=nn.Identity).modules())


def test_spectral_norm_bounds_the_last_layer_by_one():
    net = spectrally_normalised(DCCritic(SMALL, width=4, context=3), power_iterations=30)
    net(random(2, *SMALL), torch.eye(3)[:2])
    assert torch.linalg.matrix_norm(net.logit.weight, 2).item() == pytest.approx(1, rel=1e-3)
    assert torch.linalg.matrix_norm(net.logits_of_classes.weight, 2).item() <= 1.001


def test_the_critic_of_classes_is_a_projection():
    """Miyato & Koyama 2018, eq. (4): differences of logits over labels are linear in the features, one vector per class."""
    net, x = DCCritic(SMALL, width=4, context=3), random(5, *SMALL)
    logits = torch.stack([net(x, torch.eye(3)[[k] * 5]) for k in range(3)], 1)
    features, v = net.features(x), net.logits_of_classes.weight
    assert torch.allclose(logits[:, 1] - logits[:, 0], features @ (v[1] - v[0]), atol=1e-5)
    plain = features @ net.logit.weight[0] + net.logit.bias
    assert torch.allclose(logits - plain[:, None], features @ v.T, atol=1e-5)


def test_the_label_changes_the_image():
    net, eps = DCGenerator(6, SMALL, width=4, context=3), random(1, 6).expand(3, -1)
    x = net(eps, torch.eye(3))
    assert torch.pdist(x.flatten(1)).min() > 1e-2


@pytest.mark.parametrize("context", [0, 3])
def test_every_parameter_is_used(context):
    y = (torch.eye(3)[[0, 1, 2, 0]],) if context else ()
    generator = DCGenerator(6, SMALL, width=4, context=context)
    critic = DCCritic(SMALL, width=4, minibatch_std=True, context=context)
    critic(generator(random(4, 6), *y), *y).square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in (*generator.parameters(), *critic.parameters()))


def test_the_critic_learns_the_log_ratio_of_white_noises():
    """N(¼, 1) against N(−¼, 1) in each of 16 pixels: log p/q = ½ Σ x, by logistic regression on fresh data."""
    net = DCCritic((1, 4, 4), width=8, levels=1)
    adam = torch.optim.Adam(net.parameters(), 5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        x = torch.randn(256, 1, 4, 4, generator=generator)
        x[:128] += 0.25
        x[128:] -= 0.25
        logits = net(x)
        adam.zero_grad()
        nn.functional.softplus(torch.cat([-logits[:128], logits[128:]])).mean().backward()
        adam.step()
    x = torch.randn(2000, 1, 4, 4, generator=generator)
    truth = 0.5 * x.flatten(1).sum(1)
    assert (net(x) - truth).square().mean() < 0.2 * truth.square().mean()


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: DCGenerator(6, (1, 28, 28), levels=3), "divisible by 8 for levels=3; got 28 × 28"),
        (lambda: DCGenerator(6, SMALL)(torch.zeros(2, 7)), r"eps must have shape \(n, 6\); got \(2, 7\)"),
        (lambda: DCGenerator(6, SMALL, context=3)(torch.zeros(2, 6)), r"context must have shape \(2, 3\); got None"),
        (lambda: DCGenerator(6, SMALL)(torch.zeros(2, 6), torch.zeros(2, 3)), "made with context=0"),
        (lambda: DCCritic(SMALL)(torch.zeros(2, 2, 8, 8)), r"x must have shape \(n, 2, 8, 12\); got \(2, 2, 8, 8\)"),
        (lambda: DCCritic(SMALL, context=3)(torch.zeros(2, *SMALL), torch.zeros(2, 2)), r"got \(2, 2\)"),
        (lambda: DCCritic(SMALL, levels=0), "levels must be at least 1; got 0"),
    ],
)
def test_what_does_not_fit_is_refused(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
