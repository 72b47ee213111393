"""What students typically get wrong about tilted laws and chains in chapter 9: exercise -> [(what is wrong, function)]."""

import math

import torch
from torch.autograd import grad

LOG_2PI = math.log(2 * math.pi)


def identity(c):
    return torch.eye(len(c), dtype=c.dtype)


def solved(c, strength):
    return torch.linalg.solve(identity(c) + strength * c, c)


def normaliser(c, strength):
    return -torch.logdet(identity(c) + strength * c) / 2


def tilted(log_z=normaliser, covariance=solved):
    """gaussian with another log Z or another covariance."""
    return lambda c, strength: (log_z(c, strength), covariance(c, strength))


def noisy(
    total=lambda tilt, prior: tilt.sum() + prior.sum(),
    tilt=lambda e, push, energy: energy(push(e)),
    prior=lambda e, push: e.square().sum(1) / 2,
    drift=lambda step: step / 2,
    kick=math.sqrt,
    after=lambda moved, eps, push: moved.detach(),
):
    """noise_step with another energy, another length of the drift, other noise, or something done to the result."""

    def noise_step(eps, omega, push, energy, step):
        eps = eps.requires_grad_()
        slope = grad(total(tilt(eps, push, energy), prior(eps, push)), eps)[0]
        return after(eps - drift(step) * slope + kick(step) * omega, eps.detach(), push)

    return noise_step


def slope_at_x(eps, omega, push, energy, step):
    x = push(eps).requires_grad_()
    return eps - step / 2 * (grad(energy(x).sum(), x)[0] + eps) + step**0.5 * omega


def step_in_x(eps, omega, push, energy, step):
    x = push(eps).requires_grad_()
    return x.detach() - step / 2 * grad(energy(x).sum(), x)[0] + step**0.5 * omega


def noise_first(eps, omega, push, energy, step):
    e = (eps + step**0.5 * omega).requires_grad_()
    return (e - step / 2 * grad((energy(push(e)) + e.square().sum(1) / 2).sum(), e)[0]).detach()


def by_backward(eps, omega, push, energy, step):
    eps = eps.requires_grad_()
    (energy(push(eps)) + 0.5 * eps.square().sum(1)).sum().backward()
    return (eps - step / 2 * eps.grad + step**0.5 * omega).detach()


def stopped_push(eps, omega, push, energy, step):
    eps = eps.requires_grad_()
    x = push(eps).detach().requires_grad_()
    return eps - step / 2 * grad((energy(x)).sum(), eps)[0]


def stiffest(matrix):
    return torch.linalg.eigvalsh(matrix)[-1]


def bound(
    whole=lambda j, h: torch.eye(j.shape[1], dtype=j.dtype) + j.T @ h @ j,
    top=stiffest,
    step=lambda top: 4 / top,
):
    """largest_step with another curvature, another summary of it, or another bound."""
    return lambda jacobian, curvature: step(top(whole(jacobian, curvature)))


def pulled(j, h):
    return j.T @ h @ j


def norm2(matrix):
    return torch.linalg.matrix_norm(matrix, 2)


def moving(
    decide=lambda eps, fresh, here, there, u: u.log() < here - there,
    where=lambda jumps, eps, fresh: torch.where(jumps[:, None], fresh, eps),
    told=lambda jumps: jumps,
):
    """fresh_noise with another decision, another place to go, or another report."""

    def fresh_noise(eps, fresh, here, there, u):
        jumps = decide(eps, fresh, here, there, u)
        return where(jumps, eps, fresh), told(jumps)

    return fresh_noise


def half_square(e):
    return e.square().sum(1) / 2


MISTAKES = {
    "tilting.gaussian": [
        ("sign of log Z", tilted(lambda c, s: -normaliser(c, s))),
        ("no half", tilted(lambda c, s: 2 * normaliser(c, s))),
        ("no half, and the sign", tilted(lambda c, s: -2 * normaliser(c, s))),
        ("mean energy", tilted(lambda c, s: s / 2 * c.trace())),
        ("minus the mean energy", tilted(lambda c, s: -s / 2 * c.trace())),
        ("determinant, then logarithm", tilted(lambda c, s: -torch.det(identity(c) + s * c).log() / 2)),
        ("root of a determinant", tilted(lambda c, s: torch.det(identity(c) + s * c).rsqrt().log())),
        ("Z", tilted(lambda c, s: normaliser(c, s).exp())),
        ("no normaliser of the base", tilted(lambda c, s: -torch.logdet(c.inverse() + s * identity(c)) / 2)),
        ("C + λI in log Z", tilted(lambda c, s: -torch.logdet(c + s * identity(c)) / 2)),
        ("2π left", tilted(lambda c, s: normaliser(c, s) + len(c) / 2 * LOG_2PI)),
        ("2π twice", tilted(lambda c, s: normaliser(c, s) - len(c) / 2 * LOG_2PI)),
        ("diagonal in log Z", tilted(lambda c, s: -torch.log1p(s * c.diag()).sum() / 2)),
        ("λ/2 in log Z", tilted(lambda c, s: normaliser(c, s / 2))),
        ("2λ in log Z", tilted(lambda c, s: normaliser(c, 2 * s))),
        ("1/λ in log Z", tilted(lambda c, s: normaliser(c, 1 / s))),
        ("1 + λC in log Z", tilted(lambda c, s: -torch.linalg.slogdet(1 + s * c).logabsdet / 2)),
        ("bits", tilted(lambda c, s: normaliser(c, s) / math.log(2))),
        ("mean over dimensions", tilted(lambda c, s: normaliser(c, s) / len(c))),
        ("the base's covariance", tilted(covariance=lambda c, s: c)),
        ("precision", tilted(covariance=lambda c, s: c.inverse() + s * identity(c))),
        ("inverses of a singular C", tilted(covariance=lambda c, s: (c.inverse() + s * identity(c)).inverse())),
        ("a pseudo-inverse", tilted(covariance=lambda c, s: (torch.linalg.pinv(c) + s * identity(c)).inverse())),
        ("jitter", tilted(covariance=lambda c, s: ((c + 1e-4 * identity(c)).inverse() + s * identity(c)).inverse())),
        ("sign of λ", tilted(covariance=lambda c, s: (c.inverse() - s * identity(c)).inverse())),
        ("variances add", tilted(covariance=lambda c, s: c + s * identity(c))),
        ("variances add, inverted", tilted(covariance=lambda c, s: (c + s * identity(c)).inverse())),
        ("one C missing", tilted(covariance=lambda c, s: (identity(c) + s * c).inverse())),
        ("entry by entry", tilted(covariance=lambda c, s: c / (1 + s * c))),
        ("one dimension's", tilted(covariance=lambda c, s: c / (1 + s))),
        ("λ to every entry", tilted(covariance=lambda c, s: (c.inverse() + s).inverse())),
        ("λ/2", tilted(covariance=lambda c, s: solved(c, s / 2))),
        ("2λ", tilted(covariance=lambda c, s: solved(c, 2 * s))),
        ("1/λ", tilted(covariance=lambda c, s: solved(c, 1 / s))),
        ("variances only", tilted(covariance=lambda c, s: solved(c, s).diag())),
        ("diagonal only", tilted(covariance=lambda c, s: solved(c, s).diag().diag())),
        ("float32", tilted(covariance=lambda c, s: solved(c.float(), s))),
        ("exchanged", lambda c, s: (solved(c, s), normaliser(c, s))),
    ],
    "tilting.noise_step": [
        ("uphill", noisy(drift=lambda h: -h / 2)),
        ("drift η", noisy(drift=lambda h: h)),
        ("drift η/4", noisy(drift=lambda h: h / 4)),
        ("noise √2η", noisy(kick=lambda h: math.sqrt(2 * h))),
        ("drift η, noise √2η", noisy(drift=lambda h: h, kick=lambda h: math.sqrt(2 * h))),
        ("noise η", noisy(kick=lambda h: h)),
        ("noise √η/2", noisy(kick=lambda h: math.sqrt(h / 2))),
        ("noise 1", noisy(kick=lambda h: 1.0)),
        ("no noise", noisy(kick=lambda h: 0.0)),
        ("noise subtracted", noisy(kick=lambda h: -math.sqrt(h))),
        ("noise drawn inside", lambda e, o, *rest: noisy()(e, torch.randn_like(o), *rest)),
        ("no prior", noisy(lambda tilt, prior: tilt.sum())),
        ("no energy", noisy(lambda tilt, prior: prior.sum())),
        ("prior's sign", noisy(lambda tilt, prior: tilt.sum() - prior.sum())),
        ("energy's sign", noisy(lambda tilt, prior: prior.sum() - tilt.sum())),
        ("no half in the prior", noisy(prior=lambda e, push: e.square().sum(1))),
        ("norm", noisy(prior=lambda e, push: e.norm(dim=1) / 2)),
        ("norm of x", noisy(prior=lambda e, push: push(e).square().sum(1) / 2)),
        ("mean over the chains", noisy(lambda tilt, prior: (tilt + prior).mean())),
        ("energy's mean over the chains", noisy(lambda tilt, prior: tilt.mean() + prior.sum())),
        ("prior's mean over dimensions", noisy(prior=lambda e, push: e.square().mean(1) / 2)),
        ("prior's mean over everything", noisy(prior=lambda e, push: e.square().mean() / 2)),
        ("prior's mean over the chains", noisy(lambda tilt, prior: tilt.sum() + prior.mean())),
        ("energy of ε", noisy(tilt=lambda e, push, energy: energy(e))),
        ("slope at x", slope_at_x),
        ("step in x", step_in_x),
        ("noise first", noise_first),
        ("push stopped", stopped_push),
        ("backward into the weights", by_backward),
        ("a graph left", noisy(after=lambda moved, eps, push: moved)),
        ("x returned", noisy(after=lambda moved, eps, push: push(moved).detach())),
        ("increment returned", noisy(after=lambda moved, eps, push: (moved - eps).detach())),
        ("ε returned", noisy(after=lambda moved, eps, push: eps)),
        ("float32", noisy(after=lambda moved, eps, push: moved.detach().float())),
        ("no sum before the slope", noisy(lambda tilt, prior: tilt + prior)),
        ("one chain's slope for all", noisy(lambda tilt, prior: (tilt + prior)[0])),
    ],
    "tilting.largest_step": [
        ("2/λ", bound(step=lambda top: 2 / top)),
        ("1/λ", bound(step=lambda top: 1 / top)),
        ("8/λ", bound(step=lambda top: 8 / top)),
        ("λ", bound(step=lambda top: top)),
        ("4λ", bound(step=lambda top: 4 * top)),
        ("4/λ²", bound(step=lambda top: 4 / top**2)),
        ("4/√λ", bound(step=lambda top: 4 / top**0.5)),
        ("no prior", bound(pulled)),
        ("no stretch", bound(lambda j, h: torch.eye(len(h), dtype=h.dtype) + h)),
        ("no curvature", bound(lambda j, h: torch.eye(j.shape[1], dtype=j.dtype) + j.T @ j)),
        ("curvature divides", bound(lambda j, h: torch.eye(j.shape[1], dtype=j.dtype) + j.T @ h.inverse() @ j)),
        ("s, not s squared", bound(pulled, step=lambda top: 4 / (1 + top.abs().sqrt()))),
        ("product of norms", lambda j, h: 4 / (1 + norm2(j) ** 2 * norm2(h))),
        ("product of stretch and steepest bend", lambda j, h: 4 / (1 + norm2(j) ** 2 * stiffest(h))),
        ("stretch not squared", lambda j, h: 4 / (1 + norm2(j) * stiffest(h))),
        ("absolute value", bound(pulled, norm2, lambda top: 4 / (1 + top))),
        ("softest", bound(top=lambda m: torch.linalg.eigvalsh(m)[0])),
        ("trace", bound(top=torch.trace)),
        ("mean curvature", bound(top=lambda m: m.trace() / len(m))),
        ("Frobenius", bound(top=torch.linalg.matrix_norm)),
        ("largest on the diagonal", bound(top=lambda m: m.diag().max())),
        ("largest entry", bound(top=lambda m: m.max())),
        ("largest row sum", bound(top=lambda m: m.abs().sum(1).max())),
        ("1 to every entry", bound(lambda j, h: 1 + j.T @ h @ j)),
        ("transposed", bound(lambda j, h: torch.eye(len(j), dtype=j.dtype) + j @ h @ j.T)),
        ("prior subtracted", bound(lambda j, h: j.T @ h @ j - torch.eye(j.shape[1], dtype=j.dtype))),
        ("all directions", bound(top=torch.linalg.eigvalsh)),
        ("complex", bound(top=lambda m: torch.linalg.eigvals(m)[0])),
        ("float32", lambda j, h: bound()(j.float(), h.float())),
    ],
    "tilting.fresh_noise": [
        ("sign of the energies", moving(lambda e, f, here, there, u: u.log() < there - here)),
        ("greedy", moving(lambda e, f, here, there, u: there < here)),
        ("greedy uphill", moving(lambda e, f, here, there, u: there > here)),
        ("always", moving(lambda e, f, here, there, u: u > -1)),
        ("never", moving(lambda e, f, here, there, u: u > 2)),
        ("prior in the ratio", moving(lambda e, f, here, there, u: u.log()
                                      < here + half_square(e) - there - half_square(f))),
        ("prior in the ratio, the other way", moving(lambda e, f, here, there, u: u.log()
                                                     < here - half_square(e) - there + half_square(f))),
        ("probability against energies", moving(lambda e, f, here, there, u: u < here - there)),
        ("ratio of energies", moving(lambda e, f, here, there, u: u < here / there)),
        ("ratio of energies turned round", moving(lambda e, f, here, there, u: u < there / here)),
        ("half", moving(lambda e, f, here, there, u: u.log() < (here - there) / 2)),
        ("twice", moving(lambda e, f, here, there, u: u.log() < 2 * (here - there))),
        ("Barker", moving(lambda e, f, here, there, u: u < torch.sigmoid(here - there))),
        ("one u", moving(lambda e, f, here, there, u: u[0].log() < here - there)),
        ("one decision", moving(lambda e, f, here, there, u: (u.log() < (here - there).mean()).expand_as(u))),
        ("one decision for the sum", moving(lambda e, f, here, there, u: u.log() < (here - there).sum())),
        ("u above", moving(lambda e, f, here, there, u: u.log() > here - there)),
        ("1 − u", moving(lambda e, f, here, there, u: (1 - u).log() < here - there)),
        ("old energy not asked", moving(lambda e, f, here, there, u: u.log() < -there)),
        ("quotient of exponentials", moving(lambda e, f, here, there, u: u < (-there).exp() / (-here).exp())),
        ("u drawn inside", moving(lambda e, f, here, there, u: torch.rand_like(u).log() < here - there)),
        ("those who stay are told", moving(told=lambda jumps: ~jumps)),
        ("rate told", moving(told=lambda jumps: jumps.double().mean())),
        ("count told", moving(told=lambda jumps: jumps.sum())),
        ("indices told", moving(told=lambda jumps: jumps.nonzero()[:, 0])),
        ("float32 told", moving(told=lambda jumps: jumps.float())),
        ("ε exchanged", moving(where=lambda jumps, eps, fresh: torch.where(jumps[:, None], eps, fresh))),
        ("ε added", moving(where=lambda jumps, eps, fresh: eps + jumps[:, None] * fresh)),
        ("those who stay at 0", moving(where=lambda jumps, eps, fresh: jumps[:, None] * fresh)),
        ("those who jump at 0", moving(where=lambda jumps, eps, fresh: ~jumps[:, None] * eps)),
        ("no axis for the mask", moving(where=lambda jumps, eps, fresh: torch.where(jumps, fresh, eps))),
        ("only those who jump", moving(where=lambda jumps, eps, fresh: fresh[jumps])),
        ("nobody moved", moving(where=lambda jumps, eps, fresh: eps)),
        ("only ε", lambda *a: moving()(*a)[0]),
    ],
}  # fmt: skip
