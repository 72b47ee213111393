"""What students typically get wrong in continuous time, chapter 5: exercise -> [(what is wrong, function)]."""

import math

import torch


def marginal(integral=lambda t, low, high: low * t + (high - low) * t**2 / 2, alpha=None, sigma=None):
    """vp_marginal with another integral of β, or α and σ² otherwise made of it."""
    alpha = alpha or (lambda b: torch.exp(-b / 2))
    sigma = sigma or (lambda b: (1 - torch.exp(-b)).abs().sqrt())

    def levels(t, beta_min, beta_max):
        b = integral(t, beta_min, beta_max)
        return alpha(b), sigma(b)

    return levels


def reverse(
    drift=lambda x, s, b: b * (x / 2 + s),
    width=lambda b, h: (b * h) ** 0.5,
    sign=1,
    beta_at=lambda t, h: t,
    score_at=lambda t, h: t,
):
    """reverse_step with another drift, noise, direction, or times at which β and score are taken."""

    def step(x, t, h, score, beta, z):
        b, s = beta(beta_at(t, h)), score(x, score_at(t, h))
        return x + sign * h * drift(x, s, b) + width(b, h) * z

    return step


def annealed(
    length=lambda step, sigma, sigmas: step * sigma**2 / sigmas[-1] ** 2,
    drift=lambda e: e,
    width=lambda e: (2 * e) ** 0.5,
    levels=lambda sigmas: sigmas,
    noise=lambda z: z,
    told=lambda sigma, sigmas: sigma,
    restart=False,
):
    """annealed_langevin with another step length, drift, noise, order of levels, σ that the score is told."""

    def run(score, x, sigmas, step, z):
        start = x
        for sigma, omegas in zip(levels(sigmas), noise(z), strict=False):
            x = start if restart else x
            e = length(step, sigma, sigmas)
            for omega in omegas:
                x = x + drift(e) * score(x, told(sigma, sigmas)) + width(e) * omega
        return x

    return run


def annealed_all(score, x, sigmas, step, z):
    return torch.stack([annealed(levels=lambda s, k=k: s[: k + 1])(score, x, sigmas, step, z) for k in range(len(sigmas))])


def quiet_end(z):
    z = z.clone()
    z[-1, -1] = 0
    return z


def integral(t, low, high):
    return low * t + (high - low) * t**2 / 2


def inverse(b, low, high):
    return (-low + (low**2 + 2 * (high - low) * b) ** 0.5) / (high - low)


def timed(
    wanted=lambda rho, v0, v1: v0 ** (1 - rho) * v1**rho,
    variance=None,
    back=inverse,
    log=lambda v: -torch.log(1 - v),
):
    """importance_times with another interpolation of the variances, another variance, or another way back to t."""

    def times(rho, low, high, start):
        of = variance or (lambda t, b: 1 - math.exp(-b))
        v0, v1 = (of(t, integral(t, low, high)) for t in (start, 1.0))
        return back(log(wanted(rho, v0, v1)), low, high)

    return times


def times_by_snr(rho, low, high, start):
    odds = [math.expm1(integral(t, low, high)) for t in (start, 1.0)]
    wanted = odds[0] ** (1 - rho) * odds[1] ** rho
    return inverse(torch.log(1 + wanted), low, high)


def guided(combine, out=torch.sum):
    """Scores combined with the gradient of the sum (or mean) of log p(y|x)."""

    def field(score, log_p_y, x, scale):
        s = score(x)
        x = x.requires_grad_()
        (g,) = torch.autograd.grad(out(log_p_y(x)), x)
        return combine(s, g, scale)

    return field


def guided_by_probability(score, log_p_y, x, scale):
    return guided(lambda s, g, c: s + c * g)(score, lambda x: log_p_y(x).exp(), x, scale)


MISTAKES = {
    "diffusion.vp_marginal": [
        ("no half in the drift", marginal(alpha=lambda b: torch.exp(-b))),
        ("β t", marginal(lambda t, low, high: (low + (high - low) * t) * t)),
        ("β", marginal(lambda t, low, high: low + (high - low) * t)),
        ("no half in the integral", marginal(lambda t, low, high: low * t + (high - low) * t**2)),
        ("β_max for the rise", marginal(lambda t, low, high: low * t + high * t**2 / 2)),
        ("no β_min", marginal(lambda t, low, high: (high - low) * t**2 / 2)),
        ("β_min only", marginal(lambda t, low, high: low * t)),
        ("β_max only", marginal(lambda t, low, high: high * t)),
        ("growing", marginal(alpha=lambda b: torch.exp(b / 2))),
        ("the exponent", marginal(alpha=lambda b: -b / 2)),
        ("variance", marginal(sigma=lambda b: 1 - torch.exp(-b))),
        ("1 − α", marginal(sigma=lambda b: 1 - torch.exp(-b / 2))),
        ("√(1 − α)", marginal(sigma=lambda b: (1 - torch.exp(-b / 2)).sqrt())),
        ("noise without drift", marginal(sigma=lambda b: b.sqrt())),
        ("α and σ swapped", lambda *a: marginal()(*a)[::-1]),
        ("no half at all, σ to match",
         marginal(alpha=lambda b: torch.exp(-b), sigma=lambda b: (1 - torch.exp(-2 * b)).sqrt())),
        ("α only", lambda *a: marginal()(*a)[0]),
        ("in math", lambda t, low, high: marginal(alpha=lambda b: math.exp(-b / 2))(t, low, high)),
    ],
    "diffusion.reverse_step": [
        ("time runs on", reverse(sign=-1)),
        ("forward diffusion", reverse(lambda x, s, b: -b * x / 2)),
        ("no score", reverse(lambda x, s, b: b * x / 2)),
        ("sign of f", reverse(lambda x, s, b: b * (s - x / 2))),
        ("no f", reverse(lambda x, s, b: b * s)),
        ("sign of the score", reverse(lambda x, s, b: b * (x / 2 - s))),
        ("drift of the probability flow", reverse(lambda x, s, b: b * (x + s) / 2)),
        ("probability flow", reverse(lambda x, s, b: b * (x + s) / 2, lambda b, h: 0)),
        ("score twice", reverse(lambda x, s, b: b * (x / 2 + 2 * s))),
        ("no noise", reverse(width=lambda b, h: 0)),
        ("β h for its root", reverse(width=lambda b, h: b * h)),
        ("h for √h", reverse(width=lambda b, h: b**0.5 * h)),
        ("β for √β", reverse(width=lambda b, h: b * h**0.5)),
        ("no g", reverse(width=lambda b, h: h**0.5)),
        ("no h in the noise", reverse(width=lambda b, h: b**0.5)),
        ("√2 in the noise", reverse(width=lambda b, h: (2 * b * h) ** 0.5)),
        ("no half", reverse(lambda x, s, b: b * (x + s))),
        ("score not weighted", reverse(lambda x, s, b: b * x / 2 + s)),
        ("score times √β", reverse(lambda x, s, b: b * x / 2 + b**0.5 * s)),
        ("score times β²", reverse(lambda x, s, b: b * x / 2 + b**2 * s)),
        ("no h in the drift", lambda x, t, h, *a: reverse(lambda x, s, b: b * (x / 2 + s) / h)(x, t, h, *a)),
        ("noise taken off", reverse(width=lambda b, h: -((b * h) ** 0.5))),
        ("at the end of the step", reverse(beta_at=lambda t, h: t - h, score_at=lambda t, h: t - h)),
        ("β at the end of the step", reverse(beta_at=lambda t, h: t - h)),
        ("score at the end of the step", reverse(score_at=lambda t, h: t - h)),
        ("time of each row", lambda x, t, h, score, beta, z: reverse()(x, torch.full((len(x),), t), h, score, beta, z)),
        ("change only", lambda x, *a: reverse()(x, *a) - x),
        ("noise of its own", lambda x, t, h, score, beta, z: reverse()(x, t, h, score, beta, torch.randn_like(x))),
    ],
    "diffusion.annealed_langevin": [
        ("climbs down", annealed(drift=lambda e: -e)),
        ("no √2", annealed(width=lambda e: e**0.5)),
        ("chapter 4's step", annealed(drift=lambda e: e / 2, width=lambda e: e**0.5)),
        ("2ε for its root", annealed(width=lambda e: 2 * e)),
        ("ε for its root", annealed(width=lambda e: e)),
        ("2 outside the root", annealed(width=lambda e: 2 * e**0.5)),
        ("noise not scaled", annealed(width=lambda e: 1)),
        ("no noise", annealed(width=lambda e: 0)),
        ("same step at all levels", annealed(lambda step, sigma, sigmas: step)),
        ("σ for σ²", annealed(lambda step, sigma, sigmas: step * sigma / sigmas[-1])),
        ("first σ for the last, no √2",
         annealed(lambda step, sigma, sigmas: step * sigma**2 / sigmas[0] ** 2, width=lambda e: e**0.5)),
        ("first σ for the last", annealed(lambda step, sigma, sigmas: step * sigma**2 / sigmas[0] ** 2)),
        ("not relative", annealed(lambda step, sigma, sigmas: step * sigma**2)),
        ("upside down", annealed(lambda step, sigma, sigmas: step * sigmas[-1] ** 2 / sigma**2)),
        ("rising levels", annealed(levels=lambda sigmas: sigmas.flip(0))),
        ("rising levels, noise with them", annealed(levels=lambda sigmas: sigmas.flip(0), noise=lambda z: z.flip(0))),
        ("sorted levels", annealed(levels=lambda sigmas: sigmas.sort().values)),
        ("each level anew", annealed(restart=True)),
        ("first level only", annealed(levels=lambda sigmas: sigmas[:1])),
        ("last level missing", annealed(levels=lambda sigmas: sigmas[:-1])),
        ("one step a level", annealed(noise=lambda z: z[:, :1])),
        ("a step too few", annealed(noise=lambda z: z[:, :-1])),
        ("levels and steps swapped", annealed(noise=lambda z: z.transpose(0, 1))),
        ("one noise a level", annealed(noise=lambda z: z[:, :1].expand_as(z))),
        ("one noise for all levels", annealed(noise=lambda z: z[:1].expand_as(z))),
        ("no noise at the end", annealed(noise=quiet_end)),
        ("score told the last σ", annealed(told=lambda sigma, sigmas: sigmas[-1])),
        ("score told the first σ", annealed(told=lambda sigma, sigmas: sigmas[0])),
        ("score told the variance", annealed(told=lambda sigma, sigmas: sigma**2)),
        ("score told all σ", annealed(told=lambda sigma, sigmas: sigmas)),
        ("all levels kept", annealed_all),
        ("noise of its own", annealed(noise=torch.randn_like)),
    ],
    "diffusion.importance_times": [
        ("ρ reversed", timed(lambda rho, v0, v1: v0**rho * v1 ** (1 - rho))),
        ("straight line", timed(lambda rho, v0, v1: (1 - rho) * v0 + rho * v1)),
        ("even times", lambda rho, low, high, start: start + rho * (1 - start)),
        ("geometric times", lambda rho, low, high, start: start ** (1 - rho)),
        ("ρ itself", lambda rho, low, high, start: rho),
        ("geometric ∫β", timed(variance=lambda t, b: b, log=lambda b: b)),
        ("straight ∫β", timed(lambda rho, b0, b1: (1 - rho) * b0 + rho * b1, variance=lambda t, b: b, log=lambda b: b)),
        ("log-SNR", times_by_snr),
        ("half in the exponent", timed(variance=lambda t, b: 1 - math.exp(-b / 2))),
        ("half both ways", timed(variance=lambda t, b: 1 - math.exp(-b / 2), log=lambda v: -2 * torch.log(1 - v))),
        ("half on the way back", timed(log=lambda v: -2 * torch.log(1 - v))),
        ("the variance", timed(back=lambda b, low, high: -torch.expm1(-b))),
        ("∫β", timed(back=lambda b, low, high: b)),
        ("start taken for a variance", lambda rho, low, high, start:
         timed(lambda rho, v0, v1: start ** (1 - rho) * v1**rho)(rho, low, high, start)),
        ("σ²(1) = 1", timed(lambda rho, v0, v1: v0 ** (1 - rho))),
        ("start forgotten", timed(lambda rho, v0, v1: rho * v1)),
        ("other root", timed(back=lambda b, low, high: (-low - (low**2 + 2 * (high - low) * b) ** 0.5) / (high - low))),
        ("no half in ∫β",
         timed(back=lambda b, low, high: (-low + (low**2 + 4 * (high - low) * b) ** 0.5) / (2 * (high - low)))),
        ("constant β", timed(back=lambda b, low, high: b / low)),
        ("constant β_max", timed(back=lambda b, low, high: b / high)),
        ("sign of the logarithm", timed(log=lambda v: torch.log(1 - v))),
        ("widths for variances", timed(variance=lambda t, b: (1 - math.exp(-b)) ** 0.5)),
        ("times drawn", lambda rho, low, high, start: timed()(torch.rand_like(rho), low, high, start)),
    ],
    "diffusion.guided_score": [
        ("gradient of the mean", guided(lambda s, g, c: s + c * g, torch.mean)),
        ("rows mixed", guided(lambda s, g, c: s + c * g.sum(0))),
        ("rows averaged", guided(lambda s, g, c: s + c * g.mean(0))),
        ("gradient of p", guided_by_probability),
        ("sign of the gradient", guided(lambda s, g, c: s - c * g)),
        ("sign of the score", guided(lambda s, g, c: c * g - s)),
        ("no score", guided(lambda s, g, c: c * g)),
        ("no gradient", lambda score, log_p_y, x, scale: score(x)),
        ("no scale", guided(lambda s, g, c: s + g)),
        ("scale on the score", guided(lambda s, g, c: c * s + g)),
        ("scale on both", guided(lambda s, g, c: c * (s + g))),
        ("1 + scale", guided(lambda s, g, c: s + (1 + c) * g)),
        ("mixture", guided(lambda s, g, c: (1 - c) * s + c * g)),
        ("mixture of Ho & Salimans", guided(lambda s, g, c: (1 + c) * s - c * g)),
        ("score twice", guided(lambda s, g, c: 2 * s + c * g)),
        ("scale squared", guided(lambda s, g, c: s + c**2 * g)),
        ("scale divides", guided(lambda s, g, c: s + g / c)),
        ("log p itself", lambda score, log_p_y, x, scale: score(x) + scale * log_p_y(x)[:, None]),
        ("gradient of a vector", lambda score, log_p_y, x, scale: score(x)
         + scale * torch.autograd.grad(log_p_y(x.requires_grad_()), x)[0]),
        ("no gradient asked for", lambda score, log_p_y, x, scale: score(x)
         + scale * torch.autograd.grad(log_p_y(x).sum(), x)[0]),
        ("no_grad", torch.no_grad()(guided(lambda s, g, c: s + c * g))),
    ],
}  # fmt: skip
