"""The game of thesis 2.5.1: the discriminator that nobody can beat, what both players lose, what the game is worth."""

import math

import torch
from scipy.special import rel_entr
from torch import Tensor
from torch.distributions import Categorical, Normal

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def optimal_discriminator(log_p: Tensor, log_q: Tensor) -> Tensor:
    """D* = p/(p + q), (n,) in [0, 1], from log-densities (n,) in nats of data and fakes, as two classes; thesis 2.5.1."""
    return Categorical(logits=torch.stack((log_p, log_q), 1)).probs[:, 0]


def _best(student: Student, log_p: Tensor, log_q: Tensor) -> None:
    want, odds = optimal_discriminator(log_p, log_q), log_p - log_q
    suspects = [
        ("that is how sure one is that x is fake: D is the probability of the other class", 1 - want),
        ("those are log-odds: a probability lies between 0 and 1", odds),
        ("those are the odds: a probability lies between 0 and 1", odds.exp()),
        ("logarithms of densities are no densities: what is to be divided by what?", log_p / (log_p + log_q)),
        ("that is the logarithm of D", want.log()),
        ("the discriminator sees as many data as fakes: by what does one divide if both may have made x?", 2 * want),
        ("that lies between −1 and 1: least squares' critic, not a probability", 2 * want - 1),
        ("the densities themselves are compared by their difference: it is their ratio that counts",
         torch.sigmoid(log_p.exp() - log_q.exp())),
        ("the density of the data alone does not say how likely fakes are at x", log_p.exp()),
        ("D = ½ is where the game ends: here p and q differ", torch.full_like(want, 0.5)),
        ("both densities vanish in exp here, but their ratio does not", torch.zeros_like(want)),
    ]  # fmt: skip
    hint = "x came from the data or from the generator, with even chances: how probable is the former?"
    nonfinite = "both densities vanish or overflow in exp: does D need more than the difference of the logarithms?"
    student(log_p=log_p, log_q=log_q).should_be(want, hint, suspects, nonfinite)


def near_the_mass(student: Student, random: Random) -> None:
    (n,) = random.sizes(1)
    _best(student, random.normal(n) - 1, 1.5 * random.normal(n) - 1)


def far_from_the_mass(student: Student, random: Random) -> None:
    """−1000 against −1001 nats, and densities too large for a float, too."""
    (n,) = random.sizes(1)
    log_p = torch.full((n,), -1000.0, dtype=torch.float64)
    log_p[-1] = 1000
    _best(student, log_p, log_p - 1 + 2 * random.normal(n))


def losses(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of critic and generator, (n,) each in nats, from logits (n,) of data and of fakes; thesis (2.73), 2.5.3."""
    zero = torch.zeros_like(fake)
    return torch.logaddexp(zero, -real) + torch.logaddexp(zero, fake), torch.logaddexp(zero, -fake)


def _losses(student: Student, real: Tensor, fake: Tensor, hint: str) -> None:
    critic, generator = losses(real, fake)
    zero, d_real, d_fake = torch.zeros_like(real), torch.sigmoid(real), torch.sigmoid(fake)
    on_real, on_fake = torch.logaddexp(zero, -real), torch.logaddexp(zero, fake)
    of_critic = [
        ("(2.73) is what the critic makes large: a loss is made small", -critic),
        ("data are called fake, and fakes real", torch.logaddexp(zero, real) + generator),
        ("the critic wants its fakes to be found real? That is what the generator wants", on_real + generator),
        ("slides (40b) as printed: with it the critic would win without bound on fakes", on_real - generator),
        ("that is the mean over data and fakes: (2.73) has the sum of two expectations", critic / 2),
        ("the fakes are missing: then calling everything real costs nothing", on_real),
        ("the data are missing: then calling everything fake costs nothing", on_fake),
        ("the sign of the fakes' half is turned round", on_real - on_fake),
        ("that is Wasserstein's critic, whose logits are no log-odds", fake - real),
        ("that is the hinge loss: here what is far beyond the margin still counts a little",
         (1 - real).relu() + (1 + fake).relu()),
        ("the logarithms are missing: those are probabilities of a mistake", 1 - d_real + d_fake),
        ("the logarithm is cut off at −100", on_real.clamp(max=100) + on_fake.clamp(max=100)),
        ("that is the generator's loss: which comes first?", generator),
    ]  # fmt: skip
    of_generator = [
        ("that is minimax: where the critic is sure of a fake its slope is flat, it saturates", -on_fake),
        ("with that loss the generator wants to be caught", on_fake),
        ("the sign is turned round: it is minus a log-likelihood that is made small", -generator),
        ("the generator's loss is about fakes: it has no hand in the data", on_real),
        ("the game is not zero-sum: this loss is not minus the critic's", -critic),
        ("data have nothing to do with the generator's loss", generator + on_real),
        ("that is Wasserstein's generator, whose critic's logits are no log-odds", -fake),
        ("the logarithm is missing: that is a probability", 1 - d_fake),
        ("the logarithm is missing: that is a probability", -d_fake),
        ("the logarithm is cut off at −100", generator.clamp(max=100)),
        ("a half is there that the loss has not", generator / 2),
        ("that is the critic's loss: which comes second?", critic),
    ]
    answers = student(real=real, fake=fake).parts("critic", "generator")
    nonfinite = "the logarithm of a probability that rounds to 0: can it be had from the logit without D?"
    answers[0].should_be(critic, hint, of_critic, nonfinite)
    answers[1].should_be(generator, hint, of_generator, nonfinite)


def of_critics_in_doubt(student: Student, random: Random) -> None:
    (n,) = random.sizes(1)
    hint = "minus the log-probability, in nats, that the critic gives the answer which that player would like to hear"
    _losses(student, 2 * random.normal(n), 2 * random.normal(n), hint)


def of_sure_critics(student: Student, random: Random) -> None:
    """Sure and right, sure and wrong, on data and on fakes."""
    signs = torch.tensor([[1, 1, -1, -1], [1, -1, 1, -1]], dtype=torch.float64)
    real, fake = signs * random.uniform(900, 1100, 2, 4)
    hint = "the critic is sure here, and wrong at times: does D round to 0 on the way, or is it kept off?"
    _losses(student, real, fake, hint)


def game_value(p: Tensor, q: Tensor, cell: float) -> Tensor:
    """V(G, D*) in nats, from densities (m,) of data and fakes at the nodes of a grid with cells of this size; (2.79)."""
    return cell * (_relative(p, p + q) + _relative(q, p + q)).sum()


def _relative(p: Tensor, q: Tensor) -> Tensor:
    """p log p/q in nats, 0 where p = 0."""
    return torch.from_numpy(rel_entr(p.numpy(), q.numpy()))


def _value(student: Student, p: Tensor, q: Tensor, cell: float) -> None:
    p, q = p / (cell * p.sum()), q / (cell * q.sum())
    want, d, log_2 = game_value(p, q, cell), p / (p + q), math.log(2)
    js = want / 2 + log_2
    of_data, of_fakes = cell * _relative(p, p + q).sum(), cell * _relative(q, p + q).sum()
    suspects = [
        ("that is the Jensen–Shannon divergence: what does (2.79) make of it?", js),
        ("that is twice the Jensen–Shannon divergence: what is taken off in (2.79)?", 2 * js),
        ("the Jensen–Shannon divergence counts twice in (2.79)", js - 2 * log_2),
        ("how often is log 2 taken off? What is V for p = q?", 2 * js - log_2),
        ("how often is log 2 taken off? What is V for p = q?", js - log_2),
        ("log 2 is taken off, not added", 2 * js + 2 * log_2),
        ("that is the critic's loss: V is what it makes large", -want),
        ("that is half of V: two expectations are added, not averaged", want / 2),
        ("the cell's size is missing: an integral is a sum of heights times widths", want / cell),
        ("that is a mean over the nodes, not an integral", want / cell / len(p)),
        ("that is in bits: nats are wanted", want / log_2),
        ("the fakes are missing: (2.73) has two expectations", of_data),
        ("the data are missing: (2.73) has two expectations", of_fakes),
        ("fakes, too, are scored by how real D finds them: what is scored in (2.73)?",
         of_data + cell * torch.special.xlogy(q, d).sum()),
        ("on fakes slides (42) has the 1 outside of the logarithm, a slip", of_data
         + cell * (q - torch.special.xlogy(q, d)).sum()),
        ("the logarithms are missing, as in a line of slides (42)", cell * (p * d + q * (1 - d)).sum()),
        ("the expectations are swapped: data are scored by D, fakes by what is left of 1",
         cell * (torch.special.xlogy(q, d) + torch.special.xlogy(p, 1 - d)).sum()),
        ("the densities do not weigh the logarithms: those are to be expectations",
         cell * (d.log() + (1 - d).log()).sum()),
        ("that is V for p = q, where the game ends", torch.full_like(want, -2 * log_2)),
    ]  # fmt: skip
    hint = "put D* into (2.73) and write both expectations as integrals over the grid"
    nonfinite = "inf or nan: what does a node with density 0 contribute to an expectation, whatever its logarithm is?"
    student(p=p, q=q, cell=cell).should_be(want, hint, suspects, nonfinite)


def where_both_have_mass(student: Student, random: Random) -> None:
    x = torch.linspace(-9, 9, 241, dtype=torch.float64)
    shift, width = random.uniform(0.7, 1.2), random.uniform(1.3, 1.6)
    p, q = Normal(0.0, 1.0).log_prob(x).exp(), Normal(shift, width).log_prob(x).exp()
    _value(student, p, q, float(x[1] - x[0]))


def where_one_has_none(student: Student, random: Random) -> None:
    """The data keep to the left, the fakes to the right; in the middle there are both."""
    p, q = random.uniform(0.2, 1, 60), random.uniform(0.2, 1, 60)
    p[40:], q[:20] = 0, 0
    _value(student, p, q, float(random.uniform(0.05, 0.2)))
