"""Ready-made flows whose layers take any form: planar, radial, Sylvester, residual and continuous."""

from collections.abc import Callable, Sequence
from math import prod

from gmcourse.flows.continuous import FIXED, Continuous
from gmcourse.flows.flow import Flow
from gmcourse.flows.inverted import Inverted
from gmcourse.flows.layer import Chain, Layer
from gmcourse.flows.linear import ActNorm
from gmcourse.flows.lipschitz import LipschitzMLP
from gmcourse.flows.planar import Planar
from gmcourse.flows.radial import Radial
from gmcourse.flows.residual import Residual
from gmcourse.flows.sylvester import Sylvester
from gmcourse.flows.velocity import Velocity
from gmcourse.model import StandardNormal, check_count

STAGES = {"euler": 1, "midpoint": 2, "rk4": 4}  # evaluations per step


def planar_flow(
    event_shape: Sequence[int] = (2,), *, layers: int = 32, cheap: str = "density", context: int = 0
) -> Flow:
    """Planar layers, slides (7).

    Args:
        cheap: "density" for maximum likelihood, or "sampling" for the reverse KL and posteriors; the other one solves.

    >>> planar_flow().sample(3).shape
    torch.Size([3, 2])
    """
    dim = _dim(event_shape)
    return _stack(event_shape, layers, lambda i: Planar(dim, context=context), cheap, context)


def radial_flow(event_shape: Sequence[int] = (2,), *, layers: int = 32, context: int = 0) -> Flow:
    """Radial layers, slides (10)."""
    dim = _dim(event_shape)
    return _stack(event_shape, layers, lambda i: Radial(dim, context=context), "density", context)


def sylvester_flow(
    event_shape: Sequence[int] = (2,),
    *,
    layers: int = 16,
    rank: int | None = None,
    kind: str = "orthogonal",
    cheap: str = "density",
    context: int = 0,
) -> Flow:
    """Sylvester layers of one kind, slides (9); `cheap` as for `planar_flow`, `rank` and `kind` as for `Sylvester`."""
    dim = _dim(event_shape)

    def layer(i: int) -> Layer:
        return Sylvester(dim, rank, kind=kind, flip=kind == "triangular" and i % 2 == 1, context=context)

    return _stack(event_shape, layers, layer, cheap, context)


def residual_flow(
    event_shape: Sequence[int] = (2,),
    *,
    layers: int = 16,
    hidden: Sequence[int] = (64,),
    lipschitz: float = 0.97,
    log_det: str | None = None,
    context: int = 0,
    **options,
) -> Flow:
    """Residual blocks, slides (14), each behind an ActNorm: what contracts cannot rescale by much.

    Args:
        layers, hidden: many blocks of one hidden layer do better than few deep ones, which share c among their layers.
        lipschitz: bound c of each block.
        log_det: as for `Residual`; None is "exact" up to 4 dimensions, "roulette" above. With any other than "exact" the
            contributions, and so log_prob, are truncated or random: set it to "exact" before a number is reported.
        options: go to `Residual`.
    """
    _check_axes(event_shape)
    log_det = log_det or ("exact" if prod(event_shape) <= 4 else "roulette")

    def layer(i: int) -> Layer:
        net = LipschitzMLP(event_shape, hidden, lipschitz=lipschitz, context=context)
        return Chain(ActNorm(event_shape[0]), Residual(net, log_det=log_det, **options))

    return _stack(event_shape, layers, layer, "density", context)


def ffjord(
    event_shape: Sequence[int] = (2,),
    *,
    hidden: Sequence[int] = (48, 48, 48),
    input_scale: float = 3.0,
    solver: str = "rk4",
    steps: int = 4,
    trace: str | None = None,
    context: int = 0,
    **options,
) -> Flow:
    """One continuous layer, slides (17); its `nfe` is that of a fixed-step solve, or 0 for "it depends".

    Training may learn to exploit a coarse solver: compare `log_prob` with that of an adaptive one before believing it
    (set `flow.chain.layers[0].solver = "dopri5"`).

    Args:
        trace: "exact" or "hutchinson"; None is "exact" up to 4 dimensions.
        options: go to `Continuous`.
    """
    _check_axes(event_shape)
    field = Velocity(event_shape, hidden, context=context, input_scale=input_scale)
    trace = trace or ("exact" if prod(event_shape) <= 4 else "hutchinson")
    flow = _stack(
        event_shape, 1, lambda i: Continuous(field, solver=solver, steps=steps, trace=trace, **options), "density", context
    )
    flow.nfe = steps * STAGES[solver] if solver in FIXED else 0
    return flow


def _stack(event_shape: Sequence[int], count: int, layer: Callable[[int], Layer], cheap: str, context: int) -> Flow:
    if cheap not in ("density", "sampling"):
        raise ValueError(f"cheap must be 'density' or 'sampling'; got {cheap!r}")
    layers = [layer(i) for i in range(check_count(count, "layers"))]
    if cheap == "sampling":
        layers = [Inverted(one) for one in layers]
    return Flow(StandardNormal(event_shape), layers, context=context)


def _check_axes(event_shape: Sequence[int]) -> None:
    """Raise ValueError for the shape of single numbers, ()."""
    if not len(event_shape):
        raise ValueError(f"event_shape must have at least one axis; got {tuple(event_shape)}")


def _dim(event_shape: Sequence[int]) -> int:
    if len(event_shape) != 1:
        raise ValueError(f"event_shape must be (d,): these layers act on vectors; got {tuple(event_shape)}")
    return event_shape[0]
