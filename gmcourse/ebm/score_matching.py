r"""Score matching: fit the slope of log p instead of log p, so that Z never comes up (thesis 2.3.3; Hyvärinen 2005).

    D_F(p ‖ p_θ) = E_p[½ ‖∇ log p(x) − s_θ(x)‖²],      s_θ = −∇E_θ                               thesis (2.40)

Two densities with the same slopes everywhere are the same. The slope of the data's is not known, but by parts
E_p[∇ log p · s_θ] = −E_p[tr ∇s_θ], if p s_θ vanishes far out, and so

    D_F = E_p[tr ∇s_θ(x) + ½ ‖s_θ(x)‖²] + ½ E_p‖∇ log p‖²                                     thesis (2.41), slides (21)

whose last term does not depend on θ. What remains asks s_θ to vanish at the data and to point towards them on all sides.
The trace takes d directions, one for each coordinate: for images see `sliced` and `denoising`. Slopes say nothing of how
much mass lies on either side of a gap: modes far from each other get weights by chance.
"""

from collections.abc import Callable

from torch import Tensor

from gmcourse.ebm.derivatives import axes, score_and_slope, trainable_score
from gmcourse.ebm.energy import Energy
from gmcourse.sampling.sampler import rows


def explicit_score_matching(energy: Energy, x: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
    """½ ‖∇ log p(x) − s_θ(x)‖² for data x (n, *event_shape) of a p whose `score` is known, (n,); thesis (2.40).

    Its mean is the Fisher divergence: the yardstick for all that follows, of use where the truth is known.

    >>> import torch
    >>> explicit_score_matching(lambda x: x.square().sum(1) / 2, torch.ones(1, 2), lambda x: -2 * x).detach()
    tensor([1.])
    """
    wanted = score(x)
    if wanted.shape != x.shape:
        raise ValueError(f"score must have the shape of x, {tuple(x.shape)}; got {tuple(wanted.shape)}")
    return 0.5 * rows(trainable_score(energy, x) - wanted.detach()).square().sum(1)


def implicit_score_matching(energy: Energy, x: Tensor) -> Tensor:
    """tr ∇s_θ(x) + ½ ‖s_θ(x)‖² for data x (n, *event_shape), (n,), with the exact trace; thesis (2.41), slides (21).

    Its mean is the Fisher divergence less ½ E‖∇ log p‖². Raises ValueError for an energy of ReLUs, or others with kinks:
    their second derivative is 0 wherever there is one, so that the trace would be missing.

    >>> import torch
    >>> implicit_score_matching(lambda x: x.square().sum(1) / 2, torch.ones(1, 3)).detach()     # −3 + 3/2
    tensor([-1.5000])
    """
    s, slopes = score_and_slope(energy, x, axes(x))
    return slopes.sum(0) + 0.5 * rows(s).square().sum(1)
