"""1024 chains × 100 Langevin steps on a 2→128→128→1 energy, beside torchebm's `LangevinDynamics`; one thread, interleaved.

    python benchmarks/langevin.py [--rounds 15]

The energy is a small SiLU net, taught to be about ½‖x‖² so that its law can be integrated on a grid. torchebm's step is
x − h∇E + √(2h) ω: ours with η = 2h. That both do the same mathematics is shown twice: from the same noise they reach the
same points, and the second moment of their chains lies by the truth. The exit code is 1 if our ULA is less than 1.5 times
as fast.

A net that is a plain `nn.Sequential` gets its gradient layer by layer (gmcourse.sampling.backprop), any other callable
through autograd; the row "torchebm, our gradient" says how much of the difference that makes.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from gmcourse.nets.mlp import MLP
from gmcourse.sampling import MALA, ULA
from gmcourse.sampling.target import Target

CHAINS, STEPS, ETA = 1024, 100, 0.1
WANTED = 1.5
Run = Callable[[Tensor, torch.Generator], Tensor]


def energy_net() -> nn.Sequential:
    """2→128→128→1, fitted to ½‖x‖²."""
    torch.manual_seed(0)
    net = nn.Sequential(MLP(2, 1, (128, 128)), nn.Flatten(0))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(400):
        x = 2.5 * torch.randn(256, 2)
        loss = (net(x) - x.square().sum(1) / 2).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


def second_moment(net: nn.Module) -> float:
    """E‖x‖² under e^{−E} on [−6, 6]², by a grid."""
    axis = torch.linspace(-6, 6, 401)
    nodes = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        weights = (-net(nodes).double()).softmax(0)
    return float(weights @ nodes.double().square().sum(1))


def competitors(net: nn.Module) -> dict[str, Run]:
    """Rows of the table: name -> how to run STEPS steps."""
    try:
        from torchebm.core import BaseModel
        from torchebm.samplers import LangevinDynamics
    except ImportError:
        raise SystemExit("this benchmark compares with torchebm: pip install torchebm, or gmcourse[bench]") from None

    class Peer(BaseModel):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x)

    class PeerByHand(Peer):
        target = Target(net, None)

        def gradient(self, x, model_kwargs=None):
            return -self.target.score(x)

    def theirs(model: BaseModel) -> Run:
        sampler = LangevinDynamics(model, step_size=ETA / 2, noise_scale=1.0)
        return lambda x, generator: sampler.sample(x=x, n_steps=STEPS, generator=generator)

    def ours(sampler) -> Run:
        return lambda x, generator: sampler.run(x, STEPS, generator=generator)

    return {
        "torchebm LangevinDynamics": theirs(Peer()),
        "gmcourse ULA": ours(ULA(net, step=ETA)),
        "gmcourse ULA, by autograd": ours(ULA(lambda x: net(x), step=ETA)),
        "torchebm, our gradient": theirs(PeerByHand()),
        "gmcourse MALA": ours(MALA(net, step=ETA)),
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    net = energy_net()
    runs = competitors(net)
    seconds, squares = {name: [] for name in runs}, {name: [] for name in runs}
    for k in range(-1, rounds):
        x0 = torch.randn(CHAINS, 2, generator=torch.Generator().manual_seed(k + 1))
        ends = {}
        for name, run in runs.items():
            generator = torch.Generator().manual_seed(1000 + k)
            start = time.perf_counter()
            ends[name] = run(x0, generator)
            if k >= 0:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
                squares[name].append(ends[name].square().sum(1))
    report(net, seconds, squares, ends)
    return int(ratio(seconds, "gmcourse ULA") < WANTED)


def ratio(seconds: dict[str, list[float]], name: str) -> float:
    """How many times as fast as torchebm: median over rounds, each round against its own."""
    return statistics.median(a / b for a, b in zip(seconds["torchebm LangevinDynamics"], seconds[name], strict=True))


def report(net: nn.Module, seconds: dict, squares: dict, ends: dict) -> None:
    """Time and accuracy side by side."""
    title = f"{CHAINS} chains × {STEPS} steps, η = {ETA}; Δx: distance to torchebm's points from the same noise"
    table = Table("sampler", "ms", "times as fast", "E‖x‖²", "max |Δx|", title=title)
    theirs = ends["torchebm LangevinDynamics"]
    for name, times in seconds.items():
        found = torch.cat(squares[name])
        moment = f"{found.mean():.3f} ± {found.std() / len(found) ** 0.5:.3f}"
        apart = "–" if "MALA" in name else f"{(ends[name] - theirs).abs().max():.1e}"
        table.add_row(name, f"{1e3 * statistics.median(times):.0f}", f"{ratio(seconds, name):.2f}", moment, apart)
    table.add_row("truth by quadrature", "", f"wanted {WANTED}", f"{second_moment(net):.3f}", "")
    Console(width=100).print(table)


if __name__ == "__main__":
    raise SystemExit(main())
