"""What denoising has to draw from, q(x_s | x_t), on a line: thesis 6.1, Fig. 6.3."""

import math

import torch
from torch import Tensor
from torch.distributions import Normal

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def true_denoising(nodes: Tensor, density: Tensor, xs: Tensor, xt: float, now: float, then: float) -> Tensor:
    """q(x_s | x_t) at xs (k,), as a density, (k,), of data with a density (m,) at even nodes (m,); now is ᾱ_t, then ᾱ_s.

    By Bayes' rule in x_s: q(x_s) q(x_t | x_s)/q(x_t), with q(x_s) and q(x_t) mixtures over the nodes. Source has
    ∫ q(x_s | x_t, x_0) q(x_0) dx_0, where the data should know x_t.
    """
    mass = density / density.sum()
    prior = Normal(math.sqrt(then) * nodes, math.sqrt(1 - then)).log_prob(xs[:, None]).exp() @ mass
    total = Normal(math.sqrt(now) * nodes, math.sqrt(1 - now)).log_prob(torch.tensor(xt)).exp() @ mass
    ratio = now / then
    return prior * Normal(math.sqrt(ratio) * xs, math.sqrt(1 - ratio)).log_prob(torch.tensor(xt)).exp() / total


def _gaussian(x: Tensor, mean: Tensor, variance: float) -> Tensor:
    return torch.exp(-(x - mean).square() / (2 * variance)) / math.sqrt(2 * math.pi * variance)


def _suspects(nodes: Tensor, density: Tensor, xs: Tensor, xt: float, now: float, then: float) -> list[tuple[str, Tensor]]:
    here, ratio, want = torch.tensor(xt, dtype=xs.dtype), now / then, true_denoising(nodes, density, xs, xt, now, then)
    beta, mass, gap = 1 - ratio, density / density.sum(), nodes[1] - nodes[0]
    of_x0, of_xt = math.sqrt(then) * beta / (1 - now), math.sqrt(ratio) * (1 - then) / (1 - now)
    small = (1 - then) / (1 - now) * beta
    heard = _gaussian(here, math.sqrt(now) * nodes, 1 - now)
    knows = mass * heard / (mass @ heard)
    one_step = _gaussian(here, math.sqrt(ratio) * xs, beta)

    def mixed(weights: Tensor, variance: float = small, a: float = of_x0, b: float = of_xt) -> Tensor:
        return _gaussian(xs[:, None], a * nodes + b * xt, variance) @ weights

    narrow = _gaussian(here, math.sqrt(now) * nodes, (1 - now) ** 2) * mass
    early = _gaussian(here, math.sqrt(then) * nodes, 1 - then) * mass
    unshrunk = _gaussian(here, nodes, 1 - now) * mass
    one_only = _gaussian(here, math.sqrt(ratio) * nodes, beta) * mass
    bare = _gaussian(xs[:, None], math.sqrt(then) * nodes, 1 - then)
    return [
        ("the data's own density is forgotten: which x_0 are there at all?", mixed(heard / heard.sum())),
        ("x_0 is drawn as if x_t had not been seen, as the thesis prints it: x_t makes some x_0 likelier than others",
         mixed(mass)),
        ("that is the law of x_s whatever x_t: which of these x_s lead to the x_t that was seen?", bare @ mass),
        ("that has what x_t says of x_s, but not which x_s there are: the data are not in it",
         one_step / torch.trapezoid(one_step, xs)),
        ("the likelihood is that of one step from x_0: x_t comes of x_0 through all steps up to t",
         mixed(one_only / one_only.sum())),
        ("the likelihood is that of x_s, with the noise of s: it is x_t that was seen", mixed(early / early.sum())),
        ("given x_0 and x_t both, where is x_s? Here x_t has been forgotten once x_0 was known", bare @ knows),
        ("it is not normalised: is the area under it 1?", mixed(mass * heard)),
        ("it is not normalised: is the area under it 1?", mixed(density * heard)),
        ("it is not normalised: is the area under it 1?", mixed(density * heard) * gap),
        ("it is not normalised: is the area under it 1?", (bare @ mass) * one_step),
        ("it is not normalised: is the area under it 1?", (bare @ density) * one_step),
        ("it is not normalised: is the area under it 1?", (bare @ density) * one_step * gap),
        ("the values themselves sum to 1: for a density the area under them does", want / want.sum()),
        ("the area under it is 1 only if the nodes of x_0 were those of x_s", want / (want.sum() * gap)),
        ("that is a single Gaussian about the mean x_0, which is the assumption of small steps: each x_0 has its own",
         _gaussian(xs, of_x0 * (knows @ nodes) + of_xt * xt, small)),
        ("that is a single Gaussian about the likeliest x_0: each x_0 has its own",
         _gaussian(xs, of_x0 * nodes[knows.argmax()] + of_xt * xt, small)),
        ("β̃ is a variance, not a width: the peaks are too narrow", mixed(knows, small**2)),
        ("the peaks have the variance of the step forth: (2.51) has a smaller one", mixed(knows, beta)),
        ("the peaks have the variance of x_s for a given x_0: x_t narrows it", mixed(knows, 1 - then)),
        ("the weight of x_t is the printed one of (2.51), a slip", mixed(knows, b=math.sqrt(now) * (1 - then) / (1 - now))),
        ("β_t of (2.51) is to be that of the whole step from s to t: it is not 1 − ᾱ_t",
         mixed(knows, 1 - then, math.sqrt(then))),
        ("the weights of x_0 and x_t are exchanged", mixed(knows, a=of_xt, b=of_x0)),
        ("in the likelihood of x_0, 1 − ᾱ_t is a variance, not a width", mixed(narrow / narrow.sum())),
        ("in the likelihood of x_0 the datum has not shrunk: where is x_t on average?", mixed(unshrunk / unshrunk.sum())),
        ("that is its logarithm: the density itself is wanted", want.log()),
        ("2π is missing under the root, or the width is: a Gaussian's area is 1", want * math.sqrt(2 * math.pi)),
        ("the width is missing in what a Gaussian is divided by: its area is 1", want * math.sqrt(small)),
        ("the width is missing in what a Gaussian is divided by: its area is 1", want * math.sqrt(2 * math.pi * small)),
    ]  # fmt: skip


def _line(student: Student, random: Random, now: float, then: float) -> None:
    """Two peaks of unequal weight; a grid of x_s on which sums are as good as integrals."""
    few, more = random.sizes(2)
    nodes = torch.linspace(-3.5, 3.5, 200 + few, dtype=torch.float64)
    first, width = float(random.uniform(0.2, 0.4)), float(random.uniform(0.2, 0.3))
    peaks = Normal(torch.tensor([[-1.2], [1.0]], dtype=torch.float64), width)
    density = torch.tensor([first, 1 - first], dtype=torch.float64) @ peaks.log_prob(nodes).exp()
    xs = torch.linspace(-7, 7, 400 + more, dtype=torch.float64)
    inputs = {"nodes": nodes, "density": density, "xs": xs, "xt": float(random.uniform(-0.3, 0.3)), "now": now, "then": then}
    hint = "given x_0 and x_t it is the Gaussian of (2.51), between s and t; how likely is each x_0, once x_t is seen?"
    nonfinite = "inf or nan: a variance, or what is divided by, is 0 or less somewhere"
    student(**inputs).should_be(true_denoising(**inputs), hint, _suspects(**inputs), nonfinite)


def after_a_short_step(student: Student, random: Random) -> None:
    """Close to a Gaussian."""
    then = float(random.uniform(0.5, 0.6))
    _line(student, random, 0.92 * then, then)


def after_a_long_step(student: Student, random: Random) -> None:
    """Two peaks."""
    _line(student, random, float(random.uniform(0.05, 0.15)), float(random.uniform(0.8, 0.9)))
