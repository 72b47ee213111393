"""The three players of an adversarial auto-encoder, thesis 3.2: one reconstructs, one judges the codes, one deceives it."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import softplus

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Answer, Student, Wrong

PLAYERS = ("autoencoder", "critic", "encoder")


def adversary(prior: Tensor, codes: Tensor, error: Tensor) -> dict[str, Tensor]:
    """What each player makes small, (n,) in nats, from the critic's logits at draws of the prior (n,) and at codes (n,).

    `error` (n,) is that of the reconstruction. The critic says how likely something is a draw; the encoder's loss is the
    non-saturating one.
    """
    zero = torch.zeros_like(codes)
    return {
        "autoencoder": error,
        "critic": torch.logaddexp(zero, -prior) + torch.logaddexp(zero, codes),
        "encoder": torch.logaddexp(zero, -codes),
    }


def _losses(answer: Answer) -> dict[str, Answer]:
    """An answer for each player, else Wrong."""
    wanted = f"wanted a dictionary with the keys {', '.join(PLAYERS)}"
    if not isinstance(answer.value, dict):
        came = "None: is there a return?" if answer.value is None else type(answer.value).__name__
        raise Wrong(f"{wanted}; got {came} (called with {answer.call})")
    if set(answer.value) != set(PLAYERS):
        raise Wrong(f"{wanted}; got {', '.join(map(str, answer.value)) or 'none'} (called with {answer.call})")
    return {
        name: replace(answer, value=answer.value[name], again=lambda name=name: _losses(answer.again())[name], part=name)
        for name in PLAYERS
    }


def _adversary(student: Student, prior: Tensor, codes: Tensor, error: Tensor, hint: str) -> None:
    want = adversary(prior, codes, error)
    critic, encoder = want["critic"], want["encoder"]
    on_prior, on_codes = softplus(-prior), softplus(codes)
    suspects = {
        "critic": [
            ("draws are called codes, and codes draws: which of both is real here?", softplus(prior) + encoder),
            ("the critic wants codes to pass for draws? That is what the encoder wants", on_prior + encoder),
            ("that is what the critic makes large: a loss is made small", -critic),
            ("the draws are missing: then calling everything a code costs nothing", on_codes),
            ("the codes are missing: then calling everything a draw costs nothing", on_prior),
            ("the sign of the codes' half is turned round", on_prior - on_codes),
            ("the sign of the codes' half is turned round", on_prior - encoder),
            ("that is the mean of two halves: here they are added", critic / 2),
            ("that is Wasserstein's critic, whose logits are no log-odds", codes - prior),
            ("that is the hinge loss: here what is far beyond the margin still counts a little",
             (1 - prior).relu() + (1 + codes).relu()),
            ("the logarithms are missing: those are probabilities of a mistake",
             torch.sigmoid(-prior) + torch.sigmoid(codes)),
            ("the reconstruction is no business of the critic's", critic + error),
            ("that is the encoder's loss", encoder),
        ],
        "encoder": [
            ("that saturates: where the critic is sure of a code its slope is flat, where it is needed most", -on_codes),
            ("with that loss the encoder wants to be caught", on_codes),
            ("the sign is turned round: it is minus a log-likelihood that is made small", -encoder),
            ("the encoder has no hand in the draws of the prior: which logits hang on it?", on_prior),
            ("the encoder has no hand in the draws of the prior: which logits hang on it?", softplus(prior)),
            ("the encoder has no hand in the draws of the prior: which logits hang on it?", softplus(prior) + encoder),
            ("that is minus the critic's loss: the encoder's is not the other side of a zero-sum game", -critic),
            ("that is Wasserstein's, where logits are no log-odds", -codes),
            ("the logarithm is missing: that is a probability", torch.sigmoid(-codes)),
            ("the logarithm is missing: that is a probability", -torch.sigmoid(codes)),
            ("the reconstruction is another player's: each has an optimiser of its own", encoder + error),
            ("that is the critic's loss", critic),
        ],
        "autoencoder": [
            ("the critic is another player's: each has an optimiser of its own", error + encoder),
            ("the critic is another player's: each has an optimiser of its own", error + critic),
            ("the critic is another player's: each has an optimiser of its own", error - critic),
            ("the sign is turned round: the error is made small", -error),
            ("each datum has an error of its own: that is the mean over the batch", error.mean().expand_as(error)),
        ],
    }  # fmt: skip
    hints = {
        "critic": f"minus the log-probability, in nats, of the right answer, on a draw and on a code; {hint}",
        "encoder": f"minus the log-probability, in nats, of the answer that the encoder would like to hear; {hint}",
        "autoencoder": "what of the three inputs is neither the critic's affair nor the adversary's?",
    }
    nonfinite = "the logarithm of a probability that rounds to 0: can it be had from the logit without the probability?"
    found = _losses(student(prior=prior, codes=codes, error=error))
    for name, listed in suspects.items():
        found[name].should_be(want[name], hints[name], listed, nonfinite)


def of_critics_in_doubt(student: Student, random: Random) -> None:
    (n,) = random.sizes(1)
    hint = "of which class is the logit the log-odds?"
    _adversary(student, 2 * random.normal(n), 2 * random.normal(n), random.uniform(1, 30, n), hint)


def of_sure_critics(student: Student, random: Random) -> None:
    """Sure and right, sure and wrong, on draws and on codes."""
    signs = torch.tensor([[1, 1, -1, -1], [1, -1, 1, -1]], dtype=torch.float64)
    prior, codes = signs * random.uniform(900, 1100, 2, 4)
    hint = "the critic is sure here, and wrong at times: does a probability round to 0, or is it kept off?"
    _adversary(student, prior, codes, random.uniform(1, 30, 4), hint)
