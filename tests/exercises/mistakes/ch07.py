"""What students typically get wrong in chapter 7: exercise -> [(what is wrong, function)]."""

import torch


def counted(within=lambda s: 4 * s, least=lambda n, k: 0.2 * n / k, nearest=True, strict=False, square=False):
    """covered with another reach, share, without the nearest-centre rule, or with squared distances."""

    def count(x, centres, sigma):
        ways = torch.cdist(x, centres)
        inside = (ways**2 if square else ways) <= within(sigma)
        if nearest:
            inside = inside & torch.nn.functional.one_hot(ways.argmin(1), len(centres)).bool()
        held, wanted = inside.sum(0), least(len(x), len(centres))
        return (held > wanted if strict else held >= wanted).sum()

    return count


def nearest_sample_only(x, centres, sigma):
    return (torch.cdist(x, centres).amin(0) <= 4 * sigma).sum()


def samples_near(x, centres, sigma):
    return (torch.cdist(x, centres).amin(1) <= 4 * sigma).sum()


def recalled(
    radius=lambda own, k: own[:, k],
    test=lambda ways, radii: (ways <= radii).any(1),
    after=lambda share: share,
    swap=False,
):
    """recall with other radii (of the fakes' sorted distances from each other), or another test."""

    def share(real, fake, k):
        real, fake = (fake, real) if swap else (real, fake)
        own = torch.cdist(fake, fake).sort(1).values
        return after(test(torch.cdist(real, fake), radius(own, k)).double().mean())

    return share


def recall_by_balls_of_the_real(real, fake, k):
    radii = torch.cdist(real, real).kthvalue(k + 1).values
    return (torch.cdist(real, fake) <= radii[:, None]).any(1).double().mean()


def front(beats=lambda o, m: (o >= m).all(-1) & (o > m).any(-1), after=lambda kept: kept):
    """pareto with another rule of who beats whom, scores (n, 1, m) and (m), or something done to what is kept."""
    return lambda scores: after(~beats(scores[:, None], scores).any(0))


def without_twins(scores):
    kept = front()(scores)
    seen = set()
    for i, row in enumerate(scores.tolist()):
        kept[i] &= tuple(row) not in seen
        seen.add(tuple(row))
    return kept


def first_two_columns(scores):
    return front()(scores[:, :2])


MISTAKES = {
    "trilemma.covered": [
        ("3σ", counted(lambda s: 3 * s)),
        ("2σ", counted(lambda s: 2 * s)),
        ("σ", counted(lambda s: s)),
        ("5σ", counted(lambda s: 5 * s)),
        ("no reach", counted(lambda s: torch.inf)),
        ("4", counted(lambda s: 4)),
        ("σ squared", counted(lambda s: 4 * s**2)),
        ("squared distance, reach not", counted(square=True)),
        ("squared distance, 16 σ", counted(lambda s: 16 * s, square=True)),
        ("squared distance, 4 σ²", counted(lambda s: 4 * s**2, square=True)),
        ("no nearest rule", counted(nearest=False)),
        ("20 % of all", counted(least=lambda n, k: 0.2 * n)),
        ("all of its share", counted(least=lambda n, k: n / k)),
        ("half of its share", counted(least=lambda n, k: 0.5 * n / k)),
        ("one is enough", counted(least=lambda n, k: 1)),
        ("20 samples", counted(least=lambda n, k: 20)),
        ("2 % of its share", counted(least=lambda n, k: 0.02 * n / k)),
        ("more than 20 %", counted(strict=True)),
        ("a sample near is enough", nearest_sample_only),
        ("samples counted", samples_near),
        ("a share", lambda x, c, s: counted()(x, c, s) / len(c)),
        ("which ones", lambda x, c, s: torch.cdist(x, c).amin(0) <= 4 * s),
        ("all", lambda x, c, s: len(c)),
        ("missed ones", lambda x, c, s: len(c) - counted()(x, c, s)),
    ],
    "trilemma.recall": [
        ("precision", recalled(swap=True)),
        ("balls of the real", recall_by_balls_of_the_real),
        ("itself counted", recalled(lambda own, k: own[:, k - 1])),
        ("one too far", recalled(lambda own, k: own[:, k + 1])),
        ("rim outside", recalled(test=lambda ways, radii: (ways < radii).any(1))),
        ("nearest ball only", recalled(test=lambda ways, radii: ways.amin(1) <= radii[ways.argmin(1)])),
        ("mean radius", recalled(lambda own, k: own[:, k].mean())),
        ("largest radius", recalled(lambda own, k: own[:, k].max())),
        ("least radius", recalled(lambda own, k: own[:, k].min())),
        ("squared radius", recalled(lambda own, k: own[:, k] ** 2)),
        ("mean of the k nearest", recalled(lambda own, k: own[:, 1 : k + 1].mean(1))),
        ("mean of the k nearest and itself", recalled(lambda own, k: own[:, : k + 1].mean(1))),
        ("nearest, whatever k is", recalled(lambda own, k: own[:, 1])),
        ("farthest", recalled(lambda own, k: own[:, -1])),
        ("half the radius", recalled(lambda own, k: own[:, k] / 2)),
        ("in all balls", recalled(test=lambda ways, radii: (ways <= radii).all(1))),
        ("balls counted", recalled(test=lambda ways, radii: ways <= radii)),
        ("balls that hold something", recalled(test=lambda ways, radii: (ways <= radii).any(0))),
        ("k balls", lambda real, fake, k: ((torch.cdist(real, fake)
         <= torch.cdist(fake, fake).kthvalue(k + 1).values).sum(1) >= k + 1).double().mean()),
        ("missed", recalled(after=lambda share: 1 - share)),
        ("percent", recalled(after=lambda share: 100 * share)),
        ("number", lambda real, fake, k: len(real) * recalled()(real, fake, k)),
        ("which ones", lambda real, fake, k: torch.cdist(real, fake).amin(1)),
    ],
    "trilemma.pareto": [
        ("better in all columns", front(lambda o, m: (o > m).all(-1))),
        ("as good is enough", front(lambda o, m: (o >= m).all(-1))),
        ("better in one is enough", front(lambda o, m: (o > m).any(-1))),
        ("smaller is better", front(lambda o, m: (o <= m).all(-1) & (o < m).any(-1))),
        ("the beaten ones", front(after=torch.logical_not)),
        ("twins removed", lambda s: front(lambda o, m: (o >= m).all(-1) & ~torch.eye(len(s), dtype=torch.bool))(s)),
        ("second twin removed", without_twins),
        ("best of a column", lambda scores: (scores == scores.amax(0)).any(1)),
        ("best of all columns", lambda scores: (scores == scores.amax(0)).all(1)),
        ("best sum", lambda scores: scores.sum(1) == scores.sum(1).max()),
        ("above the mean", lambda scores: (scores >= scores.mean(0)).all(1)),
        ("two columns only", first_two_columns),
        ("all", lambda scores: torch.ones(len(scores), dtype=torch.bool)),
        ("none", lambda scores: torch.zeros(len(scores), dtype=torch.bool)),
        ("indices", lambda scores: front()(scores).nonzero()[:, 0]),
        ("turned round", lambda scores: ~((scores[:, None] >= scores).all(-1) & (scores[:, None] > scores).any(-1)).any(1)),
        ("rows themselves", lambda scores: scores[front()(scores)]),
        ("a list", lambda scores: front()(scores).tolist()),
    ],
}  # fmt: skip
