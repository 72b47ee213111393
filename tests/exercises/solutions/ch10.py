"""Right answers to chapter 10 in the ways students write them, and the course's own: exercise -> [(manner, function)]."""

import copy
import math

import torch
from torch.autograd import grad
from torch.func import functional_call
from torchdiffeq import odeint

from gmcourse.compositions.dynamics import GradientFlow, Langevin
from gmcourse.compositions.self_contrast import stopped
from gmcourse.compositions.short_run import ShortRun
from gmcourse.ebm.contrastive import contrastive, temperature_of

LOG_2PI = math.log(2 * math.pi)


def steps_by_grad(energy, x, u, step, noise):
    for k in range(u.shape[1]):
        x = x.detach().requires_grad_()
        x = x - step / 2 * grad(energy(x).sum(), x)[0] + noise * u[:, k]
    return x.detach()


def steps_by_backward(energy, x, u, step, noise):
    for kick in u.transpose(0, 1):
        x = x.detach().requires_grad_()
        energy(x).sum().backward(inputs=[x])
        with torch.no_grad():
            x = x - 0.5 * step * x.grad
            x += noise * kick
    return x


def steps_in_place(energy, x, u, step, noise):
    for kick in u.unbind(1):
        x.requires_grad_(True)
        (slope,) = grad(energy(x).sum(), x)
        x.requires_grad_(False)
        x.sub_(slope, alpha=step / 2).add_(kick, alpha=noise)
    return x


def steps_by_func(energy, x, u, step, noise):
    with torch.no_grad():
        slope = torch.func.grad(lambda points: energy(points).sum())
        for k in range(u.size(1)):
            x = x - step / 2 * slope(x) + noise * u[:, k]
    return x


@torch.no_grad()
def steps_by_the_course(energy, x, u, step, noise):
    return Langevin(u.shape[1], step, noise).run(energy, x, u)


def between_by_views(z1, z2, rho):
    rho = rho.view(-1, *[1] * z1.ndim)
    return rho * z1 + torch.sqrt(1 - rho**2) * z2


def between_by_loop(z1, z2, rho):
    return torch.stack([r * z1 + math.sqrt(1 - r**2) * z2 for r in rho.tolist()])


def between_by_einsum(z1, z2, rho):
    factors = torch.stack([rho, (1 - rho).sqrt() * (1 + rho).sqrt()], 1)
    return torch.einsum("mk,k...->m...", factors, torch.stack([z1, z2]))


def law_by_recursion(step, noise, curvature, start, steps):
    r, variance = 1 - step * curvature / 2, start
    for _ in range(steps):
        variance = r**2 * variance + noise**2
    return noise**2 / step, variance, noise**2 / (1 - r**2)


def law_in_closed_form(step, noise, curvature, start, steps):
    t, rate = temperature_of(step, noise), (1 - step * curvature / 2) ** 2
    end = t / (curvature * (1 - step * curvature / 4))
    return t, end + rate**steps * (start - end), torch.tensor(end, dtype=torch.float64)


def contrast_by_detach(energy, unroll, x, x0):
    return energy(x).mean() - energy(unroll(energy, x0).detach()).mean()


def contrast_by_no_grad(energy, unroll, x, x0):
    with torch.no_grad():
        ends = unroll(energy, x0)
    at_data, at_ends = energy(torch.cat([x, ends])).split([len(x), len(x0)])
    return at_data.mean() - at_ends.mean()


def contrast_by_the_course(energy, unroll, x, x0):
    return contrastive(energy, x, unroll(energy, x0)).mean()


def slope_and_trace(energy, x):
    slope = grad(energy(x).sum(), x, create_graph=True)[0]
    trace = sum(grad(slope[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(x.shape[1]))
    return slope, trace


def flow_by_rk4(energy, x, time, steps):
    x, total, h = x.requires_grad_(), 0, time / steps
    for _ in range(steps):
        k1, t1 = slope_and_trace(energy, x)
        k2, t2 = slope_and_trace(energy, x + h / 2 * k1)
        k3, t3 = slope_and_trace(energy, x + h / 2 * k2)
        k4, t4 = slope_and_trace(energy, x + h * k3)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        total = total + h / 6 * (t1 + 2 * t2 + 2 * t3 + t4)
    return -0.5 * (x**2).sum(1) - x.shape[1] / 2 * LOG_2PI + total


def flow_by_whole_hessians(energy, x, time, steps):
    """An augmented state, and an adaptive solver in place of fixed steps."""

    def field(t, state):
        x = state[0]
        hessian = torch.func.vmap(torch.func.hessian(lambda point: energy(point[None])[0]))(x)
        slope = torch.func.grad(lambda x: energy(x).sum())(x)
        return slope, torch.einsum("nii->n", hessian)

    x0, total = odeint(
        field, (x, torch.zeros_like(x[:, 0])), torch.tensor([0.0, time], dtype=x.dtype), rtol=1e-8, atol=1e-10
    )
    prior = torch.distributions.MultivariateNormal(torch.zeros_like(x[0]), torch.eye(x.shape[1], dtype=x.dtype))
    return prior.log_prob(x0[-1]) + total[-1]


def flow_by_the_course(energy, x, time, steps):
    return ShortRun(energy, GradientFlow(time, steps=steps), event_shape=x.shape[1:]).log_prob(x)


def hessian_of(energy, x):
    x = x.detach().requires_grad_()
    slope = grad(energy(x).sum(), x, create_graph=True)[0]
    return slope.detach(), torch.stack([grad(s.sum(), x, retain_graph=True)[0] for s in slope.unbind(1)], 1)


def descent_by_fixed_point(energy, x, step, steps):
    total, one = 0, torch.eye(x.shape[1], dtype=x.dtype)
    for _ in range(steps):
        y = x
        for _ in range(50):
            y = x + step / 2 * hessian_of(energy, y)[0]
        total = total - torch.linalg.slogdet(one - step / 2 * hessian_of(energy, y)[1]).logabsdet
        x = y
    return -0.5 * (x**2 + LOG_2PI).sum(1) + total


def descent_by_newton(energy, x, step, steps):
    total, one = 0, torch.eye(x.shape[1], dtype=x.dtype)
    for _ in range(steps):
        y = x.clone()
        for _ in range(10):
            slope, bend = hessian_of(energy, y)
            y = y - torch.linalg.solve(one - step / 2 * bend, (y - step / 2 * slope - x).unsqueeze(2)).squeeze(2)
        total = total + torch.linalg.eigvalsh(one - step / 2 * hessian_of(energy, y)[1]).abs().log().sum(1)
        x = y
    return torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1) - total


def descent_by_the_course(energy, x, step, steps):
    return ShortRun(energy, Langevin(steps, step, noise=0), event_shape=x.shape[1:]).train().log_prob(x).detach()


def generator_by_functional_call(energy, unroll, x, x0):
    ends = unroll(energy, x0)
    frozen = {name: p.detach() for name, p in energy.named_parameters()}
    as_generator = functional_call(energy, frozen, (ends,))
    return energy(x).mean() - energy(ends.detach()).mean() + as_generator.mean()


def generator_by_a_copy(energy, unroll, x, x0):
    critic = copy.deepcopy(energy)
    ends = unroll(energy, x0)
    return energy(x).mean() - energy(ends.detach()).mean() + critic(ends).mean()


def generator_by_a_switch(energy, unroll, x, x0):
    ends = unroll(energy, x0)
    energy.requires_grad_(False)
    as_generator = energy(ends).mean()
    energy.requires_grad_(True)
    return energy(x).mean() - energy(ends.detach()).mean() + as_generator


def generator_by_taking_away_twice(energy, unroll, x, x0):
    """E with all its gradients at the ends, less that of its weights."""
    ends = unroll(energy, x0)
    return energy(x).mean() + energy(ends).mean() - 2 * energy(ends.detach()).mean()


def generator_by_a_slope(energy, unroll, x, x0):
    """The chain rule by hand: the slope of E at the ends, as a constant."""
    ends = unroll(energy, x0)
    still = ends.detach().requires_grad_()
    at_ends = energy(still).mean()
    (slope,) = grad(at_ends, still, retain_graph=True)
    return energy(x).mean() - at_ends + (slope * ends).sum()


def generator_by_the_course(energy, unroll, x, x0):
    ends = unroll(energy, x0)
    return contrastive(energy, x, ends).mean() + stopped(energy)(ends).mean()


SOLUTIONS = {
    "short_run.steps": [
        ("by grad", steps_by_grad),
        ("by backward", steps_by_backward),
        ("in place", steps_in_place),
        ("by torch.func", steps_by_func),
        ("by the course", steps_by_the_course),
    ],
    "short_run.interpolate": [
        ("by views", between_by_views),
        ("by a loop", between_by_loop),
        ("by einsum", between_by_einsum),
    ],
    "short_run.temperature": [
        ("by recursion", law_by_recursion),
        ("in closed form", law_in_closed_form),
    ],
    "short_run.contrast": [
        ("by detach", contrast_by_detach),
        ("by no_grad", contrast_by_no_grad),
        ("by the course", contrast_by_the_course),
    ],
    "short_run.flow_density": [
        ("by RK4", flow_by_rk4),
        ("by whole Hessians and dopri5", flow_by_whole_hessians),
        ("by the course", flow_by_the_course),
    ],
    "short_run.descent_density": [
        ("by a fixed point", descent_by_fixed_point),
        ("by Newton", descent_by_newton),
        ("by the course", descent_by_the_course),
    ],
    "short_run.generator": [
        ("by functional_call", generator_by_functional_call),
        ("by a copy", generator_by_a_copy),
        ("by a switch", generator_by_a_switch),
        ("by taking away twice", generator_by_taking_away_twice),
        ("by a slope", generator_by_a_slope),
        ("by the course", generator_by_the_course),
    ],
}
