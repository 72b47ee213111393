"""Right answers to chapter 5 in the various ways students write them: exercise -> [(manner, function)]."""

import math

import torch
from torch.distributions import Normal
from torch.nn.functional import mse_loss


def q_sample_by_distributions(x0, eps, alpha_bar):
    law = Normal(alpha_bar.sqrt().unsqueeze(1) * x0, (1 - alpha_bar).sqrt().unsqueeze(1).expand_as(x0))
    return law.mean + law.stddev * eps


def posterior_by_formula(x0, xt, alpha_bar, before):
    alpha = alpha_bar / before
    beta = 1 - alpha
    mean = (before**0.5 * beta * x0 + alpha**0.5 * (1 - before) * xt) / (1 - alpha_bar)
    return mean, (1 - before) / (1 - alpha_bar) * beta


def posterior_by_precisions(x0, xt, alpha_bar, before):
    """The product of q(x_t | x_{t−1}) and q(x_{t−1} | x_0), multiplied by 1 − before where that may be 0."""
    alpha = alpha_bar / before
    beta, spread = 1 - alpha, 1 - before
    total = alpha * spread + beta
    mean = (math.sqrt(alpha) * spread * xt + beta * math.sqrt(before) * x0) / total
    return [mean, torch.tensor(beta * spread / total, dtype=x0.dtype)]


def loss_by_mse(net, x0, t, eps, alpha_bars):
    a = alpha_bars[t].unsqueeze(-1)
    return mse_loss(net(a**0.5 * x0 + (1 - a) ** 0.5 * eps, t), eps, reduction="none").sum(1)


def loss_by_gather(net, x0, t, eps, alpha_bars):
    a = alpha_bars.gather(0, t).view(-1, 1)
    return torch.linalg.vector_norm(eps - net(torch.sqrt(a) * x0 + torch.sqrt(1 - a) * eps, t), dim=1) ** 2


def ancestral_by_formula(xt, eps, alpha_bar, before, z):
    alpha = alpha_bar / before
    x = (xt - (1 - alpha) / math.sqrt(1 - alpha_bar) * eps) / math.sqrt(alpha)
    return x if before == 1 else x + math.sqrt(1 - alpha) * z


def ancestral_by_the_posterior(xt, eps, alpha_bar, before, z):
    x0 = (xt - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5
    mean, _ = posterior_by_formula(x0, xt, alpha_bar, before)
    return mean + (before < 1) * (1 - alpha_bar / before) ** 0.5 * z


def ddim_by_the_datum(xt, eps, alpha_bar, before):
    x0 = (xt - math.sqrt(1 - alpha_bar) * eps) / math.sqrt(alpha_bar)
    return math.sqrt(before) * x0 + math.sqrt(1 - before) * eps


def ddim_in_other_units(xt, eps, alpha_bar, before):
    """An Euler step of x/√ᾱ in σ = √(1/ᾱ − 1)."""
    now, then = ((1 / a - 1) ** 0.5 for a in (alpha_bar, before))
    return before**0.5 * (xt / alpha_bar**0.5 + (then - now) * eps)


def marginal_by_formula(t, beta_min, beta_max):
    integral = beta_min * t + (beta_max - beta_min) * t**2 / 2
    return torch.exp(-integral / 2), torch.sqrt(-torch.expm1(-integral))


def marginal_by_trapezium(t, beta_min, beta_max):
    end = beta_min + t * (beta_max - beta_min)
    alpha = torch.exp(-t * (beta_min + end) / 4)
    return alpha, (1 - alpha**2).sqrt()


def reverse_by_drift(x, t, h, score, beta, z):
    f, g = -0.5 * beta(t) * x, beta(t) ** 0.5
    return x - (f - g**2 * score(x, t)) * h + g * h**0.5 * z


def reverse_with_tensors(x, t, h, score, beta, z):
    b = torch.as_tensor(beta(t), dtype=x.dtype)
    return x + b * h * (x / 2 + score(x, torch.tensor(t, dtype=x.dtype))) + torch.sqrt(b * h) * z


def annealed_by_indices(score, x, sigmas, step, z):
    for i in range(z.shape[0]):
        eps = step * sigmas[i] ** 2 / sigmas[-1] ** 2
        for m in range(z.shape[1]):
            x = x + eps * score(x, sigmas[i]) + (2 * eps) ** 0.5 * z[i, m]
    return x


def annealed_with_floats(score, x, sigmas, step, z):
    sigmas = [float(s) for s in sigmas]
    for sigma, noise in zip(sigmas, z, strict=True):
        eps = step * (sigma / sigmas[-1]) ** 2
        for omega in noise:
            x += eps * score(x, sigma) + math.sqrt(2 * eps) * omega
    return x


def times_by_the_quadratic(rho, beta_min, beta_max, start):
    def variance(t):
        return -math.expm1(-(beta_min * t + (beta_max - beta_min) * t**2 / 2))

    wanted = variance(start) ** (1 - rho) * variance(1.0) ** rho
    integral, rise = -torch.log(1 - wanted), beta_max - beta_min
    return (torch.sqrt(beta_min**2 + 2 * rise * integral) - beta_min) / rise


def times_by_newton(rho, beta_min, beta_max, start):
    def integral(t):
        return beta_min * t + (beta_max - beta_min) * t**2 / 2

    first, last = (torch.log(1 - torch.exp(-integral(torch.tensor(t, dtype=rho.dtype)))) for t in (start, 1.0))
    goal = -torch.log1p(-torch.exp((1 - rho) * first + rho * last))
    t = torch.ones_like(rho)
    for _ in range(30):
        t = t - (integral(t) - goal) / (beta_min + (beta_max - beta_min) * t)
    return t


def guided_by_grad(score, log_p_y, x, scale):
    x = x.requires_grad_()
    (slope,) = torch.autograd.grad(log_p_y(x).sum(), x)
    return score(x) + scale * slope


def guided_by_backward(score, log_p_y, x, scale):
    leaf = x.clone().requires_grad_()
    (scale * log_p_y(leaf)).sum().backward()
    return score(x) + leaf.grad


def guided_by_jacobian(score, log_p_y, x, scale):
    jacobian = torch.autograd.functional.jacobian(log_p_y, x)
    return score(x) + scale * torch.einsum("nnd->nd", jacobian)


SOLUTIONS = {
    "diffusion.q_sample": [
        ("by formula", lambda x0, eps, a: a[:, None] ** 0.5 * x0 + (1 - a[:, None]) ** 0.5 * eps),
        ("by torch.distributions", q_sample_by_distributions),
    ],
    "diffusion.posterior": [("by formula", posterior_by_formula), ("by precisions", posterior_by_precisions)],
    "diffusion.simple_loss": [("by mse_loss", loss_by_mse), ("by gather", loss_by_gather)],
    "diffusion.ancestral_step": [("by formula", ancestral_by_formula), ("by the posterior", ancestral_by_the_posterior)],
    "diffusion.ddim_step": [("by the datum", ddim_by_the_datum), ("in other units", ddim_in_other_units)],
    "diffusion.vp_marginal": [("by formula", marginal_by_formula), ("by a trapezium", marginal_by_trapezium)],
    "diffusion.reverse_step": [("by drift", reverse_by_drift), ("with tensors", reverse_with_tensors)],
    "diffusion.annealed_langevin": [("by indices", annealed_by_indices), ("with floats, in place", annealed_with_floats)],
    "diffusion.importance_times": [("by the quadratic", times_by_the_quadratic), ("by Newton", times_by_newton)],
    "diffusion.guided_score": [
        ("by grad", guided_by_grad),
        ("by backward", guided_by_backward),
        ("by the Jacobian", guided_by_jacobian),
    ],
}
