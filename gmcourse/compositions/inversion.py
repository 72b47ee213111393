r"""Back from a sample to its noise, and between two noises: what shows that a chain is a generator (thesis 5.1.1).

    z*(x) = argmin_z ‖x − M(z)‖²/d + λ ½‖z‖²                         by gradients through M           Nijkamp et al. 2019
    z_ρ = ρ z₁ + √(1−ρ²) z₂,  ρ ∈ [0, 1]                             as N(0, I) as z₁ and z₂                    Fig. 5.2

A chain that has forgotten where it began can't do this: its end is independent of z, and no z is better than another. With
λ = 0 any z will do that leads to x; where M can be inverted there is just one, which `flow().encode` finds to the solver's
precision. With λ = 2σ²/d it is the most probable z of x = M(z) + σ N(0, I). The squares of a net's output have many valleys:
of several starts the best is kept, datum by datum.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR

from gmcourse.compositions.stability import masks, noise_blocks
from gmcourse.ebm.contrastive import held_still
from gmcourse.model import GenerativeModel, check_count, check_not_negative, check_positive
from gmcourse.training.progress import Progress

HELD = ("zero", "draw")


class Reconstruction(NamedTuple):
    """What `reconstruct` has found for n data: the best of all starts and all steps."""

    z: Tensor  # all blocks of the noise, (n, D); push(z) is x
    x: Tensor  # (n, *event_shape)
    error: Tensor  # ‖x − push(z)‖²/d of each datum, (n,)
    course: Tensor  # the error before the first step and after each, of the start that was kept, (steps + 1, n)


def reconstruct(
    model: GenerativeModel,
    x: Tensor,
    *,
    blocks: str | Sequence[str] = "z",
    held: str = "zero",
    steps: int = 200,
    lr: float = 0.1,
    restarts: int = 1,
    weight_noise: float = 0.0,
    progress: bool = True,
    generator: torch.Generator | None = None,
) -> Reconstruction:
    """The noise whose way ends at x (n, *event_shape), by Adam through `push` of any transport; thesis 5.1.1.

    Args:
        blocks: of `model.noise_blocks`, those that are looked for.
        held: what stands in all other blocks, such as the u of noisy chains: "zero", or for each start one "draw".
        lr: Adam's at first; it falls to 0 along a cosine, so that z gets about lr·steps/2 away from its start and no
            further. All data go their ways independently of one another.
        restarts: starts per datum, draws of `model.noise`, which are pushed all at once.
        weight_noise: λ, of ½‖z‖² over `blocks`.

    The weights of the model are left alone, and its mode; it is evaluated in evaluation mode. Raises ValueError for a model
    without `push`, or one whose push has no gradient, and what the model raises where its ways are not finite.

    >>> from gmcourse.model import StandardNormal
    >>> x = torch.tensor([[1.0, -2.0]])
    >>> bool((reconstruct(StandardNormal(2), x, progress=False).z - x).abs().max() < 0.01)
    True
    """
    x, rounds, restarts = _checked(model, x), check_count(steps, "steps"), check_count(restarts, "restarts")
    check_positive(lr, "lr")
    check_not_negative(weight_noise, "weight_noise")
    if held not in HELD:
        raise ValueError(f"held must be one of {HELD}; got {held!r}")
    target, course = x.detach().expand(restarts, *x.shape).flatten(0, 1), []
    with held_still(model), torch.enable_grad(), Progress("reconstruct", rounds, show=progress) as bar:
        z = model.noise(len(target), generator=generator).detach()
        free = _free(model, blocks, z)
        z = (z * free if held == "zero" else z.clone()).requires_grad_()
        optimizer = torch.optim.Adam([z], lr=lr)
        schedule = CosineAnnealingLR(optimizer, rounds)
        best, least = z.detach().clone(), torch.full_like(z[:, 0], torch.inf)
        for k in range(rounds + 1):
            error = _error(model, z, target)
            goal = error if not weight_noise else error + weight_noise / 2 * (z * free).square().sum(1)
            course.append(error.detach())
            better = goal.detach() < least
            best, least = torch.where(better[:, None], z.detach(), best), torch.where(better, goal.detach(), least)
            if k < rounds:
                (slope,) = torch.autograd.grad(goal.sum(), z)
                z.grad = slope * free
                optimizer.step()
                schedule.step()
                bar.advance(note=f"mean squared error {float(course[-1].mean()):.4g}" if (k + 1) % 50 == 0 else None)
        start = least.reshape(restarts, -1).argmin(0)
        mine = start * len(x) + torch.arange(len(x), device=start.device)
        with torch.no_grad():
            found = model.push(best[mine])
    return Reconstruction(best[mine], found, (found - x).flatten(1).square().mean(1), torch.stack(course)[:, mine])


def interpolate(z1: Tensor, z2: Tensor, rho: float | Sequence[float] | Tensor) -> Tensor:
    """z_ρ = ρ z₁ + √(1−ρ²) z₂, Fig. 5.2: z₂ at ρ = 0, z₁ at ρ = 1, and N(0, I) throughout if both are and are independent.

    z1 and z2 (n, D) give (n, D) for one ρ, and (k, n, D) for k of them. The straight line instead would lead through noise
    of variance ½ in its middle, which the model has never met. Raises ValueError for ρ outside of [0, 1].

    >>> interpolate(torch.zeros(5, 2), torch.ones(5, 2), [0.0, 0.6, 1.0])[:, 0, 0]
    tensor([1.0000, 0.8000, 0.0000])
    """
    if z1.shape != z2.shape:
        raise ValueError(f"z1 and z2 must have the same shape; got {tuple(z1.shape)} and {tuple(z2.shape)}")
    rho = torch.as_tensor(rho, dtype=z1.dtype, device=z1.device)
    if rho.ndim > 1:
        raise ValueError(f"rho must be a number, or have shape (k,); got {tuple(rho.shape)}")
    if not ((0 <= rho) & (rho <= 1)).all():
        raise ValueError(f"rho must lie in [0, 1]; got {rho.tolist()}")
    rho = rho.reshape(*rho.shape, *[1] * z1.ndim)
    return rho * z1 + (1 - rho.square()).sqrt() * z2


def _error(model: GenerativeModel, z: Tensor, x: Tensor) -> Tensor:
    """‖x − push(z)‖²/d, (n,)."""
    error = (model.push(z) - x).flatten(1).square().mean(1)
    if not error.requires_grad:
        raise ValueError(f"model.push must be differentiable in the noise; that of {type(model).__name__} is not")
    return error


def _free(model: GenerativeModel, blocks: str | Sequence[str], z: Tensor) -> Tensor:
    """1 on the columns of these blocks, 0 on the others, (D,)."""
    wanted, there = [blocks] if isinstance(blocks, str) else list(blocks), masks(noise_blocks(model, z.shape[1]), z)
    if not wanted or not set(wanted) <= set(there):
        raise ValueError(f"blocks must be some of {', '.join(there)}; got {', '.join(wanted) or 'none'}")
    return sum(there[name] for name in dict.fromkeys(wanted))


def _checked(model: GenerativeModel, x: Tensor) -> Tensor:
    for needed in ("noise", "push"):
        if not hasattr(model, needed):
            raise ValueError(f"model must be a transport, with noise and push; {type(model).__name__} has no {needed}")
    return model.check_data(x, "x")
