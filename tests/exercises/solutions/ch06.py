"""Right answers to chapter 6 in the various ways students write them, the course's own: exercise -> [(manner, function)]."""

import math

import ot
import torch
import torch.nn.functional as F
from scipy.spatial.distance import jensenshannon
from torch.autograd import grad

from gmcourse.gan import dynamics, optimal
from gmcourse.gan.objectives import objective
from gmcourse.gan.regularisers import R1


def losses_by_the_course(real, fake):
    game = objective("non-saturating")
    return game.critic(real, fake), game.generator(fake)


def losses_by_cross_entropy(real, fake):
    def loss(t, label):
        return F.binary_cross_entropy_with_logits(t, torch.full_like(t, label), reduction="none")

    return [loss(real, 1.0) + loss(fake, 0.0), loss(fake, 1.0)]


def value_by_xlogy(p, q, cell):
    d = p / (p + q)
    return cell * (torch.xlogy(p, d) + torch.xlogy(q, 1 - d)).sum()


def value_by_a_mask(p, q, cell):
    both = (p > 0) & (q > 0)
    d = p[both] / (p + q)[both]
    return (cell * (p[both] * d.log() + q[both] * torch.log1p(-d)).sum()).item()


def value_by_jensen_shannon(p, q, cell):
    return 2 * float(jensenshannon(p.numpy(), q.numpy())) ** 2 - 2 * math.log(2)


def value_by_the_course(p, q, cell):
    game, best = objective("minimax"), optimal.optimal_critic("minimax", p.log(), q.log())
    terms = torch.where(p > 0, p * game.on_real(best), 0) + torch.where(q > 0, q * game.on_fake(best), 0)
    return -cell * terms.sum()


def distance_by_optimal_transport(x, y):
    return torch.as_tensor(ot.emd2_1d(x, y, metric="euclidean"))


def distance_by_distribution_functions(x, y):
    both = torch.cat((x, y)).sort().values
    below = [torch.searchsorted(s.sort().values, both[:-1], right=True) / len(s) for s in (x, y)]
    return ((below[0] - below[1]).abs().double() * both.diff()).sum()


def penalty_by_lerp(critic, real, fake, u, weight):
    x = torch.lerp(fake, real, u[:, None]).requires_grad_()
    (slope,) = grad(critic(x).sum(), x, create_graph=True)
    return weight * (torch.linalg.vector_norm(slope, dim=1) - 1) ** 2


def penalty_by_vmap(critic, real, fake, u, weight):
    slope = torch.func.vmap(torch.func.grad(lambda x: critic(x[None])[0]))
    return weight * (slope(u.unsqueeze(1) * real + (1 - u).unsqueeze(1) * fake).norm(dim=1) - 1).pow(2)


def r1_by_ones(critic, real, gamma):
    x = real.detach().requires_grad_(True)
    logits = critic(x)
    (slope,) = grad(logits, x, torch.ones_like(logits), create_graph=True)
    return gamma / 2 * slope.flatten(1).pow(2).sum(1)


def power_by_normalise(w, u):
    v = F.normalize(w.T @ u, dim=0)
    u = F.normalize(w @ v, dim=0)
    return u @ w @ v, u


def power_by_lengths(w, u):
    v = w.T.mv(u)
    v = v / v.norm()
    u = w.mv(v)
    sigma = u.norm().item()
    return sigma, u / sigma


def dirac_by_formula(theta, psi, h):
    psi = psi - h * torch.sigmoid(theta * psi) * theta
    return theta + h * (1 - torch.sigmoid(theta * psi)) * psi, psi


def dirac_with_floats(theta, psi, h):
    theta, psi = float(theta), float(psi)
    psi -= h * theta / (1 + math.exp(-theta * psi))
    return theta + h * psi / (1 + math.exp(theta * psi)), psi


def dirac_by_the_course(theta, psi, h):
    start = torch.stack((theta, psi))[None]
    return dynamics.simulate(dynamics.DiracGAN(), start, 1, step=h, rule=dynamics.alternating())[-1, 0].unbind()


def adain_by_formula(x, scale, shift):
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
    return scale[..., None, None] * (x - mean) / torch.sqrt(variance + 1e-5) + shift[..., None, None]


def adain_by_instance_norm(x, scale, shift):
    return torch.einsum("nc,nchw->nchw", scale, F.instance_norm(x)) + shift.unsqueeze(-1).unsqueeze(-1)


def adain_by_rows(x, scale, shift):
    flat = x.flatten(2)
    flat = (flat - flat.mean(-1, True)) / (flat.std(-1, correction=0, keepdim=True) ** 2 + 1e-5) ** 0.5
    return torch.addcmul(shift.unsqueeze(-1), scale.unsqueeze(-1), flat).view_as(x)


SOLUTIONS = {
    "gan.optimal_discriminator": [
        ("by a sigmoid", lambda log_p, log_q: torch.sigmoid(log_p - log_q)),
        ("by logaddexp", lambda log_p, log_q: torch.exp(log_p - torch.logaddexp(log_p, log_q))),
        ("by a fraction", lambda log_p, log_q: 1 / (1 + torch.exp(log_q - log_p))),
        ("by the course", lambda log_p, log_q: optimal.optimal_discriminator(log_p, log_q).sigmoid()),
    ],
    "gan.losses": [
        ("by softplus", lambda real, fake: (F.softplus(-real) + F.softplus(fake), F.softplus(-fake))),
        ("by logsigmoid", lambda real, fake: (-F.logsigmoid(real) - F.logsigmoid(-fake), -F.logsigmoid(fake))),
        ("by cross-entropy", losses_by_cross_entropy),
        ("by the course", losses_by_the_course),
    ],
    "gan.game_value": [
        ("by xlogy", value_by_xlogy),
        ("by a mask", value_by_a_mask),
        ("by Jensen-Shannon", value_by_jensen_shannon),
        ("by the course", value_by_the_course),
    ],
    "gan.wasserstein_line": [
        ("by sorting", lambda x, y: (x.sort().values - y.sort().values).abs().mean()),
        ("by optimal transport", distance_by_optimal_transport),
        ("by distribution functions", distance_by_distribution_functions),
    ],
    "gan.gradient_penalty": [("by lerp", penalty_by_lerp), ("by vmap", penalty_by_vmap)],
    "gan.r1": [
        ("by a vector of ones", r1_by_ones),
        ("by the course", lambda critic, real, gamma: R1(gamma)(critic, real, real)),
    ],
    "gan.power_iteration": [("by normalise", power_by_normalise), ("by lengths", power_by_lengths)],
    "gan.dirac_step": [
        ("by formula", dirac_by_formula),
        ("with floats", dirac_with_floats),
        ("by the course", dirac_by_the_course),
    ],
    "gan.adain": [
        ("by formula", adain_by_formula),
        ("by instance_norm", adain_by_instance_norm),
        ("by rows of pixels", adain_by_rows),
    ],
}
