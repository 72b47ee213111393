r"""An energy while it learns: the landscape, the particles that sample it, and what training does to both (thesis Fig. 2.2).

    ∇_θ E[log p(x)] = −E_data[∇_θ E] + E_particles[∇_θ E]                                                thesis (2.38)
    x ← x − (η/2) ∇E(x) + √(ηT) ω                                                          Langevin, thesis (2.39), α = η/2

Each step pushes the landscape down under the data and up under the particles, until both lie equally high. The particles
of every snapshot walk with the same noise ω from the same places, so that only the landscape makes the difference.

In the plane log Z is a sum over the window, so that the density e^{−E/T}/Z and the log-likelihood of the data are known.
Particles that have not had time to reach it are another law, and an energy that was trained with few
steps is good for just those.
"""

import copy
import math
from collections.abc import Callable, Mapping
from operator import attrgetter

import numpy as np
import torch
from torch import Tensor, nn

from gmcourse.sampling import ULA
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, Slider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.plane import Extent, around, extent_of, on_grid
from gmcourse.viz.plots import draw_density

RESOLUTION, PARTICLES, SHOWN = 96, 200, 150
FALL = 10.0  # nats below the best likelihood that are shown
DEPTH = 8  # nats above the lowest point that are shown, a band of colour each
BANDS = style.DENSITY(np.linspace(0.5, 0.0, DEPTH + 1), bytes=True)
Energy = Callable[[Tensor], Tensor]


class Snapshots:
    """A callback for `fit` that keeps the energy as it was, as {step: energy}, for `ebm_landscape`.

    Args:
        every: steps between two snapshots.
        energy: what to keep of the model, x (n, 2) -> (n,); its `energy` unless told otherwise.

    >>> snapshots = Snapshots(every=50)
    >>> # fit(model, data, callback=snapshots, ...); ebm_landscape(snapshots.energies, data, step=0.01)
    """

    def __init__(self, every: int = 50, energy: Callable[[nn.Module], Energy] = attrgetter("energy")):
        self.every, self.energy = every, energy
        self.energies: dict[int, Energy] = {}

    def __call__(self, step: int, model: nn.Module) -> None:
        if step % self.every == 0:
            kept = copy.deepcopy(self.energy(model))
            self.energies[step] = kept.eval().cpu() if isinstance(kept, nn.Module) else kept


class Scene:
    """One snapshot: energies and log-densities (r, r) over the window, and paths of particles by where they start.

    Attributes:
        energies: E at the cells of the window, lowest y first; log_density: −E/T − log Z there.
        log_prob: its mean over the data in nats; data: mean E of the data.
        paths: {start: positions (steps + 1, n, 2)}; heights: {start: mean E (steps + 1,)}.
    """

    def __init__(self, energy: Energy, data: Tensor, starts: Mapping[str, Tensor], extent: Extent, walk: dict):
        self.energies = on_grid(energy, extent, RESOLUTION)
        cell = (extent[1] - extent[0]) * (extent[3] - extent[2]) / RESOLUTION**2
        log_f = -self.energies / walk["temperature"]
        log_z = float(log_f.flatten().logsumexp(0)) + math.log(cell)
        self.log_density, self.data = log_f - log_z, float(energy(data).mean())
        self.log_prob = -self.data / walk["temperature"] - log_z
        path = walked(energy, torch.cat(list(starts.values())), **walk)
        heights = energy(path.flatten(0, 1)).unflatten(0, path.shape[:2])
        sizes = [len(x) for x in starts.values()]
        self.paths = dict(zip(starts, (part.numpy() for part in path.split(sizes, 1)), strict=True))
        self.heights = dict(zip(starts, (part.mean(1).numpy() for part in heights.split(sizes, 1)), strict=True))


def walked(energy: Energy, x: Tensor, *, step: float, steps: int, temperature: float, seed: int) -> Tensor:
    """Where Langevin particles from x (n, 2) are after 0 … `steps` steps, (steps + 1, n, 2); they may run away."""
    sampler = ULA(energy, step=step, temperature=temperature)
    generator = torch.Generator().manual_seed(seed)
    state = sampler.start(x)
    points = [state.x]
    for _ in range(steps):
        state = sampler.step(state, generator)
        points.append(state.x)
    return torch.stack(points)


@torch.no_grad()
def ebm_landscape(
    snapshots: Mapping[int, Energy],
    data: Tensor,
    *,
    step: float,
    steps: int = 60,
    temperature: float = 1.0,
    extent: Extent | None = None,
    seed: int = 0,
) -> Explorer:
    """Scrub through the training of an energy on the plane: landscape, particles, density, likelihood.

    Args:
        snapshots: energies by training step, x (n, 2) -> (n,), on the CPU; see `Snapshots`.
        data: (n, 2).
        step, steps, temperature: η, the most steps, and T of the particles: those of the training, to see what it saw.
        extent: the window, over which p is normalised; by default around the data, half as wide again.

    Raises:
        ValueError: fewer than two snapshots, or data of another shape.
    """
    if len(snapshots) < 2:
        raise ValueError(f"snapshots must hold at least two energies; got {len(snapshots)}")
    if data.ndim != 2 or data.shape[1] != 2:
        raise ValueError(f"data must have shape (n, 2); got {tuple(data.shape)}")
    data = data.detach().float().cpu()
    extent = _window(data) if extent is None else extent_of(None, extent)
    generator = torch.Generator().manual_seed(seed)
    low, high = torch.tensor(extent[::2]), torch.tensor(extent[1::2])
    starts = {
        "noise": low + (high - low) * torch.rand(PARTICLES, 2, generator=generator),
        "data": data[torch.randint(len(data), (PARTICLES,), generator=generator)],
    }
    walk = {"step": step, "steps": steps, "temperature": temperature, "seed": seed}
    times = sorted(snapshots)
    scenes = [Scene(snapshots[time], data, starts, extent, walk) for time in times]
    curve, shown = np.array([scene.log_prob for scene in scenes]), data[:SHOWN].numpy()
    floor = max(curve.min(), curve.max() - FALL)

    def compute(snapshot, walked, start):
        scene = scenes[snapshot]
        apart = float(scene.heights[start][walked]) - scene.data
        return scene.energies, scene.log_density.exp(), scene.paths[start][walked], (times[snapshot], scene.log_prob), apart

    def backdrop(axes):
        for ax in axes[:2]:
            ax.set(xlim=extent[:2], ylim=extent[2:], aspect="equal", xlabel="$x_1$", title=" ")
        axes[0].set_ylabel("$x_2$")
        margin = 0.08 * max(float(curve.max() - floor), 1e-3)
        axes[2].set(ylim=(floor - margin, curve.max() + margin), title=" ", xlabel="training step", ylabel="nats")
        axes[2].plot(times, curve, color=style.BLUE)

    def draw(axes, drawn):
        energies, density, particles, (time, score), apart = drawn
        axes[0].imshow(_bands(energies), extent=extent, origin="lower")
        draw_density(axes[1], density, extent)
        axes[0].plot(*shown.T, ".", color=style.INK, markersize=4, markeredgewidth=0)
        for ax in axes[:2]:
            ax.plot(*particles.T, ".", color=style.VERMILION, markersize=4, markeredgewidth=0)
        axes[2].plot(time, max(score, floor), "o", color=style.VERMILION, markersize=8)
        fate = f"particles {apart:+.2f} nats above data" if math.isfinite(apart) else "particles have run away"
        words = f"energy after {time} steps", fate, f"log p(data) = {score:.2f} nats"
        for ax, text in zip(axes, words, strict=True):
            ax.text(0.5, 1.03, text.replace("-", "−"), transform=ax.transAxes, ha="center", fontsize=12)

    return Explorer(
        compute,
        draw,
        {
            "snapshot": Slider(0, len(times) - 1, 1, len(times) - 1, label="snapshot of training"),
            "walked": Slider(0, steps, 1, steps, label="steps of the particles"),
            "start": Choice(tuple(starts), label="they start at", buttons=True),
        },
        backdrop=backdrop,
        panels=(1, 3),
        size=(10.5, 3.7),
        caption="Left: the energy, darker where lower, each band one nat; training pushes it down under the data (black), "
        "up under the particles (orange). Middle: the density that it stands for, with the same particles. Right: the mean "
        "log-likelihood of the data under that density, along the training.",
    )


def _window(data: Tensor) -> Extent:
    """Around the data, half as wide again."""
    xmin, xmax, ymin, ymax = map(float, around(data.numpy()))
    x, y = (xmax - xmin) / 4, (ymax - ymin) / 4
    return (xmin - x, xmax + x, ymin - y, ymax + y)


def _bands(energies: Tensor) -> np.ndarray:
    """Energies (r, r) as colours in steps of one nat from the lowest upwards."""
    return BANDS[(energies - energies.min()).clamp(0, DEPTH).int().numpy()]
