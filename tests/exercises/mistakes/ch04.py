"""What students of chapter 4 typically get wrong: exercise -> [(what is wrong, function)]."""

import math

import torch
from torch.nn.functional import softplus

LOG_2PI = math.log(2 * math.pi)


def product(mu, sigma):
    precision = sigma**-2
    total = precision.sum(0)
    mean = (precision * mu).sum(0) / total
    log_z = (-0.5 * precision * (mean - mu) ** 2 - sigma.log() - LOG_2PI / 2).sum() + 0.5 * (LOG_2PI - total.log()).sum()
    return mean, total.rsqrt(), log_z


def producted(mean=None, width=None, log_z=None):
    """product with another mean, width or log Z, each in terms of mu, sigma and the right value."""

    def experts(mu, sigma):
        right = product(mu, sigma)
        changed = zip((mean, width, log_z), right, strict=True)
        return tuple(f(mu, sigma, value) if f else value for f, value in changed)

    return experts


def product_by_density(mu, sigma):
    """log Z by way of densities: at the mean, divided by what a normalised Gaussian has there."""
    mean, width, _ = product(mu, sigma)
    density = (torch.exp(-0.5 * ((mean - mu) / sigma) ** 2) / (sigma * (2 * math.pi) ** 0.5)).prod()
    return mean, width, (density * (width * (2 * math.pi) ** 0.5).prod()).log()


def free(hidden, visible=lambda x, b: -x @ b):
    """Free energies with other contributions of the hidden units, of a = c + xW."""
    return lambda x, W, b, c: visible(x, b) - hidden(x @ W + c)


def free_by_wrong_axis(x, W, b, c):
    return -x @ b - softplus(x @ W + c).sum(0).sum()


def energy_gradient(energy, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(energy(x).sum(), x)[0]


def chain(drift=lambda step, t: step / 2, kick=lambda step, t: (step * t) ** 0.5, sign=-1, steps=slice(None), scale=1.0):
    """langevin with another drift or kick."""

    def run(energy, x, step, temperature, omega):
        for noise in omega[steps]:
            slope = energy_gradient(energy, x) * scale
            x = x + sign * drift(step, temperature) * slope + kick(step, temperature) * noise
        return x

    return run


def chain_of_mean_energy(energy, x, step, temperature, omega):
    for noise in omega:
        x = x - step / 2 * energy_gradient(energy, x) / len(x) + (step * temperature) ** 0.5 * noise
    return x


def chain_with_old_slope(energy, x, step, temperature, omega):
    slope = energy_gradient(energy, x)
    for noise in omega:
        x = x - step / 2 * slope + (step * temperature) ** 0.5 * noise
    return x


def chain_that_piles_up(energy, x, step, temperature, omega):
    x.requires_grad_()
    for noise in omega:
        energy(x).sum().backward()
        with torch.no_grad():
            x -= step / 2 * x.grad - (step * temperature) ** 0.5 * noise
    return x


def chain_with_one_noise(energy, x, step, temperature, omega):
    return chain()(energy, x, step, temperature, omega[:1].expand_as(omega))


def chain_with_silent_end(energy, x, step, temperature, omega):
    silent = torch.cat([omega[:-1], 0 * omega[:1]])
    return chain()(energy, x, step, temperature, silent)


def chain_with_noise_of_its_own(energy, x, step, temperature, omega):
    return chain()(energy, x, step, temperature, torch.randn_like(omega))


def slopes(energy, x):
    """∇E and the whole Hessian."""
    x = x.requires_grad_()
    (g,) = torch.autograd.grad(energy(x).sum(), x, create_graph=True)
    rows = [torch.autograd.grad(g[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]
    return g.detach(), torch.stack(rows, 1)


def implicit(combine):
    """Losses of the score s, the trace of its slope, and the slope itself."""

    def loss(energy, x):
        g, hessian = slopes(energy, x)
        return combine(-g, -hessian.diagonal(dim1=1, dim2=2).sum(1), -hessian)

    return loss


def half(v):
    return 0.5 * v.square().sum(1)


def denoising(at=lambda x, e, s: x + s * e, target=lambda e, s: -e / s, out=half):
    return lambda score, x, eps, sigma: out(score(at(x, eps, sigma)) - target(eps, sigma))


def pulled(score, x, v):
    """s, and the gradient of vᵀs."""
    x = x.requires_grad_()
    s = score(x)
    return s, torch.autograd.grad((v * s).sum(), x)[0]


def sliced(combine):
    def loss(score, x, v):
        s, g = pulled(score, x, v)
        return combine(v, s.detach(), g)

    return loss


def trace_of(score, x):
    x = x.requires_grad_()
    s = score(x)
    return sum(torch.autograd.grad(s[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1])), s


def nce(logit=lambda e, q, z, nu: -e - z - q - math.log(nu), loss=None):
    """nce_loss with other log-odds, or another loss of them."""
    loss = loss or (lambda datum, noise: softplus(-datum) + softplus(noise).sum(1))

    def of(e_x, q_x, e_noise, q_noise, z):
        nu = e_noise.shape[1]
        return loss(logit(e_x, q_x, z, nu), logit(e_noise, q_noise, z, nu))

    return of


MISTAKES = {
    "ebm.product_of_experts": [
        ("mean of means", producted(mean=lambda mu, sigma, _: mu.mean(0))),
        ("weights 1/σ", producted(mean=lambda mu, sigma, _: (mu / sigma).sum(0) / (1 / sigma).sum(0))),
        ("weights σ²", producted(mean=lambda mu, sigma, _: (mu * sigma**2).sum(0) / (sigma**2).sum(0))),
        ("weights not normalised", producted(mean=lambda mu, sigma, _: (mu / sigma**2).sum(0))),
        ("sum of means", producted(mean=lambda mu, sigma, _: mu.sum(0))),
        ("variance", producted(width=lambda mu, sigma, right: right**2)),
        ("precision", producted(width=lambda mu, sigma, right: right**-2)),
        ("root of the precision", producted(width=lambda mu, sigma, right: 1 / right)),
        ("variances added", producted(width=lambda mu, sigma, _: (sigma**2).sum(0).sqrt())),
        ("widths combined as resistors", producted(width=lambda mu, sigma, _: 1 / (1 / sigma).sum(0))),
        ("width of a mixture", producted(width=lambda mu, sigma, _: (sigma**2).mean(0).sqrt())),
        ("Z itself", producted(log_z=lambda mu, sigma, right: right.exp())),
        ("sign of log Z", producted(log_z=lambda mu, sigma, right: -right)),
        ("product taken as normalised", producted(log_z=lambda mu, sigma, right: 0 * right)),
        ("experts not normalised", producted(log_z=lambda mu, sigma, right: right + (sigma.log() + LOG_2PI / 2).sum())),
        ("√(2π) once", producted(log_z=lambda mu, sigma, right: right - (mu.shape[1] - 1) * LOG_2PI / 2)),
        ("mean over dimensions", producted(log_z=lambda mu, sigma, right: right / mu.shape[1])),
        ("by densities", product_by_density),
        ("summed over dimensions", lambda mu, sigma: tuple(v.sum() for v in product(mu, sigma))),
        ("no log Z", lambda mu, sigma: product(mu, sigma)[:2]),
    ],
    "ebm.free_energy": [
        ("sign", lambda x, W, b, c: x @ b + softplus(x @ W + c).sum(1)),
        ("sign of b", free(lambda a: softplus(a).sum(1), lambda x, b: x @ b)),
        ("sign of the hidden units", free(lambda a: -softplus(a).sum(1))),
        ("no b", free(lambda a: softplus(a).sum(1), lambda x, b: 0 * (x @ b))),
        ("no c", lambda x, W, b, c: -x @ b - softplus(x @ W).sum(1)),
        ("no hidden units", free(lambda a: 0 * a.sum(1))),
        ("not stable", free(lambda a: torch.log(1 + torch.exp(a)).sum(1))),
        ("product of experts, then the logarithm", free(lambda a: (1 + a.exp()).prod(1).log())),
        ("mean over the units", free(lambda a: softplus(a).mean(1))),
        ("all units on", free(lambda a: a.sum(1))),
        ("best state", free(lambda a: a.relu().sum(1))),
        ("mean field", free(lambda a: (a * a.sigmoid()).sum(1))),
        ("sigmoid", free(lambda a: a.sigmoid().sum(1))),
        ("no logarithm", free(lambda a: (1 + a.exp()).sum(1))),
        ("one unit with many states", free(lambda a: (1 + a.exp().sum(1)).log())),
        ("summed over data", free_by_wrong_axis),
        ("the probability", lambda x, W, b, c: (x @ b + softplus(x @ W + c).sum(1)).exp()),
    ],
    "ebm.contrastive_loss": [
        ("swapped", lambda energy, x, y: energy(y.detach()).mean() - energy(x).mean()),
        ("added", lambda energy, x, y: energy(x).mean() + energy(y.detach()).mean()),
        ("sums", lambda energy, x, y: energy(x).sum() - energy(y.detach()).sum()),
        ("data only", lambda energy, x, y: energy(x).mean()),
        ("samples only", lambda energy, x, y: -energy(y.detach()).mean()),
        ("through the chain", lambda energy, x, y: energy(x).mean() - energy(y).mean()),
        ("samples' energies detached", lambda energy, x, y: energy(x).mean() - energy(y).detach().mean()),
        ("data's energies detached", lambda energy, x, y: energy(x).detach().mean() - energy(y.detach()).mean()),
        ("all detached", lambda energy, x, y: (energy(x).mean() - energy(y).mean()).detach()),
        ("a float", lambda energy, x, y: energy(x).mean().item() - energy(y).mean().item()),
        ("log Z of the samples", lambda energy, x, y: energy(x).mean() + (-energy(y)).logsumexp(0) - math.log(len(y))),
        ("densities", lambda energy, x, y: (-energy(y.detach())).exp().mean() - (-energy(x)).exp().mean()),
        ("half", lambda energy, x, y: 0.5 * (energy(x).mean() - energy(y.detach()).mean())),
        ("per datum", lambda energy, x, y: energy(x) - energy(y.detach()).mean()),
        ("squares", lambda energy, x, y: (energy(x) ** 2).mean() - (energy(y.detach()) ** 2).mean()),
    ],
    "ebm.langevin": [
        ("uphill", chain(sign=1)),
        ("whole step of drift", chain(drift=lambda step, t: step)),
        ("√2 in the noise", chain(kick=lambda step, t: (2 * step * t) ** 0.5)),
        ("step is α", chain(drift=lambda step, t: step, kick=lambda step, t: (2 * step * t) ** 0.5)),
        ("noise by step", chain(kick=lambda step, t: step * t**0.5)),
        ("noise by step and temperature", chain(kick=lambda step, t: step * t)),
        ("no noise", chain(kick=lambda step, t: 0)),
        ("no temperature", chain(kick=lambda step, t: step**0.5)),
        ("temperature outside the root", chain(kick=lambda step, t: step**0.5 * t)),
        ("temperature in the drift", chain(drift=lambda step, t: step / (2 * t), kick=lambda step, t: step**0.5)),
        ("temperature in both", chain(drift=lambda step, t: step / (2 * t))),
        ("slope of the mean energy", chain_of_mean_energy),
        ("one noise for all steps", chain_with_one_noise),
        ("no noise at the last step", chain_with_silent_end),
        ("noise of its own", chain_with_noise_of_its_own),
        ("slope of the start", chain_with_old_slope),
        ("gradient not zeroed", chain_that_piles_up),
        ("one step only", chain(steps=slice(1))),
        ("one step too few", chain(steps=slice(-1))),
        ("all points kept", lambda *a: torch.stack([chain(steps=slice(k + 1))(*a) for k in range(len(a[4]))])),
        ("no gradient asked for", lambda energy, x, *a: torch.autograd.grad(energy(x).sum(), x)[0]),
    ],
    "ebm.implicit_score_matching": [
        ("trace of the Hessian of E", implicit(lambda s, trace, _: half(s) - trace)),
        ("no half", implicit(lambda s, trace, _: trace + 2 * half(s))),
        ("half of the trace", implicit(lambda s, trace, _: trace / 2 + half(s))),
        ("half of both", implicit(lambda s, trace, _: (trace + half(s)) / 2)),
        ("half of both, squares whole", implicit(lambda s, trace, _: trace / 2 + half(s) / 2)),
        ("no trace", implicit(lambda s, trace, _: half(s))),
        ("no square", implicit(lambda s, trace, _: trace)),
        ("square taken off", implicit(lambda s, trace, _: trace - half(s))),
        ("whole matrix summed", implicit(lambda s, _, slope: slope.sum((1, 2)) + half(s))),
        ("whole matrix summed, sign of E", implicit(lambda s, _, slope: half(s) - slope.sum((1, 2)))),
        ("mean over dimensions", implicit(lambda s, trace, _: (trace + half(s)) / s.shape[1])),
        ("mean square", implicit(lambda s, trace, _: trace + 0.5 * s.square().mean(1))),
        ("length not squared", implicit(lambda s, trace, _: trace + 0.5 * s.norm(dim=1))),
        ("first dimension", implicit(lambda s, _, slope: slope[:, 0, 0] + half(s))),
        ("traces mixed", implicit(lambda s, trace, _: trace.sum() + half(s))),
        ("mean over data", implicit(lambda s, trace, _: (trace + half(s)).mean())),
        ("determinant", implicit(lambda s, _, slope: torch.linalg.det(slope) + half(s))),
        ("not summed", implicit(lambda s, _, slope: slope.diagonal(dim1=1, dim2=2) + 0.5 * s**2)),
        ("no graph kept", lambda energy, x: torch.autograd.grad(energy_gradient(energy, x).sum(), x)[0].sum(1)),
    ],
    "ebm.denoising_score_matching": [
        ("score of the clean point", denoising(at=lambda x, e, s: x)),
        ("sign of the target", denoising(target=lambda e, s: e / s)),
        ("target −ε", denoising(target=lambda e, s: -e)),
        ("target −ε/σ²", denoising(target=lambda e, s: -e / s**2)),
        ("target −σε", denoising(target=lambda e, s: -s * e)),
        ("no target", denoising(target=lambda e, s: 0)),
        ("target of the clean point", lambda score, x, e, s: half(score(x + s * e) + x / s**2)),
        ("slope of noise at 0", lambda score, x, e, s: half(score(x + s * e) + (x + s * e) / s**2)),
        ("noise not scaled", denoising(at=lambda x, e, s: x + e)),
        ("noise by the variance", denoising(at=lambda x, e, s: x + s**2 * e)),
        ("noise by the root", denoising(at=lambda x, e, s: x + s**0.5 * e)),
        ("no half", denoising(out=lambda v: v.square().sum(1))),
        ("mean over dimensions", denoising(out=lambda v: 0.5 * v.square().mean(1))),
        ("mean over data", denoising(out=lambda v: half(v).mean())),
        ("sum over data", denoising(out=lambda v: half(v).sum())),
        ("length", denoising(out=lambda v: v.norm(dim=1))),
        ("weighted by σ²", lambda score, x, e, s: s**2 * half(score(x + s * e) + e / s)),
        ("noise of its own", lambda score, x, e, s: denoising()(score, x, torch.randn_like(x), s)),
        ("noise drawn twice", lambda score, x, e, s: half(score(x + s * torch.randn_like(x)) + e / s)),
    ],
    "ebm.sliced_score_matching": [
        ("v only once", sliced(lambda v, s, g: g.sum(1) + 0.5 * (v * s).sum(1) ** 2)),
        ("no half", sliced(lambda v, s, g: (v * g).sum(1) + (v * s).sum(1) ** 2)),
        ("half of the first", sliced(lambda v, s, g: 0.5 * (v * g).sum(1) + 0.5 * (v * s).sum(1) ** 2)),
        ("sign of the first", sliced(lambda v, s, g: 0.5 * (v * s).sum(1) ** 2 - (v * g).sum(1))),
        ("sign of the second", sliced(lambda v, s, g: (v * g).sum(1) - 0.5 * (v * s).sum(1) ** 2)),
        ("first only", sliced(lambda v, s, g: (v * g).sum(1))),
        ("second only", sliced(lambda v, s, g: 0.5 * (v * s).sum(1) ** 2)),
        ("variance reduced", sliced(lambda v, s, g: (v * g).sum(1) + half(s))),
        ("not squared", sliced(lambda v, s, g: (v * g).sum(1) + 0.5 * (v * s).sum(1))),
        ("squares summed", sliced(lambda v, s, g: (v * g).sum(1) + half(v * s))),
        ("means", sliced(lambda v, s, g: (v * g).mean(1) + 0.5 * (v * s).mean(1) ** 2)),
        ("mean of all", sliced(lambda v, s, g: ((v * g).sum(1) + 0.5 * (v * s).sum(1) ** 2) / v.shape[1])),
        ("mixed data", sliced(lambda v, s, g: (v * g).sum() + 0.5 * (v * s).sum(1) ** 2)),
        ("mean over data", sliced(lambda v, s, g: ((v * g).sum(1) + 0.5 * (v * s).sum(1) ** 2).mean())),
        ("v divided by its length", sliced(lambda v, s, g: ((v * g).sum(1) + 0.5 * (v * s).sum(1) ** 2) / (v * v).sum(1))),
        ("directions of its own", lambda score, x, v: sliced(lambda v, s, g: (v * g).sum(1))(score, x, torch.randn_like(v))),
        ("exact trace", lambda score, x, v: (lambda t, s: t + 0.5 * (v * s).sum(1) ** 2)(*trace_of(score, x))),
        ("implicit score matching", lambda score, x, v: (lambda t, s: t + half(s))(*trace_of(score, x))),
    ],
    "ebm.nce_loss": [
        ("sign of log Z", nce(lambda e, q, z, nu: -e + z - q - math.log(nu))),
        ("no log Z", nce(lambda e, q, z, nu: -e - q - math.log(nu))),
        ("log of log Z", nce(lambda e, q, z, nu: -e - math.log(z) - q - math.log(nu))),
        ("sign of the energy", nce(lambda e, q, z, nu: e - z - q - math.log(nu))),
        ("no q", nce(lambda e, q, z, nu: -e - z - math.log(nu))),
        ("sign of q", nce(lambda e, q, z, nu: -e - z + q - math.log(nu))),
        ("no ν", nce(lambda e, q, z, nu: -e - z - q)),
        ("sign of log ν", nce(lambda e, q, z, nu: -e - z - q + math.log(nu))),
        ("ν for log ν", nce(lambda e, q, z, nu: -e - z - q - nu)),
        ("q itself", nce(lambda e, q, z, nu: -e - z - q.exp() - math.log(nu))),
        ("mean over the noise", nce(loss=lambda x, y: softplus(-x) + softplus(y).mean(1))),
        ("J, not −J", nce(loss=lambda x, y: -softplus(-x) - softplus(y).sum(1))),
        ("labels swapped", nce(loss=lambda x, y: softplus(x) + softplus(-y).sum(1))),
        ("noise called data", nce(loss=lambda x, y: softplus(-x) + softplus(-y).sum(1))),
        ("data called noise", nce(loss=lambda x, y: softplus(x) + softplus(y).sum(1))),
        ("no noise", nce(loss=lambda x, y: softplus(-x))),
        ("no data", nce(loss=lambda x, y: softplus(y).sum(1))),
        ("halved", nce(loss=lambda x, y: 0.5 * (softplus(-x) + softplus(y).sum(1)))),
        ("not stable", nce(loss=lambda x, y: -x.sigmoid().log() - (1 - y.sigmoid()).log().sum(1))),
        ("no logarithms", nce(loss=lambda x, y: -x.sigmoid() - (1 - y.sigmoid()).sum(1))),
        ("in bits", nce(loss=lambda x, y: (softplus(-x) + softplus(y).sum(1)) / math.log(2))),
        ("mean over data", nce(loss=lambda x, y: (softplus(-x) + softplus(y).sum(1)).mean())),
    ],
}
