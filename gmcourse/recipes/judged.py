"""How samples of images are judged: by the features of the course's own classifiers, which lie in the zoo."""

import torch
from torch import Tensor

from gmcourse.classifier import Classifier
from gmcourse.compositions.tilted import Tilted
from gmcourse.data.images import load_images
from gmcourse.diffusion.ddpm import DDPM
from gmcourse.metrics.modes import stacked_mnist_modes
from gmcourse.metrics.precision_recall import improved_precision_recall
from gmcourse.metrics.samples import frechet_distance
from gmcourse.model import GenerativeModel, evaluating
from gmcourse.recipes import features
from gmcourse.recipes.measures import Numbers
from gmcourse.recipes.recipe import Recipe
from gmcourse.recipes.weights import trained

NETS = {recipe.data: recipe for recipe in features.JUDGES}
EYES = {recipe.data: recipe for recipe in features.PERCEPTUAL}


def feature_net(name: str) -> Classifier:
    """The classifier of an image set whose features serve the metrics on samples; its test accuracy is on its card.

    Raises ValueError for a set that has none.

    >>> feature_net("mnist").width
    32
    """
    return _judge(NETS, name)


def perceptual_net(name: str) -> Classifier:
    """The classifier of an image set whose activations serve as a distance in training. It is another than that of
    `feature_net`, so that no model is taught by its judge.

    Raises ValueError for a set that has none.
    """
    return _judge(EYES, name)


def _judge(nets: dict[str, Recipe], name: str) -> Classifier:
    if name not in nets:
        raise ValueError(f"name must be one of {', '.join(sorted(nets))}; got {name!r}. Any net to features will do as well")
    return trained(nets[name])


@torch.no_grad()
def noise_error(model: DDPM, pairs: tuple[Tensor, Tensor]) -> float:
    """Mean of (ε − ε_θ)², per dimension, over the first 500 test images and all times, evenly."""
    x, y = (part[:500].to(model.log_small.device) for part in pairs)
    t = torch.arange(len(x), device=x.device) * len(model.chain) // len(x)
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    with evaluating(model):
        found = torch.cat(
            [
                model.eps(model.chain.q_sample(*part[:3]), part[1], part[3])
                for part in zip(*(v.split(100) for v in (x, t, eps, y)), strict=True)
            ]
        )
    return float((found - eps).square().mean())


def denoised(data: str, model: DDPM, pairs: tuple[Tensor, Tensor]) -> Numbers:
    """The error of the noise prediction, and the Fréchet distance to at most 1000 test images of as many samples of
    their classes, in the features of the course's own net; beside it that of as many training images, the floor."""
    net, (x, y) = feature_net(data), (part[:1000] for part in pairs)
    here = model.log_small.device
    generator = torch.Generator(here).manual_seed(0)
    fake = torch.cat([model.sample(len(part), labels=part.to(here), generator=generator) for part in y.split(250)])
    train = _training_images(data, len(x))
    return {
        "noise_error": noise_error(model, pairs),
        "fid": frechet_distance(x, fake.cpu(), net=net),
        "fid_of_data": frechet_distance(x, train, net=net),
    }


def generated(data: str, model: GenerativeModel, x: Tensor) -> Numbers:
    """The Fréchet distance to at most 1000 test images, and precision and recall against them (Kynkäänniemi et al. 2019), of
    as many samples, in the features of the course's own net; beside the distance that of as many training images."""
    net, x = feature_net(data), x[:1000]
    generator = torch.Generator(next(model.parameters()).device).manual_seed(0)
    fake = torch.cat([model.sample(len(part), generator=generator).cpu() for part in x.split(250)])
    precision, recall = improved_precision_recall(x, fake, net=net)
    return {
        "fid": frechet_distance(x, fake, net=net),
        "fid_of_data": frechet_distance(x, _training_images(data, len(x)), net=net),
        "precision": precision,
        "recall": recall,
    }


@torch.no_grad()
def stacked_samples(model: GenerativeModel, n: int) -> Tensor:
    """The first n of the samples by which `stacked` judges, n a multiple of 500."""
    generator = torch.Generator(next(model.parameters()).device).manual_seed(0)
    return torch.cat([model.sample(500, generator=generator).cpu() for _ in range(n // 500)])


def stacked(model: GenerativeModel, x: Tensor) -> Numbers:
    """Of StackedMNIST's 1000 modes those that 26 000 samples reach, and their KL in nats, by the course's classifier of
    digits; the same of the first 5000, which can be counted again in a minute; and of as many test images as there are."""
    fake, net = stacked_samples(model, 26_000), feature_net("mnist")
    all_, few, real = (stacked_mnist_modes(images, net) for images in (fake, fake[:5000], x))
    numbers = {"modes": all_.covered, "mode_kl": all_.kl, "modes_of_5000": few.covered, "mode_kl_of_5000": few.kl}
    return numbers | {"modes_of_data": real.covered, "mode_kl_of_data": real.kl}


@torch.no_grad()
def refined(data: str, model: Tilted, x: Tensor) -> Numbers:
    """What `generated` finds of a tilted model, and the Fréchet distance of its base's own samples, shown alike."""
    base = model.show(model.base.noise(min(len(x), 1000), generator=torch.Generator(model.log_z.device).manual_seed(0)))
    return generated(data, model, x) | {"fid_of_base": frechet_distance(x[:1000], base.cpu(), net=feature_net(data))}


@torch.no_grad()
def distance(data: str, model: GenerativeModel, held_out: Tensor) -> float:
    """Fréchet's, of as many samples to images that training has not seen, in other features than the judge's."""
    x = torch.cat([model.sample(len(part)) for part in held_out.split(250)])
    return frechet_distance(held_out, x, net=perceptual_net(data))


def _training_images(data: str, n: int) -> Tensor:
    train = load_images(data)[0]
    return train[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:n]]
