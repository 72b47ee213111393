"""What students typically get wrong in the chain of chapter 5: exercise -> [(what is wrong, function)]."""

import torch
from torch.nn.functional import mse_loss


def noisy(signal=lambda a: a**0.5, noise=lambda a: (1 - a) ** 0.5, axis=1):
    """q_sample with other weights, or with ᾱ spread along the other axis."""

    def sample(x0, eps, alpha_bar):
        a = alpha_bar.unsqueeze(axis)
        return signal(a) * x0 + noise(a) * eps

    return sample


right_noise = noisy()


def tied(
    of_x0=lambda a, bar, then: then**0.5 * (1 - a) / (1 - bar),
    of_xt=lambda a, bar, then: a**0.5 * (1 - then) / (1 - bar),
    variance=lambda a, bar, then: (1 - then) / (1 - bar) * (1 - a),
):
    """posterior with other weights or another variance, of α_t, ᾱ_t and ᾱ_{t−1}."""

    def law(x0, xt, alpha_bar, before):
        numbers = alpha_bar / before, alpha_bar, before
        return of_x0(*numbers) * x0 + of_xt(*numbers) * xt, variance(*numbers)

    return law


def precise_posterior(x0, xt, alpha_bar, before):
    """By inverse variances, one of which is infinite at the data."""
    alpha = torch.tensor(alpha_bar / before, dtype=x0.dtype)
    to_next, from_data = alpha / (1 - alpha), 1 / torch.tensor(1 - before, dtype=x0.dtype)
    variance = 1 / (to_next + from_data)
    return variance * (to_next * xt / alpha.sqrt() + from_data * before**0.5 * x0), variance


def trained(
    at=right_noise,
    seen=lambda xt, x0, eps: xt,
    target=lambda xt, x0, eps: eps,
    out=lambda v: v.square().sum(1),
    time=None,
):
    """simple_loss with another x_t, input of the net, target, reduction or time."""

    def loss(net, x0, t, eps, alpha_bars):
        xt = at(x0, eps, alpha_bars[t])
        told = time(t, alpha_bars) if time else t
        return out(target(xt, x0, eps) - net(seen(xt, x0, eps), told))

    return loss


def trained_by_place(net, x0, t, eps, alpha_bars):
    return (eps - net(noisy()(x0, eps, alpha_bars[: len(t)]), t)).square().sum(1)


def trained_without_graph(net, x0, t, eps, alpha_bars):
    with torch.no_grad():
        return trained()(net, x0, t, eps, alpha_bars)


def trained_by_column(net, x0, t, eps, alpha_bars):
    return (eps - net(noisy()(x0, eps, alpha_bars[t]), t[:, None])).square().sum(1)


def weighted(net, x0, t, eps, alpha_bars):
    return trained()(net, x0, t, eps, alpha_bars) / (1 - alpha_bars[t])


def back(
    mean=lambda xt, eps, a, bar, then: (xt - (1 - a) / (1 - bar) ** 0.5 * eps) / a**0.5,
    width=lambda a, bar, then: (1 - a) ** 0.5,
    end=True,
):
    """ancestral_step with another mean or width of the noise; `end`: no noise at the last step."""

    def step(xt, eps, alpha_bar, before, z):
        numbers = alpha_bar / before, alpha_bar, before
        silent = end and before == 1
        return mean(xt, eps, *numbers) + (0 if silent else width(*numbers)) * z

    return step


def datum(xt, eps, alpha_bar, before=None, z=None):
    return (xt - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5


def ancestral_by_new_noise(xt, eps, alpha_bar, before, z):
    return before**0.5 * datum(xt, eps, alpha_bar) + (1 - before) ** 0.5 * z


def ddim(signal=lambda bar, then: then**0.5, noise=lambda bar, then: (1 - then) ** 0.5, datum=datum):
    """ddim_step with other weights of the datum and the noise, or another datum."""
    return lambda xt, eps, bar, then: signal(bar, then) * datum(xt, eps, bar) + noise(bar, then) * eps


MISTAKES = {
    "diffusion.q_sample": [
        ("no roots", noisy(lambda a: a, lambda a: 1 - a)),
        ("variance for width", noisy(noise=lambda a: 1 - a)),
        ("ᾱ for √ᾱ", noisy(signal=lambda a: a)),
        ("weights sum to 1", noisy(noise=lambda a: 1 - a**0.5)),
        ("swapped", noisy(lambda a: (1 - a) ** 0.5, lambda a: a**0.5)),
        ("same weight", noisy(noise=lambda a: a**0.5)),
        ("data not shrunk", noisy(signal=lambda a: 1)),
        ("noise not scaled", noisy(noise=lambda a: 1)),
        ("noise taken off", noisy(noise=lambda a: -((1 - a) ** 0.5))),
        ("mean only", noisy(noise=lambda a: 0)),
        ("noise only", noisy(signal=lambda a: 0)),
        ("silently along the columns", noisy(axis=0)),
        ("one of two along the columns", lambda x0, eps, a: a[:, None] ** 0.5 * x0 + (1 - a) ** 0.5 * eps),
        ("mean ᾱ", lambda x0, eps, a: noisy()(x0, eps, a.mean().expand_as(a))),
        ("the first row's ᾱ", lambda x0, eps, a: noisy()(x0, eps, a[:1].expand_as(a))),
        ("noise of its own", lambda x0, eps, a: noisy()(x0, torch.randn_like(x0), a)),
        ("cumulative product taken again", lambda x0, eps, a: noisy()(x0, eps, a.cumprod(0))),
        ("in numpy", lambda x0, eps, a: noisy()(x0, eps, a).numpy()),
    ],
    "diffusion.posterior": [
        ("√ᾱ for √α, as printed", tied(of_xt=lambda a, bar, then: bar**0.5 * (1 - then) / (1 - bar))),
        ("√α in the weight of x_0", tied(of_x0=lambda a, bar, then: a**0.5 * (1 - a) / (1 - bar))),
        ("√ᾱ_t in the weight of x_0", tied(of_x0=lambda a, bar, then: bar**0.5 * (1 - a) / (1 - bar))),
        ("swapped weights", lambda x0, xt, bar, then: tied()(xt, x0, bar, then)),
        ("swapped times", lambda x0, xt, bar, then: tied()(x0, xt, then, bar)),
        ("no roots", tied(lambda a, bar, then: then * (1 - a) / (1 - bar), lambda a, bar, then: a * (1 - then) / (1 - bar))),
        ("no denominator", tied(lambda a, bar, then: then**0.5 * (1 - a), lambda a, bar, then: a**0.5 * (1 - then))),
        ("β of all steps", tied(of_x0=lambda a, bar, then: then**0.5)),
        ("no x_0", tied(of_x0=lambda *_: 0)),
        ("no x_t", tied(of_xt=lambda *_: 0)),
        ("β for β̃", tied(variance=lambda a, bar, then: 1 - a)),
        ("no β in β̃", tied(variance=lambda a, bar, then: (1 - then) / (1 - bar))),
        ("upside down", tied(variance=lambda a, bar, then: (1 - bar) / max(1 - then, 1e-20) * (1 - a))),
        ("width", tied(variance=lambda a, bar, then: ((1 - then) / (1 - bar) * (1 - a)) ** 0.5)),
        ("variance of x_{t−1}", tied(variance=lambda a, bar, then: 1 - then)),
        ("variance of x_t", tied(variance=lambda a, bar, then: 1 - bar)),
        ("a variance for each row", tied(variance=lambda a, bar, then: torch.full((3,), 1 - then, dtype=torch.float64))),
        ("infinite precision at the data", precise_posterior),
        ("mean only", lambda *arguments: tied()(*arguments)[0]),
    ],
    "diffusion.simple_loss": [
        ("mean over dimensions", trained(out=lambda v: v.square().mean(1))),
        ("mean over all", trained(out=lambda v: v.square().mean())),
        ("mean over data, for each", trained(out=lambda v: v.square().sum(1).mean().expand(len(v)))),
        ("half", trained(out=lambda v: 0.5 * v.square().sum(1))),
        ("length", trained(out=lambda v: v.norm(dim=1))),
        ("absolute values", trained(out=lambda v: v.abs().sum(1))),
        ("not summed", trained(out=lambda v: v.square())),
        ("mse_loss", lambda net, x0, t, eps, bars: mse_loss(net(noisy()(x0, eps, bars[t]), t), eps)),
        ("clean datum", trained(seen=lambda xt, x0, eps: x0)),
        ("net sees the noise", trained(seen=lambda xt, x0, eps: eps)),
        ("x_0 for a target", trained(target=lambda xt, x0, eps: x0)),
        ("x_t for a target", trained(target=lambda xt, x0, eps: xt)),
        ("sign", trained(target=lambda xt, x0, eps: -eps)),
        ("no target", trained(target=lambda xt, x0, eps: 0)),
        ("no roots", trained(noisy(lambda a: a, lambda a: 1 - a))),
        ("variance for width", trained(noisy(noise=lambda a: 1 - a))),
        ("ᾱ for √ᾱ", trained(noisy(signal=lambda a: a))),
        ("swapped", trained(noisy(lambda a: (1 - a) ** 0.5, lambda a: a**0.5))),
        ("silently along the columns", trained(noisy(axis=0))),
        ("time as a share", trained(time=lambda t, bars: t / len(bars))),
        ("time from 1", trained(time=lambda t, bars: t + 1)),
        ("told ᾱ", trained(time=lambda t, bars: bars[t])),
        ("told a number", trained(time=lambda t, bars: int(t[0]))),
        ("told a column", trained_by_column),
        ("ᾱ by place in the batch", trained_by_place),
        ("weighted as a score", weighted),
        ("no graph", trained_without_graph),
        ("detached", trained(out=lambda v: v.detach().square().sum(1))),
        ("noise drawn twice", lambda net, x0, t, eps, bars: trained()(net, x0, t, torch.randn_like(eps), bars)),
    ],
    "diffusion.ancestral_step": [
        ("noise at the last step", back(end=False)),
        ("no noise", back(width=lambda *_: 0)),
        ("β for √β", back(width=lambda a, bar, then: 1 - a)),
        ("√β̃ for √β", back(width=lambda a, bar, then: ((1 - then) / (1 - bar) * (1 - a)) ** 0.5)),
        ("β̃ for √β", back(width=lambda a, bar, then: (1 - then) / (1 - bar) * (1 - a))),
        ("noise of x_t", back(width=lambda a, bar, then: (1 - bar) ** 0.5)),
        ("noise of x_{t−1}", back(width=lambda a, bar, then: (1 - then) ** 0.5)),
        ("noise not scaled", back(width=lambda *_: 1)),
        ("noise not scaled, at the last step, too", back(width=lambda *_: 1, end=False)),
        ("√ᾱ for √α", back(lambda xt, eps, a, bar, then: (xt - (1 - a) / (1 - bar) ** 0.5 * eps) / bar**0.5)),
        ("α for √α", back(lambda xt, eps, a, bar, then: (xt - (1 - a) / (1 - bar) ** 0.5 * eps) / a)),
        ("not divided by √α", back(lambda xt, eps, a, bar, then: xt - (1 - a) / (1 - bar) ** 0.5 * eps)),
        ("multiplied by √α", back(lambda xt, eps, a, bar, then: (xt - (1 - a) / (1 - bar) ** 0.5 * eps) * a**0.5)),
        ("divided by 1 − ᾱ", back(lambda xt, eps, a, bar, then: (xt - (1 - a) / (1 - bar) * eps) / a**0.5)),
        ("not divided by √(1 − ᾱ)", back(lambda xt, eps, a, bar, then: (xt - (1 - a) * eps) / a**0.5)),
        ("√β in the weight of ε", back(lambda xt, eps, a, bar, then: (xt - ((1 - a) / (1 - bar)) ** 0.5 * eps) / a**0.5)),
        ("whole noise taken off", back(lambda xt, eps, a, bar, then: (xt - (1 - bar) ** 0.5 * eps) / a**0.5)),
        ("β by ᾱ_t", back(lambda xt, eps, a, bar, then: datum(xt, eps, bar), lambda a, bar, then: (1 - bar) ** 0.5)),
        ("ε added", back(lambda xt, eps, a, bar, then: (xt + (1 - a) / (1 - bar) ** 0.5 * eps) / a**0.5)),
        ("the datum", back(lambda xt, eps, a, bar, then: datum(xt, eps, bar), lambda *_: 0)),
        ("noised anew", ancestral_by_new_noise),
        ("DDIM", lambda xt, eps, bar, then, z: ddim()(xt, eps, bar, then)),
        ("noise taken off", back(width=lambda a, bar, then: -((1 - a) ** 0.5))),
        ("ε for z", lambda xt, eps, bar, then, z: back()(xt, eps, bar, then, eps)),
        ("noise of its own", lambda xt, eps, bar, then, z: back()(xt, eps, bar, then, torch.randn_like(z))),
    ],
    "diffusion.ddim_step": [
        ("the datum", datum),
        ("no noise", ddim(noise=lambda bar, then: 0)),
        ("variance for width", ddim(noise=lambda bar, then: 1 - then)),
        ("datum not shrunk", ddim(signal=lambda bar, then: 1)),
        ("ᾱ for √ᾱ", ddim(signal=lambda bar, then: then)),
        ("noise as before", ddim(noise=lambda bar, then: (1 - bar) ** 0.5)),
        ("signal as before", ddim(signal=lambda bar, then: bar**0.5)),
        ("both as before", lambda xt, eps, bar, then: xt),
        ("swapped weights", ddim(lambda bar, then: (1 - then) ** 0.5, lambda bar, then: then**0.5)),
        ("noise taken off", ddim(noise=lambda bar, then: -((1 - then) ** 0.5))),
        ("sign in the datum", ddim(datum=lambda xt, eps, bar: (xt + (1 - bar) ** 0.5 * eps) / bar**0.5)),
        ("variance in the datum", ddim(datum=lambda xt, eps, bar: (xt - (1 - bar) * eps) / bar**0.5)),
        ("ᾱ in the datum", ddim(datum=lambda xt, eps, bar: (xt - (1 - bar) ** 0.5 * eps) / bar)),
        ("datum not divided", ddim(datum=lambda xt, eps, bar: xt - (1 - bar) ** 0.5 * eps)),
        ("swapped times", lambda xt, eps, bar, then: ddim()(xt, eps, then, bar)),
        ("mean of the ancestral step", lambda xt, eps, bar, then: back(width=lambda *_: 0)(xt, eps, bar, then, xt)),
        ("fresh noise", lambda xt, eps, bar, then: ancestral_by_new_noise(xt, eps, bar, then, torch.randn_like(xt))),
        ("noise beside that of DDIM", lambda xt, eps, bar, then: ddim()(xt, eps, bar, then) + torch.randn_like(xt)),
        ("α of one step", lambda xt, eps, bar, then: ddim()(xt, eps, bar / then, then)),
    ],
}  # fmt: skip
