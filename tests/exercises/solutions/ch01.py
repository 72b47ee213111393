"""Right answers to chapter 1 in the various ways students write them: exercise -> [(manner, function)]."""

import math
import warnings

import numpy as np
import torch
from scipy.linalg import sqrtm
from scipy.spatial.distance import jensenshannon
from sklearn.mixture import GaussianMixture
from torch.distributions import MultivariateNormal


def bayes_by_formula(log_lik, prior):
    joint = log_lik + torch.log(prior)
    log_marginal = torch.logsumexp(joint, -1, keepdim=True)
    return joint - log_marginal, log_marginal.squeeze(-1)


def bayes_in_a_loop(log_lik, prior):
    posteriors, marginals = [], []
    for row in log_lik:
        top = (row + prior.log()).max()
        marginal = top + ((row - top).exp() * prior).sum().log()
        posteriors.append(row + prior.log() - marginal)
        marginals.append(marginal)
    return [torch.stack(posteriors), torch.stack(marginals)]


def js_by_formula(log_p, log_q, cell):
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return 0.5 * cell * (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)).sum()


def js_by_entropies(log_p, log_q, cell):
    p, q = log_p.exp(), log_q.exp()
    return float(cell * (torch.special.entr((p + q) / 2) - torch.special.entr(p) / 2 - torch.special.entr(q) / 2).sum())


def js_by_scipy(log_p, log_q, cell):
    return jensenshannon(log_p.exp(), log_q.exp()) ** 2


def em_by_formula(x, weights, means, sigmas):
    d = x.shape[1]
    squares = ((x[:, None] - means) ** 2).sum(-1)
    log_joint = weights.log() - squares / (2 * sigmas**2) - d * sigmas.log()
    r = log_joint.softmax(1)
    mass = r.sum(0)
    means = (r.T @ x) / mass[:, None]
    squares = ((x[:, None] - means) ** 2).sum(-1)
    return mass / len(x), means, ((r * squares).sum(0) / (d * mass)).sqrt()


def em_by_scikit_learn(x, weights, means, sigmas):
    start = {"weights_init": weights.numpy(), "means_init": means.numpy(), "precisions_init": (sigmas**-2).numpy()}
    model = GaussianMixture(len(weights), covariance_type="spherical", max_iter=1, reg_covar=0.0, **start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x.numpy())
    return tuple(torch.from_numpy(v) for v in (model.weights_, model.means_, np.sqrt(model.covariances_)))


def sir_by_formula(log_w):
    w = (log_w - log_w.max()).exp()
    return w / w.sum(), (w.sum() ** 2 / (w**2).sum()).item()


def langevin_in_place(x, score, step, temperature, omega):
    drift = score.mul_(step / 2)
    return x.add_(drift).add_(omega.mul_(math.sqrt(temperature * step)))


def langevin_by_thesis(x, score, step, temperature, omega):
    alpha = step / 2
    return x + alpha * score + (2 * temperature * alpha) ** 0.5 * omega


def mala_by_formula(e_x, e_y, s_x, s_y, x, y, step):
    forth = -((y - x - step / 2 * s_x) ** 2).sum(1) / (2 * step)
    back = -((x - y - step / 2 * s_y) ** 2).sum(1) / (2 * step)
    return torch.minimum(e_x - e_y + back - forth, torch.zeros(()))


def mala_by_distributions(e_x, e_y, s_x, s_y, x, y, step):
    covariance = step * torch.eye(x.shape[1], dtype=x.dtype)
    forth = MultivariateNormal(x + step / 2 * s_x, covariance).log_prob(y)
    back = MultivariateNormal(y + step / 2 * s_y, covariance).log_prob(x)
    return (e_x + back - e_y - forth).clamp(max=0.0)


def frechet_by_scipy(mean1, cov1, mean2, cov2):
    root = torch.from_numpy(np.real(sqrtm((cov1 @ cov2).numpy())))
    return ((mean1 - mean2) ** 2).sum() + torch.trace(cov1 + cov2 - 2 * root)


def frechet_by_eigenvalues(mean1, cov1, mean2, cov2):
    values = torch.linalg.eigvals(cov1 @ cov2).real.clamp(min=0)
    return (mean1 - mean2).norm() ** 2 + cov1.trace() + cov2.trace() - 2 * values.sqrt().sum()


def mmd_by_sums(k_xx, k_yy, k_xy):
    n, m = k_xy.shape
    xx = (k_xx.sum() - k_xx.diag().sum()) / (n * (n - 1))
    yy = (k_yy.sum() - k_yy.diag().sum()) / (m * (m - 1))
    return xx + yy - 2 * k_xy.sum() / (n * m)


def mmd_by_masks(k_xx, k_yy, k_xy):
    off = lambda k: k[~torch.eye(len(k), dtype=bool)].mean()  # noqa: E731
    return (off(k_xx) + off(k_yy) - 2 * k_xy.mean()).item()


SOLUTIONS = {
    "foundations.bayes": [("by formula", bayes_by_formula), ("in a loop, as a list", bayes_in_a_loop)],
    "foundations.js": [
        ("by formula", js_by_formula),
        ("by entropies, a float", js_by_entropies),
        ("by scipy", js_by_scipy),
    ],
    "foundations.em_step": [("by formula", em_by_formula), ("by scikit-learn", em_by_scikit_learn)],
    "foundations.log_ratio": [
        ("by formula", lambda logit, n_p, n_q: logit + math.log(n_q / n_p)),
        ("in float32", lambda logit, n_p, n_q: logit - torch.log(torch.tensor(n_p / n_q))),
    ],
    "foundations.sir": [
        ("by formula, a float", sir_by_formula),
        ("by softmax", lambda log_w: (log_w.softmax(0), 1 / log_w.softmax(0).square().sum())),
    ],
    "foundations.langevin_step": [("by thesis (1.18)", langevin_by_thesis), ("in place", langevin_in_place)],
    "foundations.mala_log_accept": [("by formula", mala_by_formula), ("by torch", mala_by_distributions)],
    "foundations.frechet": [("by scipy", frechet_by_scipy), ("by eigenvalues", frechet_by_eigenvalues)],
    "foundations.mmd2": [("by sums", mmd_by_sums), ("by masks, a float", mmd_by_masks)],
}
