"""What `fit` costs over a hand-written loop: a 2→128→128→1 MLP, batch 512, Adam; both in one run, interleaved.

    python benchmarks/fit_overhead.py
"""

import statistics
import time

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from gmcourse import GenerativeModel, fit

STEPS, ROUNDS, BATCH = 1000, 7, 512
ALLOWED = 0.10


class Regression(GenerativeModel):
    """Any model with a cheap loss: the square of an MLP's output."""

    def __init__(self):
        super().__init__((2,))
        self.net = nn.Sequential(nn.Linear(2, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 1))

    def loss(self, x):
        return (self.net(x).squeeze(-1) - x[:, 0]).square()


def by_hand(data: torch.Tensor) -> float:
    """The loop one would write in a notebook, with the loss recorded at every step; seconds per step."""
    model, losses = Regression(), []
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    start = time.perf_counter()
    for step in range(STEPS):
        if step % (len(data) // BATCH) == 0:
            order = torch.randperm(len(data))
        k = step % (len(data) // BATCH)
        loss = model.loss(data[order[k * BATCH : (k + 1) * BATCH]]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return (time.perf_counter() - start) / STEPS


def by_fit(data: torch.Tensor) -> float:
    """The same through `fit`; seconds per step."""
    start = time.perf_counter()
    fit(Regression(), data, steps=STEPS, batch_size=BATCH, progress=False)
    return (time.perf_counter() - start) / STEPS


def main() -> int:
    torch.set_num_threads(1)
    data = torch.randn(16384, 2)
    by_hand(data), by_fit(data)
    rounds = [(by_hand(data), by_fit(data)) for _ in range(ROUNDS)]
    hand, ours = (statistics.median(times) for times in zip(*rounds, strict=True))
    ratio = statistics.median(b / a for a, b in rounds)
    table = Table("loop", "ms per step", "ratio")
    table.add_row("by hand", f"{1e3 * hand:.3f}", "1")
    table.add_row("gmcourse.fit", f"{1e3 * ours:.3f}", f"{ratio:.3f} (allowed {1 + ALLOWED:.2f})")
    Console().print(table)
    return int(ratio > 1 + ALLOWED)


if __name__ == "__main__":
    raise SystemExit(main())
