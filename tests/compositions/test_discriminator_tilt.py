"""The best critic of two Gaussians is known: its tilt turns the one into the other, by weights and by chains."""

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from gmcourse import checkpoint, zoo
from gmcourse.compositions.discriminator_tilt import MinusLogit, discriminator_tilt, noise_contrastive_tilt
from gmcourse.compositions.negatives import Importance, NoiseChains
from gmcourse.data import toy2d
from gmcourse.density_ratio import NoiseContrastive
from gmcourse.fit import fit
from gmcourse.gan.gan import GAN
from gmcourse.metrics import mode_report
from gmcourse.model import StandardNormal
from gmcourse.nets.mlp import MLP
from gmcourse.sampling import MALA

MEAN, SCALE = 1.0, 0.6  # the data: N(1, 0.6² I) in the plane
SHIFT, STRETCH = 0.3, 1.2  # the generator's law: N(0.3, 1.2² I)
WAYS = {"weights": Importance(40), "chains": NoiseChains(300, 0.05, sampler=MALA)}


def normal(mean, scale):
    return MultivariateNormal(torch.full((2,), mean), scale**2 * torch.eye(2))


class Affine(nn.Module):
    """G(ε)."""

    def forward(self, eps):
        return SHIFT + STRETCH * eps


class BestCritic(nn.Module):
    """log p − log q."""

    def __init__(self, shift=SHIFT, stretch=STRETCH):
        super().__init__()
        self.of = shift, stretch
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.weight * (normal(MEAN, SCALE).log_prob(x) - normal(*self.of).log_prob(x))


def gan(**options):
    return GAN(Affine(), BestCritic(), event_shape=(2,), latent=2, **options)


def has_the_datas_moments(x):
    error = 6 * SCALE / len(x) ** 0.5
    covariance = torch.cov(x.T)
    return bool(((x.mean(0) - MEAN).abs() < error).all() and ((covariance - SCALE**2 * torch.eye(2)).abs() < error).all())


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_best_critic_tilts_the_generator_into_the_data(way):
    x = discriminator_tilt(gan(), way).sample(5000, generator=torch.Generator().manual_seed(0))
    assert has_the_datas_moments(x) and not has_the_datas_moments(gan().sample(5000))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_best_classifier_tilts_its_noise_into_the_data(way):
    classifier = NoiseContrastive(nn.Sequential(BestCritic(0.0, 1.0), nn.Unflatten(0, (-1, 1))), StandardNormal(2))
    tilted = noise_contrastive_tilt(classifier, way)
    x = torch.randn(7, 2)
    assert torch.allclose(tilted.unnormalised(x), normal(MEAN, SCALE).log_prob(x), atol=1e-5)
    assert has_the_datas_moments(tilted.sample(5000, generator=torch.Generator().manual_seed(0)))


def test_log_z_of_a_true_ratio_is_zero():
    found = discriminator_tilt(gan(), Importance()).normalise(20_000)
    assert abs(found.value) < 4 * found.stderr and found.stderr < 0.02


def test_a_temperature_tilts_less():
    """At T = 2 the law is the geometric mean of both: precisions are averaged."""
    precision = 0.5 / SCALE**2 + 0.5 / STRETCH**2
    mean = (0.5 * MEAN / SCALE**2 + 0.5 * SHIFT / STRETCH**2) / precision
    tilted = discriminator_tilt(gan(objective="wasserstein", clip=1.0), Importance(40), temperature=2.0)
    x = tilted.sample(5000, generator=torch.Generator().manual_seed(0))
    assert abs(x.mean() - mean) < 0.04 and abs(x.var() - 1 / precision) < 0.04


def test_neither_generator_nor_critic_can_be_trained_on():
    model = discriminator_tilt(gan(), Importance())
    assert not any(p.requires_grad for p in model.parameters())
    with pytest.raises(ValueError, match="player 'energy' has no parameters to train"):
        fit(model, torch.zeros(8, 2), steps=1, progress=False)


def test_a_file_brings_it_back(tmp_path):
    def model():
        net = GAN(MLP(2, 2), MLP(2, ()), event_shape=(2,), latent=2)
        return discriminator_tilt(net, Importance())

    one, other = model(), model()
    one.normalise(200)
    checkpoint.load(checkpoint.save(tmp_path / "tilted", one, {}), other)
    x = torch.randn(4, 2)
    assert torch.equal(one.energy(x), other.energy(x)) and torch.equal(one.log_z, other.log_z)


def test_ddls_brings_more_of_a_gans_samples_to_the_modes():
    """The course's plain GAN on 25 Gaussians, by its own critic and 16 draws for each sample."""
    net, truth = zoo.load("gan_plain_gaussians25"), toy2d.get("gaussians25")
    generator = torch.Generator().manual_seed(0)
    before = mode_report(net.sample(4000, generator=generator), truth)
    after = mode_report(discriminator_tilt(net, Importance(16)).sample(4000, generator=generator), truth)
    assert after.within > before.within and after.covered >= before.covered


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="temperature must be given for a critic of the wasserstein game, whose"):
        discriminator_tilt(gan(objective="wasserstein", clip=1.0), Importance())
    with pytest.raises(ValueError, match="gan must have no classes; got one with 3"):
        discriminator_tilt(GAN(Affine(), BestCritic(), event_shape=(2,), latent=2, classes=3), Importance())
    with pytest.raises(ValueError, match="temperature must be positive; got 0"):
        MinusLogit(BestCritic(), 0)
    with pytest.raises(ValueError, match="base must be a transport, with noise and push; MultivariateNormal has no noise"):
        noise_contrastive_tilt(NoiseContrastive(BestCritic(), normal(0.0, 1.0)), Importance())
    with pytest.raises(ValueError, match="classifier must be of vectors or images"):
        noise_contrastive_tilt(NoiseContrastive(nn.Linear(1, 1), StandardNormal(())), Importance())
    with pytest.raises(ValueError, match=r"energy must return shape \(n,\); got \(2, 3\)"):
        noise_contrastive_tilt(NoiseContrastive(nn.Linear(2, 3), StandardNormal(2)), Importance())
