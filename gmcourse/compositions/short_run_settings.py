r"""The thesis' short-run models with its own settings: section 5.5.3 and Table 5.2.

    swiss_roll, gaussian_grid9    5 layers of 256, swish; gradient flow to T = 0.2 by dopri5 at tolerance 1e-5
    mnist, fashion_mnist          Table 5.2 with nf = 32, images brought to 32 × 32; η = 0.1, K = 40
    cifar10                       Table 5.2 with nf = 64, 32 × 32; η = 0.1, K = 60
    celeba                        Table 5.2 with nf = 32, 64 × 64; η = 0.1, K = 60

    "free"           no noise on the way, (5.5) or (5.8); trained by (5.1)
    "noisy"          σ = 0.1 on the way, (5.3); trained by (5.1); images only
    "adversarial"    no noise; trained by (5.14), the generator's loss at weight 1; images only
    "likelihood"     the flow by maximum likelihood, (5.7); in the plane only

All start at N(0, I), without a buffer, and are trained by Adam at a constant rate. The source leaves open, and chosen here
are: Adam's β, PyTorch's own; the padding of the convolutions, 1; that "noise scale 0.1" is the σ in front of u, where (5.3)
has √η = 0.32, so that the temperature is 0.1; that η is the one of (5.3), with drift η/2; that five layers are five hidden
ones and one to the scalar. It names no noise on the data, no penalty of the energy, no averaged weights, and no range of
the images ([−1, 1] is the course's). Its noisy trainings go on until they diverge, so that their number of steps is a bound:
train them within `KeepBest`. Steps and step of the noisy chains in the plane (Fig. 5.4) are not given: they are not here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gmcourse.compositions.dynamics import Dynamics, GradientFlow, Langevin
from gmcourse.compositions.self_contrast import SelfContrast, exact_likelihood
from gmcourse.compositions.short_run import Objective, ShortRun
from gmcourse.ebm.energy import mlp_energy
from gmcourse.ebm.images import TABLE_5_2, conv_energy
from gmcourse.model import check_count

STEP, NOISE = 0.1, 0.1  # η and, where there is any, σ
TIME, TOLERANCE = 0.2, 1e-5
HIDDEN = (256,) * 5


@dataclass(frozen=True)
class Setting:
    """One column of the section.

    Args:
        shape: of one datum.
        widths: of the energy's hidden layers, or channels of its convolutions.
        steps: K; None for the gradient flow.
        lr, batch_size, iterations: of the training.
    """

    shape: tuple[int, ...]
    widths: Sequence[int]
    steps: int | None
    lr: float
    batch_size: int
    iterations: int

    @property
    def kinds(self) -> tuple[str, ...]:
        """What the section does with it."""
        return ("free", "likelihood") if self.steps is None else ("free", "noisy", "adversarial")


GREY, COLOUR, FACES = (1, 32, 32), (3, 32, 32), (3, 64, 64)
PLANE = Setting((2,), HIDDEN, None, 1e-3, 800, 3000)

SETTINGS = {
    "swiss_roll": PLANE,
    "gaussian_grid9": PLANE,
    "mnist": Setting(GREY, TABLE_5_2["mnist"], 40, 5e-4, 64, 8000),
    "fashion_mnist": Setting(GREY, TABLE_5_2["mnist"], 40, 5e-4, 64, 8000),
    "cifar10": Setting(COLOUR, TABLE_5_2["cifar10"], 60, 5e-4, 64, 40_000),
    "celeba": Setting(FACES, TABLE_5_2["celeba"], 60, 5e-4, 64, 30_000),
}


def short_run(name: str, dynamics: str = "free", *, shrink: int = 1, steps: int | None = None) -> ShortRun:
    """The short-run model of this name, untrained; thesis 5.5.3.

    Args:
        dynamics: "free", "noisy" or "adversarial" for images, "free" or "likelihood" in the plane, see above.
        shrink: what all widths are divided by, for a small machine.
        steps: K of the images, if not the thesis'.

    Raises ValueError for another name, or dynamics that the thesis has not got there.

    >>> short_run("mnist", "noisy", shrink=8, steps=2).sample(2).shape
    torch.Size([2, 1, 32, 32])
    """
    row = setting(name)
    if dynamics not in row.kinds:
        raise ValueError(f"dynamics must be one of {', '.join(row.kinds)} for {name!r}; got {dynamics!r}")
    widths = [max(1, width // check_count(shrink, "shrink")) for width in row.widths]
    energy = mlp_energy(row.shape, widths) if row.steps is None else conv_energy(row.shape, widths)
    return ShortRun(energy, _way(row, dynamics, steps), event_shape=row.shape, objective=_objective(dynamics))


def fit_settings(name: str) -> dict:
    """Keyword arguments of `fit`: Adam's rate, the batch, the number of steps.

    >>> fit_settings("mnist")
    {'lr': 0.0005, 'batch_size': 64, 'steps': 8000}
    """
    row = setting(name)
    return {"lr": row.lr, "batch_size": row.batch_size, "steps": row.iterations}


def setting(name: str) -> Setting:
    """The row of this name; ValueError lists the names there are."""
    if name not in SETTINGS:
        raise ValueError(f"name must be one of {', '.join(SETTINGS)}; got {name!r}")
    return SETTINGS[name]


def _way(row: Setting, kind: str, steps: int | None) -> Dynamics:
    if row.steps is None:
        if steps is not None:
            raise ValueError(f"steps must be None where a solver chooses its own; got {steps}")
        return GradientFlow(TIME, solver="dopri5", tolerance=TOLERANCE)
    return Langevin(row.steps if steps is None else steps, STEP, NOISE if kind == "noisy" else 0.0)


def _objective(kind: str) -> Objective:
    return exact_likelihood if kind == "likelihood" else SelfContrast(1.0 if kind == "adversarial" else 0.0)
