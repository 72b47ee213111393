"""What students of chapter 3 typically get wrong: exercise -> [(what is wrong, function)]."""

import math

import torch
from torch.nn.functional import softplus

LOG_2PI = math.log(2 * math.pi)


def log_normal(z):
    return -0.5 * z**2 - LOG_2PI / 2


def slope(x, f):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


def change(x, f):
    return log_normal(f(x)) + slope(x, f).abs().log()


def forward_differences(x, f, step=1e-3):
    return log_normal(f(x)) + ((f(x + step) - f(x)) / step).abs().log()


def halves(x):
    return x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]


def coupling(x, s, t):
    x1, x2 = halves(x)
    return torch.cat((x1, x2 * s(x1).exp() + t(x1)), 1), s(x1).sum(1)


def coupled(second, log_det=lambda s, t: s.sum(1)):
    """coupling with another second half or log-determinant, both in terms of s and t of the first half."""

    def layer(x, s, t):
        x1, x2 = halves(x)
        return torch.cat((x1, second(x2, s(x1), t(x1))), 1), log_det(s(x1), t(x1))

    return layer


def affine(x2, s, t):
    return x2 * s.exp() + t


def coupled_first_half(x, s, t):
    x1, x2 = halves(x)
    return torch.cat((x1 * s(x2).exp() + t(x2), x2), 1), s(x2).sum(1)


def coupled_with_itself(x, s, t):
    x1, x2 = halves(x)
    return torch.cat((x1, x2 * s(x2).exp() + t(x2)), 1), s(x2).sum(1)


def coupled_larger_half_first(x, s, t):
    half = x.shape[1] - x.shape[1] // 2
    x1, x2 = x[:, :half], x[:, half:]
    return torch.cat((x1, x2 * s(x1).exp() + t(x1)), 1), s(x1).sum(1)


def coupled_halves_swapped(x, s, t):
    x1, x2 = halves(x)
    return torch.cat((x2 * s(x1).exp() + t(x1), x1), 1), s(x1).sum(1)


def first_mask(inputs, hidden):
    return hidden[:, None] >= inputs


def second_mask(inputs, hidden):
    return inputs[:, None] > hidden


def places(degrees):
    return torch.arange(len(degrees)) + 1


def quadratic(y, xk, xk1, yk, yk1, dk, dk1):
    h, s = yk1 - yk, (yk1 - yk) / (xk1 - xk)
    bent = (y - yk) * (dk1 + dk - 2 * s)
    return h * (s - dk) + bent, h * dk - bent, -s * (y - yk)


def root_of(a, b, c, sign=-1):
    return 2 * c / (-b + sign * (b**2 - 4 * a * c).sqrt())


def spline_inverse(y, xk, xk1, yk, yk1, dk, dk1):
    return xk + (xk1 - xk) * root_of(*quadratic(y, xk, xk1, yk, yk1, dk, dk1))


def spline_naive(y, xk, xk1, yk, yk1, dk, dk1):
    a, b, c = quadratic(y, xk, xk1, yk, yk1, dk, dk1)
    return xk + (xk1 - xk) * (-b + (b**2 - 4 * a * c).sqrt()) / (2 * a)


def spline_guarded(y, xk, xk1, yk, yk1, dk, dk1):
    a, b, c = quadratic(y, xk, xk1, yk, yk1, dk, dk1)
    quotient = (-b + (b**2 - 4 * a * c).sqrt()) / (2 * a)
    return xk + (xk1 - xk) * torch.where(a == 0, -c / b, quotient)


def spline_forward(y, xk, xk1, yk, yk1, dk, dk1):
    s, xi = (yk1 - yk) / (xk1 - xk), (y - xk) / (xk1 - xk)
    bump = xi * (1 - xi)
    return yk + (yk1 - yk) * (s * xi**2 + dk * bump) / (s + (dk + dk1 - 2 * s) * bump)


def spline_slope_turned_round(y, xk, xk1, yk, yk1, dk, dk1):
    h, s = yk1 - yk, (xk1 - xk) / (yk1 - yk)
    bent = (y - yk) * (dk1 + dk - 2 * s)
    return xk + (xk1 - xk) * root_of(h * (s - dk) + bent, h * dk - bent, -s * (y - yk))


def spline_height_forgotten(y, xk, xk1, yk, yk1, dk, dk1):
    s = (yk1 - yk) / (xk1 - xk)
    bent = (y - yk) * (dk1 + dk - 2 * s)
    return xk + (xk1 - xk) * root_of(s - dk + bent, dk - bent, -s * (y - yk))


def spline_from_zero(y, xk, xk1, yk, yk1, dk, dk1):
    h, s = yk1 - yk, (yk1 - yk) / (xk1 - xk)
    bent = y * (dk1 + dk - 2 * s)
    return xk + (xk1 - xk) * root_of(h * (s - dk) + bent, h * dk - bent, -s * y)


def spline_sign_in_b(y, xk, xk1, yk, yk1, dk, dk1):
    a, b, c = quadratic(y, xk, xk1, yk, yk1, dk, dk1)
    return xk + (xk1 - xk) * root_of(a, 2 * (yk1 - yk) * dk - b, c)


def m(a):
    return softplus(a) - 1


def constrained(w, u):
    return u + (m(w @ u) - w @ u) * w / w.square().sum()


def push(x, w, u, b):
    """A planar map with u as it is."""
    h = torch.tanh(x @ w + b)
    return x + torch.outer(h, u), (1 + (w @ u) * (1 - h**2)).abs().log()


def planar(x, w, u, b):
    return push(x, w, constrained(w, u), b)


def bent_by(u_hat):
    return lambda x, w, u, b: push(x, w, u_hat(w, u), b)


def pushed(z=None, log_det=None):
    """planar with another z (of x, û, w·x + b) or log-determinant (of û·w and h)."""

    def layer(x, w, u, b):
        right, right_log_det = planar(x, w, u, b)
        a, u_hat = x @ w + b, constrained(w, u)
        return z(x, u_hat, a) if z else right, log_det(w @ u_hat, torch.tanh(a)) if log_det else right_log_det

    return layer


def planar_of_raw_determinant(x, w, u, b):
    return planar(x, w, u, b)[0], push(x, w, u, b)[1]


def planar_unstable(x, w, u, b):
    product = w @ u
    return push(x, w, u + (torch.log(1 + torch.exp(product)) - 1 - product) * w / (w @ w), b)


def planar_cut_off(x, w, u, b):
    product = w @ u
    return push(x, w, u + (product.clamp(min=-1) - product) * w / (w @ w), b)


def inner(a, U, V):
    return V.T @ (U / a[:, None])


def eye(U):
    return torch.eye(U.shape[1], dtype=U.dtype)


def logdet(matrix):
    return torch.linalg.slogdet(matrix).logabsdet


def lemma(a, U, V):
    return a.abs().log().sum() + logdet(eye(U) + inner(a, U, V))


def mean_bits(log_prob, dims, width=2 / 255):
    return -log_prob / (dims * math.log(2)) - math.log2(width)


def probes(product, eps):
    """εᵀJε of each probe, (k, n)."""
    return torch.stack([(e * product(e)).sum(1) for e in eps])


def hutchinson(product, eps):
    return probes(product, eps).mean(0)


def exact_trace(product, eps):
    basis = torch.eye(eps.shape[2], dtype=eps.dtype)
    return sum((e * product(e.expand(eps.shape[1:]))).sum(1) for e in basis)


MISTAKES = {
    "flows.change_of_variables": [
        ("no determinant", lambda x, f: log_normal(f(x))),
        ("determinant divides", lambda x, f: log_normal(f(x)) - slope(x, f).abs().log()),
        ("no logarithm of the slope", lambda x, f: log_normal(f(x)) + slope(x, f).abs()),
        ("log-density times slope", lambda x, f: log_normal(f(x)) * slope(x, f).abs()),
        ("no absolute value", lambda x, f: log_normal(f(x)) + slope(x, f).log()),
        ("by way of the density", lambda x, f: (log_normal(f(x)).exp() * slope(x, f).abs()).log()),
        ("base density at x", lambda x, f: log_normal(x) + slope(x, f).abs().log()),
        ("slope at z", lambda x, f: log_normal(f(x)) + slope(f(x), f).abs().log()),
        ("constant missing", lambda x, f: change(x, f) + LOG_2PI / 2),
        ("no half in front of the square", lambda x, f: change(x, f) - f(x) ** 2 / 2),
        ("the density itself", lambda x, f: change(x, f).exp()),
        ("in bits", lambda x, f: change(x, f) / math.log(2)),
        ("slope squared", lambda x, f: log_normal(f(x)) + 2 * slope(x, f).abs().log()),
        ("only the slope", lambda x, f: slope(x, f).abs().log()),
        ("summed over the data", lambda x, f: change(x, f).sum()),
        ("one slope for all", lambda x, f: log_normal(f(x)) + slope(x, f).abs().sum().log()),
        ("coarse differences", forward_differences),
        ("no gradient asked for", lambda x, f: log_normal(f(x)) + torch.autograd.grad(f(x).sum(), x)[0].abs().log()),
    ],
    "flows.coupling": [
        ("s as the scale itself", coupled(lambda x2, s, t: x2 * s + t)),
        ("the inverse", coupled(lambda x2, s, t: (x2 - t) * (-s).exp(), lambda s, t: -s.sum(1))),
        ("shift first", coupled(lambda x2, s, t: (x2 + t) * s.exp())),
        ("no shift", coupled(lambda x2, s, t: x2 * s.exp())),
        ("no scale", coupled(lambda x2, s, t: x2 + t, lambda s, t: torch.zeros_like(s[:, 0]))),
        ("first half transformed", coupled_first_half),
        ("nets of the half they transform", coupled_with_itself),
        ("larger half first", coupled_larger_half_first),
        ("halves swapped", coupled_halves_swapped),
        ("mean of s", coupled(affine, lambda s, t: s.mean(1))),
        ("the determinant", coupled(affine, lambda s, t: s.exp().prod(1))),
        ("log of the product", coupled(affine, lambda s, t: s.exp().prod(1).log())),
        ("sum of the scales", coupled(affine, lambda s, t: s.exp().sum(1))),
        ("log-det of the inverse", coupled(affine, lambda s, t: -s.sum(1))),
        ("shift in the determinant", coupled(affine, lambda s, t: (s + t).sum(1))),
        ("summed over the data", coupled(affine, lambda s, t: s.sum())),
        ("s not summed", coupled(affine, lambda s, t: s)),
        ("volume preserved", coupled(affine, lambda s, t: 0 * s.sum(1))),
        ("only z", lambda x, s, t: coupling(x, s, t)[0]),
        ("only the second half", lambda x, s, t: (halves(coupling(x, s, t)[0])[1], coupling(x, s, t)[1])),
        ("nets of the whole x", lambda x, s, t: (x * s(x).exp() + t(x), s(x).sum(1))),
    ],
    "flows.made_masks": [
        ("strict in the first layer", lambda i, h: (h[:, None] > i, second_mask(i, h))),
        ("not strict in the second", lambda i, h: (first_mask(i, h), i[:, None] >= h)),
        ("strictness swapped", lambda i, h: (h[:, None] > i, i[:, None] >= h)),
        ("first mask turned round", lambda i, h: (h[:, None] <= i, second_mask(i, h))),
        ("second mask turned round", lambda i, h: (first_mask(i, h), i[:, None] < h)),
        ("second the transpose of the first", lambda i, h: (first_mask(i, h), first_mask(i, h).T)),
        ("transposed", lambda i, h: (first_mask(i, h).T, second_mask(i, h).T)),
        ("masks swapped", lambda i, h: (second_mask(i, h), first_mask(i, h))),
        ("order ignored", lambda i, h: (first_mask(places(i), h), second_mask(places(i), h))),
        ("order ignored at the output", lambda i, h: (first_mask(i, h), second_mask(places(i), h))),
        ("degrees from 0", lambda i, h: (h[:, None] >= places(i) - 1, second_mask(i, h))),
        ("equal degrees", lambda i, h: (h[:, None] == i, second_mask(i, h))),
        ("next degree", lambda i, h: (first_mask(i, h), i[:, None] == h + 1)),
        ("everything open", lambda i, h: (torch.ones(len(h), len(i)), torch.ones(len(i), len(h)))),
        ("triangles", lambda i, h: (torch.ones(len(h), len(i)).tril(), torch.ones(len(i), len(h)).tril(-1))),
        ("one mask", first_mask),
    ],
    "flows.spline_inverse": [
        ("ξ for x", lambda *a: root_of(*quadratic(*a))),
        ("foot of the bin forgotten", lambda *a: (a[2] - a[1]) * root_of(*quadratic(*a))),
        ("width of the bin forgotten", lambda *a: a[1] + root_of(*quadratic(*a))),
        ("ξ in the bin of y", lambda *a: a[3] + (a[4] - a[3]) * root_of(*quadratic(*a))),
        ("linear", lambda *a: a[1] + (a[2] - a[1]) * (a[0] - a[3]) / (a[4] - a[3])),
        ("slopes swapped", lambda y, xk, xk1, yk, yk1, dk, dk1: spline_inverse(y, xk, xk1, yk, yk1, dk1, dk)),
        ("the other root", lambda *a: a[1] + (a[2] - a[1]) * root_of(*quadratic(*a), sign=1)),
        ("divides by the coefficient of ξ²", spline_naive),
        ("divides by it unless it is 0", spline_guarded),
        ("the spline itself", spline_forward),
        ("width over height", spline_slope_turned_round),
        ("height forgotten", spline_height_forgotten),
        ("y from 0", spline_from_zero),
        ("sign in b", spline_sign_in_b),
        ("summed", lambda *a: spline_inverse(*a).sum()),
    ],
    "flows.planar": [
        ("u unconstrained", push),
        ("m without −1", bent_by(lambda w, u: u + (softplus(w @ u) - w @ u) * w / (w @ w))),
        ("length for its square", bent_by(lambda w, u: u + (m(w @ u) - w @ u) * w / w.norm())),
        ("length forgotten", bent_by(lambda w, u: u + (m(w @ u) - w @ u) * w)),
        ("along u", bent_by(lambda w, u: u + (m(w @ u) - w @ u) * u / (u @ u))),
        ("w·u not taken off", bent_by(lambda w, u: u + m(w @ u) * w / (w @ w))),
        ("u forgotten", bent_by(lambda w, u: (m(w @ u) - w @ u) * w / (w @ w))),
        ("cut off", planar_cut_off),
        ("not stabilised", planar_unstable),
        ("determinant of the raw u", planar_of_raw_determinant),
        ("h for its slope", pushed(log_det=lambda a, h: (1 + a * h).abs().log())),
        ("1 − h for 1 − h²", pushed(log_det=lambda a, h: (1 + a * (1 - h)).abs().log())),
        ("the determinant", pushed(log_det=lambda a, h: 1 + a * (1 - h**2))),
        ("1 forgotten", pushed(log_det=lambda a, h: (a * (1 - h**2)).abs().log())),
        ("1 forgotten, no absolute value", pushed(log_det=lambda a, h: (a * (1 - h**2)).log())),
        ("slope of tanh forgotten", pushed(log_det=lambda a, h: (1 + a).log().expand(len(h)))),
        ("sign of the log-det", pushed(log_det=lambda a, h: -(1 + a * (1 - h**2)).log())),
        ("summed over the data", pushed(log_det=lambda a, h: (1 + a * (1 - h**2)).log().sum())),
        ("x forgotten", pushed(z=lambda x, u, a: torch.outer(torch.tanh(a), u))),
        ("no tanh", pushed(z=lambda x, u, a: x + torch.outer(a, u))),
        ("b forgotten", lambda x, w, u, b: planar(x, w, u, 0.0)),
        ("u and w swapped", lambda x, w, u, b: planar(x, u, w, b)),
    ],
    "flows.determinant_lemma": [
        ("diagonal forgotten", lambda a, U, V: logdet(eye(U) + inner(a, U, V))),
        ("only the diagonal", lambda a, U, V: a.abs().log().sum()),
        ("diagonal inverted", lambda a, U, V: lemma(a, U, V) - 2 * a.abs().log().sum()),
        ("I forgotten", lambda a, U, V: a.abs().log().sum() + logdet(inner(a, U, V))),
        ("sign", lambda a, U, V: a.abs().log().sum() + logdet(eye(U) - inner(a, U, V))),
        ("a left out inside", lambda a, U, V: a.abs().log().sum() + logdet(eye(U) + V.T @ U)),
        ("a multiplied inside", lambda a, U, V: a.abs().log().sum() + logdet(eye(U) + V.T @ (a[:, None] * U))),
        ("log of negative a", lambda a, U, V: a.log().sum() + logdet(eye(U) + inner(a, U, V))),
        ("log of a negative determinant", lambda a, U, V: a.abs().log().sum() + torch.logdet(eye(U) + inner(a, U, V))),
        ("product of all a", lambda a, U, V: a.prod().abs().log() + logdet(eye(U) + inner(a, U, V))),
        ("the determinant", lambda a, U, V: lemma(a, U, V).exp()),
        ("no logarithm of the small one", lambda a, U, V: a.abs().log().sum() + logdet(eye(U) + inner(a, U, V)).exp()),
        ("the whole matrix", lambda a, U, V: logdet(a.diag() + U @ V.T)),
        ("the product of the thin matrices", lambda a, U, V: logdet(U @ V.T + torch.diag(a))),
        ("sum of k terms", lambda a, U, V: a.abs().log().sum() + (1 + inner(a, U, V).diag()).abs().log().sum()),
        ("a by columns", lambda a, U, V: a.abs().log().sum() + logdet(eye(U) + V.T @ (U / a))),
    ],
    "flows.hutchinson": [
        ("summed over probes", lambda product, eps: probes(product, eps).sum(0)),
        ("mean probe", lambda product, eps: (eps.mean(0) * product(eps.mean(0))).sum(1)),
        ("mean over dimensions", lambda product, eps: hutchinson(product, eps) / eps.shape[2]),
        ("not multiplied by ε again", lambda product, eps: torch.stack([product(e).sum(1) for e in eps]).mean(0)),
        ("squared length", lambda product, eps: torch.stack([product(e).square().sum(1) for e in eps]).mean(0)),
        ("length", lambda product, eps: torch.stack([product(e).norm(dim=1) for e in eps]).mean(0)),
        ("unit probes", lambda product, eps: (probes(product, eps) / eps.square().sum(2)).mean(0)),
        ("its own probes", lambda product, eps: hutchinson(product, torch.randn_like(eps))),
        ("the trace itself", exact_trace),
        ("mean over the data", lambda product, eps: hutchinson(product, eps).mean()),
        ("mean over the data, as a batch", lambda product, eps: hutchinson(product, eps).mean().expand(eps.shape[1])),
        ("first probe", lambda product, eps: probes(product, eps)[0]),
        ("all probes kept", probes),
        ("mean over the data instead of the probes", lambda product, eps: probes(product, eps).mean(1)),
        ("J forgotten", lambda product, eps: eps.square().sum(2).mean(0)),
        ("one product of all", lambda product, eps: product(eps.sum(2))),
    ],
    "flows.bits_per_dim": [
        ("density for probability", lambda lp, d: -lp / (d * math.log(2))),
        ("cell of 2/256", lambda lp, d: mean_bits(lp, d, 2 / 256)),
        ("cell of 1/256", lambda lp, d: mean_bits(lp, d, 1 / 256)),
        ("cell of 1/255", lambda lp, d: mean_bits(lp, d, 1 / 255)),
        ("cell the wrong way", lambda lp, d: mean_bits(lp, d, 255 / 2)),
        ("log_prob in nats", lambda lp, d: -lp / d + math.log2(127.5)),
        ("cell in nats", lambda lp, d: -lp / (d * math.log(2)) + math.log(127.5)),
        ("all in nats", lambda lp, d: -lp / d + math.log(127.5)),
        ("ln 2 multiplied", lambda lp, d: -lp / d * math.log(2) + math.log2(127.5)),
        ("sign of log_prob", lambda lp, d: lp / (d * math.log(2)) + math.log2(127.5)),
        ("sign", lambda lp, d: -mean_bits(lp, d)),
        ("not per dimension", lambda lp, d: d * mean_bits(lp, d)),
        ("cell divided by dims", lambda lp, d: (-lp / math.log(2) + math.log2(127.5)) / d),
        ("log_prob not divided", lambda lp, d: -lp / math.log(2) + math.log2(127.5)),
        ("cell once for each value", lambda lp, d: -lp / (d * math.log(2)) + d * math.log2(127.5)),
        ("mean over the images", lambda lp, d: mean_bits(lp, d).mean()),
    ],
}
