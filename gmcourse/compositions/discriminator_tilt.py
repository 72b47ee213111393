r"""A discriminator is an energy: what tells p from q tilts q into p (thesis 1.2.2, 4.2; Che et al. 2020).

    t(x) → log p(x)/q(x)      the best logit of a classifier between data p and draws of q                 thesis (1.12)
    q(x) e^{t(x)} = p(x)      so that E = −t, with log Z = 0

Nothing is trained here: somebody else has learned the energy, and the base that it belongs to.

    DDLS                        q a GAN's generator, t its critic: p*(x) = p_g(x) e^{D(x)}/Z, D = t         thesis (4.2)
    noise-contrastive tilting   q a flow or any other transport, t its `NoiseContrastive` classifier        thesis (1.12)

In the space of the noise the chains need no density of x, so that even a GAN can be tilted. How good it gets hangs on t: one
that was trained against earlier generators knows q only roughly, and a log Z far from 0 betrays it.
"""

from torch import Tensor, nn

from gmcourse.compositions.negatives import Negatives
from gmcourse.compositions.tilted import Tilted
from gmcourse.density_ratio import NoiseContrastive
from gmcourse.gan.gan import GAN
from gmcourse.gan.objectives import Minimax
from gmcourse.model import check_positive


class MinusLogit(nn.Module):
    """E(x) = −t(x)/T, t a net that is held still, (n, *event_shape) -> (n,) or (n, 1).

    >>> import torch
    >>> MinusLogit(nn.Flatten(0))(torch.ones(2, 1))
    tensor([-1., -1.])
    """

    def __init__(self, net: nn.Module, temperature: float = 1.0):
        super().__init__()
        self.net, self.temperature = net.requires_grad_(False), check_positive(temperature, "temperature")

    def forward(self, x: Tensor) -> Tensor:
        """(n, *event_shape) -> (n,) in nats."""
        t = self.net(x)
        return -(t.squeeze(1) if t.ndim == 2 else t) / self.temperature


def discriminator_tilt(gan: GAN, negatives: Negatives, *, temperature: float | None = None) -> Tilted:
    """p_g(x) e^{t(x)/T}/Z: a GAN's generator tilted by its own critic, DDLS, thesis (4.2). Neither is trained any further.

    Args:
        negatives: how it is drawn from, e.g. `NoiseChains(100, 0.01)` or `Importance(16)`.
        temperature: T, 1 for the logit of a minimax or non-saturating critic, which tends to log p/q; a critic of another
            game has units of its own, and T must be given.

    Raises ValueError for a GAN with classes, and for other critics without a temperature.
    """
    if gan.classes:
        raise ValueError(f"gan must have no classes; got one with {gan.classes}")
    game = gan.critic.objective
    if temperature is None and not isinstance(game, Minimax):
        told = "whose logit is no log-density ratio; only minimax and non-saturating critics' is"
        raise ValueError(f"temperature must be given for a critic of the {game.name} game, {told}")
    return Tilted(gan, MinusLogit(gan.critic, 1.0 if temperature is None else temperature), negatives)


def noise_contrastive_tilt(classifier: NoiseContrastive, negatives: Negatives) -> Tilted:
    """q(x) e^{h(x)}/Z: the noise of a `NoiseContrastive` classifier tilted by its log-ratio h, thesis (1.12), (4.4).

    What `classifier.sample` picks from draws of q, chains in the space of its noise can reach, too. Neither is trained any
    further. Raises ValueError if q is no transport.
    """
    if not classifier.event_shape:
        raise ValueError("classifier must be of vectors or images; got one of single numbers")
    return Tilted(classifier.noise, MinusLogit(classifier.net), negatives)
