"""What students typically get wrong about codes and their prior in chapter 8: exercise -> [(what is wrong, function)]."""

import math

import torch


def scaled(nll=lambda d, s: d * math.log(s), entropy=lambda d, s: d * math.log(s)):
    """shrink with other changes of the two terms."""
    return lambda n, h, d, s: (n + nll(d, s), h + entropy(d, s))


def both(change):
    return scaled(change, change)


def matched(
    c=lambda z, p: 2 * z.shape[1],
    square=lambda a: a.square().sum(-1),
    kernel=lambda squares, c: c / (c + squares),
    within=lambda k: (k.sum() - k.trace()) / (len(k) * (len(k) - 1)),
    cross=-2,
    after=lambda value: value,
):
    """mmd with another C, distance, kernel, mean within a cloud, or factor of the cross term, or something done to it."""

    def mmd(codes, draws):
        def k(a, b):
            return kernel(square(a[:, None] - b), c(codes, draws))

        return after(within(k(codes, codes)) + within(k(draws, draws)) + cross * k(codes, draws).mean())

    return mmd


def repelled_only(codes, draws):
    fixed = matched()(codes.detach(), draws)
    learns = matched(cross=0)(codes, draws)
    return fixed + learns - learns.detach()


def by_a_root(codes, draws):
    return matched(square=lambda a: a.square().sum(-1).sqrt() ** 2)(codes, draws)


def distances(a, b):
    return torch.cdist(a, b).sort(1).values


def beyond(
    far=lambda codes, held, draws, k: distances(draws, codes)[:, k - 1],
    ordinary=lambda codes, held, draws, k: distances(held, codes)[:, k - 1],
    limit=lambda own, level: own.quantile(1 - level),
    after=lambda mask: mask.double().mean(),
):
    """holes with other distances of the draws, other ordinary distances, another limit, or another count."""

    def holes(codes, held_out, draws, k, level):
        own = ordinary(codes, held_out, draws, k)
        return after(far(codes, held_out, draws, k) > limit(own, level))

    return holes


MISTAKES = {
    "latent_flow.shrink": [
        ("no change", lambda n, h, d, s: (n, h)),
        ("entropy stays", scaled(entropy=lambda d, s: 0)),
        ("likelihood stays", scaled(lambda d, s: 0)),
        ("likelihood's sign", scaled(lambda d, s: -d * math.log(s))),
        ("entropy's sign", scaled(entropy=lambda d, s: -d * math.log(s))),
        ("both signs", both(lambda d, s: -d * math.log(s))),
        ("no d", both(lambda d, s: math.log(s))),
        ("no d, and the sign", both(lambda d, s: -math.log(s))),
        ("no logarithm", both(lambda d, s: d * s)),
        ("linear", both(lambda d, s: d * (s - 1))),
        ("volume for its logarithm", both(lambda d, s: s**d)),
        ("inverse volume", both(lambda d, s: s**-d)),
        ("variance", both(lambda d, s: 2 * d * math.log(s))),
        ("half", both(lambda d, s: d * math.log(s) / 2)),
        ("log ds", both(lambda d, s: math.log(d * s))),
        ("bits", both(lambda d, s: d * math.log2(s))),
        ("base 10", both(lambda d, s: d * math.log10(s))),
        ("size of the change", both(lambda d, s: d * abs(math.log(s)))),
        ("times s", lambda n, h, d, s: (n * s, h * s)),
        ("over the volume", lambda n, h, d, s: (n / s**d, h / s**d)),
        ("changes only", lambda n, h, d, s: (0 * n + d * math.log(s), 0 * h + d * math.log(s))),
        ("difference", lambda n, h, d, s: n - h),
        ("one number", lambda n, h, d, s: ((n + d * math.log(s)).mean(), (h + d * math.log(s)).mean())),
        ("exchanged", lambda n, h, d, s: scaled()(n, h, d, s)[::-1]),
        ("d of the batch", lambda n, h, d, s: scaled()(n, h, len(n), s)),
    ],
    "latent_flow.mmd": [
        ("biased", matched(within=torch.mean)),
        ("diagonal left out, but counted", matched(within=lambda k: (k.sum() - k.trace()) / len(k) ** 2)),
        ("pairs counted twice", matched(within=lambda k: (k.sum() - k.trace()) / (2 * len(k) * (len(k) - 1)))),
        ("C = 2", matched(lambda z, p: 2)),
        ("C = 1", matched(lambda z, p: 1)),
        ("C = d", matched(lambda z, p: z.shape[1])),
        ("C = 2n", matched(lambda z, p: 2 * len(z))),
        ("C = 2m", matched(lambda z, p: 2 * len(p))),
        ("C = 2√d", matched(lambda z, p: 2 * z.shape[1] ** 0.5)),
        ("C = d²", matched(lambda z, p: 2 * z.shape[1] ** 2)),
        ("1 in the numerator", matched(kernel=lambda s, c: 1 / (c + s))),
        ("no 1 + in the denominator", matched(kernel=lambda s, c: c / (1 + s))),
        ("Gaussian kernel", matched(kernel=lambda s, c: (-s / (2 * c)).exp())),
        ("Gaussian kernel of width 1", matched(kernel=lambda s, c: (-s / 2).exp())),
        ("root of the quotient", matched(kernel=lambda s, c: (c / (c + s)).sqrt())),
        ("cross term once", matched(cross=-1)),
        ("cross term's sign", matched(cross=2)),
        ("no cross term", matched(cross=0)),
        ("cross term only", matched(within=lambda k: 0)),
        ("distance not squared", matched(square=lambda a: a.norm(dim=-1))),
        ("cdist not squared", matched(square=lambda a: torch.linalg.vector_norm(a, dim=-1))),
        ("squared twice", matched(square=lambda a: a.square().sum(-1) ** 2)),
        ("absolute differences", matched(square=lambda a: a.abs().sum(-1))),
        ("squares averaged", matched(square=lambda a: a.square().mean(-1))),
        ("never negative", matched(after=torch.relu)),
        ("absolute", matched(after=torch.abs)),
        ("root", matched(after=lambda v: v.clamp(min=0).sqrt())),
        ("sums", matched(within=lambda k: k.sum() - k.trace())),
        ("sign", matched(after=torch.neg)),
        ("a float", matched(after=lambda v: v.item())),
        ("stopped", matched(after=torch.detach)),
        ("codes stopped", lambda codes, draws: matched()(codes.detach(), draws)),
        ("cross term stopped", repelled_only),
        ("a root where points meet", by_a_root),
        ("per code", lambda codes, draws: matched()(codes, draws) + 0 * codes[:, 0]),
    ],
    "latent_flow.holes": [
        ("quantile at the wrong end", beyond(limit=lambda own, level: own.quantile(level))),
        ("nearer than the limit", beyond(after=lambda mask: 1 - mask.double().mean())),
        ("neighbours counted from 1 for both", beyond(lambda c, h, z, k: distances(z, c)[:, k],
                                                      lambda c, h, z, k: distances(h, c)[:, k])),
        ("neighbours counted from 1 for draws", beyond(lambda c, h, z, k: distances(z, c)[:, k])),
        ("neighbours counted from 1 for the held out", beyond(ordinary=lambda c, h, z, k: distances(h, c)[:, k])),
        ("nearest whatever k is", beyond(lambda c, h, z, k: distances(z, c)[:, 0],
                                         lambda c, h, z, k: distances(h, c)[:, 0])),
        ("one neighbour too near", beyond(lambda c, h, z, k: distances(z, c)[:, k - 2],
                                          lambda c, h, z, k: distances(h, c)[:, k - 2])),
        ("farthest", beyond(lambda c, h, z, k: distances(z, c)[:, -k], lambda c, h, z, k: distances(h, c)[:, -k])),
        ("mean of the k nearest", beyond(lambda c, h, z, k: distances(z, c)[:, :k].mean(1),
                                         lambda c, h, z, k: distances(h, c)[:, :k].mean(1))),
        ("draws among themselves", beyond(lambda c, h, z, k: distances(z, z)[:, k])),
        ("draws among themselves, self included", beyond(lambda c, h, z, k: distances(z, z)[:, k - 1])),
        ("held out to draws", beyond(ordinary=lambda c, h, z, k: distances(h, z)[:, k - 1])),
        ("codes to draws", beyond(lambda c, h, z, k: distances(c, z)[:, k - 1])),
        ("draws to the held out", beyond(lambda c, h, z, k: distances(z, h)[:, k - 1])),
        ("limit of the codes, self included", beyond(ordinary=lambda c, h, z, k: distances(c, c)[:, k - 1])),
        ("limit of the codes", beyond(ordinary=lambda c, h, z, k: distances(c, c)[:, k])),
        ("limit of the draws", beyond(ordinary=lambda c, h, z, k: distances(z, c)[:, k - 1])),
        ("mean as the limit", beyond(limit=lambda own, level: own.mean())),
        ("maximum as the limit", beyond(limit=lambda own, level: own.max())),
        ("level for a distance", beyond(limit=lambda own, level: level)),
        ("5 %, whatever the level", beyond(limit=lambda own, level: own.quantile(0.95))),
        ("squared against not", beyond(lambda c, h, z, k: distances(z, c)[:, k - 1] ** 2)),
        ("a number", beyond(after=torch.sum)),
        ("percent", beyond(after=lambda mask: 100 * mask.double().mean())),
        ("which ones", beyond(after=lambda mask: mask)),
        ("codes and held out exchanged", lambda c, h, z, k, level: beyond()(h, c, z, k, level)),
        ("draws and held out exchanged", lambda c, h, z, k, level: beyond()(c, z, h, k, level)),
    ],
}  # fmt: skip
