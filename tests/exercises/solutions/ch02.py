"""Right answers to chapter 2 in the various ways students write them: exercise -> [(manner, function)]."""

import math

import torch
from torch.distributions import Normal
from torch.nn import functional as F


def kl_in_a_loop(means, logs):
    values = []
    for m, s in zip(means, logs, strict=True):
        values.append(
            sum(0.5 * (a * a + math.exp(2 * b) - 1) - b for a, b in zip(m.tolist(), s.tolist(), strict=True))
        )
    return torch.tensor(values, dtype=means.dtype)


def kl_in_place(mu, log_sigma):
    variance = log_sigma.mul_(2).exp()
    return mu.square_().add_(variance).sub_(1).sub_(log_sigma).sum(-1).div_(2)


def reparameterise_in_place(mu, log_sigma, eps):
    return eps.mul_(log_sigma.exp()).add_(mu)


def elbo_by_formula(x, z, mu, log_sigma, decoder, sigma):
    variance = torch.tensor(sigma) ** 2  # float32, as one is apt to write
    log_2pi = torch.log(torch.tensor(2 * torch.pi))
    squares = ((x - decoder(z)) ** 2).sum(-1)
    reconstruction = -squares / (2 * variance.double()) - x.shape[-1] / 2 * (log_2pi + torch.log(variance))
    return reconstruction - kl_in_place(mu, log_sigma)


def elbo_by_torch(x, z, mu, log_sigma, decoder, sigma):
    mean = decoder(z)
    variance = torch.full_like(mean, sigma**2)
    loss = F.gaussian_nll_loss(mean, x, variance, full=True, reduction="none").sum(1)
    return -loss - kl_in_a_loop(mu, log_sigma)


def iwae_with_maximum(log_w):
    top, _ = log_w.max(dim=-1, keepdim=True)
    return top.squeeze(-1) + torch.log(torch.mean(torch.exp(log_w - top), -1))


def aggregated_by_distribution(z, mu, log_sigma):
    q = Normal(mu[None], torch.exp(log_sigma)[None])
    return torch.logsumexp(q.log_prob(z[:, None]).sum(-1), 1) - torch.log(torch.tensor(float(len(mu))))


def aggregated_in_a_loop(z, mu, log_sigma):
    total = torch.full((len(z),), -math.inf, dtype=z.dtype)
    for m, s in zip(mu, log_sigma, strict=True):
        total = torch.logaddexp(total, Normal(m, s.exp()).log_prob(z).sum(1))
    return total - math.log(len(mu))


def score_by_autograd(f, mu, sigma, eps):
    z = (mu + sigma * eps).detach()
    mu = mu.clone().requires_grad_()
    log_q = Normal(mu, sigma).log_prob(z)
    return torch.stack(
        [f(a) * torch.autograd.grad(b, mu, retain_graph=True)[0] for a, b in zip(z, log_q, strict=True)]
    )


def topdown_by_formula(mu_q, log_sigma_q, mu_p, log_sigma_p):
    ratio = torch.exp(2 * (log_sigma_q - log_sigma_p))
    distance = ((mu_q - mu_p) / log_sigma_p.exp()) ** 2
    return 0.5 * torch.sum(ratio + distance - 1 - ratio.log(), dim=-1)


SOLUTIONS = {
    "vae.gaussian_kl": [
        (
            "by formula",
            lambda mu, log_sigma: 0.5 * (mu**2 + (2 * log_sigma).exp() - 1 - 2 * log_sigma).sum(1),
        ),
        ("in a loop", kl_in_a_loop),
        ("in place", kl_in_place),
    ],
    "vae.reparameterise": [
        ("by formula", lambda mu, log_sigma, eps: mu + torch.exp(log_sigma) * eps),
        ("in place", reparameterise_in_place),
    ],
    "vae.elbo": [("by formula, float32 constants", elbo_by_formula), ("by torch's loss", elbo_by_torch)],
    "vae.iwae": [
        ("by maximum", iwae_with_maximum),
        ("by logsumexp", lambda w: torch.logsumexp(w, 1) - math.log(w.size(1))),
    ],
    "vae.aggregated_posterior": [
        ("by distribution", aggregated_by_distribution),
        ("in a loop", aggregated_in_a_loop),
    ],
    "vae.kl_annealing": [
        ("min", lambda step, warmup: min(1, step / warmup)),
        ("tensor", lambda step, warmup: torch.tensor(step / warmup).clamp(0, 1)),
        ("branches", lambda step, warmup: step / warmup if step < warmup else 1),
    ],
    "vae.score_function_gradient": [
        ("by formula", lambda f, mu, sigma, eps: f(mu + sigma * eps) * eps / sigma),
        ("by autograd", score_by_autograd),
    ],
    "vae.topdown_kl": [("by formula", topdown_by_formula)],
}
