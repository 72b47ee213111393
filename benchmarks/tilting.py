"""What the library costs in exponential tilting: its steps and chains beside the same arithmetic written out; one thread.

    python benchmarks/tilting.py [--rounds 9]

In the plane: a training step of `Tilted` over the VAE of `vae_gaussians25`, energy 2→64→64→1 on 32 Fourier features, 256
points, by weighted draws of the base and by 10 Langevin steps in the noise. On images of 28 × 28: a chain in the noise of
`vae_mnist` under a convolutional energy. Bare loops take the modules and plain PyTorch, nothing else of the library; both
sides get the same seed, and must come to the same numbers in the first round; later, rounding has parted them. In the last
two rows chains in the noise stand beside chains in the space of the data, (x, z) for a VAE, at the same number of steps: of
their mixing that says nothing. Times are CPU times of this process, medians over rounds; a ratio is of one round's times.
The exit code is 1 if the library takes more than 1.2 times as long as a bare loop. In the plane a step takes five
milliseconds, and a tenth of that goes into putting base and energy into evaluation mode and back.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from gmcourse import zoo
from gmcourse.compositions.negatives import Importance, Negatives, NoiseChains
from gmcourse.compositions.tilted import Tilted
from gmcourse.data import toy2d
from gmcourse.ebm.contrastive import held_still
from gmcourse.ebm.energy import mlp_energy
from gmcourse.ebm.images import conv_energy
from gmcourse.model import GenerativeModel
from gmcourse.sampling import ULA
from gmcourse.vae import VAE

WANTED, POOL, STEPS, BATCH = 1.2, 4, 10, 256
PLANE, IMAGES = 1e-3, 1e-3  # η
Work = Callable[[], Tensor]


def plane_energy() -> nn.Sequential:
    """2-D, the same at every call."""
    torch.manual_seed(0)
    return mlp_energy(2, (64, 64), features=32)


def pushed(vae: VAE, eps: Tensor, d: int) -> Tensor:
    """x = μ(ε_z) + σ ε_x, with d latent dimensions."""
    mean = vae.decoder(eps[:, :d])
    return mean + vae.likelihood_of_x.log_sigma.exp() * eps[:, d:].reshape(mean.shape)


def bare_chain(vae: VAE, energy: nn.Module, eps: Tensor, d: int, eta: float) -> Tensor:
    """Langevin on E(push(ε)) + ½‖ε‖², written out."""
    for p in energy.parameters():
        p.requires_grad_(False)
    for _ in range(STEPS):
        eps.requires_grad_()
        u = energy(pushed(vae, eps, d)).sum() + 0.5 * eps.square().sum()
        (slope,) = torch.autograd.grad(u, eps)
        eps = eps.detach() - eta / 2 * slope + math.sqrt(eta) * torch.randn_like(eps)
    for p in energy.parameters():
        p.requires_grad_(True)
    return eps


def bare_weights(vae: VAE, energy: nn.Module, x: Tensor) -> Tensor:
    """E(x) − Σ w E(x⁻) with POOL draws of the base for each datum."""
    with torch.no_grad():
        negative = pushed(vae, torch.randn(POOL * len(x), 4), 2)
        weights = (-energy(negative)).softmax(0)
    at_data, at_model = energy(torch.cat([x, negative])).split([len(x), len(negative)])
    return at_data.mean() - (weights * at_model).sum()


def bare_contrast(vae: VAE, energy: nn.Module, x: Tensor) -> Tensor:
    """E(x) − E(x⁻) where chains of STEPS steps end."""
    eps = bare_chain(vae, energy, torch.randn(len(x), 4), 2, PLANE)
    with torch.no_grad():
        negative = pushed(vae, eps, 2)
    at_data, at_model = energy(torch.cat([x, negative])).split([len(x), len(negative)])
    return at_data.mean() - at_model.mean()


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


def steps_of(negatives: Negatives, bare: Callable, vae: VAE, batches: list[Tensor]) -> tuple[Work, Work]:
    """Training steps of the library, and of a bare loop."""
    here, there = plane_energy(), plane_energy()
    tilted = Tilted(vae, here, negatives).train()
    library = trained(here, lambda x: tilted.loss(x).mean(), batches)
    return library, trained(there, lambda x: bare(vae, there, x), batches)


def data_chain(base: GenerativeModel, energy: nn.Module, n: int, eta: float) -> Tensor:
    """Langevin in x on E − log q, or in (x, z) for a VAE on E − log p(x|z) − log p(z)."""
    if not isinstance(base, VAE):
        with held_still(energy):
            return ULA(lambda x: energy(x) - base.log_prob(x), step=eta).run(base.sample(n), STEPS)
    d = base.prior.event_shape.numel()

    def joint(both: Tensor) -> Tensor:
        z, x = both[:, :d], both[:, d:].unflatten(1, base.event_shape)
        return energy(x) - base.likelihood_of_x(base.decoder(z)).log_prob(x) - base.prior.log_prob(z)

    with held_still(energy):
        eps = base.noise(n)
        with torch.no_grad():
            start = torch.cat([eps[:, :d], base.push(eps).flatten(1)], 1)
        return ULA(joint, step=eta).run(start, STEPS)


def noise_chain(base: GenerativeModel, energy: nn.Module, n: int, eta: float) -> Tensor:
    """The library's chains in the noise."""
    return NoiseChains(STEPS, eta).draw(base, energy, n)


def pairs() -> dict[str, tuple[tuple[str, Work], tuple[str, Work]]]:
    """What is timed, beside what."""
    plane, images = zoo.load("vae_gaussians25").requires_grad_(False), zoo.load("vae_mnist").requires_grad_(False)
    flow = zoo.load("flow_real_nvp_gaussians25").requires_grad_(False)
    batches = toy2d.get("gaussians25").sample((20 * BATCH,)).float().split(BATCH)
    by_weights = steps_of(Importance(POOL), bare_weights, plane, batches)
    by_chains = steps_of(NoiseChains(STEPS, PLANE), bare_contrast, plane, batches[:10])
    energy, of_images = plane_energy(), conv_energy((1, 28, 28), (16, 32, 64))

    def chain_of_images() -> Tensor:
        return bare_chain(images, of_images, images.noise(32), 16, IMAGES)

    in_noise = ("library", lambda: noise_chain(images, of_images, 32, IMAGES))
    rows = {
        name: (("library", here), ("bare", there))
        for name, (here, there) in (("20 training steps, weights", by_weights), ("10 training steps, chains", by_chains))
    }
    return rows | {
        f"{STEPS} steps in ε, 32 images": (in_noise, ("bare", chain_of_images)),
        f"{STEPS} steps, RealNVP": (
            ("in ε", lambda: noise_chain(flow, energy, BATCH, PLANE)),
            ("in x", lambda: data_chain(flow, energy, BATCH, 1e-5)),
        ),
        f"{STEPS} steps, VAE of images": (
            ("in ε", in_noise[1]),
            ("in (x, z)", lambda: data_chain(images, of_images, 32, 1e-5)),
        ),
    }


def timed(work: Work, seed: int) -> tuple[float, Tensor]:
    """CPU seconds of the work, and what came of it."""
    torch.manual_seed(seed)
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    table, slow = Table("work", "", "ms", "beside", "ms", "ratio", "wanted"), 0
    for name, ((here, mine), (there, other)) in pairs().items():
        seconds = []
        for seed in range(rounds + 1):
            (took, found), (beside, wanted) = timed(mine, seed), timed(other, seed)
            seconds.append((took, beside))
            if there == "bare" and seed == 0 and not torch.allclose(found, wanted, atol=1e-3, rtol=1e-3):
                raise SystemExit(f"{name}: the library and the bare loop differ by {(found - wanted).abs().max():.2g}")
        ratios = [a / b for a, b in seconds[1:]]  # the first round warms up
        ratio, spread = statistics.median(ratios), f"({min(ratios):.2f}–{max(ratios):.2f})"
        times = [f"{1e3 * statistics.median(side):.1f}" for side in zip(*seconds[1:], strict=True)]
        judged = there == "bare"
        table.add_row(name, here, times[0], there, times[1], f"{ratio:.2f} {spread}", f"≤ {WANTED}" if judged else "")
        slow += judged and ratio > WANTED
    Console(width=110).print(table)
    return int(slow > 0)


if __name__ == "__main__":
    raise SystemExit(main())
