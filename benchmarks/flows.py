"""Four flows beside zuko, nflows and normflows: log_prob, sampling and a training step; one thread, interleaved.

    python benchmarks/flows.py [--rounds 15]

D = 8, batch 1024, five layers, ReLU nets with two hidden layers of 64, splines of 8 bins on [−5, 5], Adam: the same numbers
of parameters in all libraries, and each peer built from its fastest parts. That all of them are flows is shown beside the
times: the inverse error max |x − T(T⁻¹(x))| and the mass ∫p, by importance sampling. Times are CPU times of this process, so
that neighbours count less. The exit code is 1 if ours is slower than the fastest peer in any cell, or less than 1.3 times
as fast in the median of the cells.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from gmcourse.flows import Flow, maf, neural_spline_flow, real_nvp

try:
    import nflows.distributions
    import nflows.flows
    import nflows.transforms as nf
    import normflows
    import zuko
    from normflows.flows.neural_spline import autoregressive as norm_autoregressive
    from normflows.flows.neural_spline import coupling as norm_coupling
except ImportError as error:
    missing = f"{error.name} is missing: pip install --no-deps zuko nflows normflows, or pip install gmcourse[bench]"
    raise SystemExit(f"this benchmark compares with zuko, nflows and normflows; {missing}") from None

D, BATCH, LAYERS, WIDTH, BINS, BOUND = 8, 1024, 5, 64, 8, 5.0
CELLS = ("log_prob", "sample", "train step")
MEDIAN = 1.3


@dataclass
class Model:
    """One library's flow, with what is measured on it."""

    module: nn.Module
    log_prob: Callable[[Tensor], Tensor]
    sample: Callable[[int], Tensor]
    there_and_back: Callable[[Tensor], Tensor]


def ours(flow: Flow) -> Model:
    return Model(flow, flow.log_prob, flow.sample, lambda x: flow.chain.inverse(flow.encode(x)[0]))


def of_zuko(flow) -> Model:
    there_and_back = lambda x: flow().transform.inv(flow().transform(x))  # noqa: E731
    return Model(flow, lambda x: flow().log_prob(x), lambda n: flow().sample((n,)), there_and_back)


def of_nflows(make: Callable[[int], nn.Module], reverse: bool) -> Model:
    between = [nf.ReversePermutation(D)] if reverse else []
    chain = nf.CompositeTransform([t for k in range(LAYERS) for t in (make(k), *between)])
    flow = nflows.flows.Flow(chain, nflows.distributions.StandardNormal([D]))
    return Model(flow, flow.log_prob, flow.sample, lambda x: chain.inverse(chain(x)[0])[0])


def of_normflows(layers: list) -> Model:
    flow = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(D, trainable=False), layers)
    return Model(flow, flow.log_prob, lambda n: flow.sample(n)[0], lambda x: flow.forward(flow.inverse(x)))


class Swapped(normflows.flows.Flow):
    """normflows wants layers noise → data; its parts are data → noise."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.part = part

    def forward(self, z):
        x, log_det = self.part.inverse(z)
        return x, log_det.view(-1)

    def inverse(self, x):
        z, log_det = self.part(x)
        return z, log_det.view(-1)


class Net(nn.Sequential):
    """The conditioner of the nflows family: an MLP that ignores the context."""

    hidden_features = WIDTH

    def __init__(self, inputs: int, outputs: int):
        hidden = [nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()]
        super().__init__(*hidden, nn.Linear(WIDTH, outputs))

    def forward(self, x, context=None):
        return super().forward(x)


def mask(k: int) -> Tensor:
    return torch.arange(D) % 2 == k % 2


def spline_coupling() -> dict[str, Model]:
    rqs = zuko.transforms.MonotonicRQSTransform
    shapes = [(BINS,), (BINS,), (BINS - 1,)]
    part = dict(transform_net_create_fn=Net, num_bins=BINS, tails="linear", tail_bound=BOUND)
    peer = norm_coupling.PiecewiseRationalQuadraticCoupling
    return {
        "gmcourse": ours(
            neural_spline_flow((D,), layers=LAYERS, bins=BINS, bound=BOUND, hidden=(WIDTH,) * 2, activation=nn.ReLU)
        ),
        "zuko": of_zuko(
            zuko.flows.NICE(D, transforms=LAYERS, univariate=rqs, shapes=shapes, hidden_features=(WIDTH,) * 2)
        ),
        "nflows": of_nflows(lambda k: nf.PiecewiseRationalQuadraticCouplingTransform(mask(k), **part), False),
        "normflows": of_normflows([Swapped(peer(mask(k), **part)) for k in range(LAYERS)]),
    }


def spline_autoregressive() -> dict[str, Model]:
    part = dict(num_bins=BINS, tails="linear", tail_bound=BOUND, num_blocks=1, use_residual_blocks=False)
    made = nf.MaskedPiecewiseRationalQuadraticAutoregressiveTransform
    peer = norm_autoregressive.MaskedPiecewiseRationalQuadraticAutoregressive
    layers = [f for _ in range(LAYERS) for f in (Swapped(mended(peer(D, WIDTH, init_identity=False, **part))), Turned())]
    flow = neural_spline_flow(
        (D,), kind="autoregressive", layers=LAYERS, bins=BINS, bound=BOUND, hidden=(WIDTH,) * 2, activation=nn.ReLU
    )
    return {
        "gmcourse": ours(flow),
        "zuko": of_zuko(zuko.flows.NSF(D, transforms=LAYERS, bins=BINS, hidden_features=(WIDTH,) * 2)),
        "nflows": of_nflows(lambda k: made(D, WIDTH, **part), True),
        "normflows": of_normflows(layers),
    }


def mended(part: nn.Module) -> nn.Module:
    """normflows' MADE without residual blocks forgets the activation after its first layer: not the same net, and faster."""
    part.autoregressive_net.blocks.insert(0, Rectified())
    return part


class Rectified(nn.Module):
    """A ReLU that ignores the context."""

    def forward(self, x, context=None):
        return x.relu()


def masked_affine() -> dict[str, Model]:
    part = dict(num_blocks=1, use_residual_blocks=False)
    made, peer = nf.MaskedAffineAutoregressiveTransform, normflows.flows.MaskedAffineAutoregressive
    layers = [f for _ in range(LAYERS) for f in (Swapped(mended(peer(D, WIDTH, **part))), Turned())]
    return {
        "gmcourse": ours(maf((D,), layers=LAYERS, hidden=(WIDTH,) * 2, activation=nn.ReLU)),
        "zuko": of_zuko(zuko.flows.MAF(D, transforms=LAYERS, hidden_features=(WIDTH,) * 2)),
        "nflows": of_nflows(lambda k: made(D, WIDTH, **part), True),
        "normflows": of_normflows(layers),
    }


def affine_coupling() -> dict[str, Model]:
    block, net = normflows.flows.AffineCouplingBlock, [D // 2, WIDTH, WIDTH, D]
    swap = normflows.flows.Permute
    layers = [f for _ in range(LAYERS) for f in (block(normflows.nets.MLP(net)), swap(D, mode="swap"))]
    return {
        "gmcourse": ours(real_nvp((D,), layers=LAYERS, hidden=(WIDTH,) * 2, activation=nn.ReLU)),
        "zuko": of_zuko(zuko.flows.RealNVP(D, transforms=LAYERS, hidden_features=(WIDTH,) * 2)),
        "nflows": of_nflows(lambda k: nf.AffineCouplingTransform(mask(k), Net), False),
        "normflows": of_normflows(layers),
    }


class Turned(normflows.flows.Flow):
    """The order of the coordinates turned round."""

    def forward(self, z):
        return z.flip(1), z.new_zeros(len(z))

    inverse = forward


FLOWS = {
    "spline coupling": spline_coupling,
    "spline autoregressive": spline_autoregressive,
    "MAF": masked_affine,
    "RealNVP": affine_coupling,
}


def runs(model: Model, x: Tensor) -> dict[str, Callable[[], object]]:
    """What a cell of the table times."""
    optimizer = torch.optim.Adam(model.module.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        (-model.log_prob(x).mean()).backward()
        optimizer.step()

    without = torch.no_grad()
    cells = without(lambda: model.log_prob(x)), without(lambda: model.sample(BATCH)), step
    return dict(zip(CELLS, cells, strict=True))


@torch.no_grad()
def accuracy(model: Model, x: Tensor) -> tuple[float, float, float]:
    """Largest inverse error, and the mass ∫p with its standard error from draws of a Gaussian about the samples."""
    samples = model.sample(BATCH)
    q = torch.distributions.Normal(samples.mean(0), 1.3 * samples.std(0))
    y = q.sample((32 * BATCH,))
    ratio = (model.log_prob(y) - q.log_prob(y).sum(1)).exp()
    error = (model.there_and_back(x) - x).abs().max()
    return float(error), float(ratio.mean()), float(ratio.std() / len(ratio) ** 0.5)


def measure(models: dict[str, Model], rounds: int) -> dict[tuple[str, str], list[float]]:
    """(library, cell) -> seconds, round by round; the libraries take turns."""
    x = torch.randn(BATCH, D)
    work = {name: runs(model, x) for name, model in models.items()}
    seconds = {(name, cell): [] for name in models for cell in CELLS}
    for k in range(-2, rounds):  # two rounds to warm up
        for cell in CELLS:
            for name in models:
                start = time.process_time()
                work[name][cell]()
                if k >= 0:
                    seconds[name, cell].append(time.process_time() - start)
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    ratios = []
    title = f"D = {D}, batch {BATCH}, {LAYERS} layers; ms of CPU time, and in brackets: times the fastest peer"
    table = Table("flow", "library", "parameters", *CELLS, "inverse error", "mass", title=title)
    for name, build in FLOWS.items():
        torch.manual_seed(0)
        models = build()
        exact = {library: accuracy(model, torch.randn(BATCH, D)) for library, model in models.items()}
        seconds = measure(models, rounds)
        for library, model in models.items():
            cells = [f"{1e3 * statistics.median(seconds[library, cell]):.1f}" for cell in CELLS]
            if library == "gmcourse":
                found = [faster(seconds, cell, list(models)[1:]) for cell in CELLS]
                cells = [f"{cell} ({ratio:.2f})" for cell, ratio in zip(cells, found, strict=True)]
                ratios += found
            error, mass, stderr = exact[library]
            parameters = str(sum(p.numel() for p in model.module.parameters()))
            table.add_row(name, library, parameters, *cells, f"{error:.0e}", f"{mass:.3f} ± {stderr:.3f}")
            name = ""
        table.add_section()
    Console(width=118).print(table)
    worst, median = min(ratios), statistics.median(ratios)
    print(f"the fastest peer takes {worst:.2f} times as long in our worst cell, {median:.2f} in the median")
    print(f"wanted: 1 and {MEDIAN}")
    return int(worst < 1 or median < MEDIAN)


def faster(seconds: dict, cell: str, peers: list[str]) -> float:
    """How many times as long the fastest peer takes: median over rounds, each round against its own."""
    best = min(peers, key=lambda peer: statistics.median(seconds[peer, cell]))
    pairs = zip(seconds[best, cell], seconds["gmcourse", cell], strict=True)
    return statistics.median(a / b for a, b in pairs)


if __name__ == "__main__":
    raise SystemExit(main())
