"""Why joint training is hard: log Z hangs on the base, too, thesis (4.13), (4.15) and (4.16)."""

from dataclasses import replace

import torch
from torch import Tensor

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Answer, Student


def joint_loss(e_data: Tensor, log_q_data: Tensor, e_model: Tensor, log_q_model: Tensor) -> Tensor:
    """A number with the gradient of −log p(data), for weights of energy and base; thesis (4.13), (4.15).

    E and log q at data (n,), and at draws of the tilted law (m,). −log p is E − log q + log Z, a model with one energy
    E − log q, and its negatives are draws of itself.
    """
    pull, push = (torch.stack((e, -log_q)).sum(0) for e, log_q in ((e_data, log_q_data), (e_model, log_q_model)))
    return pull.sum() / len(pull) - push.sum() / len(push)


def _draws(random: Random) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor, Tensor]]]:
    """Arguments, and for energy and base their weights and the gradients at each datum and each draw."""
    n, m, p, k = random.sizes(4)
    parts = {}
    for name, size in (("energy", p), ("base", k)):
        parts[name] = (random.normal(size).requires_grad_(), random.normal(n, size), 0.5 + random.normal(m, size))
    (theta, e_data, e_model), (phi, q_data, q_model) = parts.values()
    inputs = {"e_data": e_data @ theta, "log_q_data": q_data @ phi, "e_model": e_model @ theta, "log_q_model": q_model @ phi}
    return inputs, parts


def _gradient(student: Student, weights: Tensor, name: str, inputs: dict) -> Answer:
    answer = student.gradient(weights, torch.Size(()), **inputs)
    return replace(answer, part=f"gradient of the {name}", again=lambda: _gradient(student, weights, name, inputs))


def energy_learns(student: Student, random: Random) -> None:
    inputs, parts = _draws(random)
    theta, at_data, at_model = parts["energy"]
    pull, push, n, m = at_data.mean(0), at_model.mean(0), len(at_data), len(at_model)
    w = (-inputs["e_model"]).softmax(0).detach()
    suspects = [
        ("pull and push are exchanged: whose energy should fall?", push - pull),
        ("pull and push are added: log Z falls where the draws' energies rise", pull + push),
        ("the draws are missing: log Z hangs on the energy", pull),
        ("only the draws have a gradient: the data's energies must keep theirs", -push),
        ("energies are summed up: what would a batch of another size give?", n * pull - m * push),
        ("the data's energies are summed up: what would a batch of another size give?", n * pull - push),
        ("the draws are weighted: they come from the tilted law already, not from the base", pull - w @ at_model),
        ("half of it? The gradient has to be that of −log p", (pull - push) / 2),
        ("here the gradients of E are wanted, not those of e to the −E",
         pull - (-inputs["e_model"]).exp().detach() @ at_model / m),
    ]  # fmt: skip
    hint = "as in (4.17): down at the data, up at the model's draws, in the mean over each"
    _gradient(student, theta, "energy", inputs).should_be(pull - push, hint, suspects)


def base_learns(student: Student, random: Random) -> None:
    inputs, parts = _draws(random)
    phi, at_data, at_model = parts["base"]
    data, model, n, m = at_data.mean(0), at_model.mean(0), len(at_data), len(at_model)
    w = (-inputs["e_model"]).softmax(0).detach()
    suspects = [
        ("that is plain maximum likelihood of the base, the first of two stages: log Z hangs on the base, too", -data),
        ("the sign is turned round: the base should find the data likely", data - model),
        ("both fall, or both rise: which sign has (4.15) in −log p?", -data - model),
        ("both fall, or both rise: which sign has (4.15) in −log p?", data + model),
        ("only log Z is there: the base should find the data likely, too", model),
        ("only log Z is there, with the wrong sign; and the base should find the data likely, too", -model),
        ("they are summed up: what would a batch of another size give?", m * model - n * data),
        ("the data's are summed up: what would a batch of another size give?", model - n * data),
        ("the draws are weighted: they come from the tilted law already, not from the base", w @ at_model - data),
        ("that is the logarithm of a mean density of the draws: log Z hangs on the base by their mean log q",
         inputs["log_q_model"].softmax(0).detach() @ at_model - data),
        ("half of it? The gradient has to be that of −log p", (model - data) / 2),
    ]  # fmt: skip
    hint = "−log p has minus log q at the data, and log Z, whose gradient for the base is (4.15)'s second: a mean over what?"
    _gradient(student, phi, "base", inputs).should_be(model - data, hint, suspects)
