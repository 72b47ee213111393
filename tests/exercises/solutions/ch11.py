"""Right answers to chapter 11 in the ways students write them, and the course's own: exercise -> [(manner, function)]."""

import math

import torch
from torch import nn
from torch.autograd import grad
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from gmcourse.compositions.ddgan import DenoisingDiffusionGAN
from gmcourse.diffusion.samplers import run
from gmcourse.diffusion.schedule import DiscreteDiffusion, bridge, vp_betas
from gmcourse.gan.objectives import objective
from gmcourse.gan.regularisers import R1


def betas_as_printed(steps, beta_min, beta_max):
    t = torch.arange(1, steps + 1, dtype=torch.float64)
    return 1 - torch.exp(-beta_min / steps - 0.5 * (beta_max - beta_min) * (2 * t - 1) / steps**2)


def betas_by_variances(steps, beta_min, beta_max):
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    alpha_bars = torch.exp(-beta_min * u - 0.5 * (beta_max - beta_min) * u**2)
    return 1 - alpha_bars[1:] / alpha_bars[:-1]


def betas_by_a_loop(steps, beta_min, beta_max):
    found = []
    for t in range(1, steps + 1):
        found.append(-math.expm1(-beta_min / steps - (beta_max - beta_min) * (2 * t - 1) / (2 * steps**2)))
    return torch.tensor(found, dtype=torch.float64)


def normal(x, mean, std):
    return torch.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))


def denoising_over_x0(nodes, density, xs, xt, now, then):
    alpha = now / then
    beta = 1 - alpha
    weights = density * normal(xt, math.sqrt(now) * nodes, math.sqrt(1 - now))
    weights = weights / weights.sum()
    mean = (math.sqrt(then) * beta * nodes + math.sqrt(alpha) * (1 - then) * xt) / (1 - now)
    return normal(xs[:, None], mean, math.sqrt((1 - then) / (1 - now) * beta)) @ weights


def denoising_by_bayes_on_the_grid(nodes, density, xs, xt, now, then):
    """Normalised by the area under it, on the grid of x_s, and the data's by theirs."""
    density = density / torch.trapezoid(density, nodes)
    q_s = torch.trapezoid(density * normal(xs[:, None], math.sqrt(then) * nodes, math.sqrt(1 - then)), nodes)
    joint = q_s * normal(xt, math.sqrt(now / then) * xs, math.sqrt(1 - now / then))
    return joint / torch.trapezoid(joint, xs)


def denoising_by_softmax(nodes, density, xs, xt, now, then):
    a, b, variance = bridge(now, then)
    weights = (density.log() - (xt - now**0.5 * nodes) ** 2 / (2 * (1 - now))).softmax(0)
    q = torch.distributions.Normal(a * nodes + b * xt, variance**0.5)
    return (q.log_prob(xs.unsqueeze(1)) + weights.log()).logsumexp(1).exp()


def views(values, like):
    return values.view(-1, *[1] * (like.ndim - 1))


def chain_of(alpha_bars):
    """The course's chain with these levels."""
    before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bars[:-1]])
    return DiscreteDiffusion(1 - alpha_bars / before)


def pair_by_where(x0, t, alpha_bars, eps, step):
    now = alpha_bars[t]
    then = torch.where(t > 0, alpha_bars[t - 1], 1.0)
    alpha, then = views(now / then, x0), views(then, x0)
    before = then.sqrt() * x0 + (1 - then).sqrt() * eps
    return before, alpha.sqrt() * before + (1 - alpha).sqrt() * step


def pair_by_tables(x0, t, alpha_bars, eps, step):
    bars = torch.cat([torch.ones(1, dtype=alpha_bars.dtype), alpha_bars])
    betas = 1 - bars[1:] / bars[:-1]
    shape = [len(x0)] + [1] * (x0.dim() - 1)
    before = bars[t].reshape(shape) ** 0.5 * x0 + (1 - bars[t].reshape(shape)) ** 0.5 * eps
    beta = betas[t].reshape(shape)
    return [before, (1 - beta) ** 0.5 * before + beta**0.5 * step]


def pair_by_rows(x0, t, alpha_bars, eps, step):
    pairs = []
    for x, k, e, u in zip(x0, t.tolist(), eps, step, strict=True):
        then = float(alpha_bars[k - 1]) if k else 1.0
        beta = 1 - float(alpha_bars[k]) / then
        before = math.sqrt(then) * x + math.sqrt(1 - then) * e
        pairs.append((before, math.sqrt(1 - beta) * before + math.sqrt(beta) * u))
    return tuple(torch.stack(half) for half in zip(*pairs, strict=True))


def posterior_by_tables(x0, xt, t, noise, alpha_bars):
    bars = torch.cat([torch.ones_like(alpha_bars[:1]), alpha_bars])
    now, then = views(bars[t + 1], x0), views(bars[t], x0)
    alpha = now / then
    mean = (then.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - then) * xt) / (1 - now)
    return mean + ((1 - then) / (1 - now) * (1 - alpha)).sqrt() * noise


def posterior_with_a_mask(x0, xt, t, noise, alpha_bars):
    """As DDPM code does it: a mask for the last step, the mean by (6.11)."""
    now, then = alpha_bars[t], torch.where(t == 0, torch.ones_like(alpha_bars[t]), alpha_bars[t - 1])
    now, then, mask = views(now, x0), views(then, x0), views((t != 0).to(x0.dtype), x0)
    alpha = now / then
    eps = (xt - now.sqrt() * x0) / (1 - now).sqrt()
    mean = (xt - (1 - alpha) / (1 - now).sqrt() * eps) / alpha.sqrt()
    log_variance = ((1 - then) / (1 - now) * (1 - alpha)).clamp_min(1e-20).log()
    return mean + mask * (0.5 * log_variance).exp() * noise


def posterior_by_the_course(x0, xt, t, noise, alpha_bars):
    mean, variance = chain_of(alpha_bars).posterior(x0, xt, t)
    return mean + variance.sqrt() * noise


def judged_by_softplus(judge, before, fake, xt, t, gamma):
    before = before.detach().requires_grad_()
    real = judge(before, xt, t)
    (slope,) = grad(real.sum(), before, create_graph=True)
    penalty = gamma / 2 * slope.flatten(1).square().sum(1)
    return softplus(-real) + softplus(judge(fake.detach(), xt, t)) + penalty


def judged_by_cross_entropy(judge, before, fake, xt, t, gamma):
    before.requires_grad_(True)
    real, made = judge(torch.cat([before, fake]), torch.cat([xt, xt]), torch.cat([t, t])).chunk(2)
    slope = torch.autograd.grad(real, before, torch.ones_like(real), create_graph=True)[0]
    game = binary_cross_entropy_with_logits(real, torch.ones_like(real), reduction="none")
    game = game + binary_cross_entropy_with_logits(made, torch.zeros_like(made), reduction="none")
    return game + 0.5 * gamma * (slope**2).reshape(len(slope), -1).sum(1)


def judged_by_the_course(judge, before, fake, xt, t, gamma):
    loss = objective("non-saturating").critic(judge(before, xt, t), judge(fake, xt, t))
    return loss + R1(gamma)(lambda x: judge(x, xt, t), before, fake) if gamma else loss


def sampled_by_tables(generator, x, z, eps, alpha_bars):
    for k in range(len(alpha_bars) - 1, -1, -1):
        t = torch.full((len(x),), k)
        x = posterior_by_tables(generator(x, t, z[k]), x, t, eps[k], alpha_bars)
    return x


def sampled_by_numbers(generator, x, z, eps, alpha_bars):
    bars = [1.0, *alpha_bars.tolist()]
    for k in reversed(range(len(alpha_bars))):
        now, then = bars[k + 1], bars[k]
        alpha = now / then
        guess = generator(x, k * torch.ones(x.shape[0], dtype=torch.long), z[k])
        if k == 0:
            return guess
        mean = math.sqrt(then) * (1 - alpha) / (1 - now) * guess + math.sqrt(alpha) * (1 - then) / (1 - now) * x
        x = mean + math.sqrt((1 - then) / (1 - now) * (1 - alpha)) * eps[k]


class Called(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def sampled_by_the_course(generator, x, z, eps, alpha_bars):
    """Given its noise, a step of the model is `reverse`."""
    settings = {"event_shape": x.shape[1:], "latent": z.shape[2]}
    model = DenoisingDiffusionGAN(Called(generator), Called(generator), chain_of(alpha_bars), **settings)
    times = model.chain.times()
    return run(lambda x, t, s, generator: model.reverse(x, torch.full((len(x),), t), z[t], eps[t]), x, times)


def edited_by_a_loop(step, drawing, k, eps, alpha_bars):
    a = alpha_bars[k]
    x = a.sqrt() * drawing + (1 - a).sqrt() * eps
    for t in range(k, -1, -1):
        x = step(x, t)
    return x


def edited_by_while(step, drawing, k, eps, alpha_bars):
    x = torch.addcmul(alpha_bars[k].sqrt() * drawing, (1 - alpha_bars[k]).sqrt(), eps)
    while k >= 0:
        x, k = step(x, k), k - 1
    return x


def edited_by_the_course(step, drawing, k, eps, alpha_bars):
    chain = chain_of(alpha_bars)
    noisy = chain.q_sample(drawing, k, eps)
    return run(lambda x, t, s, generator: step(x, t), noisy, list(range(k, -2, -1)))


SOLUTIONS = {
    "ddgan.betas": [
        ("as printed", betas_as_printed),
        ("by variances", betas_by_variances),
        ("by a loop", betas_by_a_loop),
        ("by the course", vp_betas),
    ],
    "ddgan.true_denoising": [
        ("over x_0", denoising_over_x0),
        ("by Bayes on the grid", denoising_by_bayes_on_the_grid),
        ("by softmax", denoising_by_softmax),
    ],
    "ddgan.pair": [
        ("by where", pair_by_where),
        ("by tables", pair_by_tables),
        ("by rows", pair_by_rows),
        ("by the course", lambda x0, t, alpha_bars, eps, step: chain_of(alpha_bars).q_pair(x0, t, eps, step)),
    ],
    "ddgan.posterior_step": [
        ("by tables", posterior_by_tables),
        ("with a mask", posterior_with_a_mask),
        ("by the course", posterior_by_the_course),
    ],
    "ddgan.discriminator_loss": [
        ("by softplus", judged_by_softplus),
        ("by cross entropy", judged_by_cross_entropy),
        ("by the course", judged_by_the_course),
    ],
    "ddgan.sample": [
        ("by tables", sampled_by_tables),
        ("by numbers", sampled_by_numbers),
        ("by the course", sampled_by_the_course),
    ],
    "ddgan.stroke_edit": [
        ("by a loop", edited_by_a_loop),
        ("by while", edited_by_while),
        ("by the course", edited_by_the_course),
    ],
}
