"""What students of chapter 2 typically get wrong: exercise -> [(what is wrong, function)]."""

import math

import torch
from torch.distributions import Independent, Normal

LOG_2PI = math.log(2 * math.pi)


def kl(mu, log_sigma):
    return 0.5 * (mu**2 + (2 * log_sigma).exp() - 1 - 2 * log_sigma).sum(1)


def log_normal(x, mean, sigma):
    return (-0.5 * ((x - mean) / sigma) ** 2 - math.log(sigma) - 0.5 * LOG_2PI).sum(1)


def components(z, mu, log_sigma):
    """log N(z_j; mu_i, sigma_i^2), (m, N)."""
    terms = -0.5 * ((z[:, None] - mu) / log_sigma.exp()) ** 2 - log_sigma - 0.5 * LOG_2PI
    return terms.sum(2)


def pathwise(f, mu, sigma, eps):
    z = (mu + sigma * eps).requires_grad_()
    return torch.autograd.grad(f(z).sum(), z)[0]


def doubles_in_place(mu, log_sigma):
    log_sigma *= 2
    return 0.5 * (mu**2 + log_sigma.exp() - 1 - log_sigma).mean(1)


def one_gaussian(z, mu, log_sigma):
    return components(z, mu.mean(0, keepdim=True), log_sigma.mean(0, keepdim=True))[:, 0]


def full_topdown(mq, lq, mp, lp):
    return (lp - lq + ((2 * lq).exp() + (mq - mp) ** 2) / (2 * (2 * lp).exp()) - 0.5).sum(1)


MISTAKES = {
    "vae.gaussian_kl": [
        ("mean instead of sum", lambda mu, ls: kl(mu, ls) / mu.shape[1]),
        ("mean over the batch, too", lambda mu, ls: kl(mu, ls).mean()),
        ("sigma for sigma squared", lambda mu, ls: 0.5 * (mu**2 + ls.exp() - 1 - 2 * ls).sum(1)),
        ("log_sigma taken for a log-variance", lambda mu, ls: 0.5 * (mu**2 + ls.exp() - 1 - ls).sum(1)),
        ("one half forgotten", lambda mu, ls: 2 * kl(mu, ls)),
        ("sign", lambda mu, ls: -kl(mu, ls)),
        ("sign of the logarithm", lambda mu, ls: 0.5 * (mu**2 + (2 * ls).exp() - 1 + 2 * ls).sum(1)),
        ("minus one forgotten", lambda mu, ls: kl(mu, ls) + 0.5 * mu.shape[1]),
        ("widths ignored", lambda mu, ls: 0.5 * (mu**2).sum(1)),
        ("reverse KL", lambda mu, ls: full_topdown(0 * mu, 0 * ls, mu, ls)),
        ("summed over the batch", lambda mu, ls: 0.5 * (mu**2 + (2 * ls).exp() - 1 - 2 * ls).sum(0)),
        ("inputs changed in place, and mean instead of sum", doubles_in_place),
        ("a Monte-Carlo estimate", lambda mu, ls: _monte_carlo_kl(mu, ls)),
    ],
    "vae.reparameterise": [
        ("exp missing", lambda mu, ls, eps: mu + ls * eps),
        ("log_sigma taken for a log-variance", lambda mu, ls, eps: mu + (ls / 2).exp() * eps),
        ("variance for standard deviation", lambda mu, ls, eps: mu + (2 * ls).exp() * eps),
        ("noise drawn inside", lambda mu, ls, eps: mu + ls.exp() * torch.randn_like(mu)),
        (
            "noise drawn twice",
            lambda mu, ls, eps: mu + ls.exp() * (eps + torch.randn_like(mu)) / math.sqrt(2),
        ),
        ("detached", lambda mu, ls, eps: (mu + ls.exp() * eps).detach()),
        ("width detached", lambda mu, ls, eps: mu + ls.exp().detach() * eps),
        ("a new tensor", lambda mu, ls, eps: torch.tensor((mu + ls.exp() * eps).tolist(), dtype=mu.dtype)),
        ("sampled without gradients", torch.no_grad()(lambda mu, ls, eps: mu + ls.exp() * eps)),
        ("no mean", lambda mu, ls, eps: ls.exp() * eps),
        ("float32 inside", lambda mu, ls, eps: mu.float() + ls.float().exp() * eps.float()),
    ],
    "vae.elbo": [
        (
            "constant dropped",
            lambda x, z, mu, ls, g, s: -((x - g(z)) ** 2).sum(1) / (2 * s**2) - kl(mu, ls),
        ),
        (
            "half of the constant dropped",
            lambda x, z, mu, ls, g, s: log_normal(x, g(z), s) + x.shape[1] * math.log(s) - kl(mu, ls),
        ),
        (
            "mean over the dimensions of x",
            lambda x, z, mu, ls, g, s: log_normal(x, g(z), s) / x.shape[1] - kl(mu, ls),
        ),
        (
            "mean over the dimensions of z",
            lambda x, z, mu, ls, g, s: log_normal(x, g(z), s) - kl(mu, ls) / z.shape[1],
        ),
        ("sign of the KL", lambda x, z, mu, ls, g, s: log_normal(x, g(z), s) + kl(mu, ls)),
        ("no KL", lambda x, z, mu, ls, g, s: log_normal(x, g(z), s)),
        ("the mean for z", lambda x, z, mu, ls, g, s: log_normal(x, g(mu), s) - kl(mu, ls)),
        (
            "its own z",
            lambda x, z, mu, ls, g, s: log_normal(x, g(torch.randn_like(mu)), s) - kl(mu, ls),
        ),
        ("sigma taken for a variance", lambda x, z, mu, ls, g, s: log_normal(x, g(z), s**0.5) - kl(mu, ls)),
        ("the loss, not the bound", lambda x, z, mu, ls, g, s: kl(mu, ls) - log_normal(x, g(z), s)),
        ("averaged over the batch", lambda x, z, mu, ls, g, s: (log_normal(x, g(z), s) - kl(mu, ls)).mean()),
        (
            "KL estimated at z",
            lambda x, z, mu, ls, g, s: (
                log_normal(x, g(z), s)
                + log_normal(z, 0 * z, 1.0)
                - Independent(Normal(mu, ls.exp()), 1).log_prob(z)
            ),
        ),
        ("x and the reconstruction in the wrong places", lambda x, z, mu, ls, g, s: log_normal(g(x), z, s)),
    ],
    "vae.iwae": [
        ("sum instead of mean", lambda log_w: log_w.logsumexp(1)),
        ("mean of logarithms", lambda log_w: log_w.mean(1)),
        ("not stabilised", lambda log_w: log_w.exp().mean(1).log()),
        ("one maximum for all rows", lambda log_w: _shifted(log_w, log_w.max())),
        ("wrong axis", lambda log_w: log_w.logsumexp(0) - math.log(log_w.shape[0])),
        ("number of rows for number of weights", lambda log_w: log_w.logsumexp(1) - math.log(log_w.shape[0])),
        ("the best weight", lambda log_w: log_w.max(1).values),
        ("not put back", lambda log_w: (log_w - log_w.max(1, keepdim=True).values).exp().mean(1).log()),
        ("averaged over the batch", lambda log_w: (log_w.logsumexp(1) - math.log(log_w.shape[1])).mean()),
    ],
    "vae.aggregated_posterior": [
        ("logarithms averaged", lambda z, mu, ls: components(z, mu, ls).mean(1)),
        ("parameters averaged", one_gaussian),
        ("1/N missing", lambda z, mu, ls: components(z, mu, ls).logsumexp(1)),
        (
            "1/m for 1/N",
            lambda z, mu, ls: components(z, mu, ls).logsumexp(1) - math.log(len(z)),
        ),
        (
            "variance for standard deviation",
            lambda z, mu, ls: components(z, mu, 2 * ls).logsumexp(1) - math.log(len(mu)),
        ),
        (
            "log_sigma taken for a log-variance",
            lambda z, mu, ls: components(z, mu, ls / 2).logsumexp(1) - math.log(len(mu)),
        ),
        ("not stabilised", lambda z, mu, ls: components(z, mu, ls).exp().mean(1).log()),
        ("the density itself", lambda z, mu, ls: components(z, mu, ls).exp().mean(1)),
        ("widths ignored", lambda z, mu, ls: components(z, mu, 0 * ls).logsumexp(1) - math.log(len(mu))),
        (
            "one value per datum",
            lambda z, mu, ls: components(z, mu, ls).logsumexp(0) - math.log(len(mu)),
        ),
    ],
    "vae.kl_annealing": [
        ("never stops rising", lambda step, warmup: step / warmup),
        ("starts at one", lambda step, warmup: 1.0),
        ("runs down", lambda step, warmup: max(1 - step / warmup, 0.0)),
        ("whole-number division", lambda step, warmup: min(step // warmup, 1)),
        ("begins with step 1", lambda step, warmup: min((step + 1) / warmup, 1.0)),
        ("back to zero afterwards", lambda step, warmup: step / warmup if step <= warmup else 0.0),
        ("periodic", lambda step, warmup: step % (warmup + 1) / warmup),
        ("a sigmoid", lambda step, warmup: 1 / (1 + math.exp(-10 * (step / warmup - 0.5)))),
        ("division the wrong way round", lambda step, warmup: min(warmup / max(step, 1), 1.0)),
        ("a word", lambda step, warmup: "one"),
    ],
    "vae.score_function_gradient": [
        ("1/sigma missing", lambda f, mu, s, eps: f(mu + s * eps) * eps),
        ("1/sigma squared on eps", lambda f, mu, s, eps: f(mu + s * eps) * eps / s**2),
        ("f differentiated", pathwise),
        ("sign", lambda f, mu, s, eps: -f(mu + s * eps) * eps / s),
        ("f at the noise", lambda f, mu, s, eps: f(eps) * eps / s),
        ("f left out", lambda f, mu, s, eps: eps / s),
        ("averaged", lambda f, mu, s, eps: (f(mu + s * eps) * eps / s).mean()),
        ("the log-density for its gradient", lambda f, mu, s, eps: f(mu + s * eps) * (-(eps**2) / 2)),
        ("z for z minus mu", lambda f, mu, s, eps: f(mu + s * eps) * (mu + s * eps) / s**2),
        ("its own noise", lambda f, mu, s, eps: f(mu + s * eps) * torch.randn_like(eps) / s),
    ],
    "vae.topdown_kl": [
        ("arguments swapped", lambda mq, lq, mp, lp: full_topdown(mp, lp, mq, lq)),
        ("log ratio missing", lambda mq, lq, mp, lp: full_topdown(mq, lq, mp, lp) - (lp - lq).sum(1)),
        (
            "log ratio turned round",
            lambda mq, lq, mp, lp: full_topdown(mq, lq, mp, lp) - 2 * (lp - lq).sum(1),
        ),
        ("minus one half missing", lambda mq, lq, mp, lp: full_topdown(mq, lq, mp, lp) + 0.5 * mq.shape[1]),
        (
            "distance of means in no unit",
            lambda mq, lq, mp, lp: full_topdown(0 * mq, lq, 0 * mp, lp) + 0.5 * ((mq - mp) ** 2).sum(1),
        ),
        ("means ignored", lambda mq, lq, mp, lp: full_topdown(0 * mq, lq, 0 * mp, lp)),
        ("prior ignored", lambda mq, lq, mp, lp: kl(mq, lq)),
        ("only the difference of means", lambda mq, lq, mp, lp: kl(mq - mp, lq)),
        ("logs taken for log-variances", lambda mq, lq, mp, lp: full_topdown(mq, lq / 2, mp, lp / 2)),
        ("mean instead of sum", lambda mq, lq, mp, lp: full_topdown(mq, lq, mp, lp) / mq.shape[1]),
        ("sign", lambda mq, lq, mp, lp: -full_topdown(mq, lq, mp, lp)),
    ],
}


def _monte_carlo_kl(mu, log_sigma):
    q, p = Normal(mu, log_sigma.exp()), Normal(0.0, 1.0)
    z = q.sample((1000,))
    return (q.log_prob(z) - p.log_prob(z)).mean(0).sum(1)


def _shifted(log_w, top):
    return (log_w - top).exp().mean(1).log() + top
