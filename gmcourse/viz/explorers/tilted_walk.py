r"""Chains of a tilted base of images, step by step: what a walk in the noise does to a picture (thesis 4.3).

    ε' = ε − (η/2) ∇[λE(push(ε)) + ½‖ε‖²] + √η ω,    shown: push(ε) and E(push(ε))            thesis (4.10)

All is walked before it is shown; a move only picks. A chain of λ = 0 wanders through the base: its pictures change, and all
are the base's. With λ = 1 the energy falls to where the data's is, and there it stays.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.collections import LineCollection
from torch import Tensor

from gmcourse.model import check_count
from gmcourse.sampling.sampler import Sampler
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, Slider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.mosaic import mosaic_array

COLUMNS, GAP = 3, 5  # pairs in a row, white pixels between them


class Walk(NamedTuple):
    """A recorded walk: images (steps + 1, chains, c, h, w) in [−1, 1], energies (steps + 1, chains) in nats."""

    images: Tensor
    energies: Tensor


@torch.no_grad()
def recorded(
    sampler: Sampler,
    eps: Tensor,
    steps: int,
    show: Callable[[Tensor], Tensor],
    energy: Callable[[Tensor], Tensor],
    *,
    every: int = 1,
    generator: torch.Generator | None = None,
) -> Walk:
    """Walk from noise eps (chains, D) and record every `every`-th of `steps` steps, beginning with the start.

    Args:
        sampler: of the noise, e.g. `ULA(noise_energy(base, energy), step=0.01)`.
        show: ε (chains, D) -> the images to look at, (chains, c, h, w), e.g. `tilted.show`.
        energy: ε (chains, D) -> E(push(ε)), (chains,), in nats.

    Raises what the sampler raises, FloatingPointError for chains that diverge.
    """
    path = sampler.trace(eps, check_count(steps, "steps"), every=every, generator=generator).x
    seen = [(show(at).float().cpu(), energy(at).float().cpu()) for at in (eps, *path)]
    return Walk(*(torch.stack(parts) for parts in zip(*seen, strict=True)))


def pairs(began: Tensor, now: Tensor) -> np.ndarray:
    """Images of chains (n, c, h, w), each where it began and, to the right, where it is, as one uint8 array."""
    side = torch.ones_like(now[..., :1])
    both = torch.cat((began, side, now, side.expand(*side.shape[:-1], GAP)), -1)
    return mosaic_array(both, COLUMNS)[:, : COLUMNS * (both.shape[-1] + 1) - 1 - GAP]


def tilted_walk(
    walks: Mapping[Hashable, Walk],
    *,
    label: str = "tilt λ",
    every: int = 1,
    data: Tensor | None = None,
) -> Explorer:
    """Follow chains on images, for several settings: each picture beside the one it began as, and its energy.

    Args:
        walks: by setting, all of one shape; see `recorded`.
        label: what the settings are.
        every: steps between two of the recorded.
        data: energies of data (n,), shown as a band, the middle 90 % of them.

    Raises ValueError without a walk, for walks of other shapes, or energies that belong to other images.

    >>> walk = Walk(torch.zeros(11, 6, 1, 8, 8), torch.zeros(11, 6))
    >>> tilted_walk({0: walk, 1: walk}).values
    {'setting': 0, 'step': 10}
    """
    shape = _checked(walks)
    steps = shape[0] - 1
    frames = {name: walk.images.nan_to_num().clamp(-1, 1) for name, walk in walks.items()}
    heights = {name: walk.energies.numpy() for name, walk in walks.items()}
    time = every * np.arange(steps + 1)
    lines = {name: [np.column_stack((time, e)) for e in energies.T] for name, energies in heights.items()}
    band = None if data is None else data.detach().float().cpu().quantile(torch.tensor([0.05, 0.95])).tolist()
    limits = _limits(np.concatenate([e.ravel() for e in heights.values()]), band)

    height, width = pairs(*next(iter(frames.values()))[:2]).shape[:2]

    def compute(setting, step):
        return pairs(frames[setting][0], frames[setting][step]), lines[setting], heights[setting], step

    def backdrop(axes):
        grid = axes[0].figure.add_gridspec(1, 2, width_ratios=(1.25, 1))
        for k, panel in enumerate(axes):
            panel.set_subplotspec(grid[0, k])
        axes[0].set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=[], yticks=[], title="began, and now")
        for spine in axes[0].spines.values():
            spine.set_visible(False)
        axes[1].set(xlim=(0, time[-1]), ylim=limits, xlabel="step", ylabel="E(x) in nats", title=" ")
        if band is not None:
            axes[1].axhspan(*band, color=style.BLUE, alpha=0.15, linewidth=0)
            axes[1].text(1, 1.03, "data", color=style.BLUE, ha="right", fontsize=12, transform=axes[1].transAxes)

    def draw(axes, drawn):
        picture, paths, energies, step = drawn
        colours = np.broadcast_to(np.atleast_3d(picture), (height, width, 3))
        axes[0].imshow(colours, interpolation="nearest", extent=(0, width, height, 0))
        axes[1].add_collection(LineCollection(paths, colors="0.7", linewidths=0.8), autolim=False)
        axes[1].plot(time, energies.mean(1), color=style.INK)
        axes[1].axvline(time[step], color=style.VERMILION, linewidth=1)
        axes[1].plot(np.full(energies.shape[1], time[step]), energies[step], ".", color=style.VERMILION, markersize=8)
        words = f"after {time[step]} steps: {energies[step].mean():z.1f} nats".replace("-", "−")
        axes[1].text(0, 1.03, words, transform=axes[1].transAxes, fontsize=12)

    return Explorer(
        compute,
        draw,
        {
            "setting": Choice(tuple(walks), label=label, buttons=True),
            "step": Slider(0, steps, 1, steps, label="step" if every == 1 else f"step / {every}"),
        },
        backdrop=backdrop,
        panels=(1, 2),
        size=(10.0, 4.4),
        caption="Left: pairs, where a chain began and where it is now. Right: the energy of each chain (grey), their mean "
        "(black), and where they are now (orange)" + ("." if data is None else "; blue, where 90 % of the data are."),
    )


def _checked(walks: Mapping[Hashable, Walk]) -> tuple[int, ...]:
    """The shape of the images of all walks."""
    if not walks:
        raise ValueError("walks must hold at least one walk; got none")
    shape = tuple(next(iter(walks.values())).images.shape)
    if len(shape) != 5 or shape[0] < 2 or shape[2] not in (1, 3):
        raise ValueError(f"images must have shape (steps + 1, chains, 1 or 3, h, w), of a step or more; got {shape}")
    for name, (images, energies) in walks.items():
        if tuple(images.shape) != shape:
            raise ValueError(f"walks must all have images of shape {shape}; got {tuple(images.shape)} for {name!r}")
        if tuple(energies.shape) != shape[:2]:
            raise ValueError(f"energies must have shape {shape[:2]}; got {tuple(energies.shape)} for {name!r}")
    return shape


def _limits(energies: np.ndarray, band: list[float] | None) -> tuple[float, float]:
    """What holds 99 % of the energies, and the data's, with a margin."""
    seen = energies[np.isfinite(energies)]
    low, high = np.quantile(seen, (0.005, 0.995)) if len(seen) else (0.0, 1.0)
    if band is not None:
        low, high = min(low, band[0]), max(high, band[1])
    margin = 0.06 * max(high - low, 1e-3)
    return float(low - margin), float(high + margin)
