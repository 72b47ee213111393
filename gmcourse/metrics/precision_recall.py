r"""Precision and recall of samples: how much of what is made is real, and how much of what is real is made.

One number cannot tell a model that draws well but little from one that draws everything badly. Two readings:

    Kynkäänniemi et al. 2019: a set's support is the union of balls around its points, each as wide as the distance to the
    k-th nearest other point of the set.
        precision = share of fakes within the support of the real,    recall = share of reals within the support of the fakes

    Sajjadi et al. 2018: cluster both sets together; p (real) and q (fake) are their histograms over the clusters; all λ > 0.
        α(λ) = Σ min(λ p, q),    β(λ) = Σ min(p, q/λ) = α(λ)/λ          (α precision, β recall)
        F_b  = max over the curve of (1 + b²) α β / (b² α + β)           F_1/8 weighs precision, F_8 recall

Both depend on the numbers of samples; compare at equal n. One outlier among the real has a wide ball that takes in whatever
falls there: in the features of a digit classifier pure noise can reach precision 1, while F_1/8, which counts, finds it.
`net` is what `gmcourse.metrics.features` takes.
"""

import math
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gmcourse.data.gaussians import blocks
from gmcourse.metrics.features import Net, feature_pair
from gmcourse.metrics.neighbours import distances, nearest_rows
from gmcourse.model import check_count


class PrecisionRecall(NamedTuple):
    """Two shares in [0, 1]."""

    precision: float
    recall: float

    def __str__(self) -> str:
        return f"precision {self.precision:.3f}, recall {self.recall:.3f}"


@dataclass(frozen=True)
class PRDCurve:
    """Attainable pairs of precision α and recall β, both (angles,), from λ near 0 (recall high) to λ large."""

    precision: Tensor
    recall: Tensor

    def f(self, beta: float) -> float:
        """The largest F_β on the curve, in [0, 1]: recall counts β times as much as precision."""
        if not 0 < beta < math.inf:
            raise ValueError(f"beta must be positive and finite; got {beta}")
        weighted = beta**2 * self.precision + self.recall
        found = (1 + beta**2) * self.precision * self.recall / weighted
        return float(found.where(weighted > 0, 0.0).max())

    @property
    def f8(self) -> float:
        """F_8: high where the fakes cover the real."""
        return self.f(8.0)

    @property
    def f1_8(self) -> float:
        """F_1/8: high where the fakes look real."""
        return self.f(1 / 8)

    def __str__(self) -> str:
        return f"F_1/8 (precision) {self.f1_8:.3f}, F_8 (recall) {self.f8:.3f}"


def improved_precision_recall(real: Tensor, fake: Tensor, *, k: int = 3, net: Net = None) -> PrecisionRecall:
    """Precision and recall by k-nearest-neighbour balls (Kynkäänniemi et al. 2019).

    A point on the rim of a ball is inside. Larger k widens the supports and raises both. Raises ValueError unless either
    set has more than k samples.

    >>> improved_precision_recall(torch.randn(500, 2), 0.1 * torch.randn(500, 2)).precision > 0.9
    True
    """
    real, fake = feature_pair(real, fake, net)
    if check_count(k, "k") >= min(len(real), len(fake)):
        raise ValueError(f"k must be less than the number of samples; got {k} for {len(real)} real and {len(fake)} fake")
    return PrecisionRecall(_inside(fake, real, k), _inside(real, fake, k))


def prd(
    real: Tensor, fake: Tensor, *, clusters: int = 20, angles: int = 1001, seed: int = 0, net: Net = None
) -> PRDCurve:
    """The precision-recall curve of Sajjadi et al. 2018, by k-means (scikit-learn) on the union of both sets.

    Two samples of one law stay a little under 1, by the noise of their histograms. Raises ValueError for more clusters
    than samples.
    """
    from sklearn.cluster import KMeans

    real, fake = (part.cpu() for part in feature_pair(real, fake, net))
    if check_count(clusters, "clusters") > min(len(real), len(fake)):
        raise ValueError(f"clusters must be at most the number of samples; got {clusters} for {len(real)} and {len(fake)}")
    union = torch.cat([real, fake]).double().numpy()
    with warnings.catch_warnings(action="ignore"):  # "fewer distinct points than clusters": empty ones do no harm here
        label = torch.from_numpy(KMeans(clusters, n_init=5, random_state=seed).fit_predict(union)).long()
    p, q = (part.bincount(minlength=clusters) for part in label.split([len(real), len(fake)]))
    return prd_curve(p / len(real), q / len(fake), angles=angles)


def prd_curve(p: Tensor, q: Tensor, *, angles: int = 1001) -> PRDCurve:
    """The curve of two discrete laws, p (k,) of the data and q (k,) of the model, at λ = tan(π/2 · i/(angles + 1)).

    Raises ValueError unless both are probabilities of the same shape.

    >>> prd_curve(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])).recall.max()     # half of p is never made
    tensor(0.5000, dtype=torch.float64)
    """
    p, q = p.detach().cpu().double(), q.detach().cpu().double()
    if p.ndim != 1 or p.shape != q.shape:
        raise ValueError(f"p and q must have one shape (k,); got {tuple(p.shape)} and {tuple(q.shape)}")
    for name, law in (("p", p), ("q", q)):
        if not (law >= 0).all() or abs(law.sum() - 1) > 1e-5:
            raise ValueError(f"{name} must be at least 0 and sum to 1; got {law.tolist()}")
    i = torch.arange(1, check_count(angles, "angles") + 1, dtype=p.dtype)
    slope = (math.pi / 2 * i / (angles + 1)).tan()[:, None]
    return PRDCurve(torch.minimum(slope * p, q).sum(1), torch.minimum(p, q / slope).sum(1))


def _inside(x: Tensor, centres: Tensor, k: int) -> float:
    radii = nearest_rows(centres, centres, k + 1).distances[:, -1]  # the nearest of all is the point itself
    inside = [(distances(block, centres) <= radii).any(1) for block in blocks(x, len(centres))]
    return int(torch.cat(inside).sum()) / len(x)
