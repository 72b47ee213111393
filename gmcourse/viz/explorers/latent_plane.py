r"""A model of two latents, seen as a plane: its codes, the density of its prior, that of its codes, and the way to ε.

    q(z) = 1/n Σ_i N(z; μ_i, diag(σ_i² + h²)),    μ_i, σ_i of q(z|x_i),  σ_i = 0 for an encoder that gives a point

n data make a sum of n bumps, and the narrower the posteriors, the less it says between them: a point has no width at all.
So h widens them, by as much as foretells best, of a ladder of widths, where the other data's codes lie (leave-one-out).

Latent spaces have no unit: a decoder undoes any scale. Planes are drawn in u = (z − m)/s, m the mean of the codes and s² the
mean of their two variances, so that one window and one pair of sliders serve all models.

    ½ ∫ |p − q| dz = E_p[max(0, 1 − q(z)/p(z))]          the share of the prior's draws that no datum stands for
"""

import math

import numpy as np
import torch
from matplotlib.colors import to_rgba_array
from torch import Tensor

from gmcourse.model import GenerativeModel
from gmcourse.viz import style
from gmcourse.viz.plane import on_grid

REACH = 3.2
EXTENT = (-REACH, REACH, -REACH, REACH)  # the window, in u
RESOLUTION = 96
LADDER = np.geomspace(0.01, 0.64, 13)  # of h/s


class LatentPlane:
    """What the explorers of chapter 8 ask of a VAE or a deterministic auto-encoder; tensors come and go on the CPU.

    Args:
        model: has `encoder`, `decoder` and a `prior` with `log_prob` and `push`; the encoder gives z or q(z|x).
            It is put into evaluation mode.
        images: data (n, c, h, w) whose codes make up q(z).
        seed: of the draws from q(z|x).

    Attributes:
        mean, sigma: of q(z|x), (n, 2).
        codes: a draw from each, (n, 2).
        centre, scale: m (2,) and s.
        h: width that is added to the posteriors' own in q(z).

    Raises ValueError for other than two latents, a prior without `push`, fewer than 2 images, or codes that are no numbers.
    """

    def __init__(self, model: GenerativeModel, images: Tensor, *, seed: int = 0):
        if not hasattr(model.prior, "push"):
            raise ValueError(f"the model's prior must have push; {type(model.prior).__name__} has none")
        if len(images) < 2:
            raise ValueError(f"images must hold at least 2; got {len(images)}")
        self.model, self.like = model.eval(), next(model.parameters())
        self.mean, self.sigma = self._posteriors(images)
        if self.mean.shape[1:] != (2,):
            raise ValueError(f"the model must have two latents; got {self.mean[0].numel()}")
        if not (self.mean.isfinite().all() and self.sigma.isfinite().all()):
            raise ValueError("the model's codes must be finite numbers; got NaN or inf")
        noise = torch.randn(self.mean.shape, generator=torch.Generator().manual_seed(seed))
        self.codes = self.mean + self.sigma * noise
        self.centre, self.scale = self.codes.mean(0), float(self.codes.var(0).mean().sqrt())
        self.h = max((LADDER * self.scale).tolist(), key=lambda h: float(self._left_out(h)))
        self._widths = (self.sigma.square() + self.h**2).sqrt()

    def place(self, u: Tensor) -> Tensor:
        """z = m + s u."""
        return self.centre + self.scale * u

    def units(self, z: Tensor) -> Tensor:
        """u = (z − m)/s."""
        return (z - self.centre) / self.scale

    @torch.no_grad()
    def log_p(self, z: Tensor) -> Tensor:
        """log p(z) in nats, (n, 2) -> (n,)."""
        return self.model.prior.log_prob(z.to(self.like)).cpu()

    def log_q(self, z: Tensor) -> Tensor:
        """log q(z) in nats, (n, 2) -> (n,)."""
        return bumps(z, self.mean, self._widths).logsumexp(1) - math.log(len(self.mean))

    @torch.no_grad()
    def push(self, eps: Tensor) -> Tensor:
        """ε -> z by the prior, (n, 2)."""
        return self.model.prior.push(eps.to(self.like)).cpu()

    @torch.no_grad()
    def pull(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The ε (n, 2) that the prior carries to z, f(z) of a flow, z itself under N(0, I); and log p(z), (n,)."""
        prior = self.model.prior
        if not hasattr(prior, "encode"):
            return z, self.log_p(z)
        eps, contribution = prior.encode(z.to(self.like))
        return eps.cpu(), (prior.base.log_prob(eps) + contribution).cpu()

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """The images at z, of a VAE their means, (n, c, h, w)."""
        found, likelihood = self.model.decoder(z.to(self.like)), getattr(self.model, "likelihood_of_x", None)
        return (found if likelihood is None else likelihood.mean(found)).float().cpu()

    def densities(self) -> tuple[Tensor, Tensor]:
        """p and q on the window per unit of u, each (r, r), lowest u₂ first."""
        maps = ((lambda u, f=f: f(self.place(u)).float()) for f in (self.log_p, self.log_q))
        p, q = (on_grid(log_prob, EXTENT, RESOLUTION).exp() * self.scale**2 for log_prob in maps)
        return p, q

    def mismatch(self, z: Tensor) -> float:
        """½ ∫ |p − q| dz, from 0 to 1, by draws z (n, 2) of the prior.

        q is an estimate: between two thousands of digits, codes of one model and one law, this finds 0.14 instead of 0.
        """
        return float((1 - (self.log_q(z) - self.log_p(z)).exp()).clamp_min(0).mean())

    @torch.no_grad()
    def _posteriors(self, images: Tensor) -> tuple[Tensor, Tensor]:
        q = self.model.encoder(images.to(self.like))
        mean, sigma = (q, torch.zeros_like(q)) if isinstance(q, Tensor) else (q.base_dist.loc, q.base_dist.scale)
        return mean.float().cpu(), sigma.float().cpu()

    def _left_out(self, h: float) -> Tensor:
        """Mean log q of each code by the other data's bumps."""
        log_bumps = bumps(self.codes, self.mean, (self.sigma.square() + h**2).sqrt())
        return log_bumps.fill_diagonal_(-math.inf).logsumexp(1).mean() - math.log(len(log_bumps) - 1)


def bumps(z: Tensor, means: Tensor, widths: Tensor) -> Tensor:
    """log N(z_j; μ_i, diag w_i²) in nats, z (n, 2), the others (k, 2) -> (n, k)."""
    total = -widths.log().sum(1) - math.log(2 * math.pi)
    for d in range(2):
        total = total - 0.5 * ((z[:, d, None] - means[:, d]) / widths[:, d]).square()
    return total


def pale(density: Tensor, vmax: float) -> np.ndarray:
    """Colours (r, r, 4) of a density to put points on: the course's blue, thinned."""
    colours = style.DENSITY((density / vmax).clamp(max=1).numpy(), bytes=True)
    return (255 - 0.55 * (255.0 - colours)).astype(np.uint8)


def classes(labels: Tensor, images: Tensor) -> np.ndarray:
    """A colour (n, 4) for the label of each image; ValueError unless there are as many."""
    if labels.shape != images.shape[:1]:
        raise ValueError(f"labels must have shape ({len(images)},), one per image; got {tuple(labels.shape)}")
    return to_rgba_array(style.PALETTE)[labels.cpu().numpy() % len(style.PALETTE)]
