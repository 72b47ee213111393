"""How long a step of Langevin dynamics may be: the stiffest direction of ε decides, thesis 4.3.3."""

import torch
from torch import Tensor
from torch.autograd.functional import hessian

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def largest_step(jacobian: Tensor, curvature: Tensor) -> float:
    """The η below which Langevin on E(push(ε)) + ½‖ε‖² is stable, a number.

    push is linear about ε with Jacobian (d, D), E is quadratic with Hessian (d, d). The step is where the map
    ε -> ε − η/2 ∇U(ε) first turns one direction onto its own negative.
    """

    def energy(eps: Tensor) -> Tensor:
        x = jacobian @ eps
        return x @ curvature @ x / 2 + eps @ eps / 2

    whole = hessian(energy, jacobian.new_zeros(jacobian.shape[1]))
    return float(4 / torch.linalg.eigvals(whole).real.max())


def _steepest(matrix: Tensor) -> Tensor:
    return torch.linalg.eigvalsh((matrix + matrix.mT) / 2)[-1]


def _step(student: Student, jacobian: Tensor, curvature: Tensor, hint: str) -> None:
    want = torch.tensor(largest_step(jacobian, curvature), dtype=jacobian.dtype)
    pulled = jacobian.mT @ curvature @ jacobian
    one = torch.eye(len(pulled), dtype=pulled.dtype)
    whole, top, length = one + pulled, _steepest(pulled), torch.linalg.matrix_norm
    bends = torch.linalg.eigvalsh(whole)
    suspects = [
        ("with that step the stiffest direction is at its bottom at once, for the drift is η/2: how much longer may it be?",
         want / 2),
        ("with that step even the stiffest direction goes half of the way to its bottom: how much longer may it be?",
         want / 4),
        ("with that step chains fly apart: at which η is 1 − ηλ/2 equal to −1?", 2 * want),
        ("that is the curvature: the longest step is long where it is small", 4 / want),
        ("that grows with the curvature: may one step farther where it is stiff?", 16 / want),
        ("the curvature of ½‖ε‖² is missing: without E there is still a bound", 4 / top),
        ("the curvature of ½‖ε‖² is subtracted: it is a valley, too", 4 / _steepest(pulled - one)),
        ("a root of the curvature is one over a width: it is the curvature itself that limits η",
         4 / _steepest(whole).sqrt()),
        ("the curvature is squared: it stands once in the drift", 4 / _steepest(whole).square()),
        ("the base's stretch is missing: by push, a length in ε is another in x", 4 / (1 + _steepest(curvature))),
        ("the curvature of E is missing", 4 / (1 + _steepest(jacobian.mT @ jacobian))),
        ("the curvature of E divides: is a narrow mode stiff, or soft?",
         4 / (1 + _steepest(jacobian.mT @ torch.linalg.pinv(curvature) @ jacobian))),
        ("a stretch by s makes curvatures s squared as large, not s", 4 / (1 + top.clamp_min(0).sqrt())),
        ("a stretch by s makes curvatures s squared as large, not s",
         4 / (1 + length(jacobian, 2) * _steepest(curvature))),
        ("a product of two norms is a bound that is too careful: the stiffest direction of x need not be the most stretched",
         4 / (1 + length(jacobian, 2) ** 2 * _steepest(curvature))),
        ("a product of two norms is a bound that is too careful: the stiffest direction of x need not be the most stretched",
         4 / (1 + length(jacobian, 2) ** 2 * length(curvature, 2))),
        ("a hill of E is no valley: the largest curvature is wanted, not the largest in absolute value",
         4 / (1 + length(pulled, 2))),
        ("that is the softest direction: which one diverges first?", 4 / bends[0]),
        ("the curvatures are added up: one direction alone decides", 4 / bends.sum()),
        ("that is the mean curvature: the stiffest direction decides", 4 / bends.mean()),
        ("that is a root of summed squares: one direction alone decides", 4 / length(whole)),
        ("only the diagonal is looked at: the stiffest direction may lie askew", 4 / whole.diagonal().max()),
        ("that is the largest entry: the stiffest direction may lie askew", 4 / whole.max()),
        ("that is a sum of absolute entries, a bound that is too careful", 4 / whole.abs().sum(1).max()),
        ("1 is added to every entry: which matrix is the curvature of ½‖ε‖²?", 4 / _steepest(1 + pulled)),
    ]  # fmt: skip
    student(jacobian=jacobian, curvature=curvature).should_be(want, hint, suspects)


def at_a_mode(student: Student, random: Random) -> None:
    """push stretches by s in all directions, and E is a mode of width σ: 4/(1 + s²/σ²)."""
    d, extra = random.sizes(2)
    s, sigma = float(random.uniform(1.5, 3)), float(random.uniform(0.1, 0.5))
    stretch = s * torch.linalg.qr(random.normal(d + extra, d)).Q.mT
    curvature = torch.eye(d, dtype=torch.float64) / sigma**2
    _step(student, stretch, curvature, "one stretch s, one width σ: how much narrower is the mode, seen from ε?")


def where_energies_bend(student: Student, random: Random) -> None:
    """An energy stiff in some directions and hilly in others; then one so gentle that a hill is its largest bend."""
    d, extra = random.sizes(2)
    hint = "the curvature of E(push(ε)) by the chain rule, and that of ½‖ε‖²: what is their sum's largest eigenvalue?"
    for low, high in ((-0.9, 30.0), (-0.9, 0.5)):
        stretch, turn = random.normal(d, d + extra), torch.linalg.qr(random.normal(d, d)).Q
        root = torch.linalg.inv(torch.linalg.cholesky(stretch @ stretch.mT))
        bends = torch.linspace(low, high, d, dtype=torch.float64).diag()
        _step(student, stretch, root.mT @ turn @ bends @ turn.mT @ root, hint)
