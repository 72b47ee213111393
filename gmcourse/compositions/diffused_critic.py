r"""Diffusion as data augmentation: a critic of one step that sees all through noise (thesis 6.4.2, "one-shot w/ aug").

    D(F(x)) on data,  D(F(G(z))) on fakes,      F(x) = √ᾱ_t x + √(1 − ᾱ_t) ε,  t, ε drawn at each look     Zhao et al. 2020

F is differentiable, and the generator learns through it. It makes the two laws overlap, as the noise of a denoising
diffusion GAN does; what it does not do is to split the task: the generator still maps noise to data in one go.
"""

import torch
from torch import Tensor, nn

from gmcourse.diffusion.schedule import DiscreteDiffusion


class DiffusedCritic(nn.Module):
    """A critic x (n, *event_shape) -> (n,) around another, which sees x after 0 … T−1 steps of the chain, drawn evenly.

    The last step is left out: it destroys what x was. Logits are random, in evaluation mode as well.

    >>> from gmcourse.diffusion.schedule import vp_betas
    >>> DiffusedCritic(nn.Flatten(0), DiscreteDiffusion(vp_betas(1)))(torch.ones(3, 1))     # one step: none is left
    tensor([1., 1., 1.])
    """

    def __init__(self, net: nn.Module, chain: DiscreteDiffusion):
        super().__init__()
        self.net, self.chain = net, chain

    def forward(self, x: Tensor) -> Tensor:
        """Logits of x through noise."""
        t = torch.randint(len(self.chain), (len(x),), device=x.device)
        seen, _ = self.chain.q_pair(x, t, torch.randn_like(x), torch.zeros_like(x))  # x after t steps
        return self.net(seen)
