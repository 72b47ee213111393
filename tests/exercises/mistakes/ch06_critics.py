"""What students typically get wrong about critics and styles, chapter 6: exercise -> [(what is wrong, function)]."""

import torch


def slope(critic, x, create_graph=True, out=torch.sum):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(out(critic(x)), x, create_graph=create_graph)[0]


def penalised(
    length=lambda s: s.norm(dim=1),
    penalty=lambda n, w: w * (n - 1) ** 2,
    between=lambda real, fake, u: u[:, None] * real + (1 - u[:, None]) * fake,
    after=lambda p: p,
    **options,
):
    """gradient_penalty with another norm, penalty, or place, something done to it, or another way to the slope."""
    return lambda critic, real, fake, u, weight: after(
        penalty(length(slope(critic, between(real, fake, u), **options)), weight)
    )


def r1_of(penalty=lambda s, gamma: gamma / 2 * (s**2).sum(1), after=lambda p: p, **options):
    """r1 with another penalty on the slope, something done to it, or another way to the slope."""
    return lambda critic, real, gamma: after(penalty(slope(critic, real, **options), gamma))


def through_no_grad(critic, real, gamma):
    s = slope(critic, real)
    with torch.no_grad():
        return gamma / 2 * (s**2).sum(1)


def of_weights_detached(critic, real, fake, u, weight):
    return torch.tensor(penalised()(critic, real, fake, u, weight).tolist(), dtype=torch.float64)


def half_detached(critic, real, gamma):
    s = slope(critic, real)
    return gamma / 2 * (s * s.detach()).sum(1)


def penalty_half_detached(critic, real, fake, u, weight):
    return penalised(penalty=lambda n, w: w * (n - 1).detach() * (n - 1))(critic, real, fake, u, weight)


def r1_by_loss(critic, real, gamma):
    return r1_of()(lambda x: torch.nn.functional.softplus(-critic(x)), real, gamma)


def r1_by_probability(critic, real, gamma):
    return r1_of()(lambda x: torch.sigmoid(critic(x)), real, gamma)


def unit(x):
    return x / x.norm()


def power(
    to_v=lambda w, u: unit(w.T @ u),
    to_u=lambda w, v: unit(w @ v),
    sigma=lambda w, old, u, v: u @ w @ v,
    new=lambda w, old, u, v: u,
):
    """power_iteration with another update of v or u, another σ, or something else returned."""

    def run(w, old):
        v = to_v(w, old)
        u = to_u(w, v)
        return sigma(w, old, u, v), new(w, old, u, v)

    return run


def power_twice(w, u):
    return power()(w, power()(w, u)[1])


def power_by_svd(w, u):
    left, values, _ = torch.linalg.svd(w)
    return values[0], left[:, 0]


def styled(dims=(2, 3), correction=0, normal=lambda x, m, v: (x - m) / (v + 1e-5) ** 0.5, style=lambda x, a, b: a * x + b):
    """adain with statistics over other axes, another variance, or scale and shift put in otherwise."""

    def adain(x, scale, shift):
        mean, variance = x.mean(dims, keepdim=True), x.var(dims, correction=correction, keepdim=True)
        return style(normal(x, mean, variance), scale[:, :, None, None], shift[:, :, None, None])

    return adain


MISTAKES = {
    "gan.gradient_penalty": [
        ("u weighs the fakes", penalised(between=lambda r, f, u: u[:, None] * f + (1 - u[:, None]) * r)),
        ("u along the columns", penalised(between=lambda r, f, u: u * r + (1 - u) * f)),
        ("u of its own", penalised(between=lambda r, f, u: torch.lerp(f, r, torch.rand_like(u)[:, None]))),
        ("at the data", penalised(between=lambda r, f, u: r)),
        ("at the fakes", penalised(between=lambda r, f, u: f)),
        ("half-way", penalised(between=lambda r, f, u: (r + f) / 2)),
        ("data plus fakes", penalised(between=lambda r, f, u: r + u[:, None] * f)),
        ("from the data on", penalised(between=lambda r, f, u: r + u[:, None] * (f - r))),
        ("square outside", penalised(penalty=lambda n, w: w * (n.mean() - 1).square())),
        ("square outside, expanded", penalised(penalty=lambda n, w: (w * (n.mean() - 1) ** 2).expand(n.shape))),
        ("mean", penalised(after=torch.mean)),
        ("slope of the mean", penalised(out=torch.mean)),
        ("no sum", penalised(out=lambda t: t)),
        ("no target", penalised(penalty=lambda n, w: w * n**2)),
        ("squared norm", penalised(length=lambda s: (s**2).sum(1))),
        ("absolute", penalised(penalty=lambda n, w: w * (n - 1).abs())),
        ("no square", penalised(penalty=lambda n, w: w * (n - 1))),
        ("one-sided", penalised(penalty=lambda n, w: w * (n - 1).relu() ** 2)),
        ("no weight", penalised(penalty=lambda n, w: (n - 1) ** 2)),
        ("half", penalised(after=lambda p: p / 2)),
        ("weight squared", penalised(penalty=lambda n, w: (w * (n - 1)) ** 2)),
        ("norm over the rows", penalised(length=lambda s: s.norm(dim=0))),
        ("norm of all", penalised(length=lambda s: s.norm())),
        ("L1", penalised(length=lambda s: s.abs().sum(1))),
        ("largest", penalised(length=lambda s: s.abs().amax(1))),
        ("root mean square", penalised(length=lambda s: s.square().mean(1).sqrt())),
        ("sum of slopes", penalised(length=lambda s: s.sum(1))),
        ("critic's value", lambda critic, r, f, u, w: w * (critic(torch.lerp(f, r, u[:, None])) - 1) ** 2),
        ("no gradient asked for", lambda critic, r, f, u, w: w
         * (torch.autograd.grad(critic(r).sum(), r)[0].norm(dim=1) - 1) ** 2),
        ("graph thrown away", penalised(create_graph=False)),
        ("detached", penalised(after=torch.detach)),
        ("by numbers", of_weights_detached),
        ("half detached", penalty_half_detached),
        ("no_grad", lambda *a: torch.no_grad()(penalised())(*a)),
    ],
    "gan.r1": [
        ("no half", r1_of(lambda s, g: g * (s**2).sum(1))),
        ("norm", r1_of(lambda s, g: g / 2 * s.norm(dim=1))),
        ("norm, no half", r1_of(lambda s, g: g * s.norm(dim=1))),
        ("no γ", r1_of(lambda s, g: (s**2).sum(1) / 2)),
        ("no γ, no half", r1_of(lambda s, g: (s**2).sum(1))),
        ("γ squared", r1_of(lambda s, g: ((g * s) ** 2).sum(1) / 2)),
        ("γ/2 squared", r1_of(lambda s, g: ((g / 2 * s) ** 2).sum(1))),
        ("target 1", r1_of(lambda s, g: g / 2 * (s.norm(dim=1) - 1) ** 2)),
        ("slope of the mean", r1_of(out=torch.mean)),
        ("mean over the dimensions", r1_of(lambda s, g: g / 2 * (s**2).mean(1))),
        ("over the rows", r1_of(lambda s, g: g / 2 * (s**2).sum(0))),
        ("sum squared", r1_of(lambda s, g: g / 2 * s.sum(1) ** 2)),
        ("sum of slopes", r1_of(lambda s, g: g / 2 * s.sum(1))),
        ("absolute", r1_of(lambda s, g: g / 2 * s.abs().sum(1))),
        ("mean", r1_of(after=torch.mean)),
        ("sum of all", r1_of(after=torch.sum)),
        ("mean, expanded", r1_of(after=lambda p: p.mean().expand(p.shape))),
        ("sum, expanded", r1_of(after=lambda p: p.sum().expand(p.shape))),
        ("each entry", r1_of(lambda s, g: g / 2 * s**2)),
        ("slope of the loss", r1_by_loss),
        ("slope of the probability", r1_by_probability),
        ("critic's value", lambda critic, real, gamma: gamma / 2 * critic(real) ** 2),
        ("sign", r1_of(after=torch.neg)),
        ("graph thrown away", r1_of(create_graph=False)),
        ("detached", r1_of(after=torch.detach)),
        ("half detached", half_detached),
        ("no_grad at the end", through_no_grad),
        ("no gradient asked for", lambda critic, real, gamma: torch.autograd.grad(critic(real).sum(), real)[0]),
    ],
    "gan.power_iteration": [
        ("σ²", power(sigma=lambda w, old, u, v: (w @ v).square().sum())),
        ("root of σ", power(sigma=lambda w, old, u, v: (u @ w @ v).sqrt())),
        ("σ with the old u", power(sigma=lambda w, old, u, v: old @ w @ v)),
        ("σ with the old u made a unit", power(sigma=lambda w, old, u, v: unit(old) @ w @ v)),
        ("u not normalised", power(to_u=lambda w, v: w @ v)),
        ("v not normalised", power(to_v=lambda w, u: w.T @ u)),
        ("neither normalised", power(lambda w, u: w.T @ u, lambda w, v: w @ v)),
        ("normalised by the square", power(to_u=lambda w, v: w @ v / (w @ v).square().sum())),
        ("normalised by the largest", power(to_u=lambda w, v: w @ v / (w @ v).abs().max())),
        ("W for Wᵀ", power(lambda w, u: unit(w @ u), lambda w, v: unit(w.T @ v), lambda w, old, u, v: u @ w.T @ v)),
        ("W for Wᵀ, σ as it is", power(lambda w, u: unit(w @ u), lambda w, v: unit(w.T @ v))),
        ("W twice", power(lambda w, u: unit(w @ u))),
        ("v returned", power(new=lambda w, old, u, v: v)),
        ("old u returned", power(new=lambda w, old, u, v: old)),
        ("old u made a unit", power(new=lambda w, old, u, v: unit(old))),
        ("sign", power(new=lambda w, old, u, v: -u)),
        ("Frobenius", power(sigma=lambda w, old, u, v: w.norm())),
        ("σ by SVD", power(sigma=lambda w, old, u, v: torch.linalg.matrix_norm(w, 2))),
        ("SVD", power_by_svd),
        ("two rounds", power_twice),
        ("normalised W", lambda w, u: (w / power()(w, u)[0], power()(w, u)[1])),
        ("σ only", lambda w, u: power()(w, u)[0]),
        ("order", lambda w, u: power()(w, u)[::-1]),
        ("its own u", lambda w, u: power()(w, torch.randn_like(u))),
    ],
    "gan.adain": [
        ("batch statistics", styled((0, 2, 3))),
        ("layer statistics", styled((1, 2, 3))),
        ("pixel statistics", styled((1,))),
        ("rows", styled((3,))),
        ("columns", styled((2,))),
        ("everything", styled((0, 1, 2, 3))),
        ("sample variance", styled(correction=1)),
        ("no ε", styled(normal=lambda x, m, v: (x - m) / v**0.5)),
        ("ε outside the root", styled(normal=lambda x, m, v: (x - m) / (v**0.5 + 1e-5))),
        ("other ε", styled(normal=lambda x, m, v: (x - m) / (v + 1e-8) ** 0.5)),
        ("by the variance", styled(normal=lambda x, m, v: (x - m) / (v + 1e-5))),
        ("mean stays", styled(normal=lambda x, m, v: x / (v + 1e-5) ** 0.5)),
        ("variance stays", styled(normal=lambda x, m, v: x - m)),
        ("not normalised", styled(normal=lambda x, m, v: x)),
        ("scale squared", styled(style=lambda x, a, b: a**2 * x + b)),
        ("root of the scale", styled(style=lambda x, a, b: a.abs() ** 0.5 * x + b)),
        ("shift scaled", styled(style=lambda x, a, b: a * (x + b))),
        ("1 + scale", styled(style=lambda x, a, b: (1 + a) * x + b)),
        ("scale and shift swapped", styled(style=lambda x, a, b: b * x + a)),
        ("no shift", styled(style=lambda x, a, b: a * x)),
        ("no scale", styled(style=lambda x, a, b: x + b)),
        ("no style", styled(style=lambda x, a, b: x)),
        ("shift taken off", styled(style=lambda x, a, b: a * x - b)),
        ("divided by the scale", styled(style=lambda x, a, b: x / a + b)),
        ("rows for columns", styled(style=lambda x, a, b: a.transpose(0, 1) * x + b.transpose(0, 1))),
        ("not broadcast", lambda x, scale, shift: scale * (x - x.mean((2, 3), True)) / x.std((2, 3), keepdim=True) + shift),
    ],
}  # fmt: skip
