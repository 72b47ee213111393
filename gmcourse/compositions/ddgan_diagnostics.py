r"""What goes on inside a denoising diffusion GAN: each step's game, and whether z is used at all.

The discriminator's loss at each step (Fig. 6.10) lies at 2 ln 2 = 1.39 nats where it cannot tell, and at 0 where it tells
for sure. Noise makes it harder to tell; it is easiest at the step whose true law has parted humps, in the thesis the last.

A generator may ignore z. Then its law of x_{t−1} is the posterior's Gaussian, however large the step, and what was to be
multi-modal is not. How much z counts is told by the law of total variance over x_t and z:

    Var x̂_0 = Var E[x̂_0 | x_t] + E Var[x̂_0 | x_t],        share(t) = E Var[x̂_0 | x_t] / Var x̂_0

With the true p(x_0 | x_t) the share rises from 0 without noise to 1 where x_t is noise only. What is looked at is what the
generator says: for one of the noise the share falls instead.
"""

import warnings

import torch
from torch import Tensor

from gmcourse.compositions.ddgan import DenoisingDiffusionGAN
from gmcourse.model import check_count, evaluating
from gmcourse.sampling.sampler import normal_like

IGNORED = 1e-3


@torch.no_grad()
def losses_by_step(model: DenoisingDiffusionGAN, x: Tensor) -> Tensor:
    """The discriminator's loss at data x (n, *event_shape) at each t, (T,) in nats for the first two objectives, without
    penalties; Fig. 6.10."""
    with evaluating(model):
        return torch.stack([model.contest(x, torch.full((len(x),), t, device=x.device)).mean() for t in range(model.nfe)])


@torch.no_grad()
def latent_shares(
    model: DenoisingDiffusionGAN, x: Tensor, *, draws: int = 8, generator: torch.Generator | None = None
) -> Tensor:
    """The share of the variance of what the generator says that z makes, at x_t of data x (n, *event_shape), (T,) in [0, 1].

    From `draws` of z for each x_t, at least 2, and at least 2 data; both terms are estimated without bias, but that what x_t
    makes is not let below 0: with few data shares near 1 come out too low. UserWarning where latents are declared and the
    share is below 0.001 at every step; ValueError for fewer draws or data.
    """
    if check_count(draws, "draws") < 2:
        raise ValueError(f"draws must be at least 2; got {draws}")
    if len(model.check_batch(x)) < 2:
        raise ValueError(f"x must hold at least 2 data; got {len(x)}")
    shares = torch.stack([_share(model, x, t, draws, generator) for t in range(model.nfe)])
    if model.latent and (shares < IGNORED).all():
        told = f"z makes {100 * float(shares.max()):.2g} % of its variance at most"
        warnings.warn(f"the generator ignores its latents: {told}; its steps are those of one without", stacklevel=2)
    return shares


def _share(model: DenoisingDiffusionGAN, x: Tensor, t: int, draws: int, generator: torch.Generator | None) -> Tensor:
    times = torch.full((len(x),), t, device=x.device)
    _, xt = model.chain.q_pair(x, times, normal_like(x, generator), normal_like(x, generator))
    latents = [model.latents(x, generator) for _ in range(draws)]
    with evaluating(model):
        said = torch.stack([model.say(xt, times, z) for z in latents])
    within = said.var(0).sum() / len(x)
    between = (said.mean(0).var(0).sum() - within / draws).clamp(min=0)
    return within / (within + between).clamp(min=torch.finfo(x.dtype).tiny)
