"""What students typically get wrong about chains and their laws in chapter 10: exercise -> [(what is wrong, function)]."""

import math

import torch
from torch.autograd import grad


def summed(e):
    return e.sum()


def shaped(rho, z):
    return rho.reshape(-1, *[1] * z.ndim)


def chain(
    drift=lambda step: step / 2,
    kick=lambda noise, step: noise,
    total=summed,
    noises=lambda u: u,
    after=lambda x, start: x.detach(),
):
    """steps with another drift, other noise, another energy, other u, or something done to the result."""

    def steps(energy, x, u, step, noise):
        start = x.clone()
        for w in noises(u).unbind(1):
            x = x.detach().requires_grad_()
            x = x - drift(step) * grad(total(energy(x)), x)[0] + kick(noise, step) * w
        return after(x, start)

    return steps


def noise_first(energy, x, u, step, noise):
    for w in u.unbind(1):
        x = (x + noise * w).detach().requires_grad_()
        x = x - step / 2 * grad(energy(x).sum(), x)[0]
    return x.detach()


def slope_of_the_start(energy, x, u, step, noise):
    x.requires_grad_()
    slope = grad(energy(x).sum(), x)[0]
    for w in u.unbind(1):
        x = x - step / 2 * slope + noise * w
    return x.detach()


def slopes_pile_up(energy, x, u, step, noise):
    slope = 0
    for w in u.unbind(1):
        x = x.detach().requires_grad_()
        slope = slope + grad(energy(x).sum(), x)[0]
        x = x - step / 2 * slope + noise * w
    return x.detach()


def backward(energy, x, u, step, noise):
    for w in u.unbind(1):
        x = x.detach().requires_grad_()
        energy(x).sum().backward()
        x = x - step / 2 * x.grad + noise * w
    return x.detach()


def backward_and_zero(energy, x, u, step, noise):
    end = backward(energy, x, u, step, noise)
    if isinstance(energy, torch.nn.Module):
        energy.zero_grad()
    return end


def frozen(energy, x, u, step, noise):
    if isinstance(energy, torch.nn.Module):
        energy.requires_grad_(False)
    return chain()(energy, x, u, step, noise)


def graph_of_the_way(energy, x, u, step, noise):
    x = x.requires_grad_()
    for w in u.unbind(1):
        x = x - step / 2 * grad(energy(x).sum(), x, create_graph=True)[0] + noise * w
    return x


def under_no_grad(energy, x, u, step, noise):
    with torch.no_grad():
        return chain()(energy, x, u, step, noise)


def u_by_steps(energy, x, u, step, noise):
    return chain(noises=lambda u: u.transpose(0, 1))(energy, x, u, step, noise)


def flat(energy, x, u, step, noise):
    return chain(after=lambda x, start: x.detach().flatten(1))(energy, x, u, step, noise)


def as_many_as_points(energy, x, u, step, noise):
    return chain(noises=lambda u: u[:, : len(u)])(energy, x, u, step, noise)


def trained(energy, x, u, step, noise):
    end = chain()(energy, x, u, step, noise)
    if isinstance(energy, torch.nn.Module):
        with torch.no_grad():
            energy.weight -= 1e-3 * energy.weight.grad
    return end


def mixed(first=lambda rho: rho, second=lambda rho: (1 - rho**2).sqrt()):
    """interpolate with other factors."""
    return lambda z1, z2, rho: first(shaped(rho, z1)) * z1 + second(shaped(rho, z2)) * z2


def slerp(z1, z2, rho):
    angle = torch.arccos((z1 * z2).sum() / (z1.norm() * z2.norm()))
    rho = shaped(rho, z1)
    return (rho * angle).sin() / angle.sin() * z1 + ((1 - rho) * angle).sin() / angle.sin() * z2


def rescaled(z1, z2, rho):
    z = mixed()(z1, z2, rho)
    return z / z.std()


def normalised(z1, z2, rho):
    z = mixed()(z1, z2, rho)
    return z / shaped(z.flatten(1).norm(dim=1), z1)


def law(
    t=lambda eta, sigma, a: sigma**2 / eta,
    rate=lambda eta, a: (1 - eta * a / 2) ** 2,
    kick=lambda sigma, eta: sigma**2,
    begin=lambda v: v,
    after=lambda v: v,
    last=lambda eta, sigma, a, rate, v0, after: sigma**2 / (1 - rate),
    count=lambda k: k,
):
    """temperature with another T, another recursion, or another end."""

    def temperature(step, noise, curvature, start, steps):
        r, v = rate(step, curvature), begin(start)
        for _ in range(count(steps)):
            v = r * v + kick(noise, step)
        right = (1 - step * curvature / 2) ** 2
        return t(step, noise, curvature), after(v), last(step, noise, curvature, right, start, v)

    return temperature


def nearing(limit, rate):
    """temperature with v_K on its way from v₀ to another limit, or at another rate."""

    def temperature(step, noise, curvature, start, steps):
        t, _, last = law()(step, noise, curvature, start, steps)
        end, r = limit(t, curvature, last), rate(step * curvature)
        return t, end + r**steps * (start - end), last

    return temperature


def noise_not_shrinking(step, noise, curvature, start, steps):
    t, _, last = law()(step, noise, curvature, start, steps)
    return t, (1 - step * curvature / 2) ** (2 * steps) * start + steps * noise**2, last


def divided_by_noise(step, noise, curvature, start, steps):
    t, v, last = law()(step, noise, curvature, start, steps)
    return t, v, 1 / (curvature * (1 - step * curvature / 4) / t)


def many_steps_for_the_end(step, noise, curvature, start, steps):
    t, v, _ = law()(step, noise, curvature, start, steps)
    return t, v, law()(step, noise, curvature, start, 10)[1]


MISTAKES = {
    "short_run.steps": [
        ("uphill", chain(lambda h: -h / 2)),
        ("drift η", chain(lambda h: h)),
        ("drift η/4", chain(lambda h: h / 4)),
        ("drift 1", chain(lambda h: 1.0)),
        ("noise √η", chain(kick=lambda s, h: math.sqrt(h))),
        ("noise σ√η", chain(kick=lambda s, h: s * math.sqrt(h))),
        ("noise ση", chain(kick=lambda s, h: s * h)),
        ("noise σ²", chain(kick=lambda s, h: s**2)),
        ("noise √σ", chain(kick=lambda s, h: math.sqrt(s))),
        ("noise σ√2η", chain(kick=lambda s, h: s * math.sqrt(2 * h))),
        ("noise 1", chain(kick=lambda s, h: 1.0)),
        ("no noise", chain(kick=lambda s, h: 0.0)),
        ("noise subtracted", chain(kick=lambda s, h: -s)),
        ("noise √η where none is wanted", chain(kick=lambda s, h: s or math.sqrt(h))),
        ("noise drawn inside", chain(noises=torch.randn_like)),
        ("noise first", noise_first),
        ("one noise for all", chain(noises=lambda u: u[:, :1].expand_as(u))),
        ("noise in reverse", chain(noises=lambda u: u.flip(1))),
        ("no noise at the end", chain(noises=lambda u: torch.cat([u[:, :-1], 0 * u[:, :1]], 1))),
        ("one step", chain(noises=lambda u: u[:, :1])),
        ("a step too few", chain(noises=lambda u: u[:, :-1])),
        ("a step too many", chain(noises=lambda u: torch.cat([u, 0 * u[:, :1]], 1))),
        ("as many steps as points", as_many_as_points),
        ("steps along the batch", u_by_steps),
        ("mean energy", chain(total=torch.mean)),
        ("mean energy, drift η", chain(lambda h: h, total=torch.mean)),
        ("no sum before the slope", chain(total=lambda e: e)),
        ("one chain's slope for all", chain(total=lambda e: e[0])),
        ("squeezed", chain(after=lambda x, start: x.detach().squeeze())),
        ("slope of the start", slope_of_the_start),
        ("slopes pile up", slopes_pile_up),
        ("backward into the weights", backward),
        ("backward, and the gradients set to zero", backward_and_zero),
        ("weights frozen for good", frozen),
        ("a training step on the way", trained),
        ("a graph left", chain(after=lambda x, start: x.requires_grad_())),
        ("the graph of all the way", graph_of_the_way),
        ("no_grad around it", under_no_grad),
        ("flat images", flat),
        ("x returned", chain(after=lambda x, start: start)),
        ("increment returned", chain(after=lambda x, start: (x - start).detach())),
        ("float32", chain(after=lambda x, start: x.detach().float())),
    ],
    "short_run.interpolate": [
        ("line", mixed(second=lambda r: 1 - r)),
        ("line, ends exchanged", mixed(lambda r: 1 - r, lambda r: r)),
        ("ends exchanged", mixed(lambda r: (1 - r**2).sqrt(), lambda r: r)),
        ("√(1 − ρ)", mixed(second=lambda r: (1 - r).sqrt())),
        ("no root", mixed(second=lambda r: 1 - r**2)),
        ("two roots", mixed(lambda r: r.sqrt(), lambda r: (1 - r).sqrt())),
        ("two roots, ends exchanged", mixed(lambda r: (1 - r).sqrt(), lambda r: r.sqrt())),
        ("√(1 + ρ²)", mixed(second=lambda r: (1 + r**2).sqrt())),
        ("two squares", mixed(lambda r: r**2, lambda r: 1 - r**2)),
        ("root of a negative number", mixed(second=lambda r: (r**2 - 1).sqrt())),
        ("(1 − ρ)²", mixed(second=lambda r: (1 - r) ** 2)),
        ("root of (1 − ρ)²", mixed(second=lambda r: ((1 - r) ** 2).sqrt())),
        ("absolute ρ² − 1", mixed(second=lambda r: (r**2 - 1).abs())),
        ("z₂ subtracted", mixed(second=lambda r: -(1 - r**2).sqrt())),
        ("z₂ whole", mixed(second=lambda r: 1)),
        ("z₁ whole", mixed(lambda r: 1)),
        ("no z₂", mixed(second=lambda r: 0)),
        ("no z₁", mixed(lambda r: 0)),
        ("half an angle", mixed(lambda r: (r * torch.pi / 2).sin(), lambda r: (r * torch.pi / 2).cos())),
        ("slerp", slerp),
        ("ε under the root", mixed(second=lambda r: (1 - r**2 + 1e-6).sqrt())),
        ("scaled by its spread", rescaled),
        ("normalised", normalised),
        ("divided by the sum of the factors", lambda z1, z2, rho: mixed()(z1, z2, rho)
         / shaped(rho + (1 - rho**2).sqrt(), z1)),
        ("no axes for ρ", lambda z1, z2, rho: rho * z1 + (1 - rho**2).sqrt() * z2),
        ("ρ along the batch", lambda z1, z2, rho: rho[:, None] * z1 + (1 - rho[:, None] ** 2).sqrt() * z2),
        ("vectors only", lambda z1, z2, rho: rho[:, None, None] * z1 + (1 - rho[:, None, None] ** 2).sqrt() * z2),
        ("axis at the end", lambda z1, z2, rho: mixed()(z1, z2, rho).movedim(0, -1)),
        ("one ρ", lambda z1, z2, rho: mixed()(z1, z2, rho[:1])[0]),
        ("mean ρ", lambda z1, z2, rho: mixed()(z1, z2, rho.mean().expand_as(rho))),
        ("fresh noise", lambda z1, z2, rho: mixed()(z1, torch.randn_like(z2), rho)),
        ("the other order", lambda z1, z2, rho: mixed()(z1, z2, rho.flip(0))),
        ("float32", lambda z1, z2, rho: mixed()(z1, z2, rho).float()),
        ("a list", lambda z1, z2, rho: list(mixed()(z1, z2, rho))),
    ],
    "short_run.temperature": [
        ("T of a whole step", law(lambda h, s, a: s**2 / (2 * h))),
        ("T twice", law(lambda h, s, a: 2 * s**2 / h)),
        ("σ/η", law(lambda h, s, a: s / h)),
        ("σ/√η", law(lambda h, s, a: s / h**0.5)),
        ("σ²/√η", law(lambda h, s, a: s**2 / h**0.5)),
        ("σ² as T", law(lambda h, s, a: s**2)),
        ("σ as T", law(lambda h, s, a: s)),
        ("σ²/η²", law(lambda h, s, a: s**2 / h**2)),
        ("σ²η", law(lambda h, s, a: s**2 * h)),
        ("η/σ²", law(lambda h, s, a: h / s**2)),
        ("T is 1", law(lambda h, s, a: 1.0)),
        ("η as T", law(lambda h, s, a: h)),
        ("T with the curvature", law(lambda h, s, a: s**2 / (h * a))),
        ("rate not squared", law(rate=lambda h, a: 1 - h * a / 2)),
        ("rate of η", law(rate=lambda h, a: (1 - h * a) ** 2)),
        ("rate of η/4", law(rate=lambda h, a: (1 - h * a / 4) ** 2)),
        ("rate grows", law(rate=lambda h, a: (1 + h * a / 2) ** 2)),
        ("rate without the curvature", law(rate=lambda h, a: (1 - h / 2) ** 2)),
        ("rate to first order", law(rate=lambda h, a: 1 - h * a)),
        ("noise σ", law(kick=lambda s, h: s)),
        ("noise η", law(kick=lambda s, h: h)),
        ("noise σ²η", law(kick=lambda s, h: s**2 * h)),
        ("no noise", law(kick=lambda s, h: 0.0)),
        ("no start", law(begin=lambda v: 0.0)),
        ("start squared", law(begin=lambda v: v**2)),
        ("root of the start", law(begin=math.sqrt)),
        ("deviation", law(after=math.sqrt)),
        ("a step fewer", law(count=lambda k: max(k - 1, 0))),
        ("a step more", law(count=lambda k: k + 1)),
        ("noise does not shrink", noise_not_shrinking),
        ("to T/a", nearing(lambda t, a, last: t / a, lambda c: (1 - c / 2) ** 2)),
        ("to T/a exponentially", nearing(lambda t, a, last: t / a, lambda c: math.exp(-c))),
        ("exponentially", nearing(lambda t, a, last: last, lambda c: math.exp(-c))),
        ("rate once", nearing(lambda t, a, last: last, lambda c: 1 - c / 2)),
        ("at the end at once", law(after=lambda v: v * 0)),
        ("end T/a", law(last=lambda h, s, a, rate, v0, v: s**2 / h / a)),
        ("end T", law(last=lambda h, s, a, rate, v0, v: s**2 / h)),
        ("end Ta", law(last=lambda h, s, a, rate, v0, v: s**2 / h * a)),
        ("end 1/a", law(last=lambda h, s, a, rate, v0, v: 1 / a)),
        ("end of unsquared rates", law(last=lambda h, s, a, rate, v0, v: s**2 / (h * a / 2))),
        ("end of σ", law(last=lambda h, s, a, rate, v0, v: s / (1 - rate))),
        ("end's deviation", law(last=lambda h, s, a, rate, v0, v: math.sqrt(s**2 / (1 - rate)))),
        ("end after K", law(last=lambda h, s, a, rate, v0, v: v)),
        ("end's correction turned round", law(last=lambda h, s, a, rate, v0, v: s**2 / h / (a * (1 + h * a / 4)))),
        ("end's correction twice", law(last=lambda h, s, a, rate, v0, v: s**2 / h / (a * (1 - h * a / 2)))),
        ("end 0", law(last=lambda h, s, a, rate, v0, v: 0.0)),
        ("end v₀", law(last=lambda h, s, a, rate, v0, v: v0)),
        ("end with noise first", law(last=lambda h, s, a, rate, v0, v: rate * s**2 / (1 - rate))),
        ("end inf", law(last=lambda h, s, a, rate, v0, v: math.inf)),
        ("division by the noise", divided_by_noise),
        ("end by few steps", many_steps_for_the_end),
        ("temperature alone", lambda h, s, *rest: s**2 / h),
        ("two of three", lambda *args: law()(*args)[:2]),
        ("exchanged", lambda *args: law()(*args)[::-1]),
        ("strings", lambda *args: tuple(str(v) for v in law()(*args))),
    ],
}  # fmt: skip
