"""How long after a slider's move is the picture there? One row per control of every explorer; one thread.

    python benchmarks/explorers.py [--moves 25] [--json FILE]

A move is timed from the widget's new value to the PNG in the image widget. CPU time is what one core needs, whatever
else runs; wall time is what this machine took just now. The exit code is 1 if a median of CPU times exceeds 50 ms.
Explorers of trained models get untrained ones of the same size, which take the same time.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from rich.console import Console
from rich.table import Table

from gmcourse import recipes
from gmcourse.compositions.dynamics import GradientFlow, Langevin
from gmcourse.compositions.short_run import ShortRun
from gmcourse.data import toy2d
from gmcourse.data.images import load_images
from gmcourse.data.strokes import stroke_drawings
from gmcourse.ebm import conv_energy, mlp_energy
from gmcourse.flows import ffjord, neural_spline_flow
from gmcourse.gan.gan import GAN
from gmcourse.metrics import scoreboard
from gmcourse.model import StandardNormal
from gmcourse.nets.mlp import MLP
from gmcourse.nets.style import StyleGenerator
from gmcourse.viz import Explorer
from gmcourse.viz.explorers import EXPLORERS
from gmcourse.viz.explorers.gan_training import Film
from gmcourse.viz.explorers.tilted_walk import Walk

LIMIT = 50.0  # ms


@dataclass(frozen=True)
class Row:
    """Milliseconds per move of one control."""

    explorer: str
    control: str
    cpu_median: float
    cpu_95: float
    wall_median: float
    wall_95: float


def make(name: str) -> Explorer:
    """An explorer by its name, with models and data where it wants them."""
    arguments = {
        "beta_traversal": _digit_models,
        "prior_hole": _digit_model,
        "flow_layers": _moons_flow,
        "cnf_trajectories": lambda: (ffjord(),),
        "ebm_landscape": _energies,
        "gan_training": _films,
        "style_mixing": lambda: (StyleGenerator((1, 28, 28)),),
        "trilemma": _board,
        "latent_prior": _latent_planes,
        "latent_beta": _latent_ladder,
        "tilting_plane": _tilt,
        "tilted_walk": _image_walks,
        "short_run_steps": _short_run,
        "energy_or_flow": _short_runs,
        "noise_interpolation": _image_run,
        "denoising_latent": lambda: (recipes.get("ddgan_gaussians25").build(), toy2d.get("gaussians25")),
        "few_steps": _few,
        "strokes": lambda: (recipes.get("ddgan_emoji").build(), stroke_drawings()),
    }
    keywords = {"step": 0.02} if name == "ebm_landscape" else {}
    return EXPLORERS[name](*arguments[name]() if name in arguments else (), **keywords)


def _digit_models() -> tuple:
    models = {beta: recipes.get(f"vae_digits_beta{beta:g}").build().eval() for beta in recipes.BETAS}
    return models, *load_images("digits", "test")


def _digit_model() -> tuple:
    return recipes.get("vae_digits_beta1").build().eval(), load_images("digits", "test")[0]


def _latent_planes() -> tuple:
    models = {name: recipes.get(f"plane_{name}_mnist").build() for name in ("vae", "flow_prior_beta50", "glf")}
    return models, *load_images("mnist", "test", limit=500)


def _latent_ladder() -> tuple:
    models = {beta: recipes.get(f"plane_flow_prior_beta{beta}_mnist").build() for beta in (1, 10, 50, 100, 400)}
    return models | {math.inf: recipes.get("plane_glf_mnist").build()}, *load_images("mnist", "test", limit=500)


def _moons_flow() -> tuple:
    return neural_spline_flow(), toy2d.get("two_moons").sample(1000)


def _energies() -> tuple:
    return {step: mlp_energy(2, (64, 64)) for step in range(0, 600, 40)}, toy2d.get("gaussians8").sample(500)


def _board() -> tuple:
    """Five families, three seeds of each, with numbers out of the air."""
    toy, board = toy2d.get("gaussians25"), scoreboard.Board([])
    for k, family in enumerate(("VAE", "flow", "EBM", "diffusion", "GAN")):
        for seed in range(3):
            x = toy.sample((500,)) * (1 + 0.05 * k)
            time, gap = 3.0 ** (k + 1) + 0.1 * seed, None if family == "GAN" else 0.1 * k + 0.02 * seed
            good = {"gap": gap, "w2": 0.1 * (k + 1), "w2_floor": 0.05, "covered": 25 - k, "modes": 25, "recall": 1 - 0.1 * k}
            cost = {"steps": 1000, "seconds": 30.0, "parameters": 10**4, "nfe": 1, "ms_per_1000": time}
            kind = {"data": "gaussians25", "likelihood": "none", "gap_kind": "n/a"}
            row = scoreboard.Row(f"{family}_gaussians25", family, seed=seed, **kind, **cost, **good)
            board.rows.append(row)
            board.samples[row.key] = x
    return (board,)


def _tilt() -> tuple:
    return StandardNormal(2), mlp_energy(2, (64, 64)), toy2d.get("gaussians25")


def _image_walks() -> tuple:
    images = torch.rand(101, 12, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return ({tilt: Walk(images.roll(tilt), images[:, :, 0, 0, 0].cumsum(0)) for tilt in (0, 1)},)


def _short_run() -> tuple:
    return ShortRun(mlp_energy(2, (16,)), GradientFlow(0.2), event_shape=(2,)), toy2d.get("gaussian_grid9")


def _short_runs() -> tuple:
    model, data = _short_run()
    return {"one": model, "other": ShortRun(mlp_energy(2, (16,)), GradientFlow(0.1), event_shape=(2,))}, data


def _image_run() -> tuple:
    image = (1, 28, 28)
    return (ShortRun(conv_energy(image, (4, 4)), Langevin(20, 0.1, noise=0.1), event_shape=image),)


def _few() -> tuple:
    models = {steps: recipes.get(f"ddgan_t{steps}_gaussians25").build() for steps in (1, 2, 4, 8)}
    data = toy2d.get("gaussians25")
    clouds = {(name, 2**k): data.sample((2000,)) * (1 + 2**-k) for name in ("DDPM", "DDIM") for k in range(9)}
    return models, clouds, data


def _films() -> tuple:
    films = {name: Film(every=1) for name in ("one", "other")}
    for film in films.values():
        for step in range(20):
            film(step, GAN(MLP(2, 2, (64, 64)), MLP(2, (), (64, 64)), event_shape=(2,), latent=2))
    return films, toy2d.get("gaussians25")


def measure(name: str, moves: int = 25) -> Iterator[Row]:
    """Sweep each control of an explorer from end to end and back, the others at their first values."""
    explorer = make(name)
    for control, widget in explorer.inputs.items():
        values = explorer.controls[control].sweep(moves)
        cpu, wall = [], []
        for value in values + values[::-1]:
            if value == widget.value:
                continue  # no move
            starts = time.process_time(), time.perf_counter()
            widget.value = value
            cpu.append(1000 * (time.process_time() - starts[0]))
            wall.append(1000 * (time.perf_counter() - starts[1]))
            if explorer.error is not None:
                raise explorer.error
        widget.value = explorer.controls[control].value
        yield Row(name, control, statistics.median(cpu), _late(cpu), statistics.median(wall), _late(wall))


def _late(times: list[float]) -> float:
    """The time that 95 % of the moves keep within."""
    return sorted(times)[min(len(times) - 1, round(0.95 * len(times)))]


def table(rows: list[Row]) -> Table:
    printed = Table(title=f"From slider to picture: median and 95 %, ms (limit: CPU {LIMIT:.0f})")
    printed.add_column("explorer")
    printed.add_column("control")
    for column in ("CPU", "95 %", "wall", "95 %"):
        printed.add_column(column, justify="right")
    for row in rows:
        look = "red" if row.cpu_median > LIMIT else None
        times = (row.cpu_median, row.cpu_95, row.wall_median, row.wall_95)
        printed.add_row(row.explorer, row.control, *(f"{t:.1f}" for t in times), style=look)
    return printed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moves", type=int, default=25, help="values per control, there and back")
    parser.add_argument("--json", help="write the rows to this file, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for name in EXPLORERS for row in measure(name, options.moves)]
    Console().print(table(rows))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump([asdict(row) for row in rows], file, indent=1)
    return int(any(row.cpu_median > LIMIT for row in rows))


if __name__ == "__main__":
    sys.exit(main())
