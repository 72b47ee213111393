r"""All numbers of a trained model: the three corners of the generative trilemma (thesis 6.1), and what stands beside them.

    quality     precision, and W2 to fresh data, in the plane; Fréchet distance of features, on images
    coverage    modes covered and mode KL, where the data are a mixture; recall
    speed       milliseconds for 1000 samples, network evaluations for one
    likelihood  gap = KL(data ‖ model) in nats, where model and data have a density

How near is near? Two sets of true samples are not at distance 0 either: `w2_floor`, `fid_of_data` and `precision_of_data`
say what they score, at the same sample sizes (W2 is of 1000 points to 1000, averaged over disjoint sets of them). What a
model does not have is None, "n/a". All but the times depends on the seed alone.
"""

import time
from collections.abc import Callable
from statistics import fmean

import torch
from torch import Tensor
from torch.distributions import Distribution

from gmcourse.metrics.board import Board, Line, Quality, Row, quality
from gmcourse.metrics.density import home
from gmcourse.metrics.features import Net, features
from gmcourse.metrics.grid import Grid
from gmcourse.metrics.likelihood import likelihood_gap
from gmcourse.metrics.modes import SHARE, mode_report
from gmcourse.metrics.partition import log_z_grid
from gmcourse.metrics.precision_recall import improved_precision_recall
from gmcourse.metrics.samples import frechet_distance
from gmcourse.metrics.transport import wasserstein
from gmcourse.model import GenerativeModel, Likelihood, check_count
from gmcourse.randomness import draw, seeded
from gmcourse.training.feed import key

__all__ = ["Board", "Line", "Quality", "Row", "draw_timed", "measure", "measured", "quality"]

Images = Tensor | tuple[Tensor, Tensor]
Density = Callable[[Tensor], Tensor]
TRANSPORTED = 1000  # points of either side for each W2
BATCH = {"plane": 1000, "images": 100}  # samples drawn at a time
SAMPLES = {"plane": 2000, "images": 500}
NEIGHBOURS = 3  # k of precision and recall
TIMED = 3  # batches, at least; the fastest counts


def measure(model: GenerativeModel, data: Distribution | Images, **settings) -> dict:
    """All numbers of a model, by the names of `Row`'s fields, None for n/a. Settings, units and errors as of `measured`.

    >>> from gmcourse.data import toy2d
    >>> from gmcourse.model import StandardNormal
    >>> measure(StandardNormal(2), toy2d.get("gaussians25"), n=250)["likelihood"]
    'exact'
    """
    return measured(model, data, **settings)[0]


@torch.no_grad()
def measured(
    model: GenerativeModel,
    data: Distribution | Images,
    *,
    n: int | None = None,
    seed: int = 0,
    net: Net = None,
    log_prob: Density | None = None,
) -> tuple[dict, Tensor]:
    """All numbers of a model, and the samples (n, *event_shape), on the CPU, that they are of.

    Args:
        data: a density, or test images (m, c, h, w) with m ≥ 2n, alone or with their labels.
        n: samples; 2000 in the plane, 500 images or half as many as there are data, if that is less.
        net: whose features images are compared in, see `metrics.features`.
        log_prob: a better log-density than the model's own, e.g. a VAE's by quadrature.

    Nats, but W2 in the units of x and milliseconds. A model with `classes` is asked for equally many of each.
    Raises ValueError for fewer samples than a metric needs, and for data of another event shape.
    """
    plane = isinstance(data, Distribution)
    if n is None:
        n = SAMPLES["plane"] if plane else min(SAMPLES["images"], len(_images(data)) // 2)
    check_count(n)
    generator = torch.Generator().manual_seed(key(seed, "data"))  # else a model that draws as the data do meets itself
    if plane:
        _enough_points(n, data)
        real, other = (draw(data, n, generator=generator) for _ in range(2))
    else:
        real, other = _enough_images(n, data, net)
    model.check_batch(real, "data")
    x, milliseconds = draw_timed(model, n, seed=seed, batch=BATCH["plane" if plane else "images"])
    kept = improved_precision_recall(real, x, k=NEIGHBOURS, net=net)
    numbers = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "nfe": int(model.nfe),
        "ms_per_1000": milliseconds,
        "likelihood": model.likelihood.value,
        "precision": kept.precision,
        "recall": kept.recall,
        "precision_of_data": improved_precision_recall(real, other, k=NEIGHBOURS, net=net).precision,
    }
    if plane:
        return numbers | _gap(model, data, log_prob, n, seed) | _distances(x, real, other) | _modes(x, data), x
    fids = {name: frechet_distance(real, part, net=net) for name, part in (("fid", x), ("fid_of_data", other))}
    return numbers | {"gap": None, "gap_kind": "n/a"} | fids, x


@torch.no_grad()
def draw_timed(model: GenerativeModel, n: int, *, seed: int = 0, batch: int = 1000) -> tuple[Tensor, float]:
    """n samples of a model, on the CPU, and the milliseconds that 1000 of them take: of the fastest of at least three
    batches of `batch`, after a small one that nobody times. The same seed gives the same samples.

    >>> from gmcourse.model import StandardNormal
    >>> draw_timed(StandardNormal(2), 5)[0].shape
    torch.Size([5, 2])
    """
    there = home(model)
    place = torch.device("cpu") if there is None else there.device
    generator = torch.Generator(place).manual_seed(seed)
    parts, seconds = [], []
    with seeded(seed, place):  # for what takes no generator
        _sample(model, 2, generator)
        for _ in range(max(TIMED, -(-check_count(n) // batch))):
            wait_for(place)
            start = time.perf_counter()
            parts.append(_sample(model, batch, generator))
            wait_for(place)
            seconds.append(time.perf_counter() - start)
    return torch.cat(parts)[:n].cpu(), 1e6 * min(seconds) / batch


def _sample(model: GenerativeModel, n: int, generator: torch.Generator) -> Tensor:
    if not (classes := getattr(model, "classes", 0)):
        return model.sample(n, generator=generator)
    return model.sample(n, generator=generator, labels=torch.arange(n, device=generator.device) % classes)


def wait_for(place: torch.device) -> None:
    """Wait until all that was asked of a device is done; the CPU is never behind."""
    if place.type in ("cuda", "mps"):
        getattr(torch, place.type).synchronize()


def _gap(model: GenerativeModel, data: Distribution, log_prob: Density | None, n: int, seed: int) -> dict:
    """The likelihood gap in nats and what kind of number it is: "exact", "bound", "quadrature" or "n/a"."""
    place = home(model)
    kind, density = "exact", model
    if log_prob is not None:
        kind, density = "quadrature", log_prob
    elif model.likelihood is Likelihood.NONE:
        return {"gap": None, "gap_kind": "n/a"}
    elif model.likelihood is Likelihood.LOWER_BOUND:
        kind = "bound"
    elif model.likelihood is Likelihood.UNNORMALIZED:
        wide = Grid.around(data, margin=1.0)  # three times as wide: mass that strays from the data counts, too
        log_z = log_z_grid(lambda x: -model.log_prob(x if place is None else x.to(place)), wide)
        kind, density = "quadrature", lambda x: model.log_prob(x if place is None else x.to(place)) - log_z
    with seeded(seed, "cpu" if place is None else place.device):
        return {"gap": likelihood_gap(density, data, n=n, seed=seed).value, "gap_kind": kind}


def _distances(x: Tensor, real: Tensor, other: Tensor) -> dict:
    """W2 of the samples and of other data to real ones, each the mean over pairs of disjoint subsets of 1000 points."""
    sets = [part.split(TRANSPORTED) for part in (x, other, real)]
    pairs = [group for group in zip(*sets, strict=True) if len(group[0]) == min(TRANSPORTED, len(x))]
    return {
        "w2": fmean(wasserstein(mine, true) for mine, _, true in pairs),
        "w2_floor": fmean(wasserstein(others, true) for _, others, true in pairs),
    }


def _modes(x: Tensor, data: Distribution) -> dict:
    if not hasattr(data, "weights"):
        return {}
    report = mode_report(x, data)
    return {"covered": report.covered, "modes": report.modes, "mode_kl": report.kl, "within": report.within}


def _enough_points(n: int, data: Distribution) -> None:
    _enough(n, NEIGHBOURS + 1, "precision and recall")
    if hasattr(data, "weights"):  # else a single sample covers a mode
        _enough(n, int(-(-2 // (SHARE * float(data.weights.min())))), "mode coverage")


def _images(data: Images) -> Tensor:
    return data if isinstance(data, Tensor) else data[0]


def _enough_images(n: int, data: Images, net: Net) -> tuple[Tensor, Tensor]:
    """Images to compare with, and as many others, for the floor."""
    images = _images(data)
    _enough(n, NEIGHBOURS + 1, "precision and recall")
    _enough(n, features(images[:2], net).shape[1] + 1, "fid in so many features, and one more,")
    if len(images) < 2 * n:
        raise ValueError(f"data must hold at least {2 * n} images for fid and its floor at n = {n}; got {len(images)}")
    return images[:n], images[n : 2 * n]


def _enough(n: int, least: int, metric: str) -> None:
    if n < least:
        raise ValueError(f"n must be at least {least}: {metric} needs so many samples; got {n}")
