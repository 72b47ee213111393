"""One contract for every VAE: shapes, gradients, transport, seeds, save and load, refusals."""

import pytest
import torch
from scipy.stats import ks_2samp

from gmcourse import Likelihood, checkpoint
from gmcourse.vae import (
    Bernoulli,
    Gaussian,
    conv_hierarchy,
    conv_vae,
    cyclical_beta,
    linear_beta,
    mlp_hierarchy,
    mlp_vae,
)

BUILDERS = {
    "mlp": lambda: mlp_vae(hidden=(16,)),
    "mlp pixel": lambda: mlp_vae(hidden=(16,), likelihood=Gaussian(0.5, "pixel")),
    "mlp bernoulli": lambda: mlp_vae((1, 4, 4), hidden=(16,), likelihood=Bernoulli()),
    "mlp three layers, 1 latent": lambda: mlp_vae((5,), latent=1, hidden=(8, 8, 8), input_scale=3.0),
    "conv": lambda: conv_vae((3, 16, 16), latent=4, width=8),
    "conv pixel": lambda: conv_vae((3, 16, 16), latent=4, width=8, likelihood=Gaussian(0.5, "pixel")),
    "top-down": lambda: mlp_hierarchy(latents=(1, 3, 2), width=16),
    "bottom-up": lambda: mlp_hierarchy(latents=(1, 3, 2), width=16, inference="bottom_up"),
    "conv top-down": lambda: conv_hierarchy((1, 16, 16), latents=((2, 4), (1, 2)), width=8),
    "conv bottom-up": lambda: conv_hierarchy((1, 16, 16), latents=((2, 4), (1, 2)), width=8, inference="bottom_up"),
}


@pytest.fixture(params=BUILDERS, name="model")
def build(request):
    torch.manual_seed(0)
    return BUILDERS[request.param]()


def batch(model, n=6):
    return torch.rand(n, *model.event_shape, generator=torch.Generator().manual_seed(0))


def test_shapes(model):
    x = batch(model)
    assert model.likelihood is Likelihood.LOWER_BOUND and model.nfe == 1
    assert model.loss(x).shape == (6,) and model.log_prob(x, k=3).shape == (6,)
    assert model.sample(4).shape == (4, *model.event_shape) == model.sample(4, mean=True).shape
    assert model.reconstruct(x).shape == x.shape


def test_every_parameter_gets_a_gradient(model):
    torch.manual_seed(1)
    with torch.no_grad():  # leave the cells' zero initialisation, which hides what lies before it
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    model.loss(batch(model)).mean().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert not silent


def test_the_seed_decides_the_samples(model):
    draw = lambda seed: model.sample(3, generator=torch.Generator().manual_seed(seed))  # noqa: E731
    assert torch.equal(draw(0), draw(0)) and not torch.equal(draw(0), draw(1))


def test_noise_is_as_long_as_its_blocks_and_pushes_differentiably(model):
    eps = model.noise(5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert eps.shape == (5, sum(model.noise_blocks.values()))
    x = model.push(eps)
    assert x.shape == (5, *model.event_shape)
    (gradient,) = torch.autograd.grad(x.square().sum(), eps)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0


def test_pushed_noise_is_distributed_as_samples(model):
    if isinstance(model.likelihood_of_x, Bernoulli):
        pytest.skip("push gives the mean of a Bernoulli decoder, by design")
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
        pushed, drawn = model.push(model.noise(4000)).flatten(1), model.sample(4000).flatten(1)
    for k in range(0, pushed.shape[1], 97):  # a few pixels of an image, all of the plane's first coordinate
        assert ks_2samp(pushed[:, k].numpy(), drawn[:, k].numpy()).pvalue > 1e-4


def test_saved_weights_give_the_same_samples(model, tmp_path, request):
    checkpoint.save(tmp_path / "m", model)
    torch.manual_seed(99)
    other = BUILDERS[request.node.callspec.params["model"]]()
    checkpoint.load(tmp_path / "m", other)
    assert torch.equal(*(m.sample(3, generator=torch.Generator().manual_seed(0)) for m in (model, other)))


def test_wrong_shapes_and_zero_samples_are_refused(model):
    for call in (model.loss, model.log_prob, model.reconstruct):
        with pytest.raises(ValueError, match=r"x must have shape \(n, "):
            call(torch.zeros(2, 9, 9))
    with pytest.raises(ValueError, match="n must be a positive whole number; got 0"):
        model.sample(0)


def test_images_outside_a_bernoullis_range_are_refused():
    with pytest.raises(ValueError, match=r"x must lie in \[0, 1\] for VAE; got values from -1 to -1"):
        BUILDERS["mlp bernoulli"]().log_prob(-torch.ones(2, 1, 4, 4))


def test_beta_weights_the_kl_term_and_may_follow_the_step():
    x = torch.randn(50, 2)
    losses = {}
    for beta in (0.0, 1.0, 2.0):
        torch.manual_seed(0)
        model = mlp_vae(beta=beta)
        losses[beta] = model.loss(x)
    assert torch.allclose(losses[2.0] - losses[1.0], losses[1.0] - losses[0.0], atol=1e-4)
    torch.manual_seed(0)
    annealed = mlp_vae(beta=linear_beta(2))
    assert torch.allclose(annealed.loss(x), losses[0.0]) and annealed.step == 1


def test_beta_schedules():
    steps = torch.tensor([0, 25, 50, 100, 175])
    assert linear_beta(50)(steps).tolist() == [0, 0.5, 1, 1, 1]
    assert cyclical_beta(100)(steps).tolist() == [0, 0.5, 1, 0, 1]
    for bad in (lambda: linear_beta(0), lambda: cyclical_beta(10, rise=0)):
        with pytest.raises(ValueError):
            bad()


def test_conv_nets_say_which_sizes_they_take():
    with pytest.raises(ValueError, match="divisible by 4 for levels=2; got 30 × 28"):
        conv_vae((1, 30, 28))
    with pytest.raises(ValueError, match="never rise from group to group"):
        conv_hierarchy((1, 28, 28), latents=((2, 2), (2, 4)))
