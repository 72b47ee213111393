"""Training steps of an energy beside torchebm's: CD-10, denoising and sliced score matching; one thread, interleaved.

    python benchmarks/ebm.py [--rounds 15]

2→128→128→1, SiLU, 512 points of `gaussian_grid9`, Adam; equal weights at the start, the same numbers of the data. torchebm's
Langevin step is x − h∇E + √(2h) ω: ours with η = 2h; its energy penalty is our l2; one direction of ±1 in sliced score
matching. That both do the same mathematics is shown twice: by the loss at the start, averaged over draws (CD's and DSM's
noise is even the same), and by −E[log p], by quadrature, of the two nets after all the steps that were timed. Times are CPU
times of this process. The exit code is 1 if a training step of ours is slower, or the chains inside CD are less than 1.5
times as fast.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from gmcourse.data.toy2d import GaussianGrid9
from gmcourse.ebm.contrastive import MaximumLikelihood
from gmcourse.ebm.denoising import denoising_score_matching
from gmcourse.ebm.ebm import EBM
from gmcourse.ebm.energy import mlp_energy
from gmcourse.ebm.sliced import sliced_score_matching

try:
    from torchebm.core import BaseModel
    from torchebm.losses import ContrastiveDivergence, DenoisingScoreMatching, SlicedScoreMatching
    from torchebm.samplers import LangevinDynamics
except ImportError:
    raise SystemExit("this benchmark compares with torchebm: pip install torchebm, or gmcourse[bench]") from None

BATCH, STEPS, K, ETA, L2, SIGMA, BOX = 512, 20, 10, 0.02, 1e-3, 0.2, [(-3.0, 3.0)] * 2
CHAINS = "chains inside CD"
WANTED = {"CD-10": 1.0, "DSM": 1.0, "SSM": 1.0, CHAINS: 1.5}
Work = Callable[[Tensor], Tensor | None]


class Peer(BaseModel):
    """A net as torchebm wants it."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)


@dataclass
class Side:
    """One library's way of doing one thing: a net, its loss, what is timed, and how long that took."""

    net: nn.Module
    loss: Work
    timed: Work
    seconds: list[float] = field(default_factory=list)

    def run(self, batches: list[Tensor]) -> None:
        """Do the work on all batches, and take the time."""
        start = time.process_time()
        for x in batches:
            self.timed(x)
        self.seconds.append(time.process_time() - start)


def trained(net: nn.Module, loss: Work) -> Side:
    """A side whose work is a training step."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

    def step(x: Tensor) -> None:
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()

    return Side(net, loss, step)


def ours(net: nn.Module) -> dict[str, Side]:
    net, cd = partial(copy.deepcopy, net), MaximumLikelihood(steps=K, step=ETA, l2=L2)
    objectives = {
        "CD-10": cd,
        "DSM": partial(denoising_score_matching, sigma=SIGMA),
        "SSM": partial(sliced_score_matching, projections=1),
    }

    def side(objective, net: nn.Module) -> Side:
        return trained(net, lambda x: objective(net, x).mean())

    chains = net()
    loss = lambda x: cd(chains, x).mean()  # noqa: E731
    sides = {name: side(objective, net()) for name, objective in objectives.items()}
    return sides | {CHAINS: Side(chains, loss, lambda x: cd.negatives(chains, x))}


def theirs(net: nn.Module) -> dict[str, Side]:
    def contrast(peer: Peer) -> ContrastiveDivergence:
        sampler = LangevinDynamics(peer, step_size=ETA / 2, noise_scale=1.0)
        return ContrastiveDivergence(peer, sampler, k_steps=K, energy_reg_weight=L2)

    peers = [Peer(copy.deepcopy(net)) for _ in range(4)]
    cd, dsm = contrast(peers[0]), DenoisingScoreMatching(peers[1], noise_scale=SIGMA)
    ssm, chains = SlicedScoreMatching(peers[2], n_projections=1), contrast(peers[3])
    return {
        "CD-10": trained(peers[0].net, lambda x: cd(x)[0]),
        "DSM": trained(peers[1].net, lambda x: dsm(x.clone())),  # it marks its argument as wanting a gradient
        "SSM": trained(peers[2].net, ssm),
        CHAINS: Side(peers[3].net, lambda x: chains(x)[0], lambda x: chains.sampler.sample(x=x, n_steps=K)),
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, data = mlp_energy(2, input_scale=3.0), GaussianGrid9()
    sides = {"torchebm": theirs(net), "gmcourse": ours(net)}
    starts = {name: {task: at_start(side, data) for task, side in tasks.items()} for name, tasks in sides.items()}
    for k in range(rounds + 1):
        batches = data.sample(STEPS * BATCH, generator=torch.Generator().manual_seed(k)).split(BATCH)
        for task in WANTED:
            for tasks in sides.values():
                torch.manual_seed(k)
                tasks[task].run(batches)
    for tasks in sides.values():
        for side in tasks.values():
            side.seconds.pop(0)  # the first round warms up
    report(sides, starts, data)
    return int(any(ratio(sides, task) < wanted for task, wanted in WANTED.items()))


def at_start(side: Side, data: GaussianGrid9) -> tuple[float, float]:
    """The loss before any step, over 40 draws of data and noise, with its standard error."""
    found = []
    for k in range(40):
        torch.manual_seed(k)
        found.append(side.loss(data.sample(BATCH, generator=torch.Generator().manual_seed(k))).item())
    return statistics.mean(found), statistics.stdev(found) / len(found) ** 0.5


def ratio(sides: dict[str, dict[str, Side]], task: str) -> float:
    """How many times as fast as torchebm: median over rounds, each round against its own."""
    pairs = zip(sides["torchebm"][task].seconds, sides["gmcourse"][task].seconds, strict=True)
    return statistics.median(a / b for a, b in pairs)


def report(sides: dict[str, dict[str, Side]], starts: dict, data: GaussianGrid9) -> None:
    """Time and accuracy side by side."""
    title = f"2→128→128→1, batch {BATCH}; entropy of the data {data.entropy():.3f}"
    table = Table("task", "library", "ms a step", "times as fast", "loss at start", "nats at end", title=title)
    x = data.sample(20_000, generator=torch.Generator().manual_seed(99))
    for task, wanted in WANTED.items():
        for name, tasks in sides.items():
            side, (mean, error) = tasks[task], starts[name][task]
            faster = f"{ratio(sides, task):.2f} (wanted {wanted})" if name == "gmcourse" else "1"
            nll = -EBM(side.net, side.loss, event_shape=(2,), box=BOX).log_prob(x).mean().item()
            milliseconds = f"{1e3 * statistics.median(side.seconds) / STEPS:.2f}"
            at_end = "–" if task == CHAINS else f"{nll:.3f}"
            table.add_row(task, name, milliseconds, faster, f"{mean:.5f} ± {error:.5f}", at_end)
    Console(width=110).print(table)


if __name__ == "__main__":
    raise SystemExit(main())
