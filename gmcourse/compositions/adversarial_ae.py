r"""An adversary in latent space: a critic who tells codes from draws of the prior (thesis 3.2; slides Fig. 14).

    critic        mean of its objective, draws of p(z) real, codes z = E(x) fake; at best its logit is log p(z)/q(z)
    fooling it    ℓ_G(critic(E(x))), the generator's loss of the game: q(z), the law of the codes, is drawn to p(z)

It is a GAN whose generator is the encoder and whose noise is the data. The critic sees d numbers instead of an image, and
what it defends may be a Gaussian. Two ways to join it to L_recon(x, G(E(x))):

    AAE       three players: encoder and decoder descend β L_recon; the critic; then the encoder alone descends ℓ_G
    WAE-GAN   two: the critic; encoder and decoder together descend β L_recon + weight · ℓ_G

The encoder of the first belongs to two players, each with an optimiser of its own. Adam does not see how large a loss is, so
what weighs the two is lr={"autoencoder": …, "encoder": …, "critic": …}; in WAE-GAN it is the weight (Makhzani et al. 2015,
section 2; Tolstikhin et al. 2017, algorithm 1). (Thesis 3.2 has p(x) for p(z), the law of the real ones.)
"""

from abc import ABC
from collections.abc import Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from gmcourse.compositions.autoencoder import Autoencoder
from gmcourse.gan import Critic
from gmcourse.model import GenerativeModel, Player, check_count, check_positive


class LatentGame(Autoencoder, ABC):
    """Base of both: an auto-encoder with a critic of its codes.

    Args:
        event_shape, encoder, decoder, and among the options beta, distortion: as of `Autoencoder`.
        prior: p(z), which stays as it is.
        critic: of codes, `Critic(net, event_shape=(d,), objective=…, regularisers=…)`.
        critic_steps: who fools the critic plays on every so manieth step only.

    Raises ValueError for β ≤ 0, and for a prior or a critic on other than d dimensions.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        encoder: nn.Module,
        decoder: nn.Module,
        prior: GenerativeModel,
        critic: Critic,
        *,
        critic_steps: int = 1,
        **options,
    ):
        super().__init__(event_shape, encoder, decoder, prior, **options)
        if critic.event_shape != prior.event_shape or critic.classes:
            wanted = f"critic must judge codes of shape {tuple(prior.event_shape)} without labels"
            raise ValueError(f"{wanted}; got one of {tuple(critic.event_shape)} with {critic.classes} classes")
        self.critic, self.critic_steps = critic, check_count(critic_steps, "critic_steps")

    def critic_loss(self, x: Tensor) -> Tensor:
        """The critic's loss (n,) at the codes of x (n, *event_shape), which lead nowhere, and at as many draws of p(z)."""
        with torch.no_grad():
            z = self.encoder(self.check_batch(x))
        return self.critic.against(self.prior.sample(len(z)), z)

    def fooling_loss(self, z: Tensor) -> Tensor:
        """ℓ_G(critic(z)) (n,) at codes z (n, d)."""
        self.critic.clip_weights()
        return self.critic.objective.generator(self.critic(z))

    def autoencoder_parameters(self) -> Iterator[nn.Parameter]:
        """Of encoder, decoder and distortion; the prior's belong to nobody."""
        return chain(*(part.parameters() for part in (self.encoder, self.decoder, self.distortion)))


class AdversarialAutoencoder(LatentGame):
    """AAE (Makhzani et al. 2015): three players, of whom two share the encoder.

    Arguments and errors as of `LatentGame`. An encoder with batch normalisation sees each batch three times, once for each
    player, and so its running statistics have a shorter memory.

    >>> from gmcourse.model import StandardNormal
    >>> model = AdversarialAutoencoder((4,), nn.Linear(4, 2), nn.Linear(2, 4), StandardNormal(2),
    ...                                Critic(nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)), event_shape=(2,)))
    >>> [player.name for player in model.players()]
    ['autoencoder', 'critic', 'encoder']
    """

    def players(self) -> Sequence[Player]:
        """Encoder and decoder, who reconstruct; the critic; the encoder, who fools it."""
        return [
            Player("autoencoder", self.autoencoder_parameters, self.reconstruction_loss),
            Player("critic", self.critic.parameters, self.critic_loss),
            Player("encoder", self.encoder.parameters, self.encoder_loss, every=self.critic_steps),
        ]

    def reconstruction_loss(self, x: Tensor) -> Tensor:
        """β L_recon(x, G(E(x))), (n, *event_shape) -> (n,)."""
        return self.beta * self.distortion(x, self.decoder(self.encoder(self.check_batch(x))))

    def encoder_loss(self, x: Tensor) -> Tensor:
        """ℓ_G(critic(E(x))), (n, *event_shape) -> (n,)."""
        return self.latent_term(self.encoder(self.check_batch(x)))

    def latent_term(self, z: Tensor) -> Tensor:
        """ℓ_G(critic(z)), (n,): what the encoder descends in its second move."""
        return self.fooling_loss(z)


class WAEGAN(LatentGame):
    """WAE-GAN (Tolstikhin et al. 2017): two players, the critic and an auto-encoder that fools it while it reconstructs.

    Args:
        event_shape, encoder, decoder, prior, critic, and among the options critic_steps, beta, distortion: as of
            `LatentGame`.
        weight: of ℓ_G beside β L_recon.

    Raises ValueError as `LatentGame` does, and for a weight ≤ 0.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        encoder: nn.Module,
        decoder: nn.Module,
        prior: GenerativeModel,
        critic: Critic,
        *,
        weight: float = 10.0,
        **options,
    ):
        super().__init__(event_shape, encoder, decoder, prior, critic, **options)
        self.weight = check_positive(weight, "weight")

    def players(self) -> Sequence[Player]:
        """The critic, who plays at every step, and the auto-encoder."""
        return [
            Player("critic", self.critic.parameters, self.critic_loss),
            Player("autoencoder", self.autoencoder_parameters, self.loss, every=self.critic_steps),
        ]

    def latent_term(self, z: Tensor) -> Tensor:
        """weight · ℓ_G(critic(z)), (n,)."""
        return self.weight * self.fooling_loss(z)
