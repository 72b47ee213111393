"""What students of chapter 1 typically get wrong: exercise -> [(what is wrong, function)]."""

import math

import torch

LOG_2PI = math.log(2 * math.pi)


def normalised(joint, axis=1):
    return joint - joint.logsumexp(axis, keepdim=True)


def bayes(log_lik, prior, joint=None):
    """The right answer, or that of another joint."""
    joint = log_lik + prior.log() if joint is None else joint
    return normalised(joint), joint.logsumexp(1)


def bayes_unstable(log_lik, prior):
    joint = log_lik.exp() * prior
    return (joint / joint.sum(1, keepdim=True)).log(), joint.sum(1).log()


def bayes_one_maximum_for_all(log_lik, prior):
    top = log_lik.max()
    posterior, marginal = bayes_unstable(log_lik - top, prior)
    return posterior, marginal + top


def kl(log_p, log_q, cell):
    return (log_p.exp() * (log_p - log_q)).sum() * cell


def middle(log_p, log_q):
    return torch.logaddexp(log_p, log_q) - math.log(2)


def js(log_p, log_q, cell):
    return 0.5 * kl(log_p, middle(log_p, log_q), cell) + 0.5 * kl(log_q, middle(log_p, log_q), cell)


def js_unstable(log_p, log_q, cell):
    p, q = log_p.exp(), log_q.exp()
    m = (p + q) / 2
    return 0.5 * cell * (p * (p / m).log() + q * (q / m).log()).sum()


def js_of(log_p, log_q, cell, log_m):
    return 0.5 * kl(log_p, log_m, cell) + 0.5 * kl(log_q, log_m, cell)


def log_joint(x, w, m, s):
    return w.log() - ((x[:, None] - m) ** 2).sum(2) / (2 * s**2) - x.shape[1] * (s.log() + LOG_2PI / 2)


def m_step(x, r, about=None):
    mass = r.sum(0)
    means = r.T @ x / mass[:, None]
    squares = ((x[:, None] - (means if about is None else about)) ** 2).sum(2)
    return mass / len(x), means, ((r * squares).sum(0) / (x.shape[1] * mass)).sqrt()


def em(x, w, m, s):
    return m_step(x, log_joint(x, w, m, s).softmax(1))


def em_changed(weights=lambda w, x: w, means=lambda m, x: m, sigmas=lambda s, x: s):
    """em with one of its answers changed."""

    def step(x, w, m, s):
        w, m, s = em(x, w, m, s)
        return weights(w, x), means(m, x), sigmas(s, x)

    return step


def em_unstable(x, w, m, s):
    joint = log_joint(x, w, m, s).exp()
    return m_step(x, joint / joint.sum(1, keepdim=True))


def em_lacking(dimensions, x, w, m, s):
    """The density's constant is left out of the responsibilities for so many dimensions."""
    return m_step(x, (log_joint(x, w, m, s) + dimensions * s.log()).softmax(1))


def em_without_the_half(x, w, m, s):
    squares = ((x[:, None] - m) ** 2).sum(2)
    return m_step(x, (log_joint(x, w, m, s) - squares / (2 * s**2)).softmax(1))


def em_hard(x, w, m, s):
    joint = log_joint(x, w, m, s)
    return m_step(x, torch.nn.functional.one_hot(joint.argmax(1), len(w)).double())


def sir(log_w):
    w = log_w.softmax(0)
    return w, 1 / (w**2).sum()


def sir_unstable(log_w):
    w = log_w.exp() / log_w.exp().sum()
    return w, 1 / (w**2).sum()


def mala(e_x, e_y, s_x, s_y, x, y, eta, forth=1.0, back=1.0, energy=1.0, drift=0.5, variance=None):
    variance = variance or 2 * eta
    log_forth = -((y - x - drift * eta * s_x) ** 2).sum(1) / variance
    log_back = -((x - y - drift * eta * s_y) ** 2).sum(1) / variance
    return (energy * (e_x - e_y) + back * log_back - forth * log_forth).clamp(max=0)


def mala_unclipped(e_x, e_y, s_x, s_y, x, y, eta):
    forth = ((y - x - eta / 2 * s_x) ** 2).sum(1) / (2 * eta)
    return e_x - e_y + forth - ((x - y - eta / 2 * s_y) ** 2).sum(1) / (2 * eta)


def mala_with(**changes):
    return lambda e_x, e_y, s_x, s_y, x, y, eta: mala(
        e_x, e_y, s_x, s_y, x, y, eta, **{k: v(eta) if callable(v) else v for k, v in changes.items()}
    )


def root(a):
    values, vectors = torch.linalg.eigh(a)
    return vectors * values.sqrt() @ vectors.T


def trace_of_root(a, b):
    return torch.linalg.eigvals(a @ b).real.sqrt().sum()


def frechet(m1, c1, m2, c2):
    return ((m1 - m2) ** 2).sum() + c1.trace() + c2.trace() - 2 * trace_of_root(c1, c2)


def frechet_of_one_triangle(m1, c1, m2, c2):
    roots = torch.linalg.eigvalsh(c1 @ c2).clamp(min=0).sqrt().sum()
    return ((m1 - m2) ** 2).sum() + c1.trace() + c2.trace() - 2 * roots


def off_diagonal(k):
    return (k.sum() - k.trace()) / (len(k) * (len(k) - 1))


def mmd2(kx, ky, kxy):
    return off_diagonal(kx) + off_diagonal(ky) - 2 * kxy.mean()


def divided_by_all(kx, ky, kxy):
    return sum((k.sum() - k.trace()) / k.numel() for k in (kx, ky)) - 2 * kxy.mean()


MISTAKES = {
    "foundations.bayes": [
        ("prior ignored", lambda ll, prior: bayes(ll, prior, ll)),
        ("prior not in logarithms", lambda ll, prior: bayes(ll, prior, ll + prior)),
        ("prior forgotten in the marginal", lambda ll, prior: (bayes(ll, prior)[0], ll.logsumexp(1))),
        ("uniform prior in the marginal", lambda ll, prior: (bayes(ll, prior)[0], ll.logsumexp(1) - math.log(len(prior)))),
        ("the joint for the posterior", lambda ll, prior: (ll + prior.log(), bayes(ll, prior)[1])),
        ("normalised over the data", lambda ll, prior: (normalised(ll + prior.log(), 0), bayes(ll, prior)[1])),
        ("probabilities, not their logarithms", lambda ll, prior: tuple(v.exp() for v in bayes(ll, prior))),
        ("logarithms averaged", lambda ll, prior: (bayes(ll, prior)[0], (ll * prior).sum(1))),
        ("the best class for all", lambda ll, prior: (bayes(ll, prior)[0], (ll + prior.log()).max(1).values)),
        ("not stabilised", bayes_unstable),
        ("one maximum for all rows", bayes_one_maximum_for_all),
        ("only the posterior", lambda ll, prior: bayes(ll, prior)[0]),
        ("the wrong way round", lambda ll, prior: bayes(ll, prior)[::-1]),
        ("summed over the data", lambda ll, prior: (bayes(ll, prior)[0], bayes(ll, prior)[1].sum())),
        ("three values", lambda ll, prior: (*bayes(ll, prior), prior)),
    ],
    "foundations.js": [
        ("one half missing", lambda p, q, h: 2 * js(p, q, h)),
        ("cell missing", lambda p, q, h: js(p, q, 1.0)),
        ("in bits", lambda p, q, h: js(p, q, h) / math.log(2)),
        ("the distance", lambda p, q, h: js(p, q, h).sqrt()),
        ("forward KL", kl),
        ("symmetrised KL", lambda p, q, h: (kl(p, q, h) + kl(q, p, h)) / 2),
        ("only one half", lambda p, q, h: 0.5 * kl(p, middle(p, q), h)),
        ("geometric middle", lambda p, q, h: js_of(p, q, h, (p + q) / 2)),
        ("mixture without its half", lambda p, q, h: js_of(p, q, h, torch.logaddexp(p, q))),
        ("sign", lambda p, q, h: -js(p, q, h)),
        ("KLs from the mixture to the densities", lambda p, q, h: (kl(middle(p, q), p, h) + kl(middle(p, q), q, h)) / 2),
        ("not stabilised", js_unstable),
        ("not summed", lambda p, q, h: h * p.exp() * (p - middle(p, q))),
        ("log-densities for densities", lambda p, q, h: 0.5 * h * (p * (p - middle(p, q)) + q * (q - middle(p, q))).sum()),
    ],
    "foundations.em_step": [
        ("the half in the exponent forgotten", em_without_the_half),
        ("weights not normalised", em_changed(weights=lambda w, x: w * len(x))),
        ("distances summed over dimensions", em_changed(sigmas=lambda s, x: s * x.shape[1] ** 0.5)),
        ("variance for standard deviation", em_changed(sigmas=lambda s, x: s**2)),
        ("n - 1 for n", em_changed(sigmas=lambda s, x: s * (len(x) / (len(x) - 1)) ** 0.5)),
        ("old means in the variance", lambda x, w, m, s: m_step(x, log_joint(x, w, m, s).softmax(1), about=m)),
        ("weights left out of the E-step", lambda x, w, m, s: m_step(x, log_joint(x, torch.ones_like(w), m, s).softmax(1))),
        ("normalised over the points", lambda x, w, m, s: m_step(x, log_joint(x, w, m, s).softmax(0))),
        ("hard assignments", em_hard),
        ("density without its constant", lambda x, w, m, s: em_lacking(x.shape[1], x, w, m, s)),
        ("one dimension's constant", lambda x, w, m, s: em_lacking(x.shape[1] - 1, x, w, m, s)),
        ("sigmas taken for variances", lambda x, w, m, s: em(x, w, m, s**0.5)),
        ("not stabilised", em_unstable),
        ("only the E-step", lambda x, w, m, s: log_joint(x, w, m, s).softmax(1)),
        ("weights not updated", lambda x, w, m, s: (w, *em(x, w, m, s)[1:])),
        ("means not divided by the mass", em_changed(means=lambda m, x: m * len(x))),
        ("sigmas first", lambda x, w, m, s: em(x, w, m, s)[::-1]),
        ("one sigma for each dimension", em_changed(sigmas=lambda s, x: s[:, None].expand(-1, x.shape[1]))),
    ],
    "foundations.log_ratio": [
        ("class sizes ignored", lambda logit, n_p, n_q: logit),
        ("correction turned round", lambda logit, n_p, n_q: logit + math.log(n_p / n_q)),
        ("no logarithm of the correction", lambda logit, n_p, n_q: logit + n_q / n_p),
        ("multiplied", lambda logit, n_p, n_q: logit * n_q / n_p),
        ("the ratio itself", lambda logit, n_p, n_q: logit.exp() * n_q / n_p),
        ("by way of probabilities", lambda logit, n_p, n_q: logit.sigmoid().logit() + math.log(n_q / n_p)),
        ("log-probability", lambda logit, n_p, n_q: logit.sigmoid().log()),
        ("share for ratio", lambda logit, n_p, n_q: logit - math.log(n_p / (n_p + n_q))),
        ("the other share for ratio", lambda logit, n_p, n_q: logit + math.log(n_q / (n_p + n_q))),
        ("sign", lambda logit, n_p, n_q: math.log(n_p / n_q) - logit),
    ],
    "foundations.sir": [
        ("not normalised", lambda lw: (lw.exp(), lw.exp().sum() ** 2 / lw.exp().square().sum())),
        ("divided by the largest", lambda lw: ((lw - lw.max()).exp(), sir(lw)[1])),
        ("logarithms normalised", lambda lw: (lw / lw.sum(), sir(lw)[1])),
        ("log-weights", lambda lw: (lw.log_softmax(0), sir(lw)[1])),
        ("not stabilised", sir_unstable),
        ("not stabilised in the size", lambda lw: (sir(lw)[0], lw.exp().sum() ** 2 / lw.exp().square().sum())),
        ("sum of squares upside down", lambda lw: (sir(lw)[0], sir(lw)[0].square().sum())),
        ("size as a fraction", lambda lw: (sir(lw)[0], sir(lw)[1] / len(lw))),
        ("by the largest weight", lambda lw: (sir(lw)[0], 1 / sir(lw)[0].max())),
        ("square of the sum", lambda lw: (sir(lw)[0], 1 / sir(lw)[0].sum() ** 2)),
        ("size of raw weights", lambda lw: (sir(lw)[0], 1 / lw.exp().square().sum())),
        ("perplexity", lambda lw: (sir(lw)[0], torch.special.entr(sir(lw)[0]).sum().exp())),
        ("no size", lambda lw: sir(lw)[0]),
        ("resampled", lambda lw: (sir(lw)[0][torch.multinomial(sir(lw)[0], len(lw), replacement=True)], sir(lw)[1])),
    ],
    "foundations.langevin_step": [
        ("whole step of drift", lambda x, s, e, t, o: x + e * s + (e * t) ** 0.5 * o),
        ("noise of twice the variance", lambda x, s, e, t, o: x + e / 2 * s + (2 * e * t) ** 0.5 * o),
        ("a step twice as long", lambda x, s, e, t, o: x + e * s + (2 * e * t) ** 0.5 * o),
        ("no root", lambda x, s, e, t, o: x + e / 2 * s + e * t * o),
        ("no root of the step", lambda x, s, e, t, o: x + e / 2 * s + e * t**0.5 * o),
        ("downhill", lambda x, s, e, t, o: x - e / 2 * s + (e * t) ** 0.5 * o),
        ("no noise", lambda x, s, e, t, o: x + e / 2 * s),
        ("temperature ignored", lambda x, s, e, t, o: x + e / 2 * s + e**0.5 * o),
        ("temperature outside of the root", lambda x, s, e, t, o: x + e / 2 * s + t * e**0.5 * o),
        ("temperature in the drift", lambda x, s, e, t, o: x + e / (2 * t) * s + e**0.5 * o),
        ("temperature in both", lambda x, s, e, t, o: x + e / (2 * t) * s + (e * t) ** 0.5 * o),
        ("its own noise", lambda x, s, e, t, o: x + e / 2 * s + (e * t) ** 0.5 * torch.randn_like(x)),
        ("without x", lambda x, s, e, t, o: e / 2 * s + (e * t) ** 0.5 * o),
        ("score on the point itself", lambda x, s, e, t, o: x + e / 2 * s * x + (e * t) ** 0.5 * o),
    ],
    "foundations.mala_log_accept": [
        ("no correction for the proposal", mala_with(forth=0.0, back=0.0)),
        ("proposals swapped", mala_with(forth=-1.0, back=-1.0)),
        ("energies swapped", mala_with(energy=-1.0)),
        ("the way back forgotten", mala_with(back=0.0)),
        ("the way forth forgotten", mala_with(forth=0.0)),
        ("drift of a whole step", mala_with(drift=1.0)),
        ("no drift", mala_with(drift=0.0)),
        ("standard deviation for variance", mala_with(variance=lambda eta: 2 * eta**2)),
        ("factor 2 forgotten in the Gaussian", mala_with(variance=lambda eta: eta)),
        ("variance of (1.18)", mala_with(variance=lambda eta: 4 * eta)),
        ("not clipped", mala_unclipped),
        ("downhill on the way back", lambda ex, ey, sx, sy, x, y, eta: mala(ex, ey, sx, -sy, x, y, eta)),
        ("the probability", lambda *a: mala(*a).exp()),
        ("clipped from below", lambda *a: mala_unclipped(*a).clamp(min=0)),
        ("mean over the batch", lambda *a: mala(*a).mean()),
        ("one score for both ways", lambda e, f, s, t, x, y, eta: mala(e, f, s, s, x, y, eta)),
    ],
    "foundations.frechet": [
        ("eigenvalues of one triangle", frechet_of_one_triangle),
        ("distance not squared", lambda m, c, n, d: frechet(m, c, n, d) - ((m - n) ** 2).sum() + (m - n).norm()),
        ("mean of the squares", lambda m, c, n, d: frechet(m, c, n, d) - ((m - n) ** 2).sum() + ((m - n) ** 2).mean()),
        ("root over all", lambda m, c, n, d: frechet(m, c, n, d).sqrt()),
        ("root of the entries", lambda m, c, n, d: ((m - n) ** 2).sum() + (c + d - 2 * (c @ d).sqrt()).diag().sum()),
        ("roots one by one", lambda m, c, n, d: ((m - n) ** 2).sum() + (c + d - 2 * root(c) @ root(d)).trace()),
        ("no root", lambda m, c, n, d: ((m - n) ** 2).sum() + (c + d - 2 * c @ d).trace()),
        ("factor 2 forgotten", lambda m, c, n, d: frechet(m, c, n, d) + trace_of_root(c, d)),
        ("sign of the root", lambda m, c, n, d: frechet(m, c, n, d) + 4 * trace_of_root(c, d)),
        ("means ignored", lambda m, c, n, d: frechet(m, c, m, d)),
        ("covariances ignored", lambda m, c, n, d: ((m - n) ** 2).sum()),
        ("norm of the difference of covariances", lambda m, c, n, d: ((m - n) ** 2).sum() + ((c - d) ** 2).sum()),
        ("only the diagonals", lambda m, c, n, d: ((m - n) ** 2).sum() + ((c.diag().sqrt() - d.diag().sqrt()) ** 2).sum()),
        ("complex", lambda m, c, n, d: ((m - n) ** 2).sum() - 2 * torch.linalg.eigvals(c @ d).sqrt().sum()),
    ],
    "foundations.mmd2": [
        ("biased", lambda kx, ky, kxy: kx.mean() + ky.mean() - 2 * kxy.mean()),
        ("diagonal out, but divided by all", divided_by_all),
        ("pairs counted once only", lambda kx, ky, kxy: (off_diagonal(kx) + off_diagonal(ky)) / 2 - 2 * kxy.mean()),
        ("cross term once", lambda kx, ky, kxy: off_diagonal(kx) + off_diagonal(ky) - kxy.mean()),
        ("sign of the cross term", lambda kx, ky, kxy: off_diagonal(kx) + off_diagonal(ky) + 2 * kxy.mean()),
        ("no cross term", lambda kx, ky, kxy: off_diagonal(kx) + off_diagonal(ky)),
        ("root", lambda kx, ky, kxy: mmd2(kx, ky, kxy).clamp(min=0).sqrt()),
        ("cut off at 0", lambda kx, ky, kxy: mmd2(kx, ky, kxy).clamp(min=0)),
        ("absolute", lambda kx, ky, kxy: mmd2(kx, ky, kxy).abs()),
        ("sums", lambda kx, ky, kxy: kx.sum() - kx.trace() + ky.sum() - ky.trace() - 2 * kxy.sum()),
        ("sign", lambda kx, ky, kxy: -mmd2(kx, ky, kxy)),
        ("no mean at all", lambda kx, ky, kxy: kxy),
    ],
}
