r"""How good samples look, in one number: Fréchet distance, kernel distance and Inception Score, all by torchmetrics.

    IS  = exp(E_x KL(p(y|x) ‖ p(y)))                                          thesis (1.19), p(y|x) from a classifier
    FID = ‖μ_r − μ_g‖² + Tr(Σ_r + Σ_g − 2 (Σ_r Σ_g)^½)                         thesis (1.20), Gaussians fitted to features
    KID = E k(r, r') + E k(g, g') − 2 E k(r, g),   k(a, b) = (aᵀb/d + 1)³      squared MMD, unbiased

IS asks for many classes (p(y) broad) and clear ones (p(y|x) narrow), and never looks at the data. FID compares two moments
of the features, KID three. FID is biased: two samples of one and the same law have FID > 0, about
(1/n_r + 1/n_g)(d + d(d + 1)/4) for standard Gaussians in d dimensions, so compare only FIDs of equal n. The mean of KID is
0 there, at any n. All of them belong to the feature net: see `gmcourse.metrics.features` for what `net` may be.
"""

import warnings

import torch
from torch import Tensor, nn

from gmcourse.metrics.features import Net, feature_pair, logits
from gmcourse.metrics.likelihood import Estimate
from gmcourse.model import check_count
from gmcourse.randomness import seeded


def frechet_gaussians(mean1: Tensor, covariance1: Tensor, mean2: Tensor, covariance2: Tensor) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians, thesis (1.20): means (d,), covariances (d, d).

    Computed in float64. Tr (Σ₁Σ₂)^½ is the sum of the singular values of Σ₁^½ Σ₂^½.
    Raises ValueError for shapes that do not fit and covariances that are not symmetric and positive semi-definite.

    >>> frechet_gaussians(torch.zeros(2), torch.eye(2), torch.ones(2), 4 * torch.eye(2))     # 2 + 2·(1 − 2)²
    4.0
    """
    mean1, covariance1, mean2, covariance2 = (v.detach().cpu().double() for v in (mean1, covariance1, mean2, covariance2))
    d = mean1.numel()
    if mean1.shape != (d,) or mean2.shape != (d,):
        raise ValueError(f"mean1 and mean2 must have one shape (d,); got {tuple(mean1.shape)} and {tuple(mean2.shape)}")
    for name, mean in (("mean1", mean1), ("mean2", mean2)):
        if not mean.isfinite().all():
            raise ValueError(f"{name} must be finite; got NaN or inf in it")
    roots = _root(covariance1, d, "covariance1") @ _root(covariance2, d, "covariance2")
    spread = covariance1.trace() + covariance2.trace() - 2 * torch.linalg.svdvals(roots).sum()
    return max(0.0, float((mean1 - mean2).square().sum() + spread))


def frechet_distance(real: Tensor, fake: Tensor, *, net: Net = None) -> float:
    """Fréchet distance of real (n, *event_shape) and fake (m, *event_shape) in the features of `net`: FID.

    Biased upwards by a term in 1/n + 1/m (see the module), so its value belongs to the numbers of samples. Raises
    ValueError for n ≤ d, where the covariance of d features has no full rank, and for features that are not finite.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    real, fake = (part.cpu().double() for part in feature_pair(real, fake, net))
    d, centre = real.shape[1], real.mean(0)
    as_given = nn.Identity()
    as_given.num_features = d
    metric = FrechetInceptionDistance(feature=as_given)
    for name, part in (("real", real), ("fake", fake)):
        if len(part) <= d:
            remedy = f"give at least {d + 1} samples, or a net with fewer features"
            raise ValueError(f"{name} has n = {len(part)} samples, too few for a covariance of d = {d} features: {remedy}")
        metric.update(part - centre, real=name == "real")  # the distance stays, far from 0 its digits would not
    return max(0.0, float(metric.compute()))


def kernel_distance(
    real: Tensor, fake: Tensor, *, net: Net = None, subset_size: int = 100, seed: int = 0
) -> Estimate:
    """Squared MMD of the features under k(a, b) = (aᵀb/d + 1)³, KID, averaged over disjoint subsets.

    Both sets are shuffled by `seed` and cut into as many pairs of subsets as there are; what is left over is not used.
    Each pair gives an unbiased score, and as no two share a sample, std/√pairs is the standard error. The usual 100
    overlapping subsets estimate the same, but std/√100 is no error: it shrinks at will with their number, on the same data.
    Raises ValueError for fewer than two subsets. Near 0 scores may be negative.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    real, fake = (part.cpu().double() for part in feature_pair(real, fake, net))
    size, fewest = check_count(subset_size, "subset_size"), min(len(real), len(fake))
    if not 2 <= size <= fewest // 2:
        wanted = "at least 2 and at most half of the samples, for two disjoint subsets"
        raise ValueError(f"subset_size must be {wanted}; got {size} for {len(real)} real and {len(fake)} fake")
    generator = torch.Generator().manual_seed(seed)
    used = fewest // size * size
    subsets = [part[torch.randperm(len(part), generator=generator)[:used]].split(size) for part in (real, fake)]
    with torch.random.fork_rng(devices=[]), _without_memory_warning():
        metric = KernelInceptionDistance(feature=nn.Identity(), subsets=1, subset_size=size)
        scores = torch.stack([_kernel_score(metric, *pair) for pair in zip(*subsets, strict=True)])
    return Estimate(float(scores.mean()), float(scores.std()) / len(scores) ** 0.5)


def inception_score(x: Tensor, *, net: Net, splits: int = 10, seed: int = 0) -> Estimate:
    """exp(E_x KL(p(y|x) ‖ p(y))), thesis (1.19), between 1 and the number of classes: the mean over `splits` parts of x.

    `net` gives logits (n, classes); None says that x are logits. The parts are of equal size (the last n mod splits rows
    of x are not used) and drawn by `seed`; std/√splits is the standard error. The score is biased downwards, as a part
    of n/splits samples knows p(y) only roughly, and cannot score more than n/splits: keep n well above splits · classes.
    Raises ValueError for fewer than 2 samples a part.
    """
    from torchmetrics.image.inception import InceptionScore

    if check_count(splits, "splits") < 2:
        raise ValueError(f"splits must be at least 2 for a standard error; got {splits}")
    if len(x) < 2 * splits:
        raise ValueError(f"x must have at least 2 samples for each of {splits} splits; got {len(x)}")
    found = logits(x, net).cpu().double()
    found = found[: len(found) // splits * splits].log_softmax(1).clamp(min=-600)  # e⁻⁶⁰⁰ > 0: no 0 · log 0
    with seeded(seed), _without_memory_warning():
        metric = InceptionScore(feature=nn.Identity(), splits=splits)
        metric.update(found)
        value, spread = metric.compute()
    return Estimate(float(value), float(spread) / splits**0.5)


def _root(covariance: Tensor, d: int, name: str) -> Tensor:
    if (
        covariance.shape != (d, d)
        or not covariance.isfinite().all()
        or (covariance - covariance.T).abs().max() > 1e-6 * covariance.abs().max()
    ):
        raise ValueError(f"{name} must be finite and symmetric, shape ({d}, {d}); got shape {tuple(covariance.shape)}")
    values, vectors = torch.linalg.eigh(covariance)
    if (lowest := float(values[0])) < -1e-6 * float(values[-1].abs()):
        raise ValueError(f"{name} must be positive semi-definite; its lowest eigenvalue is {lowest:g}")
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def _kernel_score(metric, real: Tensor, fake: Tensor) -> Tensor:
    metric.reset()
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return metric.compute()[0]


def _without_memory_warning() -> warnings.catch_warnings:
    return warnings.catch_warnings(action="ignore", category=UserWarning)  # "will save all extracted features in buffer"
