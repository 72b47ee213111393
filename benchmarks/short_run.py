"""What the library costs where an energy is the generator: its ways down beside the same arithmetic written out; one thread.

    python benchmarks/short_run.py [--rounds 7]

In the plane, energy 2→64→64→64→64→1 plus ‖x‖², 256 points: training steps by thesis (5.1) whose negatives come by RK4 with
10 steps or by 20 noisy Langevin steps, and the exact log-density of the RK4 flow, beside a bare `torchdiffeq` solve with the
trace by two gradients. On images of 28 × 28, energy of Table 5.2 with channels 16, 32, 32: 20 steps of descent, and the
gradient of (5.14), which has the generator's loss in it, through 20 of them for 8 images, with checkpoints and without. Bare
loops take the modules and plain PyTorch, nothing else of the library; both sides get the same seed, and must come to the
same numbers in the first round; later, rounding has parted them. Times are CPU times of this process, medians over rounds;
a ratio is of one round's times. The exit code is 1 if the library takes more than 1.2 times as long as a bare loop. The last
row is no contest: it says what checkpoints cost in time. What they save is below: by how much the largest memory
of a process grows when it takes that gradient for 32 images after having taken it for one, as Linux counts it.
"""

import argparse
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchdiffeq import odeint

from gmcourse.compositions.dynamics import Dynamics, GradientFlow, Langevin
from gmcourse.compositions.self_contrast import SelfContrast
from gmcourse.compositions.short_run import ShortRun
from gmcourse.data import toy2d
from gmcourse.ebm.energy import mlp_energy
from gmcourse.ebm.images import conv_energy
from gmcourse.nets.confined import Confined

WANTED, BATCH, IMAGES, MANY, K = 1.2, 256, 8, 32, 20
TIME, RK4, ETA_PLANE, ETA = 0.2, 10, 0.02, 0.1
SHAPE, WIDTHS = (1, 28, 28), (16, 32, 32)
GAMES = {True: f"∇(5.14), K = {K}, checkpoints", False: f"∇(5.14), K = {K}, all stored"}
Work = Callable[[], Tensor]


def plane() -> Confined:
    """2-D, the same at every call."""
    torch.manual_seed(0)
    return Confined(mlp_energy(2, (64,) * 4, input_scale=3.0))


def images() -> nn.Sequential:
    """The same at every call."""
    torch.manual_seed(0)
    return conv_energy(SHAPE, WIDTHS)


def slope(energy: nn.Module, x: Tensor) -> Tensor:
    """∇E, without a graph."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(energy(x).sum(), x)[0]


def bare_rk4(energy: nn.Module, x: Tensor) -> Tensor:
    """RK4 (the 3/8 rule, which torchdiffeq has under this name) down the energy to T."""
    h = TIME / RK4
    for _ in range(RK4):
        k1 = -slope(energy, x)
        k2 = -slope(energy, x + h * k1 / 3)
        k3 = -slope(energy, x + h * (k2 - k1 / 3))
        k4 = -slope(energy, x + h * (k1 - k2 + k3))
        x = x + h * (k1 + 3 * (k2 + k3) + k4) / 8
    return x


def bare_langevin(energy: nn.Module, x: Tensor, u: Tensor | None, eta: float) -> Tensor:
    """Thesis (5.3), or (5.8) without u."""
    for k in range(K):
        x = x - eta / 2 * slope(energy, x)
        x = x if u is None else x + eta**0.5 * u[:, k]
    return x


def bare_contrast(energy: nn.Module, x: Tensor, way: Callable[[Tensor], Tensor], noise: int) -> Tensor:
    """E(x) − E(x⁻), thesis (5.1), the weights held while x⁻ is drawn."""
    for p in energy.parameters():
        p.requires_grad_(False)
    ends = way(torch.randn(len(x), noise))
    for p in energy.parameters():
        p.requires_grad_(True)
    at_data, at_model = energy(torch.cat([x, ends])).split(len(x))
    return at_data.mean() - at_model.mean()


def bare_noisy(energy: nn.Module, eps: Tensor) -> Tensor:
    """20 noisy steps in the plane, z and u in one row."""
    return bare_langevin(energy, eps[:, :2], eps[:, 2:].reshape(-1, K, 2), ETA_PLANE)


def bare_game(energy: nn.Module, x: Tensor, kept: bool) -> Tensor:
    """Thesis (5.14), through K unrolled steps, with checkpoints or without."""

    def step(x: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(energy(x).sum(), x, create_graph=True)
        return x - ETA / 2 * found

    ends = torch.randn(len(x), *SHAPE).requires_grad_()
    for _ in range(K):
        ends = checkpoint(step, ends, use_reentrant=False) if kept else step(ends)
    at_data, at_model = energy(torch.cat([x, ends.detach()])).split(len(x))
    weights = {name: p.detach() for name, p in energy.named_parameters()}
    critic = torch.func.functional_call(energy, weights, (ends,))
    return (at_data - at_model + critic).mean()


def bare_log_prob(energy: nn.Module, x: Tensor) -> Tensor:
    """Thesis (5.7), back along the way by torchdiffeq, the trace by a gradient for each coordinate."""

    def rates(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = state[0].detach().requires_grad_()
            (up,) = torch.autograd.grad(energy(x).sum(), x, create_graph=True)
            rows = [torch.autograd.grad(up[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(2)]
        return up.detach(), sum(rows)

    with torch.no_grad():
        times, settings = torch.tensor([0.0, TIME]), {"method": "rk4", "options": {"step_size": TIME / RK4}}
        z, trace = odeint(rates, (x, torch.zeros(len(x))), times, **settings)
        return torch.distributions.Normal(0.0, 1.0).log_prob(z[-1]).sum(1) + trace[-1]


def trained(energy: nn.Module, loss: Callable[[Tensor], Tensor], batches: list[Tensor]) -> Work:
    """Training steps on all batches; gives the last loss."""
    optimizer = torch.optim.Adam(energy.parameters(), lr=1e-3)

    def work() -> Tensor:
        for x in batches:
            optimizer.zero_grad()
            found = loss(x)
            found.backward()
            optimizer.step()
        return found.detach()

    return work


def training(dynamics: Dynamics, way: Callable[[nn.Module, Tensor], Tensor], noise: int, batches: list[Tensor]) -> tuple:
    """Training steps by (5.1) of the library, and of a bare loop."""
    here, there = plane(), plane()
    model = ShortRun(here, dynamics, event_shape=(2,)).train()

    def bare(x: Tensor) -> Tensor:
        return bare_contrast(there, x, lambda eps: way(there, eps), noise)

    return trained(here, lambda x: model.loss(x).mean(), batches), trained(there, bare, batches)


def gradient(energy: nn.Module, loss: Callable[[], Tensor]) -> Work:
    """The gradient of all weights but the free constant, in one row."""
    weights = list(energy.parameters())[:-1]
    return lambda: torch.cat([g.flatten() for g in torch.autograd.grad(loss(), weights)])


def game(kept: bool, n: int) -> tuple[Work, Work]:
    """The gradient of (5.14) for n images with checkpoints or without: the library's, and a bare loop's."""
    here, there = images(), images()
    x = 2 * torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(0)) - 1
    way = Langevin(K, ETA, 0.0, checkpointed=kept)
    model = ShortRun(here, way, event_shape=SHAPE, objective=SelfContrast(1.0)).train()
    return gradient(here, lambda: model.loss(x).mean()), gradient(there, lambda: bare_game(there, x, kept))


def pairs() -> dict[str, tuple[tuple[str, Work], tuple[str, Work]]]:
    """What is timed, beside what."""
    batches = toy2d.get("gaussian_grid9").sample((10 * BATCH,)).float().split(BATCH)
    flow, field = ShortRun(plane(), GradientFlow(TIME, steps=RK4), event_shape=(2,)).eval(), plane()
    still, chain = images(), ShortRun(images(), Langevin(K, ETA, 0.0), event_shape=SHAPE).eval()

    def descent() -> Tensor:
        still.requires_grad_(False)
        return bare_langevin(still, torch.randn(32, *SHAPE), None, ETA)

    def density() -> Tensor:
        with torch.no_grad():
            return flow.log_prob(batches[0])

    compared = {
        f"10 training steps, RK4-{RK4}": training(GradientFlow(TIME, steps=RK4), bare_rk4, 2, batches),
        f"10 training steps, Langevin-{K}": training(Langevin(K, ETA_PLANE), bare_noisy, 2 + 2 * K, batches),
        f"log p of {BATCH} points, RK4-{RK4}": (density, lambda: bare_log_prob(field, batches[0])),
        f"{K} steps down, 32 images": (lambda: chain.sample(32), descent),
    }
    compared |= {name: game(kept, IMAGES) for kept, name in GAMES.items()}
    rows = {name: (("library", here), ("bare", there)) for name, (here, there) in compared.items()}
    within, without = (compared[GAMES[kept]][0] for kept in (True, False))
    return rows | {f"∇(5.14), K = {K}": (("checkpoints", within), ("all stored", without))}


def grown(kept: bool, side: int) -> float:
    """MiB by which the process' largest memory grows from one image to 32; side 0 is the library, 1 the bare loop."""
    torch.set_num_threads(1)
    game(kept, 1)[side]()
    work, process = game(kept, MANY)[side], Path("/proc/self")
    (process / "clear_refs").write_text("5")  # the largest memory so far is that of now
    before = largest_memory(process)
    work()
    return (largest_memory(process) - before) / 2**10


def largest_memory(process: Path) -> int:
    """KiB, by Linux."""
    return int(re.search(r"VmHWM:\s+(\d+)", (process / "status").read_text())[1])


def in_a_new_process(*args) -> float:
    """`grown` where nothing else has ever taken memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(grown, args)


def timed(work: Work, seed: int) -> tuple[float, Tensor]:
    """CPU seconds of the work, and what came of it."""
    torch.manual_seed(seed)
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    table, slow = Table("work", "", "ms", "beside", "ms", "ratio", "wanted"), 0
    for name, ((here, mine), (there, other)) in pairs().items():
        seconds = []
        for seed in range(rounds + 1):
            (took, found), (beside, wanted) = timed(mine, seed), timed(other, seed)
            seconds.append((took, beside))
            if seed == 0 and not torch.allclose(found, wanted, atol=1e-3, rtol=1e-3):
                raise SystemExit(f"{name}: {here} and {there} differ by {(found - wanted).abs().max():.2g}")
        ratios = [a / b for a, b in seconds[1:]]  # the first round warms up
        ratio, spread = statistics.median(ratios), f"({min(ratios):.2f}–{max(ratios):.2f})"
        times = [f"{1e3 * statistics.median(side):.1f}" for side in zip(*seconds[1:], strict=True)]
        judged = there == "bare"
        table.add_row(name, here, times[0], there, times[1], f"{ratio:.2f} {spread}", f"≤ {WANTED}" if judged else "")
        slow += judged and ratio > WANTED
    Console(width=110).print(table)
    for kept, name in GAMES.items():
        print(
            f"{name}, {MANY} images: library {in_a_new_process(kept, 0):.0f} MiB, bare {in_a_new_process(kept, 1):.0f} MiB"
        )
    return int(slow > 0)


if __name__ == "__main__":
    raise SystemExit(main())
