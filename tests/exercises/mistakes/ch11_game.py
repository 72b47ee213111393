"""What students typically get wrong about game and sampling in chapter 11: exercise -> [(what is wrong, function)]."""

import math

import torch
from torch.autograd import grad
from torch.nn.functional import softplus


def slope_of(value, x):
    return grad(value.sum(), x, create_graph=True)[0]


def squared(slope):
    return slope.flatten(1).square().sum(1)


def r1(judge, before, fake, xt, t, gamma):
    at = before.detach().requires_grad_()
    return gamma / 2 * squared(slope_of(judge(at, xt, t), at))


def judged(
    real=lambda judge, before, xt, t: softplus(-judge(before, xt, t)),
    made=lambda judge, fake, before, xt, t: softplus(judge(fake, xt, t)),
    penalty=r1,
    total=lambda r, f, p: r + f + p,
):
    """discriminator_loss with other terms, another penalty, another sum."""

    def discriminator_loss(judge, before, fake, xt, t, gamma):
        return total(
            real(judge, before, xt, t),
            made(judge, fake, before, xt, t),
            penalty(judge, before, fake, xt, t, gamma),
        )

    return discriminator_loss


def fakes_beside(other):
    """The fakes judged beside other(fake, before, x_t)."""
    return judged(made=lambda judge, fake, before, xt, t: softplus(judge(fake, other(fake, before, xt), t)))


def told(time):
    return judged(
        lambda judge, before, xt, t: softplus(-judge(before, xt, time(t))),
        lambda judge, fake, before, xt, t: softplus(judge(fake, xt, time(t))),
    )


def at_fakes(judge, before, fake, xt, t, gamma):
    return r1(judge, fake, before, xt, t, gamma)


def both_inputs(judge, before, fake, xt, t, gamma):
    x, y = before.detach().requires_grad_(), xt.detach().requires_grad_()
    slopes = grad(judge(x, y, t).sum(), (x, y), create_graph=True)
    return gamma / 2 * sum(squared(s) for s in slopes)


def condition_only(judge, before, fake, xt, t, gamma):
    y = xt.detach().requires_grad_()
    return gamma / 2 * squared(slope_of(judge(before, y, t), y))


def arguments_exchanged(judge, before, fake, xt, t, gamma):
    at = before.detach().requires_grad_()
    return gamma / 2 * squared(slope_of(judge(xt, at, t), at))


def penalty_of(measure, reduce=torch.sum, value=lambda d: d):
    """A penalty with another measure(slope, γ) of another value's slope."""

    def penalty(judge, before, fake, xt, t, gamma):
        at = before.detach().requires_grad_()
        return measure(grad(reduce(value(judge(at, xt, t))), at, create_graph=True)[0], gamma)

    return penalty


def slope_of_the_loss(judge, before, fake, xt, t, gamma):
    x, y = before.detach().requires_grad_(), fake.detach().requires_grad_()
    loss = softplus(-judge(x, xt, t)) + softplus(judge(y, xt, t))
    return gamma / 2 * sum(squared(s) for s in grad(loss.sum(), (x, y), create_graph=True))


def slope_without_graph(judge, before, fake, xt, t, gamma):
    at = before.detach().requires_grad_()
    return gamma / 2 * squared(grad(judge(at, xt, t).sum(), at)[0])


def no_slope_wanted(judge, before, fake, xt, t, gamma):
    return gamma / 2 * squared(slope_of(judge(before, xt, t), before))


def by_backward(judge, before, fake, xt, t, gamma):
    at = before.detach().requires_grad_()
    judge(at, xt, t).sum().backward(create_graph=True)
    return gamma / 2 * squared(at.grad)


def under_no_grad(judge, fake, before, xt, t):
    with torch.no_grad():
        return softplus(judge(fake, xt, t))


def by_logarithms(judge, before, fake, xt, t, gamma):
    real, made = judge(before, xt, t).sigmoid(), judge(fake, xt, t).sigmoid()
    return -real.log() - (1 - made).log() + r1(judge, before, fake, xt, t, gamma)


def by_careful_logarithms(judge, before, fake, xt, t, gamma):
    real, made = judge(before, xt, t).sigmoid(), judge(fake, xt, t).sigmoid()
    return -(real + 1e-8).log() - (1 - made + 1e-8).log() + r1(judge, before, fake, xt, t, gamma)


def levels(alpha_bars, k):
    return float(alpha_bars[k]), float(alpha_bars[k - 1]) if k else 1.0


def step_back(guess, x, k, eps, alpha_bars, *, printed=False):
    now, then = levels(alpha_bars, k)
    alpha = now / then
    root = math.sqrt(now if printed else alpha)
    mean = math.sqrt(then) * (1 - alpha) / (1 - now) * guess + root * (1 - then) / (1 - now) * x
    return mean, (1 - then) / (1 - now) * (1 - alpha)


def printed(guess, x, k, eps, alpha_bars):
    mean, variance = step_back(guess, x, k, eps, alpha_bars, printed=True)
    return mean + math.sqrt(variance) * eps


def right(guess, x, k, eps, alpha_bars):
    mean, variance = step_back(guess, x, k, eps, alpha_bars)
    return mean + math.sqrt(variance) * eps


def forth(guess, x, k, eps, alpha_bars):
    now, then = levels(alpha_bars, k)
    return step_back(guess, x, k, eps, alpha_bars)[0] + math.sqrt(1 - now / then) * eps


def variance_for_width(guess, x, k, eps, alpha_bars):
    mean, variance = step_back(guess, x, k, eps, alpha_bars)
    return mean + variance * eps


def anew(guess, x, k, eps, alpha_bars):
    _, then = levels(alpha_bars, k)
    return math.sqrt(then) * guess + math.sqrt(1 - then) * eps


def anew_at_t(guess, x, k, eps, alpha_bars):
    now, _ = levels(alpha_bars, k)
    return math.sqrt(now) * guess + math.sqrt(1 - now) * eps


def wrapped(guess, x, k, eps, alpha_bars):
    if k:
        return right(guess, x, k, eps, alpha_bars)
    now, then = float(alpha_bars[0]), float(alpha_bars[-1])
    return math.sqrt(then) * guess + math.sqrt(abs(1 - now / then)) * x + math.sqrt(1 - then) * eps


def drawn(
    back=right,
    z=lambda z: z,
    eps=lambda e: e,
    times=lambda T: range(T - 1, -1, -1),
    told=lambda t: t,
    after=lambda x, first: x,
):
    """sample with another step back, other noise, other times."""

    def sample(generator, x, latents, noise, alpha_bars):
        first, latents, noise = x, z(latents), eps(noise)
        for k in times(len(alpha_bars)):
            guess = generator(x, told(torch.full((len(x),), k)), latents[k])
            x = back(guess, x, k, noise[k], alpha_bars)
        return after(x, first)

    return sample


def time_as_a_number(generator, x, z, eps, alpha_bars):
    for k in reversed(range(len(alpha_bars))):
        x = right(generator(x, k, z[k]), x, k, eps[k], alpha_bars)
    return x


def time_as_a_share(t):
    return t / 4


def noise_within(e):
    return torch.randn_like(e)


def edited(
    start=lambda x, eps, a: a.sqrt() * x + (1 - a).sqrt() * eps,
    times=lambda k, T: range(k, -1, -1),
    level=lambda bars, k: bars[k],
    told=lambda t, k: t,
    after=lambda x, begin, drawing: x,
):
    """stroke_edit with another start, other times, another level."""

    def stroke_edit(step, drawing, k, eps, alpha_bars):
        begin = x = start(drawing, eps, level(alpha_bars, k))
        for t in times(k, len(alpha_bars)):
            x = step(x, told(t, k))
        return after(x, begin, drawing)

    return stroke_edit


def noised_at_every_step(step, drawing, k, eps, alpha_bars):
    x = drawing
    for t in range(k, -1, -1):
        x = step(alpha_bars[t].sqrt() * x + (1 - alpha_bars[t]).sqrt() * eps, t)
    return x


def from_the_start_each_time(step, drawing, k, eps, alpha_bars):
    begin = alpha_bars[k].sqrt() * drawing + (1 - alpha_bars[k]).sqrt() * eps
    for t in range(k, -1, -1):
        x = step(begin, t)
    return x


def times_as_tensors(step, drawing, k, eps, alpha_bars):
    return edited(told=lambda t, k: torch.full((len(drawing),), t))(step, drawing, k, eps, alpha_bars)


def end_of_the_chain(bars, k):
    return bars[-1]


def below(bars, k):
    return bars[k - 1] if k else torch.ones_like(bars[0])


MISTAKES = {
    "ddgan.discriminator_loss": [
        ("signs exchanged", judged(lambda judge, x, y, t: softplus(judge(x, y, t)),
                                   lambda judge, f, x, y, t: softplus(-judge(f, y, t)))),
        ("all real", judged(made=lambda judge, f, x, y, t: softplus(-judge(f, y, t)))),
        ("all fake", judged(lambda judge, x, y, t: softplus(judge(x, y, t)))),
        ("no fakes", judged(total=lambda r, f, p: r + p)),
        ("no data", judged(total=lambda r, f, p: f + p)),
        ("subtracted", judged(total=lambda r, f, p: r - f + p)),
        ("turned round", judged(total=lambda r, f, p: -r - f + p)),
        ("half", judged(total=lambda r, f, p: (r + f) / 2 + p)),
        ("Wasserstein", judged(lambda judge, x, y, t: -judge(x, y, t), lambda judge, f, x, y, t: judge(f, y, t))),
        ("hinge", judged(lambda judge, x, y, t: (1 - judge(x, y, t)).relu(),
                         lambda judge, f, x, y, t: (1 + judge(f, y, t)).relu())),
        ("no logarithms", judged(lambda judge, x, y, t: (-judge(x, y, t)).sigmoid(),
                                 lambda judge, f, x, y, t: judge(f, y, t).sigmoid())),
        ("logarithms of probabilities", by_logarithms),
        ("logarithms of probabilities and 1e-8", by_careful_logarithms),
        ("fakes beside another x_t", fakes_beside(lambda f, x, y: y.flip(0))),
        ("fakes beside the next x_t", fakes_beside(lambda f, x, y: y.roll(1, 0))),
        ("fakes beside shuffled x_t", fakes_beside(lambda f, x, y: y[torch.randperm(len(y))])),
        ("fakes beside the real x_{t−1}", fakes_beside(lambda f, x, y: x)),
        ("fakes beside themselves", fakes_beside(lambda f, x, y: f)),
        ("fakes second", judged(made=lambda judge, f, x, y, t: softplus(judge(y, f, t)))),
        ("x_t first", judged(lambda judge, x, y, t: softplus(-judge(y, x, t)),
                             lambda judge, f, x, y, t: softplus(judge(y, f, t)))),
        ("told t − 1", told(lambda t: t - 1)),
        ("told t + 1", told(lambda t: t + 1)),
        ("told 0", told(torch.zeros_like)),
        ("R1 at the fakes", judged(penalty=at_fakes)),
        ("R1 at both", judged(penalty=lambda *a: r1(*a) + at_fakes(*a))),
        ("R1 in x_t, too", judged(penalty=both_inputs)),
        ("R1 in x_t", judged(penalty=condition_only)),
        ("R1 with x_t first", judged(penalty=arguments_exchanged)),
        ("γ for γ/2", judged(penalty=lambda *a: 2 * r1(*a))),
        ("no γ", judged(penalty=penalty_of(lambda s, g: squared(s)))),
        ("γ squared", judged(penalty=penalty_of(lambda s, g: squared(g * s) / 2))),
        ("length", judged(penalty=penalty_of(lambda s, g: g / 2 * squared(s).sqrt()))),
        ("mean over dimensions", judged(penalty=penalty_of(lambda s, g: g / 2 * s.flatten(1).square().mean(1)))),
        ("sum over rows", judged(penalty=penalty_of(lambda s, g: g / 2 * s.square().sum(0)))),
        ("slope of the mean", judged(penalty=penalty_of(lambda s, g: g / 2 * squared(s), reduce=torch.mean))),
        ("mean over the batch", judged(penalty=penalty_of(lambda s, g: g / 2 * squared(s).mean()))),
        ("sum over the batch", judged(penalty=penalty_of(lambda s, g: g / 2 * s.square().sum()))),
        ("slope of 1", judged(penalty=penalty_of(lambda s, g: g / 2 * (squared(s).sqrt() - 1) ** 2))),
        ("slope of the probability", judged(penalty=penalty_of(lambda s, g: g / 2 * squared(s), value=torch.sigmoid))),
        ("slope of the real loss", judged(penalty=penalty_of(lambda s, g: g / 2 * squared(s),
                                                             value=lambda d: softplus(-d)))),
        ("slope of the loss", judged(penalty=slope_of_the_loss)),
        ("R1 taken off", judged(total=lambda r, f, p: r + f - p)),
        ("no R1", judged(total=lambda r, f, p: r + f)),
        ("no graph of the slope", judged(penalty=slope_without_graph)),
        ("R1 detached", judged(total=lambda r, f, p: r + f + p.detach())),
        ("game detached", judged(total=lambda r, f, p: (r + f).detach() + p)),
        ("no slope wanted", judged(penalty=no_slope_wanted)),
        ("by backward", judged(penalty=by_backward)),
        ("fakes under no_grad", judged(made=under_no_grad)),
        ("mean", judged(total=lambda r, f, p: (r + f + p).mean())),
        ("mean of the game", judged(total=lambda r, f, p: r.mean() + f.mean() + p)),
        ("float32", judged(total=lambda r, f, p: (r + f + p).float())),
        ("a triple", judged(total=lambda r, f, p: (r, f, p))),
    ],
    "ddgan.sample": [
        ("one z", drawn(z=lambda z: z[:1].expand_as(z))),
        ("the first z", drawn(z=lambda z: z[-1:].expand_as(z))),
        ("one ε", drawn(eps=lambda e: e[-1:].expand_as(e))),
        ("z drawn inside", drawn(z=noise_within)),
        ("ε drawn inside", drawn(eps=noise_within)),
        ("z in reverse", drawn(z=lambda z: z.flip(0))),
        ("ε in reverse", drawn(eps=lambda e: e.flip(0))),
        ("both in reverse", drawn(z=lambda z: z.flip(0), eps=lambda e: e.flip(0))),
        ("no z", drawn(z=torch.zeros_like)),
        ("no ε", drawn(eps=torch.zeros_like)),
        ("noise of the step forth", drawn(forth)),
        ("noise of the step forth, none at the end", drawn(lambda g, x, k, e, a: forth(g, x, k, e if k else 0 * e, a))),
        ("noise at the last step", drawn(lambda g, x, k, e, a: right(g, x, k, e, a) + (0 if k else e))),
        ("the guess handed on", drawn(lambda g, x, k, e, a: g)),
        ("variance for width", drawn(variance_for_width)),
        ("printed √ᾱ_t", drawn(printed)),
        ("noised anew", drawn(anew)),
        ("noised anew to t", drawn(anew_at_t)),
        ("index wrapped round", drawn(wrapped)),
        ("the weights exchanged", drawn(lambda g, x, k, e, a: right(x, g, k, e, a))),
        ("ε taken off", drawn(eps=torch.neg)),
        ("one step", drawn(times=lambda T: [T - 1])),
        ("one guess", drawn(lambda g, x, k, e, a: g, times=lambda T: [T - 1])),
        ("no last step", drawn(times=lambda T: range(T - 1, 0, -1))),
        ("no first step", drawn(times=lambda T: range(T - 2, -1, -1))),
        ("upwards", drawn(times=range)),
        ("told t + 1", drawn(told=lambda t: t + 1)),
        ("told t − 1", drawn(told=lambda t: t - 1)),
        ("told 0", drawn(told=torch.zeros_like)),
        ("told a share of T", drawn(told=time_as_a_share)),
        ("told a number", time_as_a_number),
        ("x_T", drawn(after=lambda x, first: first)),
        ("clamped to [−1, 1]", drawn(after=lambda x, first: x.clamp(-1, 1))),
        ("squeezed", drawn(after=lambda x, first: x.flatten())),
        ("float32", drawn(after=lambda x, first: x.float())),
    ],
    "ddgan.stroke_edit": [
        ("no noise", edited(lambda x, eps, a: x)),
        ("shrunk only", edited(lambda x, eps, a: a.sqrt() * x)),
        ("not shrunk", edited(lambda x, eps, a: x + (1 - a).sqrt() * eps)),
        ("both whole", edited(lambda x, eps, a: x + eps)),
        ("noise whole", edited(lambda x, eps, a: a.sqrt() * x + eps)),
        ("noise alone", edited(lambda x, eps, a: eps)),
        ("noise alone, with its width", edited(lambda x, eps, a: (1 - a).sqrt() * eps)),
        ("variance for width", edited(lambda x, eps, a: a.sqrt() * x + (1 - a) * eps)),
        ("no roots", edited(lambda x, eps, a: a * x + (1 - a) * eps)),
        ("ᾱ for √ᾱ", edited(lambda x, eps, a: a * x + (1 - a).sqrt() * eps)),
        ("exchanged", edited(lambda x, eps, a: (1 - a).sqrt() * x + a.sqrt() * eps)),
        ("noise taken off", edited(lambda x, eps, a: a.sqrt() * x - (1 - a).sqrt() * eps)),
        ("fresh noise", edited(lambda x, eps, a: a.sqrt() * x + (1 - a).sqrt() * torch.randn_like(x))),
        ("noise of k − 1", edited(level=below)),
        ("noise of k − 1, from there", edited(level=below, times=lambda k, T: range(k - 1, -1, -1))),
        ("noise of T − 1", edited(level=end_of_the_chain)),
        ("all of the chain", edited(level=end_of_the_chain, times=lambda k, T: range(T - 1, -1, -1))),
        ("all of the chain from x_k", edited(times=lambda k, T: range(T - 1, -1, -1))),
        ("first step missing", edited(times=lambda k, T: range(k - 1, -1, -1))),
        ("last step missing", edited(times=lambda k, T: range(k, 0, -1))),
        ("a step at k + 1", edited(times=lambda k, T: range(k + 1, -1, -1))),
        ("a step at −1", edited(times=lambda k, T: range(k, -2, -1))),
        ("upwards", edited(times=lambda k, T: range(k + 1))),
        ("one step", edited(times=lambda k, T: [k])),
        ("told k", edited(told=lambda t, k: k)),
        ("told t − 1", edited(told=lambda t, k: t - 1)),
        ("told t + 1", edited(told=lambda t, k: t + 1)),
        ("times as tensors", times_as_tensors),
        ("noised at every step", noised_at_every_step),
        ("every step from x_k", from_the_start_each_time),
        ("x_k", edited(after=lambda x, begin, drawing: begin)),
        ("the drawing", edited(after=lambda x, begin, drawing: drawing)),
        ("half and half with the drawing", edited(after=lambda x, begin, drawing: (x + drawing) / 2)),
        ("float32", edited(after=lambda x, begin, drawing: x.float())),
    ],
}  # fmt: skip
