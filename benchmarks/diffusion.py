"""Steps of samplers beside diffusers' schedulers; Euler–Maruyama beside a bare loop and torchsde. One thread, interleaved.

    python benchmarks/diffusion.py [--rounds 5]

*Steps alone*: 50 steps on 16×3×32×32, with a prediction that costs next to nothing, so that what is timed is the sampler.
*With a net*: 100 steps of Euler–Maruyama in 1024 points of the plane, the VP diffusion, with a small net for a score; beside
it a loop with nothing but the formula, and torchsde's `sdeint` with the same steps: with fresh noise, and with a Brownian
motion that can be asked again (BrownianInterval, its default, and BrownianTree). That all do the same mathematics is shown
by the end: the same points from the same noise, and for the latter two, whose noise is their own, by the variance.

Times are CPU times of this process. The exit code is 1 if a step is slower than diffusers', or Euler–Maruyama takes more
than 1.2 times as long as the bare loop.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gmcourse.diffusion.flow_samplers import DPMSolverPP
from gmcourse.diffusion.reverse import EulerMaruyama, falling_times
from gmcourse.diffusion.samplers import DDIM, Ancestral, run
from gmcourse.diffusion.schedule import DiscreteDiffusion, vp_betas
from gmcourse.diffusion.sde import VP
from gmcourse.nets.denoiser import Denoiser

try:
    import torchsde
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
except ImportError:
    raise SystemExit("this benchmark compares with diffusers and torchsde: pip install gmcourse[bench]") from None

PICTURES, POINTS, STEPS, EM_STEPS = (16, 3, 32, 32), (1024, 2), 50, 100
Run = Callable[[Tensor, torch.Generator], Tensor]


def by_scheduler(scheduler, eps: Callable[[Tensor, Tensor], Tensor]) -> Run:
    """diffusers' own loop."""

    def go(x: Tensor, generator: torch.Generator) -> Tensor:
        scheduler.set_timesteps(STEPS)
        for t in scheduler.timesteps:
            x = scheduler.step(eps(x, t), t, x, generator=generator).prev_sample
        return x

    return go


def steps_alone() -> dict[str, dict[str, Run]]:
    """Task -> library -> run, for data N(0, I): ε = σ x, and the score is −x. The chain has VP's ᾱ at (t + 1)/1000."""
    chain, sde = DiscreteDiffusion(vp_betas(1000)), VP()
    same = {"num_train_timesteps": 1000, "trained_betas": chain.betas.numpy(), "timestep_spacing": "trailing"}
    schedulers = {
        "DDPM": DDPMScheduler(**same, clip_sample=False),
        "DDIM": DDIMScheduler(**same, clip_sample=False),
        "DPM-Solver++(2M)": DPMSolverMultistepScheduler(**same, final_sigmas_type="sigma_min"),
    }
    sigmas = (1 - chain.alpha_bars).sqrt().tolist()

    def eps(x: Tensor, t: Tensor) -> Tensor:
        return sigmas[int(t.view(-1)[0])] * x

    grid = chain.times(STEPS)
    samplers = {
        "DDPM": (Ancestral(chain, eps), grid),
        "DDIM": (DDIM(chain, eps), grid),
        "DPM-Solver++(2M)": (DPMSolverPP(sde, lambda x, t: -x), [(t + 1) / 1000 for t in grid[:-1]] + [0.001]),
    }
    return {
        task: {"diffusers": by_scheduler(schedulers[task], eps), "gmcourse": by_sampler(sampler, visited)}
        for task, (sampler, visited) in samplers.items()
    }


def by_sampler(sampler, visited: list[float]) -> Run:
    """The course's loop."""
    return lambda x, generator: run(sampler.step, x, visited, generator=generator)


class Backwards(torch.nn.Module):
    """The reverse diffusion as torchsde wants it, in τ = 1 − t."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, sde: VP, score):
        super().__init__()
        self.sde, self.back = sde, sde.reverse(score)

    def f(self, tau: Tensor, x: Tensor) -> Tensor:
        return -self.back(x, (1 - tau).clamp(0, 1))

    def g(self, tau: Tensor, x: Tensor) -> Tensor:
        return self.sde.diffusion((1 - tau).clamp(0, 1)).expand_as(x)


class Fresh(torchsde.BaseBrownian):
    """Increments that are drawn when they are wanted, and forgotten."""

    dtype, device, levy_area_approximation = torch.float32, torch.device("cpu"), "none"
    shape = torch.Size(POINTS)

    def __init__(self, generator: torch.Generator):
        super().__init__()
        self.generator = generator

    def __call__(self, ta, tb=None, return_U=False, return_A=False) -> Tensor:
        return (tb - ta) ** 0.5 * torch.randn(self.shape, generator=self.generator)

    def __repr__(self) -> str:
        return "Fresh()"


def with_a_net() -> dict[str, Run]:
    """Competitor -> 100 steps from t = 1 to 0.001."""
    torch.manual_seed(0)
    sde, net = VP(), Denoiser(2, features=32)
    torch.nn.init.normal_(net.net.layers[-1].weight, std=0.01)

    def score(x: Tensor, t: Tensor) -> Tensor:
        return net(x, t) - x

    grid = falling_times(sde, EM_STEPS)
    steps = list(zip(grid[:-1], grid[1:], strict=True))
    peer, ends, dt = Backwards(sde, score), torch.tensor([0.0, 0.999]), 0.999 / EM_STEPS

    @torch.no_grad()
    def bare(x: Tensor, generator: torch.Generator) -> Tensor:
        for t, s in steps:
            beta, h = 0.1 + 19.9 * t, t - s
            drift = -0.5 * beta * x - beta * score(x, torch.full((len(x),), t))
            x = x - h * drift + (beta * h) ** 0.5 * torch.randn(x.shape, generator=generator)
        return x

    def theirs(motion: Callable[[torch.Generator], torchsde.BaseBrownian]) -> Run:
        @torch.no_grad()
        def go(x: Tensor, generator: torch.Generator) -> Tensor:
            return torchsde.sdeint(peer, x, ends, bm=motion(generator), method="euler", dt=dt)[-1]

        return go

    def entropy(generator: torch.Generator) -> int:
        return int(torch.randint(2**31, (), generator=generator))

    return {
        "bare loop": bare,
        "gmcourse": by_sampler(EulerMaruyama(sde, score), grid),
        "torchsde, fresh noise": theirs(Fresh),
        "torchsde, BrownianInterval": theirs(lambda g: torchsde.BrownianInterval(0.0, 0.999, POINTS, entropy=entropy(g))),
        "torchsde, BrownianTree": theirs(
            lambda g: torchsde.BrownianTree(0.0, torch.zeros(POINTS), 0.999, entropy=entropy(g))
        ),
    }


def measure(sides: dict[str, Run], shape: tuple[int, ...], rounds: int) -> tuple[dict[str, list[float]], dict[str, Tensor]]:
    """CPU seconds of every round and the points of the last, the first round warming up."""
    seconds, ends = {name: [] for name in sides}, {}
    for k in range(rounds + 1):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(k))
        for name, go in sides.items():
            start = time.process_time()
            ends[name] = go(x, torch.Generator().manual_seed(k))
            seconds[name].append(time.process_time() - start)
    return {name: taken[1:] for name, taken in seconds.items()}, ends


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    table = Table("task", "by", "ms a step", "times as long", "at the end", title=f"{PICTURES}, {STEPS} steps; {POINTS}")
    failed = False
    work = [(task, sides, PICTURES, STEPS, 1.0) for task, sides in steps_alone().items()]
    for task, sides, shape, steps, wanted in [*work, ("Euler–Maruyama, net", with_a_net(), POINTS, EM_STEPS, 1.2)]:
        seconds, ends = measure(sides, shape, rounds)
        base = next(iter(sides))
        for name, taken in seconds.items():
            ratio = statistics.median(a / b for a, b in zip(taken, seconds[base], strict=True))
            failed |= name == "gmcourse" and ratio > wanted
            away, spread = (ends[name] - ends[base]).abs().max().item(), ends[name].var().item()
            said = f"{ratio:.2f}" + (f" (wanted {wanted})" if name == "gmcourse" else "")
            milliseconds = f"{1e3 * statistics.median(taken) / steps:.3f}"
            table.add_row(task, name, milliseconds, said, f"variance {spread:.4f}, {away:.1e} away")
    Console(width=120).print(table)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
