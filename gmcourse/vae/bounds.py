r"""The evidence lower bound and its importance-weighted sharpening: plain functions of a model and a batch.

    log p(x) ≥ L(x) = E_q[log p(x|z)] − KL(q(z|x) ‖ p(z))                              thesis (2.8)
    log p(x) ≥ L_k(x) = E[log 1/k Σ_i p(x, z_i) / q(z_i|x)],  z_i ~ q(z|x)             Burda et al. 2015, thesis 4.4.1

L₁ = L, L_k grows with k, and L_∞ = log p(x). Both work for every model with `infer(x)`: the latent groups as drawn from
the posterior, and the decoder's output; a plain VAE has one group.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Independent

from gmcourse.model import GenerativeModel, StandardNormal, check_count
from gmcourse.vae.posterior import gaussian_kl, is_diagonal


class Drawn(NamedTuple):
    """One latent group drawn from the posterior: z ~ q, with the prior p that it is measured against.

    `closed` says whether KL(q ‖ p) is the group's part of the bound. It is if p depends only on what was drawn *before* z;
    where it depends on groups drawn after z, from z (bottom-up inference), only log q(z) − log p(z) at the drawn z will do.
    """

    z: Tensor
    q: Independent
    p: Independent | GenerativeModel
    closed: bool = True


class Elbo(NamedTuple):
    """The two halves of the bound, each of shape (n,), in nats."""

    reconstruction: Tensor
    kl: Tensor

    @property
    def value(self) -> Tensor:
        """The bound L(x), shape (n,)."""
        return self.reconstruction - self.kl


def elbo(model, x: Tensor, *, kl: str = "analytic", samples: int = 1) -> Elbo:
    """ELBO of a VAE at x (n, *event_shape) by `samples` draws of z, thesis (2.8).

    Args:
        kl: "analytic" uses the closed form wherever posterior and prior are diagonal Gaussians and it is right (see
            `Drawn`); "monte_carlo" always takes log q(z|x) − log p(z) at the drawn z. Both have the same expectation.

    >>> import torch
    >>> from gmcourse.vae import mlp_vae
    >>> elbo(mlp_vae(), torch.zeros(4, 2)).value.shape
    torch.Size([4])
    """
    if kl not in ("analytic", "monte_carlo"):
        raise ValueError(f"kl must be 'analytic' or 'monte_carlo'; got {kl!r}")
    model.check_batch(x)
    n, samples = len(x), check_count(samples, "samples")
    x = x.repeat_interleave(samples, dim=0)
    groups, out = model.infer(x)
    reconstruction = model.likelihood_of_x(out).log_prob(x)
    divergence = sum(_kl(group, kl) for group in groups)
    return Elbo(*(term.unflatten(0, (n, samples)).mean(1) for term in (reconstruction, divergence)))


def iwae_bound(model, x: Tensor, k: int = 100, *, chunk: int = 100_000) -> Tensor:
    """Importance-weighted bound L_k at x (n, *event_shape), in nats, shape (n,).

    At most about `chunk` rows go through the nets at once, so k may be in the tens of thousands; its weights are summed in
    the log domain as they come.
    """
    k = check_count(k, "k")
    at_once = max(1, min(k, chunk // max(1, len(x))))
    total = torch.full((len(x),), -torch.inf, device=x.device, dtype=x.dtype)
    for start in range(0, k, at_once):
        total = torch.logaddexp(total, log_weights(model, x, min(at_once, k - start)).logsumexp(1))
    return total - math.log(k)


def log_weights(model, x: Tensor, k: int) -> Tensor:
    """log p(x, z_i)/q(z_i|x) for k draws z_i ~ q(z|x), shape (n, k).

    Their mean over k estimates the ELBO, their logmeanexp the IWAE bound.
    """
    k = check_count(k, "k")
    rows = model.check_batch(x).repeat_interleave(k, dim=0)
    return elbo(model, rows, kl="monte_carlo").value.unflatten(0, (len(x), k))


def _kl(group: Drawn, kind: str) -> Tensor:
    if kind == "analytic" and group.closed and is_diagonal(group.q):
        if isinstance(group.p, StandardNormal):
            return gaussian_kl(group.q)
        if is_diagonal(group.p):
            return gaussian_kl(group.q, group.p)
    return group.q.log_prob(group.z) - group.p.log_prob(group.z)
