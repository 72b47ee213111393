r"""How large a step a chain in the noise can bear: the Jacobian of the base decides.

Langevin is stable for η < 4/L, L the largest curvature of U (thesis (4.10); `gmcourse.sampling.langevin`). In the noise

    U(ε) = E(push(ε)) + ½‖ε‖²,     ∇²U = I + Jᵀ ∇²E J + Σ_i ∂E/∂x_i ∇²push_i,     J = ∂push/∂ε

so the base's own hill has curvature 1, and every detail of E is seen through J. Suppose ∇²E ≼ I/w²: e^{−E} has no detail
finer than w. With E = log q − log p that is so at a mode of p of standard deviation w where log q is concave or flat;
between the modes of q it can be worse. Leave out the last term, which is small where ∇E is, near the modes, or where push is
nearly linear (Gauss–Newton). Then, along a block b of the noise, with s_b the largest singular value of J_b = ∂push/∂ε_b,

    L_b ≤ 1 + (s_b/w)²     ⇒     η_b < 4/(1 + (s_b/w)²)

Where details that fine do lie along the longest stretch, L_b is that number, and a larger step diverges whatever the other
blocks do. All blocks together are stable where Σ_b η_b/bound_b < 1: a positive definite form is at most the sum of those of
its blocks. A VAE's ε_z is stretched by its decoder, to many times the width of a mode; ε_x by σ.

Both s and L come from products with J, Jᵀ or ∇² alone, by power iteration, which nears them from below.
"""

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from gmcourse.ebm.contrastive import held_still
from gmcourse.ebm.energy import Energy, values
from gmcourse.model import GenerativeModel, check_count, check_positive

Product = Callable[[Tensor], Tensor]  # rows v (n, D) ↦ A v, a symmetric A for each of them
ROUNDS = 50
SETTLED = 1e-5  # relative change in a round that ends them


def stretches(
    base: GenerativeModel,
    n: int = 64,
    *,
    quantile: float = 1.0,
    rounds: int = ROUNDS,
    generator: torch.Generator | None = None,
) -> dict[str, float]:
    """The largest singular value of ∂push/∂ε_b, for each `noise_blocks` b of the base: the largest over n of its draws.

    With `quantile` the stretch that this share of the draws does not exceed: the seams between the modes of a flow or a GAN,
    where few draws lie, are stretched several times as much as the rest. A base without `noise_blocks` has one, "ε"; a block
    of length 0 is stretched by 0.

    >>> from gmcourse.model import StandardNormal
    >>> stretches(StandardNormal(2), n=3)
    {'z': 1.0}
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile must lie in [0, 1]; got {quantile}")
    with held_still(base), torch.enable_grad():
        eps = base.noise(check_count(n), generator=generator).detach().requires_grad_()
        x = base.push(eps)
        u = torch.zeros_like(x, requires_grad=True)
        (pulled,) = torch.autograd.grad(x, eps, u, create_graph=True)  # Jᵀu: linear in u, so its derivative in u is J

        def gram(v: Tensor) -> Tensor:
            (pushed,) = torch.autograd.grad(pulled, u, v, retain_graph=True)
            return torch.autograd.grad(x, eps, pushed, retain_graph=True)[0]

        start = torch.randn(eps.shape, generator=generator, device=eps.device, dtype=eps.dtype)
        return {
            name: float(_largest(lambda v, on=on: gram(v) * on, start * on, rounds).clamp(min=0).quantile(quantile).sqrt())
            for name, on in masks(noise_blocks(base, eps.shape[1]), eps).items()
        }


def step_bounds(
    base: GenerativeModel,
    width: float,
    n: int = 64,
    *,
    quantile: float = 1.0,
    generator: torch.Generator | None = None,
) -> dict[str, float]:
    """4/(1 + (s/width)²) for each block: the step above which Langevin in the noise diverges, see above.

    `quantile` is that of `stretches`; `width` is the finest detail of e^{−E} in x: for E = log q − log p the standard
    deviation of the narrowest mode of p.

    >>> from gmcourse.model import StandardNormal
    >>> step_bounds(StandardNormal(2), 0.5)
    {'z': 0.8}
    """
    check_positive(width, "width")
    found = stretches(base, n, quantile=quantile, generator=generator)
    return {name: 4 / (1 + (s / width) ** 2) for name, s in found.items()}


def warn_above(
    base: GenerativeModel,
    step: float | Mapping[str, float],
    width: float,
    *,
    generator: torch.Generator | None = None,
) -> None:
    """A UserWarning that names every block whose step is above its bound, for details of `width`, at most of the base."""
    bounds = step_bounds(base, width, n=15, quantile=0.5, generator=generator)
    steps = step if isinstance(step, Mapping) else dict.fromkeys(bounds, step)
    if above := [f"{eta:g} in {name} (bound {bounds[name]:.2g})" for name, eta in steps.items() if eta > bounds[name]]:
        told = f"step {', '.join(above)} is more than Langevin bears where e^-E has details of width {width:g}"
        warnings.warn(f"{told}: chains will run away from them", stacklevel=4)


def curvature(
    base: GenerativeModel,
    energy: Energy,
    eps: Tensor,
    *,
    rounds: int = ROUNDS,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The largest eigenvalue of ∇²U at each ε (n, D), shape (n,): of a trained energy, without the assumptions above.

    The absolutely largest one may belong to a saddle: it shifts ∇²U, so that the largest is left.
    """
    with held_still(base), held_still(energy), torch.enable_grad():
        at = eps.detach().requires_grad_()
        tilt = values(energy, base.push(at)).sum() + 0 * at.square().sum()  # 0·: a linear tilt has a graph, too
        (slope,) = torch.autograd.grad(tilt, at, create_graph=True)

        def hessian(v: Tensor) -> Tensor:
            return torch.autograd.grad(slope, at, v, retain_graph=True)[0]

        start = torch.randn(eps.shape, generator=generator, device=eps.device, dtype=eps.dtype)
        shift = _largest(hessian, start, rounds).abs()
        return 1 + _largest(lambda v: hessian(v) + shift[:, None] * v, start, rounds) - shift


def lipschitz(energy: Energy, x: Tensor, *, rounds: int = ROUNDS, generator: torch.Generator | None = None) -> Tensor:
    """The largest |λ| of ∇²E at each x (n, *event_shape), shape (n,): how fast ∇E changes there, from below.

    A step of descent x − (η/2)∇E is sure to be invertible where η/2 times this is less than 1 everywhere (thesis (5.9)). It
    need not be otherwise: only an eigenvalue above +2/η folds space, and a hill may be as sharp as it likes.
    """
    with held_still(energy), torch.enable_grad():
        at = x.detach().clone().requires_grad_()
        value = values(energy, at).sum() + 0 * at.square().sum()  # 0·: a linear energy has a graph, too
        (slope,) = torch.autograd.grad(value, at, create_graph=True)

        def hessian(v: Tensor) -> Tensor:
            return torch.autograd.grad(slope, at, v.reshape(x.shape), retain_graph=True)[0].reshape(v.shape)

        size = x.shape[1:].numel()
        start = torch.randn(len(x), size, generator=generator, device=x.device, dtype=x.dtype)
        squared = _largest(lambda v: hessian(hessian(v)), start, rounds)  # of ∇²E itself, λ and −λ would mix
        return squared.clamp(min=0).sqrt()


def noise_blocks(base: GenerativeModel, size: int) -> Mapping[str, int]:
    """Name -> length of the parts of the base's noise, which is `size` long; one part, "ε", if it names none."""
    return getattr(base, "noise_blocks", {"ε": size})


def masks(blocks: Mapping[str, int], like: Tensor) -> dict[str, Tensor]:
    """For every block, 1 on its columns and 0 elsewhere, (D,)."""
    owner = torch.repeat_interleave(torch.arange(len(blocks)), torch.tensor(list(blocks.values())))
    return {name: (owner == k).to(like) for k, name in enumerate(blocks)}


def _largest(product: Product, v: Tensor, rounds: int) -> Tensor:
    """Rayleigh's vᵀAv of every row, (n,), after power iteration from v (n, D): the eigenvalue of largest |λ|."""
    found = v.new_full((len(v),), torch.inf)
    for _ in range(check_count(rounds, "rounds")):
        v = torch.nn.functional.normalize(v, dim=1)
        image = product(v)
        before, found = found, (v * image).sum(1)
        if torch.allclose(found, before, rtol=SETTLED, atol=0):
            break
        v = image
    return found.detach()
