"""What students typically get wrong about the chain of chapter 11: exercise -> [(what is wrong, function)]."""

import math

import torch


def schedule(
    low=lambda a, T: a / T,
    odd=lambda t: 2 * t - 1,
    length=lambda T: T**2,
    half=0.5,
    after=lambda integral: 1 - torch.exp(-integral),
    rise=lambda a, b: b - a,
    start=1,
):
    """betas with another exponent, or something else made of it."""

    def betas(steps, beta_min, beta_max):
        t = torch.arange(start, steps + start, dtype=torch.float64)
        return after(low(beta_min, steps) + half * rise(beta_min, beta_max) * odd(t) / length(steps))

    return betas


def cumulative(after):
    """betas with after(ᾱ) for β."""

    def betas(steps, beta_min, beta_max):
        u = torch.arange(1, steps + 1, dtype=torch.float64) / steps
        return after(torch.exp(-beta_min * u - 0.5 * (beta_max - beta_min) * u**2))

    return betas


def in_float32(T, a, b):
    """The difference of two ᾱ, in single precision, made double in the end."""
    u = torch.arange(T + 1) / T
    kept = torch.exp(-a * u - 0.5 * (b - a) * u**2)
    return (1 - kept[1:] / kept[:-1]).double()


def rates(T, a, b):
    return a + (b - a) * torch.arange(1, T + 1, dtype=torch.float64) / T


def normal(x, mean, std):
    return torch.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))


def denoising(
    weights=lambda p, likelihood: p * likelihood,
    normalised=lambda w: w / w.sum(),
    likelihood=lambda nodes, xt, now, then: normal(xt, math.sqrt(now) * nodes, math.sqrt(1 - now)),
    of_x0=lambda now, then: math.sqrt(then) * (1 - now / then) / (1 - now),
    of_xt=lambda now, then: math.sqrt(now / then) * (1 - then) / (1 - now),
    std=lambda now, then: math.sqrt((1 - then) / (1 - now) * (1 - now / then)),
    after=lambda q, xs: q,
    nodes_seen=lambda w, nodes: (w, nodes),
):
    """true_denoising with other weights of x_0, or another posterior of x_s."""

    def true_denoising(nodes, density, xs, xt, now, then):
        w = normalised(weights(density, likelihood(nodes, xt, now, then)))
        w, nodes = nodes_seen(w, nodes)
        mean = of_x0(now, then) * nodes + of_xt(now, then) * xt
        return after(normal(xs[:, None], mean, std(now, then)) @ w, xs)

    return true_denoising


def marginal(nodes, density, xs, xt, now, then):
    return normal(xs[:, None], math.sqrt(then) * nodes, math.sqrt(1 - then)) @ (density / density.sum())


def bayes_not_normalised(nodes, density, xs, xt, now, then):
    prior = marginal(nodes, density, xs, xt, now, then)
    return prior * normal(xt, math.sqrt(now / then) * xs, math.sqrt(1 - now / then))


def one_mean(w, nodes):
    return torch.ones(1, dtype=w.dtype), (w @ nodes)[None]


def column(values, x):
    return values.reshape(-1, *[1] * (x.ndim - 1))


def bars(alpha_bars, t, x):
    """ᾱ_t and ᾱ_{t−1}, beside x."""
    both = torch.cat([torch.ones_like(alpha_bars[:1]), alpha_bars])
    return column(both[t + 1], x), column(both[t], x)


def wrapped(alpha_bars, t, x):
    return column(alpha_bars[t], x), column(alpha_bars[t - 1], x)


def clamped(alpha_bars, t, x):
    return column(alpha_bars[t], x), column(alpha_bars[(t - 1).clamp(min=0)], x)


def one_later(alpha_bars, t, x):
    t = (t + 1).clamp(max=len(alpha_bars) - 1)
    return column(alpha_bars[t], x), column(alpha_bars[t - 1], x)


def along_columns(alpha_bars, t, x):
    both = torch.cat([torch.ones_like(alpha_bars[:1]), alpha_bars])
    return both[t + 1], both[t]


def vectors_only(alpha_bars, t, x):
    both = torch.cat([torch.ones_like(alpha_bars[:1]), alpha_bars])
    return both[t + 1][:, None], both[t][:, None]


def one_time(alpha_bars, t, x):
    return bars(alpha_bars, t[:1].expand_as(t), x)


def paired(
    before=lambda x0, eps, now, then: then.sqrt() * x0 + (1 - then).sqrt() * eps,
    after=lambda before, step, alpha: alpha.sqrt() * before + (1 - alpha).sqrt() * step,
    levels=bars,
    total=lambda x_before, x_after: (x_before, x_after),
):
    """pair with another x_{t−1}, another step, or other levels."""

    def pair(x0, t, alpha_bars, eps, step):
        now, then = levels(alpha_bars, t, x0)
        x = before(x0, eps, now, then)
        return total(x, after(x, step, now / then))

    return pair


def second(make):
    """pair with x_t = make(x_0, x_{t−1}, eps, step, now, then)."""

    def pair(x0, t, alpha_bars, eps, step):
        now, then = bars(alpha_bars, t, x0)
        x = then.sqrt() * x0 + (1 - then).sqrt() * eps
        return x, make(x0, x, eps, step, now, then)

    return pair


def noise_exchanged(x0, t, alpha_bars, eps, step):
    return paired()(x0, t, alpha_bars, step, eps)


def posterior(
    of_x0=lambda now, then: then.sqrt() * (1 - now / then) / (1 - now),
    of_xt=lambda now, then: (now / then).sqrt() * (1 - then) / (1 - now),
    std=lambda now, then: ((1 - then) / (1 - now) * (1 - now / then)).sqrt(),
    mask=lambda std, last: std,
    levels=bars,
    after=lambda x, x0, xt: x,
):
    """posterior_step with other weights, another width, other levels."""

    def posterior_step(x0, xt, t, noise, alpha_bars):
        now, then = levels(alpha_bars, t, x0)
        width = mask(std(now, then), column(t == 0, x0))
        return after(of_x0(now, then) * x0 + of_xt(now, then) * xt + width * noise, x0, xt)

    return posterior_step


def forth(now, then):
    return (1 - now / then).sqrt()


def silent_end(std, last):
    return torch.where(last, 0.0, std)


def silent_beginning(std, last):
    return torch.where(last, std, 0.0)


def anew(x0, xt, t, noise, alpha_bars):
    _, then = bars(alpha_bars, t, x0)
    return then.sqrt() * x0 + (1 - then).sqrt() * noise


def ddim(x0, xt, t, noise, alpha_bars):
    now, then = bars(alpha_bars, t, x0)
    return then.sqrt() * x0 + (1 - then).sqrt() * (xt - now.sqrt() * x0) / (1 - now).sqrt()


def without_gradient(x0, xt, t, noise, alpha_bars):
    with torch.no_grad():
        return posterior()(x0, xt, t, noise, alpha_bars)


def fresh_noise(x0, xt, t, noise, alpha_bars):
    return posterior()(x0, xt, t, torch.randn_like(noise), alpha_bars)


MISTAKES = {
    "ddgan.betas": [
        ("2t + 1", schedule(odd=lambda t: 2 * t + 1)),
        ("2t", schedule(odd=lambda t: 2 * t)),
        ("t", schedule(odd=lambda t: t)),
        ("t²", schedule(odd=lambda t: t**2)),
        ("t from 0", schedule(start=0)),
        ("no half", schedule(half=1)),
        ("a quarter", schedule(half=0.25)),
        ("1 − ᾱ", cumulative(lambda a: 1 - a)),
        ("ᾱ", cumulative(lambda a: a)),
        ("α", schedule(after=lambda i: torch.exp(-i))),
        ("T for T²", schedule(length=lambda T: T)),
        ("no T²", schedule(length=lambda T: 1)),
        ("β_min whole", schedule(low=lambda a, T: a)),
        ("no T", schedule(low=lambda a, T: a, length=lambda T: 1)),
        ("no difference", schedule(rise=lambda a, b: b)),
        ("β_min off", schedule(low=lambda a, T: 0)),
        ("ends exchanged", schedule(rise=lambda a, b: a - b)),
        ("the exponent", schedule(after=lambda i: i)),
        ("rates times the step", lambda T, a, b: rates(T, a, b) / T),
        ("rates", rates),
        ("the rate at the end of a step", lambda T, a, b: 1 - torch.exp(-rates(T, a, b) / T)),
        ("sign of the exponent", schedule(after=lambda i: torch.exp(i) - 1)),
        ("half the exponent", schedule(after=lambda i: 1 - torch.exp(-i / 2))),
        ("width", schedule(after=lambda i: (1 - torch.exp(-i)).sqrt())),
        ("turned round", schedule(after=lambda i: (1 - torch.exp(-i)).flip(0))),
        ("a straight line", lambda T, a, b: torch.linspace(a / T, min(b / T, 0.999), T, dtype=torch.float64)),
        ("the thesis' numbers whatever is given", lambda T, a, b: schedule()(T, 0.1, 20.0)),
        ("at most 0.5", schedule(after=lambda i: (1 - torch.exp(-i)).clamp(max=0.5))),
        ("float32 inside", in_float32),
        ("T + 1 of them", lambda T, a, b: schedule()(T + 1, a, b)),
        ("float32", schedule(after=lambda i: (1 - torch.exp(-i)).float())),
        ("a list", schedule(after=lambda i: (1 - torch.exp(-i)).tolist())),
    ],
    "ddgan.true_denoising": [
        ("no prior", denoising(weights=lambda p, like: like)),
        ("no likelihood, as printed", denoising(weights=lambda p, like: p)),
        ("not normalised", denoising(normalised=lambda w: w)),
        ("normalised by the data only", denoising(weights=lambda p, like: p / p.sum() * like, normalised=lambda w: w)),
        ("normalised by the largest", denoising(normalised=lambda w: w / w.max())),
        ("values sum to 1", denoising(after=lambda q, xs: q / q.sum())),
        ("the law of x_s", marginal),
        ("Bayes, not normalised", bayes_not_normalised),
        ("x_t given x_s alone", lambda nodes, p, xs, xt, now, then: normal(
            xt, math.sqrt(now / then) * xs, math.sqrt(1 - now / then)) * math.sqrt(now / then)),
        ("likelihood of x_s, one step from x_0", denoising(likelihood=lambda nodes, xt, now, then: normal(
            xt, math.sqrt(now / then) * nodes, math.sqrt(1 - now / then)))),
        ("likelihood of x_s, to time s", denoising(likelihood=lambda nodes, xt, now, then: normal(
            xt, math.sqrt(then) * nodes, math.sqrt(1 - then)))),
        ("likelihood without √ᾱ", denoising(likelihood=lambda nodes, xt, now, then: normal(
            xt, nodes, math.sqrt(1 - now)))),
        ("likelihood's width is a variance", denoising(likelihood=lambda nodes, xt, now, then: normal(
            xt, math.sqrt(now) * nodes, 1 - now))),
        ("x_t forgotten given x_0", denoising(lambda p, like: p * like, of_x0=lambda now, then: math.sqrt(then),
                                              of_xt=lambda now, then: 0, std=lambda now, then: math.sqrt(1 - then))),
        ("one mean x_0", denoising(nodes_seen=one_mean)),
        ("the likeliest x_0", denoising(nodes_seen=lambda w, nodes: (torch.ones_like(w[:1]), nodes[w.argmax()][None]))),
        ("variance for the width", denoising(std=lambda now, then: (1 - then) / (1 - now) * (1 - now / then))),
        ("width of the step forth", denoising(std=lambda now, then: math.sqrt(1 - now / then))),
        ("width of x_s", denoising(std=lambda now, then: math.sqrt(1 - then))),
        ("printed √ᾱ_t", denoising(of_xt=lambda now, then: math.sqrt(now) * (1 - then) / (1 - now))),
        ("β is 1 − ᾱ_t", denoising(of_x0=lambda now, then: math.sqrt(then), std=lambda now, then: math.sqrt(1 - then))),
        ("weights exchanged", denoising(of_x0=lambda now, then: math.sqrt(now / then) * (1 - then) / (1 - now),
                                        of_xt=lambda now, then: math.sqrt(then) * (1 - now / then) / (1 - now))),
        ("logarithm", denoising(after=lambda q, xs: q.log())),
        ("no 2π", denoising(after=lambda q, xs: q * math.sqrt(2 * math.pi))),
        ("cumulated", denoising(after=lambda q, xs: q.cumsum(0))),
        ("on the nodes", lambda nodes, p, xs, *rest: denoising()(nodes, p, nodes, *rest)),
        ("float32", denoising(after=lambda q, xs: q.float())),
    ],
    "ddgan.pair": [
        ("x_t drawn by itself", second(lambda x0, x, eps, u, now, then: now.sqrt() * x0 + (1 - now).sqrt() * u)),
        ("x_t with the same ε", second(lambda x0, x, eps, u, now, then: now.sqrt() * x0 + (1 - now).sqrt() * eps)),
        ("noised to t all over", second(lambda x0, x, eps, u, now, then: now.sqrt() * x + (1 - now).sqrt() * u)),
        ("noise of all steps", second(lambda x0, x, eps, u, now, then: (now / then).sqrt() * x + (1 - now).sqrt() * u)),
        ("u is ε", second(lambda x0, x, eps, u, now, then: (now / then).sqrt() * x + (1 - now / then).sqrt() * eps)),
        ("x_t from x_0", second(lambda x0, x, eps, u, now, then: (now / then).sqrt() * x0 + (1 - now / then).sqrt() * u)),
        ("another β", second(lambda x0, x, eps, u, now, then: then.sqrt() * x + (1 - then).sqrt() * u)),
        ("β for √β", paired(after=lambda x, u, a: a.sqrt() * x + (1 - a) * u)),
        ("√β and √(1 − β) exchanged", paired(after=lambda x, u, a: (1 - a).sqrt() * x + a.sqrt() * u)),
        ("α for √α", paired(after=lambda x, u, a: a * x + (1 - a).sqrt() * u)),
        ("no roots in the step", paired(after=lambda x, u, a: a * x + (1 - a) * u)),
        ("not shrunk", paired(after=lambda x, u, a: x + (1 - a).sqrt() * u)),
        ("whole noise", paired(after=lambda x, u, a: a.sqrt() * x + u)),
        ("no noise in the step", paired(after=lambda x, u, a: a.sqrt() * x)),
        ("fresh noise in the step", paired(after=lambda x, u, a: a.sqrt() * x + (1 - a).sqrt() * torch.randn_like(u))),
        ("x_{t−1} at t", paired(lambda x0, eps, now, then: now.sqrt() * x0 + (1 - now).sqrt() * eps)),
        ("x_{t−1} is x_0", paired(lambda x0, eps, now, then: x0)),
        ("x_{t−1} one step from x_0", paired(lambda x0, eps, now, then: (now / then).sqrt() * x0
                                             + (1 - now / then).sqrt() * eps)),
        ("variance for width", paired(lambda x0, eps, now, then: then.sqrt() * x0 + (1 - then) * eps)),
        ("no roots", paired(lambda x0, eps, now, then: then * x0 + (1 - then) * eps)),
        ("data whole", paired(lambda x0, eps, now, then: x0 + (1 - then).sqrt() * eps)),
        ("no noise", paired(lambda x0, eps, now, then: then.sqrt() * x0)),
        ("data and noise exchanged", paired(lambda x0, eps, now, then: (1 - then).sqrt() * x0 + then.sqrt() * eps)),
        ("ε and u exchanged", noise_exchanged),
        ("index wrapped round", paired(levels=wrapped)),
        ("index clamped", paired(levels=clamped)),
        ("one time later", paired(levels=one_later)),
        ("along the columns", paired(levels=along_columns)),
        ("vectors only", paired(levels=vectors_only)),
        ("one time for all", paired(levels=one_time)),
        ("x_t first", paired(total=lambda x, y: (y, x))),
        ("x_t alone", paired(total=lambda x, y: y)),
        ("stacked in the wrong way", paired(total=lambda x, y: torch.stack([x, y], 1))),
        ("float32", paired(total=lambda x, y: (x.float(), y.float()))),
    ],
    "ddgan.posterior_step": [
        ("printed √ᾱ_t", posterior(of_xt=lambda now, then: now.sqrt() * (1 - then) / (1 - now))),
        ("variance for width", posterior(std=lambda now, then: (1 - then) / (1 - now) * (1 - now / then))),
        ("width of the step forth", posterior(std=forth)),
        ("width of the step forth, masked", posterior(std=forth, mask=silent_end)),
        ("noise at the last step", posterior(mask=lambda std, last: torch.where(last, 1.0, std))),
        ("noise at the last step, a little", posterior(std=lambda now, then: ((1 - then).clamp(min=0.02) / (1 - now)
                                                                              * (1 - now / then)).sqrt())),
        ("no noise", posterior(std=lambda now, then: 0 * now)),
        ("noise at the last step only", posterior(std=forth, mask=silent_beginning)),
        ("noise whole", posterior(std=lambda now, then: torch.ones_like(now))),
        ("noise whole, masked", posterior(std=lambda now, then: torch.ones_like(now), mask=silent_end)),
        ("noise taken off", posterior(std=lambda now, then: -((1 - then) / (1 - now) * (1 - now / then)).sqrt())),
        ("the guess", posterior(after=lambda x, x0, xt: x0)),
        ("x_t", posterior(after=lambda x, x0, xt: xt)),
        ("anew", anew),
        ("DDIM", ddim),
        ("weights exchanged", posterior(of_x0=lambda now, then: (now / then).sqrt() * (1 - then) / (1 - now),
                                        of_xt=lambda now, then: then.sqrt() * (1 - now / then) / (1 - now))),
        ("no roots", posterior(lambda now, then: then * (1 - now / then) / (1 - now),
                               lambda now, then: now / then * (1 - then) / (1 - now))),
        ("not divided", posterior(lambda now, then: then.sqrt() * (1 - now / then),
                                  lambda now, then: (now / then).sqrt() * (1 - then))),
        ("index wrapped round", posterior(levels=wrapped)),
        ("index wrapped round, noise masked", posterior(levels=wrapped, mask=silent_end)),
        ("index clamped", posterior(levels=clamped)),
        ("one time later", posterior(levels=one_later)),
        ("along the columns", posterior(levels=along_columns)),
        ("vectors only", posterior(levels=vectors_only)),
        ("one time for all", posterior(levels=one_time)),
        ("detached guess", lambda x0, *rest: posterior()(x0.detach(), *rest)),
        ("no_grad", without_gradient),
        ("fresh noise", fresh_noise),
        ("clamped to [−1, 1]", posterior(after=lambda x, x0, xt: x.clamp(-1, 1))),
        ("float32", posterior(after=lambda x, x0, xt: x.float())),
    ],
}  # fmt: skip
