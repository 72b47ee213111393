r"""Sliced score matching: compare slopes along random directions, one at a time (slides; Song et al. 2019).

    D_SF = E_p E_v[½ (vᵀ∇ log p(x) − vᵀs_θ(x))²] = E_p E_v[vᵀ∇s_θ(x) v + ½ (vᵀs_θ(x))²] + constant     slides (23)

For E[v] = 0 and E[vvᵀ] = I the mean over v is implicit score matching, without bias, at the price of one direction in place
of d. Here v has independent entries ±1: vᵀAv = tr A + Σ_{i≠j} A_ij v_i v_j has variance 2 Σ_{i≠j} A_ij² for a symmetric A,
the least among *independent* entries: all others add Σ_i A_ii² Var[v_i²]. Dependent ones may do better or worse.
The second term needs no slices, E_v(vᵀs)² = ‖s‖²: putting that in (SSM-VR) leaves A = ∇s of A = ∇s + ½ ssᵀ. This has the
smaller variance far from the data's modes, where s is large; where ∇s ≈ −½ ssᵀ off the diagonal it need not.
"""

from torch import Tensor

from gmcourse.ebm.derivatives import score_and_slope, signs
from gmcourse.ebm.energy import Energy
from gmcourse.model import check_count
from gmcourse.sampling.sampler import rows


def sliced_score_matching(energy: Energy, x: Tensor, *, projections: int = 1, variance_reduced: bool = False) -> Tensor:
    """vᵀ∇s_θ v + ½ (vᵀs_θ)², averaged over `projections` random v per datum, x (n, *event_shape) -> (n,); slides (23).

    Unbiased for `implicit_score_matching`, to which it is equal in one dimension. Directions come from the global state.
    Raises ValueError for an energy of ReLUs, or others with kinks.

    Args:
        projections: directions v per datum, all in one pass.
        variance_reduced: ½ ‖s_θ‖² in place of ½ (vᵀs_θ)².

    >>> import torch
    >>> sliced_score_matching(lambda x: x.square().sum(1) / 2, torch.zeros(4, 3)).detach()
    tensor([-3., -3., -3., -3.])
    """
    v = signs(check_count(projections, "projections"), x)
    s, slopes = score_and_slope(energy, x, v)
    if variance_reduced:
        return slopes.mean(0) + 0.5 * rows(s).square().sum(1)
    return (slopes + 0.5 * (v * s).reshape(*slopes.shape, -1).sum(2).square()).mean(0)
