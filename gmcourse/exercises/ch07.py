"""Chapter 7, the trilemma: three exercises on how one tells quality, diversity and speed apart, and weighs them.

The references know nothing of `gmcourse.metrics`: they sort, and look up neighbours in scipy's tree. Counts and shares must
be exact, so the inputs are laid out where rounding decides nothing.
"""

from dataclasses import replace
from functools import partial

import torch
from scipy.spatial import KDTree
from torch import Tensor

from gmcourse.exercises.core import Random, one_point_each
from gmcourse.exercises.student import Answer, Student


def covered(x: Tensor, centres: Tensor, sigma: float) -> int:
    """How many centres (k, 2) hold, within 4σ, at least 20 % of n/k of the samples x (n, 2), each at its nearest centre.

    Metz et al. 2017 and after them count modes so; the share is that of a perfect sampler.
    """
    distances, nearest = KDTree(centres.numpy()).query(x.numpy())
    held = torch.from_numpy(nearest[distances <= 4 * sigma]).bincount(minlength=len(centres))
    return int((5 * len(centres) * held >= len(x)).sum())


def _count(
    x: Tensor, centres: Tensor, within: float, least: float, exclusive: bool = True, strict: bool = False
) -> Tensor:
    """Centres that hold `least` samples within this distance; without `exclusive` samples may belong to several."""
    distances = torch.cdist(x, centres)
    inside = distances <= within
    if exclusive:
        inside = inside & (distances == distances.amin(1, keepdim=True))
    held = inside.sum(0)
    return (held > least if strict else held >= least).sum().double()


def _covered(student: Student, x: Tensor, centres: Tensor, sigma: float) -> None:
    n, k = len(x), len(centres)
    least, count = n / (5 * k), partial(_count, x, centres)
    suspects = [
        ("a sample within reach of two centres counts for both: it belongs to the nearest", count(4 * sigma, least, False)),
        ("3σ is not enough: how far does a mode reach here?", count(3 * sigma, least)),
        ("2σ is not enough: how far does a mode reach here?", count(2 * sigma, least)),
        ("σ is not enough: how far does a mode reach here?", count(sigma, least)),
        ("σ is squared, the distance is not", count(4 * sigma**2, least)),
        ("5σ is too far: how far does a mode reach here?", count(5 * sigma, least)),
        ("a squared distance is compared with a distance", count((4 * sigma) ** 0.5, least)),
        ("a squared distance is compared with 16σ: what is to be squared?", count(4 * sigma**0.5, least)),
        ("the distance is compared with 4: in units of what?", count(4, least)),
        ("samples far from all centres belong to none", count(torch.inf, least)),
        ("exactly 20 % are enough: it says at least", count(4 * sigma, least, strict=True)),
        ("a mode wants 20 % of its own share n/k, not of all samples", count(4 * sigma, n / 5)),
        ("one sample does not make a mode covered", count(4 * sigma, 1)),
        ("a mode wants 20 % of its share n/k, not all of it", count(4 * sigma, n / k)),
        ("a mode wants 20 % of its share n/k: is that half of it?", count(4 * sigma, n / (2 * k))),
        ("those are samples near a centre, not centres", (torch.cdist(x, centres).amin(1) <= 4 * sigma).sum().double()),
        ("those are all the centres: some are not reached", torch.tensor(float(k), dtype=x.dtype)),
    ]
    hint = "each sample goes to its nearest centre, if that is within 4σ: which centres have got enough of them?"
    _doubled(student(x=x, centres=centres, sigma=sigma)).should_be(_number(covered(x, centres, sigma)), hint, suspects)


def _around(random: Random, centre: Tensor, count: int, low: float, high: float) -> Tensor:
    """Points (count, 2) at distances between low and high from the centre, in all directions."""
    radius, angle = random.uniform(low, high, count, 1), random.uniform(0, 2 * torch.pi, count)
    return centre + radius * torch.stack((angle.cos(), angle.sin()), 1)


def modes_apart(student: Student, random: Random) -> None:
    """Ten modes on a line, 30σ apart, 200 samples: a mode is covered from 4 on."""
    sigma = float(random.uniform(0.2, 0.4))
    centres = 30 * sigma * torch.stack((torch.arange(10), torch.zeros(10)), 1).double()
    held = [50, 4, 4, 6, 12, 3, 0, 21, 42, 58]
    x = torch.cat([_around(random, c, m, 0, 0.9 * sigma) for c, m in zip(centres, held, strict=True)])
    _covered(student, _shuffled(random, x), centres, sigma)


def modes_with_rims_and_neighbours(student: Student, random: Random) -> None:
    """Rings around one of the centres, outwards up to 4σ and then inwards from afar; then samples within reach of two.

    The rings come in this order so that a wrong reach shows on a ring where those with other hints are right, or later
    in the list.
    """
    sigma = float(random.uniform(0.06, 0.1))
    centres = torch.tensor([[0, 0], [400, 0], [800, 0], [1200, 0]]).double() * sigma
    rings = ((0.5, 0.8), (1.2, 1.8), (2.2, 2.8), (3.2, 3.8), (75, 90), (20, 35), (10, 12), (5.5, 6.2), (4.2, 4.8))
    for low, high in rings:
        core = _around(random, centres[0], 20, 0, 0.2 * sigma)
        ring = _around(random, centres[1], 20, low * sigma, high * sigma)
        _covered(student, _shuffled(random, torch.cat((core, ring))), centres, sigma)
    pairs = torch.tensor([[0, 0], [5, 0], [60, 0], [65, 0]]).double() * sigma
    between = _around(random, pairs[0] + torch.tensor([2.2 * sigma, 0]), 20, 0, 0.1 * sigma)
    core = _around(random, pairs[2], 20, 0, 0.2 * sigma)
    _covered(student, _shuffled(random, torch.cat((between, core))), pairs, sigma)


def recall(real: Tensor, fake: Tensor, k: int) -> float:
    """Share of real (n, d) in the union of balls around the fakes (m, d), as wide as their k-th nearest other fake is far.

    Kynkäänniemi et al. 2019; a point on the rim is inside.
    """
    radii = torch.from_numpy(KDTree(fake.numpy()).query(fake.numpy(), k + 1)[0][:, k])
    ways = (real[:, None] - fake).norm(dim=2)
    return float((ways <= radii).any(1).double().mean())


def _recall(student: Student, real: Tensor, fake: Tensor, k: int) -> None:
    def share(real: Tensor, fake: Tensor, radii: Tensor, strict: bool = False) -> Tensor:
        ways = (real[:, None] - fake).norm(dim=2)
        return (ways < radii if strict else ways <= radii).any(1).double().mean()

    ways, own = (real[:, None] - fake).norm(dim=2), (fake[:, None] - fake).norm(dim=2).sort(1).values
    of_real = (real[:, None] - real).norm(dim=2).sort(1).values[:, k]
    radii, want = own[:, k], _number(recall(real, fake, k))
    first = ways.argmin(1)
    suspects = [
        ("that is precision: whose points are to be found in whose balls?", share(fake, real, of_real)),
        ("balls around the real are what precision wants: does a real point have a fake in its ball?",
         (ways.T <= of_real).any(0).double().mean()),
        ("a fake is no neighbour of its own: the nearest of all is the point itself", share(real, fake, own[:, k - 1])),
        ("the radius is the way to the nearest other fake: the k-th is wanted", share(real, fake, own[:, 1])),
        ("the radius is one neighbour too far: how many are passed over to begin with?", share(real, fake, own[:, k + 1])),
        ("a point on the rim is inside", share(real, fake, radii, strict=True)),
        ("only the ball of the nearest fake is asked: a farther one may be wider",
         (ways.amin(1) <= radii[first]).double().mean()),
        ("each fake has a radius of its own, not the mean of all", share(real, fake, radii.mean())),
        ("each fake has a radius of its own, not the largest", share(real, fake, radii.max())),
        ("each fake has a radius of its own, not the least", share(real, fake, radii.min())),
        ("that is the share that is missed", 1 - want),
        ("the radius is the distance, not its square", share(real, fake, radii.square())),
        ("the radius is the mean over the k nearest: the farthest of them is wanted",
         share(real, fake, own[:, 1 : k + 1].mean(1))),
        ("those are balls that hold a real point: real points that lie in a ball are wanted",
         (ways <= radii).any(0).double().mean()),
        ("a point counts once, in however many balls it is", (ways <= radii).double().mean()),
        ("that is a number of points: a share is wanted", len(real) * want),
        ("the radius is that of the real point's own neighbours", (ways <= of_real[:, None]).any(1).double().mean()),
    ]  # fmt: skip
    hint = "how far is each fake from its k-th nearest other? That is its ball; which real points lie in any?"
    _doubled(student(real=real, fake=fake, k=k)).should_be(want, hint, suspects)


def _lattice(random: Random, count: int, size: int) -> Tensor:
    """Different points (count, 2) with whole coordinates from 0 to size − 1: distances are exact, and many are equal."""
    places = random.normal(size * size).argsort()[:count]
    return torch.stack((places // size, places % size), 1).double()


def with_one_neighbour(student: Student, random: Random) -> None:
    """Fakes in general position: no real point lies on a rim."""
    n, m = random.sizes(2)
    _recall(student, random.normal(100 * n, 3), 0.8 * random.normal(5 * m, 3), 1)


def with_more_neighbours_and_rims(student: Student, random: Random) -> None:
    n, m = random.sizes(2)
    _recall(student, _lattice(random, 20 * n, 24), _lattice(random, 2 * m + 9, 18), 3)
    _recall(student, _lattice(random, 15 * n, 18) - 2, _lattice(random, 2 * m + 9, 18), 2)


def pareto(scores: Tensor) -> Tensor:
    """Which rows of scores (n, m), larger is better, no other row beats: bool (n,).

    A row beats another if it is at least as good in all columns and better in one.
    """
    beaten = torch.zeros(len(scores), dtype=torch.bool)
    for row in scores:
        gain = row - scores
        beaten |= (gain.amin(1) >= 0) & (gain.amax(1) > 0)
    return ~beaten


def _front(student: Student, scores: Tensor) -> None:
    others, mine = scores[:, None], scores[None]
    better, want = others > mine, pareto(scores)
    twin = (others == mine).all(2).sum(0) > 1
    best, total = scores.amax(0), scores.sum(1)
    first = torch.tensor([not (scores[:i] == row).all(1).any() for i, row in enumerate(scores)])
    suspects = [
        ("only two of the columns are looked at", pareto(scores[:, :2])),
        ("a row that beats another need not be better in all columns: as good will do in some", ~better.all(2).any(0)),
        ("no row is left: is each compared with itself, or to be best in all?", torch.zeros_like(want)),
        ("equal rows do not beat each other: which of them is to go?", want & ~twin),
        ("equal rows do not beat each other: the second of them stays, too", want & first),
        ("smaller is better there: here it is the larger", pareto(-scores)),
        ("those are the beaten rows: the others are wanted", ~want),
        ("being worse in one column is not being beaten: what of the others?", ~better.any(2).any(0)),
        ("only the best of each column: a good compromise is not beaten either", (scores == best).any(1)),
        ("only the best sum: columns have units of their own", total == total.max()),
        ("all are left: some rows are beaten", torch.ones_like(want)),
    ]
    hint = "take two rows: when does one beat the other? A row stays if none of the others does"
    answer = _doubled(student(scores=scores))
    answer.should_be(want.double(), hint, [(special, wrong.double()) for special, wrong in suspects])


def without_ties(student: Student, random: Random) -> None:
    for columns in (2, 3):
        _front(student, random.normal(12, columns))


def with_ties(student: Student, random: Random) -> None:
    """Rows that agree in some columns, and rows that agree in all, one of them on the front."""
    scores = torch.tensor([[2, 3], [4, 1], [2, 1], [4, 1], [1, 3], [0, 0], [3, 2], [0, 0], [3, 0]]).double()
    _front(student, _shuffled(random, scores))
    wide = random.uniform(0, 4, 14, 3).floor()
    _front(student, _shuffled(random, torch.cat((wide, wide[pareto(wide)][:1]))))


def _shuffled(random: Random, rows: Tensor) -> Tensor:
    return rows[random.normal(len(rows)).argsort()]


def _number(value: float) -> Tensor:
    return torch.tensor(float(value), dtype=torch.float64)


def _doubled(answer: Answer) -> Answer:
    """The same answer in float64 if it is a tensor of another type: True counts as 1, and a share may be a float32."""
    value = answer.value
    if isinstance(value, Tensor) and not value.is_complex():
        value = value.double()
    return replace(answer, value=value, again=lambda: _doubled(answer.again()))


_exercise = partial(one_point_each, "trilemma")

EXERCISES = (
    _exercise(covered, modes_apart, modes_with_rims_and_neighbours),
    _exercise(recall, with_one_neighbour, with_more_neighbours_and_rims),
    _exercise(pareto, without_ties, with_ties),
)
