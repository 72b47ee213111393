"""A Metropolis step that carries chains from basin to basin: its proposal is fresh noise of the base."""

from dataclasses import replace

import torch
from torch import Tensor

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Answer, Student


def fresh_noise(eps: Tensor, fresh: Tensor, e_here: Tensor, e_there: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """The new ε (n, D), and who has jumped, bool (n,): with probability min(1, e^{E(x) − E(x')}).

    eps, fresh (n, D); energies where they lead and u, uniform on [0, 1), (n,). Both noises are N(0, I), so that their
    densities cancel against the proposal's.
    """
    jumps = u < torch.exp(torch.minimum(e_here - e_there, torch.zeros_like(u)))
    return torch.stack([b if jump else a for a, b, jump in zip(eps, fresh, jumps, strict=True)]), jumps


def _suspected(inputs: dict) -> list[tuple[str, Tensor]]:
    """What typical mistakes would decide, bool (n,)."""
    eps, fresh, here, there, u = inputs.values()
    gain, log_u, every = here - there, u.log(), torch.ones_like(u, dtype=torch.bool)
    closer = (eps.square().sum(1) - fresh.square().sum(1)) / 2
    cancel = "½‖ε‖² is in it: proposal and law have the same Gaussian, what is left of it in the ratio?"
    return [
        ("a quotient of two numbers that round to 0, or are too large for a float: what can be subtracted before?",
         u < (-there).exp() / (-here).exp()),
        ("the sign of the energies: chains jump up here, and stay where E is high", log_u < -gain),
        ("those are the chains that should stay: with which probability is u below a number?", log_u >= gain),
        (cancel, log_u < gain + closer),
        (cancel, log_u < gain - closer),
        ("that is greedy: where E is a little higher a jump must be possible", gain > 0),
        ("that is greedy the wrong way: chains jump up here, and never down", gain < 0),
        ("all of them jump, which draws from the base: does each chain decide for itself?", every),
        ("nobody jumps, but a jump down is sure: does each chain decide for itself?", ~every),
        ("e is missing, or the logarithm: a probability is compared with a difference of energies", u < gain),
        ("that ratio is of energies: it is e to the −E that is a density", u < here / there),
        ("that ratio is of energies: it is e to the −E that is a density", u < there / here),
        ("half a difference decides: E is minus a logarithm as it stands", log_u < gain / 2),
        ("twice a difference decides: E is minus a logarithm as it stands", log_u < 2 * gain),
        ("that is Barker's rule: it keeps the law, too, but jumps less than it might", u < gain.sigmoid()),
        ("one u for all of them: each chain decides for itself", log_u[0] < gain),
        ("one decision for all of them: each chain has an energy of its own", (log_u < gain.mean()).expand_as(u)),
        ("one decision for all of them: each chain has an energy of its own", (log_u < gain.sum()).expand_as(u)),
        ("what u says is turned round: a jump that is sure has every u for it", 1 - u < gain.exp()),
        ("the old energy is not asked: a Metropolis step compares two of them", log_u < -there),
    ]  # fmt: skip


def _inputs(random: Random, offset: float) -> dict:
    """Chains enough that no two rules decide alike, two of them with far more to lose, or to win."""
    d, n = random.sizes(1)[0], 60
    e_here, e_there = (1.5 * random.normal(n) + offset for _ in range(2))
    e_there[:2] += torch.tensor([2000.0, -2000.0], dtype=torch.float64)
    eps, fresh = random.normal(n, d), random.normal(n, d)
    return {"eps": eps, "fresh": fresh, "e_here": e_here, "e_there": e_there, "u": random.uniform(0, 1, n)}


def _mask(answer: Answer) -> Answer:
    """The same answer with 0 and 1 for False and True."""
    if isinstance(answer.value, Tensor) and answer.value.dtype == torch.bool:
        return replace(answer, value=answer.value.double(), again=lambda: _mask(answer.again()))
    return answer


def who_jumps(student: Student, random: Random) -> None:
    for offset in (0.0, 1000.0, -1000.0):
        inputs = _inputs(random, offset)
        _, jumped = student(**inputs).parts("new ε", "who has jumped")
        suspects = [(told, decided.double()) for told, decided in _suspected(inputs)]
        hint = "a jump down is sure, a jump up has probability e to minus what it costs: is u below that?"
        if offset:
            hint += " The energies are large here, their difference is not"
        _mask(jumped).should_be(fresh_noise(**inputs)[1].double(), hint, suspects)


def where_to(student: Student, random: Random) -> None:
    for offset in (0.0, 1000.0, -1000.0):
        inputs = _inputs(random, offset)
        eps, fresh = inputs["eps"], inputs["fresh"]
        want, jumps = fresh_noise(**inputs)
        moved, _ = student(**inputs).parts("new ε", "who has jumped")
        suspects = [
            ("who jumps keeps his noise here, who stays gets the fresh one", torch.where(jumps[:, None], eps, fresh)),
            ("the fresh noise is added: it is to replace the old one", eps + jumps[:, None] * fresh),
            ("those who stay have lost their noise: where is a chain that has not jumped?", jumps[:, None] * fresh),
            ("those who jumped have lost their noise: where are they now?", ~jumps[:, None] * eps),
            ("both noises are mixed: a chain is at one of the two", (eps + fresh) / 2),
        ]
        suspects += [(told, torch.where(decided[:, None], fresh, eps)) for told, decided in _suspected(inputs)]
        moved.should_be(want, "who jumps has the fresh noise now, all of it, who does not has the old", suspects)
