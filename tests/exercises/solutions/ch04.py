"""Right answers to chapter 4 in the various ways students write them: exercise -> [(manner, function)]."""

import math

import torch
from torch.distributions import Normal
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, softplus


def product_by_precisions(mu, sigma):
    precision = sigma**-2
    total = precision.sum(0)
    mean = (precision * mu).sum(0) / total
    log_z = Normal(mu, sigma).log_prob(mean).sum() + 0.5 * (math.log(2 * math.pi) - total.log()).sum()
    return mean, total.rsqrt(), log_z


def product_by_the_vertex(mu, sigma):
    """Log of the product at its mean, less that of the normalised Gaussian there."""
    width = (1 / sigma.square()).sum(0) ** -0.5
    mean = width**2 * (mu / sigma**2).sum(0)
    at_mean = (-0.5 * ((mean - mu) / sigma) ** 2 - sigma.log() - 0.5 * math.log(2 * math.pi)).sum()
    return [mean, width, at_mean - Normal(mean, width).log_prob(mean).sum()]


def free_energy_by_softplus(x, W, b, c):
    return -x @ b - softplus(c + x @ W).sum(1)


def free_energy_by_logaddexp(x, W, b, c):
    a = torch.einsum("nd,dm->nm", x, W) + c
    return -(x * b).sum(1) - torch.logaddexp(a, torch.zeros_like(a)).sum(1)


def contrastive_by_one_batch(energy, x, negatives):
    e = energy(torch.cat([x, negatives.detach()]))
    return e[: len(x)].mean() - e[len(x) :].mean()


def langevin_by_backward(energy, x, step, temperature, omega):
    for noise in omega:
        x = x.detach().requires_grad_()
        energy(x).sum().backward()
        x = x - step / 2 * x.grad + (step * temperature) ** 0.5 * noise
    return x


def langevin_by_grad(energy, x, step, temperature, omega):
    for k in range(omega.shape[0]):
        x.requires_grad_()
        (slope,) = torch.autograd.grad(energy(x).sum(), x)
        x = (x - step / 2 * slope + math.sqrt(step * temperature) * omega[k]).detach()
    return x


def implicit_by_dimensions(energy, x):
    x = x.requires_grad_()
    s = -torch.autograd.grad(energy(x).sum(), x, create_graph=True)[0]
    trace = sum(torch.autograd.grad(s[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1]))
    return trace + 0.5 * (s**2).sum(1)


def implicit_by_hessians(energy, x):
    losses = []
    for point in x:
        hessian = torch.autograd.functional.hessian(lambda v: energy(v[None])[0], point)
        slope = torch.autograd.functional.jacobian(lambda v: energy(v[None])[0], point)
        losses.append(0.5 * slope @ slope - torch.trace(hessian))
    return torch.stack(losses)


def implicit_with_graph(energy, x):
    x.requires_grad_()
    (g,) = torch.autograd.grad(energy(x).sum(), x, create_graph=True)
    columns = [torch.autograd.grad(g[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(x.shape[1])]
    return 0.5 * g.square().sum(1) - torch.stack(columns).sum(0)


def denoising_by_the_noisy_point(score, x, eps, sigma):
    noisy = x + sigma * eps
    return 0.5 * (score(noisy) - (x - noisy) / sigma**2).square().sum(1)


def denoising_by_distributions(score, x, eps, sigma):
    noisy = (x + sigma * eps).requires_grad_()
    (slope,) = torch.autograd.grad(Normal(x, sigma).log_prob(noisy).sum(), noisy)
    return 0.5 * torch.linalg.vector_norm(score(noisy) - slope, dim=1) ** 2


def sliced_by_two_derivatives(score, x, v):
    x.requires_grad_()
    along = (v * score(x)).sum(1)
    (slope,) = torch.autograd.grad(along.sum(), x, create_graph=True)
    return (v * slope).sum(1) + 0.5 * along**2


def sliced_by_jacobians(score, x, v):
    jacobian = torch.autograd.functional.jacobian(lambda x: score(x).sum(0), x).transpose(0, 1)
    return torch.einsum("ni,nij,nj->n", v, jacobian, v) + 0.5 * torch.einsum("ni,ni->n", v, score(x)).square()


def nce_by_softplus(e_x, log_q_x, e_noise, log_q_noise, log_z):
    log_nu = math.log(e_noise.shape[1])
    logit_x, logit_noise = -e_x - log_z - log_q_x - log_nu, -e_noise - log_z - log_q_noise - log_nu
    return softplus(-logit_x) + softplus(logit_noise).sum(1)


def nce_by_mixtures(e_x, log_q_x, e_noise, log_q_noise, log_z):
    """P(datum) = p/(p + ν q), as written, in logarithms."""
    log_nu = math.log(e_noise.shape[1])
    log_p_x, log_p_noise = -e_x - log_z, -e_noise - log_z
    datum = log_p_x - torch.logaddexp(log_p_x, log_nu + log_q_x)
    drawn = log_nu + log_q_noise - torch.logaddexp(log_p_noise, log_nu + log_q_noise)
    return -datum - drawn.sum(1)


def nce_by_cross_entropy(e_x, log_q_x, e_noise, log_q_noise, log_z):
    e, log_q = torch.cat([e_x[:, None], e_noise], 1), torch.cat([log_q_x[:, None], log_q_noise], 1)
    logit = -e - log_z - log_q - math.log(e_noise.shape[1])
    labels = torch.zeros_like(logit)
    labels[:, 0] = 1
    return binary_cross_entropy_with_logits(logit, labels, reduction="none").sum(1)


SOLUTIONS = {
    "ebm.product_of_experts": [("by precisions", product_by_precisions), ("by the vertex", product_by_the_vertex)],
    "ebm.free_energy": [("by softplus", free_energy_by_softplus), ("by logaddexp", free_energy_by_logaddexp)],
    "ebm.contrastive_loss": [
        ("two means", lambda energy, x, negatives: energy(x).mean() - energy(negatives.detach()).mean()),
        ("one batch", contrastive_by_one_batch),
    ],
    "ebm.langevin": [("by backward", langevin_by_backward), ("by grad", langevin_by_grad)],
    "ebm.implicit_score_matching": [
        ("dimension by dimension", implicit_by_dimensions),
        ("by whole Hessians", implicit_by_hessians),
        ("of the energy, with a graph", implicit_with_graph),
    ],
    "ebm.denoising_score_matching": [
        ("by formula", lambda score, x, eps, sigma: 0.5 * (score(x + sigma * eps) + eps / sigma).pow(2).sum(1)),
        ("by the noisy point", denoising_by_the_noisy_point),
        ("by torch.distributions", denoising_by_distributions),
    ],
    "ebm.sliced_score_matching": [
        ("by two derivatives", sliced_by_two_derivatives),
        ("by Jacobians", sliced_by_jacobians),
    ],
    "ebm.nce_loss": [
        ("by softplus", nce_by_softplus),
        ("by mixtures", nce_by_mixtures),
        ("by cross entropy", nce_by_cross_entropy),
        ("by logsigmoid", lambda e, q, e_n, q_n, z: -logsigmoid(-e - z - q - math.log(e_n.shape[1]))
         - logsigmoid(e_n + z + q_n + math.log(e_n.shape[1])).sum(1)),
    ],
}  # fmt: skip
