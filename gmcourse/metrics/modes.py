r"""Does a model reach every mode of the data, and in the right proportion?

For mixtures Σ_k w_k N(m_k, σ_k² I): a sample belongs to the mode whose centre is nearest in units of its width, k(x) =
argmin_k ‖x − m_k‖/σ_k, and lies within the mode when that distance is at most 4.

    within  = share of samples within their mode           a perfect sampler in the plane has 1 − e⁻⁸ = 0.9997
    covered = number of modes that hold, within, at least 20 % of what a perfect sampler would put there
    kl      = Σ_k q_k log(q_k / w_k) in nats               q the frequencies of k(x) over all samples

The direction is KL(model ‖ data), as on StackedMNIST since Metz et al. 2017: finite also where modes are missing. It is
biased: a perfect sampler has about (modes − 1)/(2n), with n samples, not 0; `ModeReport` says that number beside it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from gmcourse.metrics.features import Net, features, logits
from gmcourse.metrics.neighbours import distances

WIDTHS = 4.0  # standard deviations that belong to a mode
SHARE = 0.2  # of its expected mass makes a mode covered


@dataclass(frozen=True)
class ModeReport:
    """`covered` of `modes` modes, their KL in nats, the share of samples `within` a mode (None: no widths known)."""

    covered: int
    modes: int
    kl: float
    within: float | None
    samples: int

    @property
    def kl_by_chance(self) -> float:
        """About what a perfect sampler's KL comes to with so many samples, (modes − 1)/(2n); good for n ≫ modes."""
        return (self.modes - 1) / (2 * self.samples)

    def __str__(self) -> str:
        parts = [f"{self.covered} of {self.modes} modes", f"mode KL {self.kl:.4f} nats (by chance {self.kl_by_chance:.4f})"]
        parts += [] if self.within is None else [f"{100 * self.within:.2f} % within {WIDTHS:g}σ"]
        return ", ".join(parts)


def mode_report(x: Tensor, data: Distribution) -> ModeReport:
    """Modes that samples x (n, *event_shape) reach of `data`, a mixture with `weights`, `means` and `sigmas`.

    Meant for components that keep apart. Raises ValueError for data that are no such mixture, for x of another shape,
    empty or not finite.

    >>> from gmcourse.data import toy2d
    >>> data = toy2d.get("gaussians25")
    >>> mode_report(data.modes, data)     # one sample at each centre
    ModeReport(covered=25, modes=25, kl=0.0, within=1.0, samples=25)
    """
    if not all(hasattr(data, name) for name in ("weights", "means", "sigmas")):
        raise ValueError(f"data must be a mixture with weights, means and sigmas; got {type(data).__name__}")
    if x.shape[1:] != data.event_shape:
        wanted = ", ".join(["n", *map(str, data.event_shape)])
        raise ValueError(f"x must have shape ({wanted}); got {tuple(x.shape)}")
    rows = features(x)
    (n, d), k = rows.shape, len(data.weights)
    nearest, widths = nearest_mode(rows, data)
    inside = widths <= WIDTHS
    held = nearest[inside].bincount(minlength=k)
    reachable = torch.special.gammainc(torch.tensor(d / 2), torch.tensor(WIDTHS**2 / 2))  # P(χ²_d ≤ 16)
    covered = held.cpu() >= SHARE * n * reachable * data.weights.cpu()
    kl = _kl(nearest.bincount(minlength=k), data.weights)
    return ModeReport(int(covered.sum()), k, kl, int(inside.sum()) / n, n)


def nearest_mode(rows: Tensor, data: Distribution) -> tuple[Tensor, Tensor]:
    """Of rows (n, d) the mode k(x) of a mixture, (n,), and its distance in widths of that mode, (n,)."""
    means = data.means.to(rows).reshape(len(data.weights), -1)
    found = (distances(rows, means) / data.sigmas.to(rows)).min(1)
    return found.indices, found.values


def stacked_mnist_modes(images: Tensor, net: Net) -> ModeReport:
    """Of StackedMNIST's 1000 modes, how many images (n, 3, h, w) reach, by a digit classifier on each plane.

    `net` gives logits (m, 10) of planes (m, 1, h, w). As in the literature one image is enough to cover a mode, so few
    images miss some: 1000 (1 − 1/1000)ⁿ of them, if perfect. Its numbers are made with n = 26 000, where a perfect
    sampler misses none and has KL 0.02; with n = 2000 it misses 135.

    Raises ValueError for another shape or number of classes.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must have shape (n, 3, h, w); got {tuple(images.shape)}")
    found = logits(images.flatten(0, 1)[:, None], net, name="images")
    if found.shape[1] != 10:
        raise ValueError(f"net must tell 10 digits apart; got {found.shape[1]} classes")
    digits = found.argmax(1).reshape(-1, 3)
    counts = (digits * digits.new_tensor([100, 10, 1])).sum(1).bincount(minlength=1000)
    return ModeReport(int((counts > 0).sum()), 1000, _kl(counts, torch.full((1000,), 1e-3)), None, len(images))


def _kl(counts: Tensor, weights: Tensor) -> float:
    q, weights = counts.cpu().double() / int(counts.sum()), weights.cpu().double()
    return max(0.0, float((torch.xlogy(q, q) - torch.xlogy(q, weights)).sum()))
