"""The masks that make a net autoregressive, from the slides (11), (12)."""

from dataclasses import replace

import torch
from torch import Tensor

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Answer, Student


def made_masks(degrees_in: Tensor, degrees_hidden: Tensor) -> tuple[Tensor, Tensor]:
    """MADE's masks (h, d) and (d, h); a row says what one unit reads. Germain et al. 2015, slides (11), (12).

    A hidden unit reads inputs of at most its own degree; an output has the degree of its input and reads hidden units of
    lower degree.
    """
    first = (degrees_hidden[:, None] - degrees_in).sign() + 1
    second = (degrees_in[:, None] - degrees_hidden).sign()
    return first.clamp(max=1).double(), second.clamp(min=0).double()


def _counted(answer: Answer) -> Answer:
    """The same answer in float64 if it is a tensor of another type: True and 1 count as 1.0."""
    value = answer.value
    if isinstance(value, Tensor) and not value.is_complex():
        value = value.double()
    return replace(answer, value=value, again=lambda: _counted(answer.again()))


def _masks(student: Student, degrees_in: Tensor, degrees_hidden: Tensor) -> None:
    inputs, hidden = degrees_in, degrees_hidden
    want1, want2 = made_masks(inputs, hidden)
    place = torch.arange(len(inputs)) + 1
    of_first = [
        ("a hidden unit of degree m may read the input of degree m, too: why strict?", hidden[:, None] > inputs),
        ("a hidden unit reads inputs of its own degree and below, not above", hidden[:, None] <= inputs),
        ("a hidden unit reads inputs of its own degree and below, not above", hidden[:, None] < inputs),
        ("a hidden unit reads all inputs up to its degree, not only that one", hidden[:, None] == inputs),
        ("the inputs' degrees are given and are not always 1, 2, … in a row", hidden[:, None] >= place),
        ("the inputs' degrees are given and are not always 1, 2, … in a row", hidden[:, None] >= place - 1),
        ("all is open: then every hidden unit knows every input", torch.ones_like(want1)),
    ]
    of_second = [
        ("the output of degree i sees its own input: it may only see those before it", inputs[:, None] >= hidden),
        ("an output reads hidden units of lower degree, not of higher", inputs[:, None] <= hidden),
        ("an output reads hidden units of lower degree, not of higher", inputs[:, None] < hidden),
        ("an output reads hidden units of all lower degrees, not of one", inputs[:, None] == hidden),
        ("an output reads hidden units of all lower degrees, not of one", inputs[:, None] == hidden + 1),
        ("outputs have the degrees of the inputs, which are not always 1, 2, … in a row", place[:, None] > hidden),
        ("that is the first mask, turned round: do outputs see inputs before them only?", want1.T),
        ("one of the two comparisons is strict: in which layer?", (inputs[:, None] - 1) > hidden),
        ("all is open: then every output knows every input, its own as well", torch.ones_like(want2)),
    ]
    answers = student(degrees_in=inputs, degrees_hidden=hidden).parts("first mask", "second mask")
    hint = "a hidden unit of degree m depends on the first m inputs and on all of them: which may it read?"
    _counted(answers[0]).should_be(want1, hint, [(special, wrong.double()) for special, wrong in of_first])
    hint = "the output of degree i depends on the inputs before i and on all of them: which hidden units may it read?"
    _counted(answers[1]).should_be(want2, hint, [(special, wrong.double()) for special, wrong in of_second])


def _degrees(random: Random) -> tuple[Tensor, Tensor]:
    """Degrees 1 … d of the inputs, in another order, and some of 1 … d − 1 for the hidden units."""
    d, h = random.sizes(2)
    return random.normal(d).argsort() + 1, random.uniform(1, d, h).long()


def in_natural_order(student: Student, random: Random) -> None:
    inputs, hidden = _degrees(random)
    _masks(student, inputs.sort().values, hidden)


def in_any_order(student: Student, random: Random) -> None:
    _masks(student, *_degrees(random))
