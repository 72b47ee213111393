"""How much of the prior lies where no code ever is: the hole score."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Answer, Student


def holes(codes: Tensor, held_out: Tensor, draws: Tensor, k: int, level: float) -> float:
    """Share of draws (m, d) whose k-th nearest code is farther than the (1 − level)-quantile of that distance of `held_out`.

    codes (n, d) and held_out (h, d) are codes of different data; the quantile is interpolated linearly.
    """
    tree = KDTree(codes.numpy())
    own, ways = (tree.query(z.numpy(), [k])[0][:, 0] for z in (held_out, draws))
    return float(np.mean(ways > np.quantile(own, 1 - level)))


def _nearest(a: Tensor, b: Tensor, count: int) -> Tensor:
    """Distances from each a to its nearest b, so many of them, the shortest first; exactly 0 from a point to itself."""
    ways = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    return ways.topk(count, largest=False).values


def _holes(student: Student, codes: Tensor, held_out: Tensor, draws: Tensor, k: int, level: float) -> None:
    near, here = partial(_nearest, count=k + 1), k - 1
    own, ways, among = near(held_out, codes), near(draws, codes), near(draws, draws)
    of_codes, of_prior, crossed = near(codes, codes), near(held_out, draws), near(codes, draws)
    of_held = near(draws, held_out)
    want = torch.tensor(holes(codes, held_out, draws, k, level), dtype=codes.dtype)

    def share(far: Tensor, ordinary: Tensor, q: float = 1 - level) -> Tensor:
        return (far > ordinary.quantile(q)).double().mean()

    ordinary = own[:, here]
    suspects = [
        ("every draw is beyond the limit: is that 0, or no distance at all?", torch.ones_like(want)),
        ("no draw is beyond the limit: are they measured from themselves?", torch.zeros_like(want)),
        ("the quantile is at the wrong end: how many held-out codes are to be beyond it?",
         share(ways[:, here], ordinary, level)),
        ("that is the share of draws that do lie among the codes", 1 - want),
        ("one neighbour too far: draws and held-out codes are not among the codes, none of those is passed over",
         share(ways[:, here + 1], own[:, here + 1])),
        ("the k-th nearest: from where do indices count?", share(ways[:, here + 1], ordinary)),
        ("the k-th nearest: from where do indices count?", share(ways[:, here], own[:, here + 1])),
        ("the k-th nearest: from where do indices count?", share(ways[:, max(here - 1, 0)], own[:, max(here - 1, 0)])),
        ("the nearest code is asked whatever k is", share(ways[:, 0], own[:, 0])),
        ("the mean over the k nearest: the k-th of them alone is wanted", share(ways[:, :k].mean(1), own[:, :k].mean(1))),
        ("that is the distance to another draw: a hole is where no code is", share(among[:, k], ordinary)),
        ("that is the distance to a draw, itself perhaps: a hole is where no code is", share(among[:, here], ordinary)),
        ("held-out codes are measured from the draws: what is ordinary is a code's distance to codes",
         share(ways[:, here], of_prior[:, here])),
        ("distances to draws all over: a hole is where no code is", share(among[:, here], of_prior[:, here])),
        ("distances from codes to draws: it is the draws that are asked whether a code is near",
         share(crossed[:, here], ordinary)),
        ("draws are measured from the held-out codes: those only tell what is ordinary", share(of_held[:, here], ordinary)),
        ("codes and held-out codes are exchanged: the many are the map, the few tell what is ordinary",
         share(of_held[:, here], near(codes, held_out)[:, here])),
        ("held-out codes are counted there: they tell what is ordinary, and draws are counted",
         share(ordinary, ways[:, here])),
        ("the codes themselves set the limit, and each is nearest to itself: what are the held-out ones for?",
         share(ways[:, here], of_codes[:, here])),
        ("the codes themselves set the limit: what are the held-out ones for?", share(ways[:, here], of_codes[:, k])),
        ("the draws set their own limit: then their share is known beforehand", share(ways[:, here], ways[:, here])),
        ("the limit is the mean of the held-out distances: a quantile is wanted",
         (ways[:, here] > ordinary.mean()).double().mean()),
        ("the limit is the largest of the held-out distances: a quantile is wanted",
         (ways[:, here] > ordinary.max()).double().mean()),
        ("that is a number of draws: a share is wanted", len(draws) * want),
        ("that is in percent: a share is wanted", 100 * want),
    ]  # fmt: skip
    hint = "how far is each draw from its k-th nearest code, and how far is that for codes of other data?"
    answer = student(codes=codes, held_out=held_out, draws=draws, k=k, level=level)
    _share(answer).should_be(want, hint, suspects)


def _share(answer: Answer) -> Answer:
    """The same answer as a plain number: the mean of a mask may well be a float32."""
    return replace(answer, value=answer.number(), again=lambda: _share(answer.again()))


def _clouds(random: Random, k: int, level: float) -> dict:
    """Codes in two clouds with a gap between them, and a prior that knows of no gap."""
    n, h, m, d = 270 + random.sizes(1)[0], 101, 601, 3
    left = random.normal(n + h, 1).sign() * torch.tensor([1.2, 0, 0], dtype=torch.float64)
    z = left + 0.6 * random.normal(n + h, d)
    return {"codes": z[:n], "held_out": z[n:], "draws": random.normal(m, d), "k": k, "level": level}


def beyond_the_nearest(student: Student, random: Random) -> None:
    """k = 1, at two levels."""
    for level in (0.3, 0.2):
        _holes(student, **_clouds(random, 1, level))


def beyond_the_kth(student: Student, random: Random) -> None:
    for k, level in ((3, 0.3), (5, 0.15)):
        _holes(student, **_clouds(random, k, level))
