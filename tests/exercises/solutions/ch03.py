"""Right answers to chapter 3 in the various ways students write them: exercise -> [(manner, function)]."""

import math

import numpy as np
import torch
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import Transform
from torch.nn.functional import softplus


def change_by_autograd(x, f):
    x = x.requires_grad_()
    z = f(x)
    (slope,) = torch.autograd.grad(z.sum(), x, create_graph=True)
    return -0.5 * (z**2 + math.log(2 * math.pi)) + slope.abs().log()


def change_in_a_loop(x, f):
    values = []
    for v in x:
        v = v.clone().requires_grad_()
        z = f(v)
        z.backward()
        values.append(Normal(0.0, 1.0).log_prob(z.detach()) + torch.log(torch.abs(v.grad)))
    return torch.stack(values)


def change_by_jacobian(x, f):
    jacobian = torch.autograd.functional.jacobian(f, x)
    return Normal(0.0, 1.0).log_prob(f(x)) + jacobian.diagonal().abs().log()


def change_by_distributions(x, f):
    """x = T(z) as torch.distributions has it: the inverse of T is f."""

    class OfNoise(Transform):
        bijective, domain, codomain = True, torch.distributions.constraints.real, torch.distributions.constraints.real

        def _inverse(self, y):
            return f(y)

        def log_abs_det_jacobian(self, z, y):
            y = y.detach().requires_grad_()
            return -torch.autograd.grad(f(y).sum(), y)[0].abs().log()

    return TransformedDistribution(Normal(0.0, 1.0), [OfNoise()], validate_args=False).log_prob(x)


def coupling_by_chunks(x, s, t):
    half = x.shape[1] // 2
    x1, x2 = x.split([half, x.shape[1] - half], 1)
    log_scale = s(x1)
    return torch.hstack([x1, x2 * torch.exp(log_scale) + t(x1)]), log_scale.sum(-1)


def coupling_in_place(x, s, t):
    half = x.shape[1] // 2
    log_scale, shift = s(x[:, :half]), t(x[:, :half])
    x[:, half:] *= log_scale.exp()
    x[:, half:] += shift
    return [x, log_scale.sum(1)]


def coupling_by_autograd(x, s, t):
    """The determinant from the Jacobian's lower right block, entry by entry on its diagonal."""
    half = x.shape[1] // 2
    x1, x2 = x[:, :half], x[:, half:]

    def second(x2):
        return x2 * s(x1).exp() + t(x1)

    jacobian = torch.autograd.functional.jacobian(lambda v: second(v).sum(0), x2).transpose(0, 1)
    return torch.cat((x1, second(x2)), 1), torch.linalg.slogdet(jacobian).logabsdet


def masks_by_loops(degrees_in, degrees_hidden):
    d, h = len(degrees_in), len(degrees_hidden)
    first, second = torch.zeros(h, d), torch.zeros(d, h)
    for j in range(h):
        for i in range(d):
            first[j, i] = float(degrees_in[i] <= degrees_hidden[j])
            second[i, j] = float(degrees_in[i] > degrees_hidden[j])
    return first, second


def spline_by_durkan(y, xk, xk1, yk, yk1, dk, dk1):
    """Eqs (6) to (8) of the paper, in its letters."""
    h, s = yk1 - yk, (yk1 - yk) / (xk1 - xk)
    bent = (y - yk) * (dk1 + dk - 2 * s)
    a, b, c = h * (s - dk) + bent, h * dk - bent, -s * (y - yk)
    xi = 2 * c / (-b - (b**2 - 4 * a * c).sqrt())
    return xi * (xk1 - xk) + xk


def spline_without_cancellation(y, xk, xk1, yk, yk1, dk, dk1):
    s, eta = (yk1 - yk) / (xk1 - xk), (y - yk) / (yk1 - yk)
    g = dk * (1 - eta) - dk1 * eta
    q = g.abs() + (g**2 + 4 * s**2 * eta * (1 - eta)).sqrt()
    left, right = torch.where(g >= 0, 2 * s * eta, q), torch.where(g >= 0, q, 2 * s * (1 - eta))
    return xk + (xk1 - xk) * left / (left + right)


def spline_by_newton(y, xk, xk1, yk, yk1, dk, dk1):
    """Newton's method on the spline itself, kept in the bin by halving."""
    low, high, xi = torch.zeros_like(y), torch.ones_like(y), torch.full_like(y, 0.5)
    w, h = xk1 - xk, yk1 - yk
    s = h / w
    for _ in range(60):
        over = s + (dk + dk1 - 2 * s) * xi * (1 - xi)
        gap = yk + h * (s * xi**2 + dk * xi * (1 - xi)) / over - y
        low, high = torch.where(gap < 0, xi, low), torch.where(gap < 0, high, xi)
        slope = w * s**2 * (dk1 * xi**2 + 2 * s * xi * (1 - xi) + dk * (1 - xi) ** 2) / over**2
        step = xi - gap / slope
        xi = torch.where((step > low) & (step < high), step, (low + high) / 2)
    return xk + w * xi


def planar_by_formula(x, w, u, b):
    a = w @ u
    u_hat = u + (softplus(a) - 1 - a) * w / w.square().sum()
    h = torch.tanh(x @ w + b)
    return x + u_hat * h[:, None], torch.log(torch.abs(1 + (1 - h**2) * (w @ u_hat)))


def planar_by_matrices(x, w, u, b):
    a = torch.dot(w, u)
    u_hat = u + (torch.logaddexp(a, torch.zeros_like(a)) - 1 - a) * w / w.norm() ** 2
    h = torch.tanh(x @ w + b)
    jacobian = torch.eye(len(w), dtype=x.dtype) + (1 - h**2)[:, None, None] * torch.outer(u_hat, w)
    return x + torch.outer(h, u_hat), torch.linalg.slogdet(jacobian)[1]


def lemma_by_slogdet(a, U, V):
    inner = torch.eye(U.shape[1], dtype=a.dtype) + V.T @ (U / a[:, None])
    return torch.linalg.slogdet(inner).logabsdet + a.abs().log().sum()


def lemma_by_numpy(a, U, V):
    a, U, V = a.numpy(), U.numpy(), V.numpy()
    inner = np.eye(U.shape[1]) + U.T @ (V / a[:, None])
    return float(np.linalg.slogdet(inner)[1] + np.log(np.abs(a)).sum())


def lemma_one_column_after_another(a, U, V):
    """Sherman–Morrison: the inverse is updated by one rank at a time and applied to what columns are left."""
    total, solved = a.abs().log().sum(), U / a[:, None]
    for j in range(U.shape[1]):
        det = 1 + V[:, j] @ solved[:, j]
        total = total + det.abs().log()
        solved = solved - torch.outer(solved[:, j], V[:, j] @ solved) / det
    return total


def hutchinson_in_a_loop(jacobian_product, eps):
    return sum((e * jacobian_product(e)).sum(1) for e in eps) / len(eps)


def hutchinson_at_once(jacobian_product, eps):
    return (eps * jacobian_product(eps)).sum(-1).mean(0)


def hutchinson_stacked(jacobian_product, eps):
    return torch.einsum("kni,kni->n", eps, torch.stack([jacobian_product(e) for e in eps])) / eps.shape[0]


SOLUTIONS = {
    "flows.change_of_variables": [
        ("by autograd, with a graph", change_by_autograd),
        ("in a loop", change_in_a_loop),
        ("by the whole Jacobian", change_by_jacobian),
        ("by torch.distributions", change_by_distributions),
    ],
    "flows.coupling": [
        ("by chunks", coupling_by_chunks),
        ("in place, as a list", coupling_in_place),
        ("by autograd", coupling_by_autograd),
    ],
    "flows.made_masks": [
        ("by comparison", lambda i, h: (h[:, None] >= i, i[:, None] > h)),
        ("as integers", lambda i, h: ((h[:, None] >= i).long(), (i[:, None] > h).int())),
        ("by loops, in float32", masks_by_loops),
    ],
    "flows.spline_inverse": [
        ("by Durkan et al.", spline_by_durkan),
        ("without cancellation", spline_without_cancellation),
        ("by Newton's method", spline_by_newton),
    ],
    "flows.planar": [("by formula", planar_by_formula), ("by matrices", planar_by_matrices)],
    "flows.determinant_lemma": [
        ("by slogdet", lemma_by_slogdet),
        ("by numpy, a float", lemma_by_numpy),
        ("one column after another", lemma_one_column_after_another),
    ],
    "flows.hutchinson": [
        ("in a loop", hutchinson_in_a_loop),
        ("at once", hutchinson_at_once),
        ("stacked", hutchinson_stacked),
    ],
    "flows.bits_per_dim": [
        ("by formula", lambda log_prob, dims: -log_prob / (dims * math.log(2)) + math.log2(127.5)),
        ("by probabilities", lambda log_prob, dims: -(log_prob + dims * math.log(2 / 255)) / math.log(2) / dims),
    ],
}
