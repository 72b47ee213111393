"""What a step of the game costs: `fit` beside a bare loop, and each regulariser beside none; one thread, interleaved.

    python benchmarks/gan.py [--rounds 9]

The nets of `gan_gaussians25`, 256 points of 25 Gaussians, both players at every step. The bare loop is the game written
out: two optimisers, detached fakes, the critic's weights held still while the generator learns. Times are CPU times of this
process, medians over rounds; a ratio is of one round's times. The exit code is 1 if `fit` takes more than 1.25 times the
bare loop, or R1 in every sixteenth step, by coin, more than 1.3 times no penalty.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import softplus

from gmcourse import fit
from gmcourse.data import toy2d
from gmcourse.gan import GAN, R1, R2, GradientPenalty, Lazy
from gmcourse.recipes.gan2d import ADAM, plane_gan

STEPS, BATCH = 60, 256
WANTED = {"fit": 1.25, "R1, every 16th step": 1.3}
GAMES = {
    "fit": {},
    "weight clipping": {"objective": "wasserstein", "clip": 0.1},
    "spectral norm": {"spectral": True},
    "R1, every 16th step": {"regularisers": Lazy(R1(0.05), 16)},
    "R1": {"regularisers": R1(0.05)},
    "R1 and R2": {"regularisers": (R1(0.05), R2(0.05))},
    "gradient penalty": {"objective": "wasserstein", "regularisers": GradientPenalty(0.1)},
}


def bare(gan: GAN, x: torch.Tensor) -> None:
    """The non-saturating game without the library's loop or objects."""
    generator, critic = gan.generator, gan.critic.net
    of_critic, of_generator = ADAM(critic.parameters(), lr=2e-3), ADAM(generator.parameters(), lr=2e-3)
    gan.train()
    for _ in range(STEPS):
        batch = x[torch.randint(len(x), (BATCH,))]
        with torch.no_grad():
            fake = generator(torch.randn(BATCH, 2))
        loss = (softplus(-critic(batch)) + softplus(critic(fake))).mean()
        of_critic.zero_grad()
        loss.backward()
        of_critic.step()
        critic.requires_grad_(False)
        loss = softplus(-critic(generator(torch.randn(BATCH, 2)))).mean()
        of_generator.zero_grad()
        loss.backward()
        critic.requires_grad_(True)
        of_generator.step()


def timed(work: Callable[[], object]) -> float:
    """CPU seconds of the work."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    x = toy2d.get("gaussians25").sample((20_000,)).float()
    settings = {"steps": STEPS, "batch_size": BATCH, "lr": 2e-3, "optimizer": ADAM, "progress": False}
    seconds: dict[str, list[float]] = {name: [] for name in ("bare loop", *GAMES)}
    for _ in range(rounds + 1):
        model = plane_gan()
        seconds["bare loop"].append(timed(lambda model=model: bare(model, x)))
        for name, game in GAMES.items():
            model = plane_gan(**game)
            seconds[name].append(timed(lambda model=model: fit(model, x, **settings)))
    table, slow = Table("one step", "ms", "ratio", "to", "wanted"), []
    for name, found in seconds.items():
        base = "bare loop" if name in ("fit", "bare loop") else "fit"
        ratio = statistics.median(a / b for a, b in zip(found[1:], seconds[base][1:], strict=True))  # the first warms up
        wanted = WANTED.get(name)
        table.add_row(name, f"{1e3 * statistics.median(found[1:]) / STEPS:.2f}", f"{ratio:.2f}", base, f"{wanted or ''}")
        slow += [name] if wanted and ratio > wanted else []
    Console().print(table)
    return len(slow) > 0


if __name__ == "__main__":
    raise SystemExit(main())
