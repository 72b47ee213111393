r"""How an energy that is its own generator is trained (thesis 5.3, 5.4).

    E_θ(x) − E_θ(x⁻),                 x⁻ = G_sg(θ)(x₀)             as a critic: maximum likelihood, (5.1)
    w E_sg(θ)(G_θ(x₀))                                          as a generator, through the way down, (5.13)

Their sum is (5.14), at w = 1: the game of a Wasserstein GAN whose players share one net and one batch of samples. Where the
way down is a flow its likelihood can be maximised instead, and that is another model of the same form.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gmcourse.ebm.contrastive import contrastive, held_still
from gmcourse.ebm.energy import Energy, values
from gmcourse.model import check_not_negative


class SelfContrast:
    """E(x) − E(x⁻) + w E_sg(x⁻), thesis (5.14); with w = 0 the first two terms alone, (5.1).

    Args:
        generator: w.
        l2: weight of E(x)² + E(x⁻)², as in `ebm.contrastive`.
        data_noise: standard deviation of noise on the data, each time they are seen.
        penalty: of the energy, a number, added to every sample's loss.
    """

    def __init__(
        self,
        generator: float = 0.0,
        *,
        l2: float = 0.0,
        data_noise: float = 0.0,
        penalty: Callable[[Energy], Tensor] | None = None,
    ):
        self.generator, self.l2 = check_not_negative(generator, "generator"), check_not_negative(l2, "l2")
        self.data_noise, self.penalty = check_not_negative(data_noise, "data_noise"), penalty

    def __call__(self, model, x: Tensor) -> Tensor:
        """Loss of each datum of x (n, *event_shape), shape (n,), in nats."""
        if self.data_noise:
            x = x + self.data_noise * torch.randn_like(x)
        if self.generator:
            ends = model.push(model.noise(len(x)))
        else:
            with torch.no_grad(), held_still(model.energy):
                ends = model.push(model.noise(len(x)))
        loss = contrastive(model.energy, x, ends, l2=self.l2)
        if self.generator:
            loss = loss + self.generator * values(stopped(model.energy), ends)
        if not loss.isfinite().all():
            raise FloatingPointError("the energy is not finite at the data or where ways end; lower learning rate or step")
        return loss if self.penalty is None else loss + self.penalty(model.energy)

    def __repr__(self) -> str:
        return f"SelfContrast(generator={self.generator:g}, l2={self.l2:g}, data_noise={self.data_noise:g})"


def exact_likelihood(model, x: Tensor) -> Tensor:
    """−log p(x) of the flow, thesis (5.7), (n,) in nats: maximum likelihood of the way down itself."""
    return -model.log_prob(x)


def stopped(energy: Energy) -> Energy:
    """E_sg(θ): the same function of x, through which no gradient reaches the weights; what is no module stays as it is."""
    if not isinstance(energy, nn.Module):
        return energy
    weights = {name: p.detach() for name, p in energy.named_parameters()}
    return lambda x: functional_call(energy, weights, (x,))
