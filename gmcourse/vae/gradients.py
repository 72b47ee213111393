r"""Two unbiased estimators of the same gradient ∇_φ E_{q_φ(z|x)}[f(z)], and how much they scatter (thesis 2.1.3).

    reparameterised     ∇_φ f(μ + σ ⊙ ε)                        thesis (2.15): differentiate through the sample
    score function      f(z) ∇_φ log q_φ(z|x)                   needs no gradient of f; far noisier

Here f is the integrand of the ELBO, log p(x|z) + log p(z) − log q(z|x).
"""

import torch
from torch import Tensor

from gmcourse.vae.vae import VAE


def elbo_gradients(vae: VAE, x: Tensor, kind: str, *, draws: int = 100) -> Tensor:
    """Estimates of the gradient of the batch's mean ELBO with respect to the posterior means μ(x).

    Args:
        x: batch (n, *event_shape).
        kind: "reparameterised" or "score_function".

    Returns:
        One single-sample estimate per draw, shape (draws, n, d); their mean over draws is the same for both kinds.
    """
    if kind not in ("reparameterised", "score_function"):
        raise ValueError(f"kind must be 'reparameterised' or 'score_function'; got {kind!r}")
    with torch.no_grad():
        q = vae.encoder(vae.check_batch(x)).base_dist
    rows = x.repeat(draws, *[1] * (x.ndim - 1))
    mu = q.loc.repeat(draws, 1).requires_grad_()
    sigma = q.scale.repeat(draws, 1)
    eps = torch.randn_like(sigma)
    if kind == "reparameterised":
        surrogate = _integrand(vae, rows, mu + sigma * eps, mu, sigma)
    else:
        z = (mu + sigma * eps).detach()
        weight = _integrand(vae, rows, z, mu, sigma).detach()
        surrogate = weight * _log_q(z, mu, sigma)
    (gradient,) = torch.autograd.grad(surrogate.sum(), mu)
    return gradient.unflatten(0, (draws, len(x))) / len(x)


def _log_q(z: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    return torch.distributions.Normal(mu, sigma, validate_args=False).log_prob(z).sum(1)


def _integrand(vae: VAE, x: Tensor, z: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    return vae.likelihood_of_x(vae.decoder(z)).log_prob(x) + vae.prior.log_prob(z) - _log_q(z, mu, sigma)
