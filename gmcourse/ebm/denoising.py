r"""Denoising score matching: the slope of noisy data is known, one datum at a time (thesis 2.3.3; Vincent 2011).

    x̃ = x + σ ε,  ε ~ N(0, I):     ∇ log q(x̃|x) = (x − x̃)/σ² = −ε/σ
    E[½ ‖s_θ(x̃) − ∇ log q(x̃|x)‖²] = D_F(q ‖ p_θ) + constant                                     thesis (2.42), slides (22)

No second derivative, and any activation will do. s_θ learns the mean of −ε/σ given x̃, which is the slope of q, the data's
density *blurred* by σ: (x̃ + σ² s_θ(x̃)) is the best guess at x. A large σ is a bias; a small one makes noise of the loss,
whose values are about d/(2σ²), and leaves everything further than σ from the data unlearned. So many σ are used at once,

    E_σ λ(σ) E[½ ‖s_θ(x̃, σ) + ε/σ‖²],      λ(σ) = σ² makes all of them equally large            slides (24)
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gmcourse.ebm.derivatives import trainable_score
from gmcourse.ebm.energy import Energy
from gmcourse.model import check_positive
from gmcourse.sampling.sampler import beside, rows


def denoising_score_matching(energy: Energy, x: Tensor, *, sigma: float) -> Tensor:
    """½ ‖s_θ(x̃) + ε/σ‖² at x̃ = x + σε, x (n, *event_shape) -> (n,); thesis (2.42). Noise comes from the global state.

    Its minimiser is the data's density blurred by `sigma`, not the data's.

    >>> denoising_score_matching(lambda x: x.square().sum(1) / 2, torch.zeros(5, 2), sigma=0.1).shape
    torch.Size([5])
    """
    eps = torch.randn_like(x)
    s = trainable_score(energy, x + check_positive(sigma, "sigma") * eps)
    return 0.5 * rows(s + eps / sigma).square().sum(1)


def multi_scale(
    energy: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    *,
    sigmas: Sequence[float],
    weight: Callable[[Tensor], Tensor] = torch.square,
) -> Tensor:
    """λ(σ) ½ ‖s_θ(x̃, σ) + ε/σ‖² at x̃ = x + σε, with one of `sigmas` drawn for each datum, (n,); slides (24).

    The mean is that over all the scales, where slides (24) has twice the sum. `partial(energy, sigma=…)`, or what plays
    that part, is the energy of the data blurred by one σ.

    Args:
        energy: x (n, *event_shape), sigma (n,) -> (n,), in nats.
        sigmas: the scales, each as probable as the others.
        weight: λ, of sigma (n,); σ² unless said otherwise, 1 leaves nearly all of the loss to the smallest scale.
    """
    scales = torch.as_tensor([check_positive(sigma, "sigmas") for sigma in sigmas], dtype=x.dtype, device=x.device)
    if len(scales) == 0:
        raise ValueError("sigmas must hold at least one scale; got none")
    sigma = scales[torch.randint(len(scales), (len(x),), device=x.device)]
    width, eps = beside(sigma, x), torch.randn_like(x)
    s = trainable_score(lambda noisy: energy(noisy, sigma), x + width * eps)
    return weight(sigma) * 0.5 * rows(s + eps / width).square().sum(1)
