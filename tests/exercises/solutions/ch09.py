"""Right answers to chapter 9 in the various ways students write them, the course's own: exercise -> [(manner, function)]."""

import math
from types import SimpleNamespace

import torch
from torch import nn

from gmcourse.compositions.negatives import noise_energy
from gmcourse.ebm.energy import score
from gmcourse.metrics.partition import log_mean_weight


def gaussian_by_eigenvalues(covariance, strength):
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp_min(0)
    return -torch.log1p(strength * values).sum() / 2, vectors @ (values / (1 + strength * values)).diag() @ vectors.T


def gaussian_by_solve(covariance, strength):
    whole = torch.eye(len(covariance), dtype=covariance.dtype) + strength * covariance
    return -torch.linalg.slogdet(whole)[1] / 2, torch.linalg.solve(whole, covariance)


def gaussian_by_woodbury(covariance, strength):
    one = torch.eye(len(covariance), dtype=covariance.dtype)
    root = torch.linalg.cholesky(one + strength * covariance)
    tilted = (one - torch.linalg.inv(one + strength * covariance)) / strength
    return -root.diagonal().log().sum(), tilted


def step_by_grad(eps, omega, push, energy, step):
    eps = eps.detach().requires_grad_()
    (slope,) = torch.autograd.grad((energy(push(eps)) + 0.5 * eps.square().sum(1)).sum(), eps)
    return eps.detach() - step / 2 * slope + math.sqrt(step) * omega


def step_by_parts(eps, omega, push, energy, step):
    e = eps.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(energy(push(e)).sum(), e)
    with torch.no_grad():
        e -= 0.5 * step * (slope + e)
        return (e + step**0.5 * omega).clone()


def step_by_backward(eps, omega, push, energy, step):
    eps.requires_grad_()
    (energy(push(eps)) + eps.pow(2).sum(-1) / 2).sum().backward(inputs=[eps])
    return (eps - step / 2 * eps.grad + step**0.5 * omega).detach()


def step_by_the_chain_rule(eps, omega, push, energy, step):
    x = push(eps).detach().requires_grad_()
    (slope,) = torch.autograd.grad(energy(x).sum(), x)
    pulled = torch.autograd.functional.vjp(push, eps, slope)[1]
    return eps - step / 2 * (pulled + eps) + step**0.5 * omega


def step_by_func(eps, omega, push, energy, step):
    slope = torch.func.grad(lambda e: (energy(push(e)) + e.square().sum(1) / 2).sum())(eps)
    return (eps - step / 2 * slope + step**0.5 * omega).detach()


def step_by_the_course(eps, omega, push, energy, step):
    uphill = score(noise_energy(SimpleNamespace(push=push), energy), eps).detach()
    return eps + step / 2 * uphill + step**0.5 * omega


def bound_by_eigenvalues(jacobian, curvature):
    return 4 / torch.linalg.eigvalsh(torch.eye(jacobian.shape[1]).to(jacobian) + jacobian.T @ curvature @ jacobian).max()


def bound_by_few_eigenvalues(jacobian, curvature):
    """H J Jᵀ has the eigenvalues of JᵀHJ, but for zeros."""
    bends = torch.linalg.eigvals(curvature @ jacobian @ jacobian.T).real
    return (4 / (1 + bends.max().clamp_min(0))).item()


def bound_by_power_iteration(jacobian, curvature):
    whole = torch.eye(jacobian.shape[1], dtype=jacobian.dtype) + jacobian.T @ curvature @ jacobian
    squared = whole
    for _ in range(40):
        squared = squared @ squared
        squared = squared / squared.norm()
    v = squared @ torch.ones(len(whole), dtype=whole.dtype)
    return 4 * (v @ v) / (v @ whole @ v)


def loss_by_weights(e_data, e_base):
    w = torch.softmax(-e_base, 0).detach()
    return e_data.mean() - (w * e_base).sum()


def loss_by_exponentials(e_data, e_base):
    with torch.no_grad():
        w = torch.exp(e_base.min() - e_base)
        w /= w.sum()
    return e_data.mean() - w @ e_base


def loss_by_log_mean(e_data, e_base):
    return e_data.mean() + (-e_base).logsumexp(0)


def move_by_logarithms(eps, fresh, e_here, e_there, u):
    jumps = u.log() < e_here - e_there
    return torch.where(jumps[:, None], fresh, eps), jumps


def move_by_probability(eps, fresh, e_here, e_there, u):
    jumps = u < torch.exp(e_here - e_there).clamp(max=1)
    eps[jumps] = fresh[jumps]
    return eps, jumps


def move_by_minimum(eps, fresh, e_here, e_there, u):
    jumps = (u <= torch.exp(-(e_there - e_here).relu())).double()
    return eps + jumps.unsqueeze(1) * (fresh - eps), jumps


def log_z_by_weights(energies):
    n, w = len(energies), (energies.min() - energies).exp()
    value = w.mean().log() - energies.min()
    return value, w.std() / w.mean() / math.sqrt(n), w.sum() ** 2 / (w**2).sum()


def log_z_by_softmax(energies):
    n, w = len(energies), (-energies).softmax(0)
    size = 1 / (w**2).sum()
    error = math.sqrt((1 / size - 1 / n) * n / (n - 1))
    return torch.logsumexp(-energies, 0) - math.log(n), error, size.item()


def joint_by_means(e_data, log_q_data, e_model, log_q_model):
    return (e_data - log_q_data).mean() - (e_model - log_q_model).mean()


class Weights(nn.Module):
    """Energy and base as one energy."""

    def forward(self, e, log_q):
        return (e - log_q).mean()


def joint_by_a_module(e_data, log_q_data, e_model, log_q_model):
    whole = Weights()
    return whole(e_data, log_q_data).sub(whole(e_model, log_q_model))


def joint_by_log_z(e_data, log_q_data, e_model, log_q_model):
    """As much of log Z as has a gradient."""
    log_z = (log_q_model - e_model - (log_q_model - e_model).detach()).logsumexp(0)
    return -(log_q_data - e_data).mean() + log_z


SOLUTIONS = {
    "tilting.gaussian": [
        ("by eigenvalues", gaussian_by_eigenvalues),
        ("by solve", gaussian_by_solve),
        ("by Woodbury", gaussian_by_woodbury),
    ],
    "tilting.noise_step": [
        ("by grad", step_by_grad),
        ("by parts", step_by_parts),
        ("by backward", step_by_backward),
        ("by the chain rule", step_by_the_chain_rule),
        ("by torch.func", step_by_func),
        ("by the course", step_by_the_course),
    ],
    "tilting.largest_step": [
        ("by eigenvalues", bound_by_eigenvalues),
        ("by few eigenvalues", bound_by_few_eigenvalues),
        ("by power iteration", bound_by_power_iteration),
    ],
    "tilting.importance_loss": [
        ("by weights", loss_by_weights),
        ("by exponentials", loss_by_exponentials),
        ("by a log-mean", loss_by_log_mean),
    ],
    "tilting.fresh_noise": [
        ("by logarithms", move_by_logarithms),
        ("by probability", move_by_probability),
        ("by minimum", move_by_minimum),
    ],
    "tilting.log_z": [
        ("by weights", log_z_by_weights),
        ("by softmax", log_z_by_softmax),
        ("by the course", lambda energies: log_mean_weight(-energies)),
    ],
    "tilting.joint_loss": [
        ("by means", joint_by_means),
        ("by a module", joint_by_a_module),
        ("by log Z", joint_by_log_z),
    ],
}
