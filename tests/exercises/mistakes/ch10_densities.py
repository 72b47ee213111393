"""What students typically get wrong about densities in chapter 10: exercise -> [(what is wrong, function)]."""

import math

import torch
from torch.autograd import grad

LOG_2PI = math.log(2 * math.pi)


def slope_of(energy, x):
    return grad(energy(x).sum(), x, create_graph=True)[0]


def exact(energy, x, slope):
    return sum(grad(slope[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(x.shape[1]))


def whole(energy, x, slope):
    return grad(slope.sum(), x, create_graph=True)[0].sum(1)


def normal(x, change=0):
    return -0.5 * (x**2).sum(1) - x.shape[1] / 2 * LOG_2PI


RK4 = ((0.5, 0.5, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6))


def flowing(
    prior=normal,
    trace=exact,
    total=lambda log_p, change: log_p + change,
    up=1.0,
    length=lambda time, steps: time / steps,
    count=lambda steps: steps,
    solver=RK4,
    kept=lambda x: x,
    at_end=False,
):
    """flow_density with another noise, summary of the Hessian, sum, direction, step, solver, or graph."""

    def flow_density(energy, x, time, steps):
        data = x
        x, change, h = x.requires_grad_(), 0, length(time, steps)
        for _ in range(count(steps)):
            nodes, weights = solver
            slopes, traces = [], []
            for node in (0, *nodes):
                at = kept(x + node * h * up * slopes[-1] if slopes else x)
                at = at if at.requires_grad else at.requires_grad_()
                slopes.append(slope_of(energy, at))
                traces.append(trace(energy, at, slopes[-1]))
            x = x + up * h * sum(w * s for w, s in zip(weights, slopes, strict=True))
            change = change + h * sum(w * t for w, t in zip(weights, traces, strict=True))
        return total(prior(data if at_end else x), change)

    return flow_density


def at_one_point(of_noise):
    """The trace of one point, times T."""

    def flow_density(energy, x, time, steps):
        points = []
        log_p = flowing(lambda x: points.append(x) or normal(x), total=lambda p, c: p)(energy, x.clone(), time, steps)
        at = points[0] if of_noise else x.requires_grad_()
        return log_p + time * exact(energy, at, slope_of(energy, at))

    return flow_density


def own_density(energy, x, time, steps):
    return -energy(x)


def hutchinson(energy, x, slope):
    v = torch.randn_like(x)
    return (grad((slope * v).sum(), x, create_graph=True)[0] * v).sum(1)


def cut(energy, x, slope):
    return exact(energy, x, slope).detach()


def bend(energy, x):
    at = x.detach().requires_grad_()
    slope = slope_of(energy, at)
    return torch.stack([grad(s.sum(), at, retain_graph=True)[0] for s in slope.unbind(1)], 1).detach()


def climbed(energy, x, step, rounds):
    y = x
    for _ in range(rounds):
        y = x + step / 2 * slope_of(energy, y.detach().requires_grad_()).detach()
    return y


def logdet(matrix):
    return torch.linalg.slogdet(matrix).logabsdet


def descending(
    prior=normal,
    total=lambda log_p, change: log_p - change,
    of=lambda matrix: logdet(matrix),
    matrix=lambda one, half, hessian: one - half * hessian,
    inverse_step=lambda step: step,
    rounds=35,
    count=lambda steps: steps,
    where=lambda end, start: start,
    at_end=False,
):
    """descent_density with another noise, sum, determinant, inverse, number of steps, or point to look at."""

    def descent_density(energy, x, step, steps):
        data, change, one = x, 0, torch.eye(x.shape[1], dtype=x.dtype)
        for _ in range(count(steps)):
            y = climbed(energy, x, inverse_step(step), rounds)
            change = change + of(matrix(one, step / 2, bend(energy, where(x, y))))
            x = y
        return total(prior(data if at_end else x), change)

    return descent_density


def one_determinant(which):
    """K times the determinant of one point."""

    def descent_density(energy, x, step, steps):
        y, one, found = x, torch.eye(x.shape[1], dtype=x.dtype), []
        for _ in range(steps):
            y = climbed(energy, y, step, 35)
            found.append(logdet(one - step / 2 * bend(energy, y)))
        return normal(y) - which(found)

    return descent_density


def a_determinant_too_many(energy, x, step, steps):
    one = torch.eye(x.shape[1], dtype=x.dtype)
    return descending()(energy, x, step, steps) - logdet(one - step / 2 * bend(energy, x))


def onwards(energy, x, step, steps):
    return descending(inverse_step=lambda h: -h, rounds=1, where=lambda end, start: end)(energy, x, step, steps)


def batch_mean(energy, x, step, steps):
    return descending(of=lambda m: logdet(m).mean())(energy, x, step, steps)


def trace_of(matrix):
    return matrix.diagonal(dim1=1, dim2=2).sum(1)


MISTAKES = {
    "short_run.flow_density": [
        ("sign of the trace", flowing(total=lambda p, c: p - c)),
        ("no trace", flowing(total=lambda p, c: p)),
        ("no noise", flowing(total=lambda p, c: c)),
        ("noise at the data", flowing(at_end=True)),
        ("noise at the data, sign", flowing(at_end=True, total=lambda p, c: p - c)),
        ("the wrong way", flowing(up=-1.0)),
        ("the wrong way, sign", flowing(up=-1.0, total=lambda p, c: p - c)),
        ("half the time", flowing(length=lambda t, k: t / k / 2)),
        ("twice the time", flowing(length=lambda t, k: 2 * t / k)),
        ("step T", flowing(length=lambda t, k: t)),
        ("a step too few", flowing(count=lambda k: k - 1)),
        ("one step", flowing(count=lambda k: 1)),
        ("trace halved", flowing(total=lambda p, c: p + c / 2)),
        ("trace doubled", flowing(total=lambda p, c: p + 2 * c)),
        ("trace without the step", flowing(total=lambda p, c: p + c * 50)),
        ("mean over dimensions", flowing(trace=lambda e, x, s: exact(e, x, s) / x.shape[1])),
        ("all entries", flowing(trace=whole)),
        ("one coordinate", flowing(trace=lambda e, x, s: grad(s[:, 0].sum(), x, create_graph=True)[0][:, 0])),
        ("squared slope", flowing(trace=lambda e, x, s: s.square().sum(1))),
        ("divergence of the way down", flowing(trace=lambda e, x, s: exact(e, x, -s))),
        ("Hutchinson", flowing(trace=hutchinson)),
        ("trace of the data", at_one_point(False)),
        ("trace of the noise", at_one_point(True)),
        ("Euler", flowing(solver=((), (1.0,)))),
        ("midpoint", flowing(solver=((0.5,), (0.0, 1.0)))),
        ("RK4's weights in another order", flowing(solver=((0.5, 0.5, 1.0), (1 / 3, 1 / 6, 1 / 6, 1 / 3)))),
        ("RK4 not divided by six", flowing(solver=((0.5, 0.5, 1.0), (1.0, 2.0, 2.0, 1.0)))),
        ("RK4 without halves", flowing(solver=((1.0, 1.0, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)))),
        ("no constant", flowing(lambda x: -0.5 * (x**2).sum(1))),
        ("one constant", flowing(lambda x: -0.5 * (x**2).sum(1) - LOG_2PI / 2)),
        ("constant with its sign", flowing(lambda x: -0.5 * (x**2).sum(1) + x.shape[1] / 2 * LOG_2PI)),
        ("no half", flowing(lambda x: -(x**2).sum(1) - x.shape[1] / 2 * LOG_2PI)),
        ("mean of squares", flowing(lambda x: -0.5 * (x**2).mean(1) - x.shape[1] / 2 * LOG_2PI)),
        ("sum over the batch", flowing(total=lambda p, c: p + c.sum())),
        ("all summed", flowing(total=lambda p, c: (p + c).sum())),
        ("all averaged", flowing(total=lambda p, c: (p + c).mean())),
        ("a column", flowing(total=lambda p, c: (p + c)[:, None])),
        ("density", flowing(total=lambda p, c: (p + c).exp())),
        ("−log p", flowing(total=lambda p, c: -p - c)),
        ("bits", flowing(total=lambda p, c: (p + c) / math.log(2))),
        ("the energy's own", own_density),
        ("no graph", flowing(total=lambda p, c: (p + c).detach())),
        ("trace without a graph", flowing(trace=cut)),
        ("way without a graph", flowing(kept=lambda x: x.detach())),
        ("noise without a graph", flowing(lambda x: normal(x.detach()))),
        ("float32", flowing(total=lambda p, c: (p + c).float())),
    ],
    "short_run.descent_density": [
        ("sign", descending(total=lambda p, c: p + c)),
        ("where the step ends", descending(where=lambda end, start: end)),
        ("where the step ends, sign", descending(where=lambda end, start: end, total=lambda p, c: p + c)),
        ("between", descending(where=lambda end, start: (start + end) / 2)),
        ("trace", descending(of=trace_of, matrix=lambda one, h, b: -h * b)),
        ("trace, sign", descending(of=trace_of, matrix=lambda one, h, b: h * b)),
        ("trace with the identity", descending(of=trace_of)),
        ("no determinant", descending(total=lambda p, c: p)),
        ("no noise", descending(total=lambda p, c: -c)),
        ("noise at the data", descending(at_end=True)),
        ("one step up for an inverse", descending(rounds=1)),
        ("one step up for an inverse, where it ends", descending(rounds=1, where=lambda end, start: end)),
        ("two rounds", descending(rounds=2)),
        ("five rounds", descending(rounds=5)),
        ("whole step", descending(rounds=60, inverse_step=lambda h: 2 * h, matrix=lambda one, h, b: one - 2 * h * b)),
        ("whole step in the determinant", descending(matrix=lambda one, h, b: one - 2 * h * b)),
        ("quarter step in the determinant", descending(matrix=lambda one, h, b: one - h / 2 * b)),
        ("half a step in the inverse", descending(inverse_step=lambda h: h / 2)),
        ("I + η/2 H", descending(matrix=lambda one, h, b: one + h * b)),
        ("I + η/2 H, sign", descending(matrix=lambda one, h, b: one + h * b, total=lambda p, c: p + c)),
        ("no identity", descending(matrix=lambda one, h, b: h * b)),
        ("determinant of H", descending(matrix=lambda one, h, b: b)),
        ("1 to every entry", descending(matrix=lambda one, h, b: 1 - h * b)),
        ("diagonal", descending(of=lambda m: trace_of(m.abs().log()))),
        ("no logarithm", descending(of=torch.linalg.det)),
        ("log of a trace", descending(of=lambda m: trace_of(m).log())),
        ("half a logarithm", descending(of=lambda m: logdet(m) / 2)),
        ("on and on", onwards),
        ("one step", descending(count=lambda k: 1)),
        ("a step too few", descending(count=lambda k: k - 1)),
        ("a step too many", descending(count=lambda k: k + 1)),
        ("last determinant", one_determinant(lambda found: found[0])),
        ("first determinant", one_determinant(lambda found: found[-1])),
        ("K times the first", one_determinant(lambda found: len(found) * found[-1])),
        ("K times the last", one_determinant(lambda found: len(found) * found[0])),
        ("mean determinant", one_determinant(lambda found: sum(found) / len(found))),
        ("a determinant too many", a_determinant_too_many),
        ("mean over the batch", batch_mean),
        ("sum over the batch", descending(total=lambda p, c: p - c.sum())),
        ("all summed", descending(total=lambda p, c: (p - c).sum())),
        ("no constant", descending(lambda x: -0.5 * (x**2).sum(1))),
        ("one constant", descending(lambda x: -0.5 * (x**2).sum(1) - LOG_2PI / 2)),
        ("no half", descending(lambda x: -(x**2).sum(1) - x.shape[1] / 2 * LOG_2PI)),
        ("−log p", descending(total=lambda p, c: c - p)),
        ("density", descending(total=lambda p, c: (p - c).exp())),
        ("bits", descending(total=lambda p, c: (p - c) / math.log(2))),
        ("the energy's own", lambda energy, x, step, steps: -energy(x).detach()),
        ("float32", descending(total=lambda p, c: (p - c).float())),
    ],
}  # fmt: skip
