r"""Two nets that play: a critic, who tells data from fakes, and a generator, who makes them (thesis 2.5).

    x̃ = G(ε), ε ~ N(0, I)                                                                     thesis (2.69), (2.70)
    critic       mean of its objective over data and fakes, plus what keeps it from being steep
    generator    mean of its objective over fakes, every `critic_steps` steps

The law of x̃ has no density that could be evaluated: there is no log_prob. What there is besides samples is the critic's
logit, which for an unregularised critic in the first two games tends to log p/q.

Of what is done in practice, `fit` has the rest by players' names: two learning rates (TTUR, Heusel et al. 2017) by
lr={"critic": …, "generator": …}, Adam with betas (0, 0.9) by optimizer, the generator's moving average by
ema={"critic": None, "generator": 0.999}.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmcourse.gan import objectives
from gmcourse.gan.regularisers import Regulariser, check_pair, clip_weights
from gmcourse.model import GenerativeModel, Player, Trainable, check_count, evaluating
from gmcourse.nets.spectral import is_spectrally_normalised
from gmcourse.sampling.gradient import one_per_row

Pairs = tuple[Tensor, Tensor]
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Critic(Trainable):
    """A critic with its objective and what regularises it; a game for itself when the fakes are given.

    Alone it is trained by `fit(critic, (real, fake))` on pairs of batches, and tells data from fakes that stay as they are:
    the log-density ratio, or W₁, by a classifier.

    Args:
        net: x (n, *event_shape) -> logits (n,); with `classes` it takes the labels, one-hot (n, classes), beside x.
        event_shape: of one datum.
        objective: the name of one of `OBJECTIVES`, or an `Objective`.
        regularisers: penalties that are added to the loss.
        clip: largest |weight|, enforced before each loss and each look without a graph, so that nobody sees a larger one.
        classes: number of labels.

    Raises ValueError for an objective and regularisers that do not go together, and for penalties on a net with batch
    normalisation, whose logits have no gradients of their own.

    >>> from gmcourse.nets.mlp import MLP
    >>> Critic(MLP(2, ()), event_shape=(2,), objective="wasserstein", clip=0.01).regularised_by
    ('weight-clipping',)
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        event_shape: Sequence[int],
        objective: str | objectives.Objective = "non-saturating",
        regularisers: Regulariser | Sequence[Regulariser] = (),
        clip: float | None = None,
        classes: int = 0,
    ):
        super().__init__(event_shape)
        self.net, self.objective, self.clip, self.classes = net, objectives.objective(objective), clip, classes
        self.regularisers = (regularisers,) if isinstance(regularisers, Regulariser) else tuple(regularisers)
        check_pair(self.objective, *self.regularised_by)
        if clip is not None:
            clip_weights(net, clip)
        if self.regularisers and (found := [n for n, part in net.named_modules() if isinstance(part, BATCH_NORMS)]):
            raise ValueError(f"critic must have no batch normalisation under a {self.regularisers[0].name}; got {found[0]}")

    @property
    def regularised_by(self) -> tuple[str, ...]:
        """Names of the penalties and constraints, as in `REGULARISERS`."""
        constraints = {"weight-clipping": self.clip is not None, "spectral-norm": is_spectrally_normalised(self.net)}
        return (*(r.name for r in self.regularisers), *(name for name, there in constraints.items() if there))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (n,) of x (n, *event_shape), with labels (n,) if there are classes. Raises ValueError for others."""
        if not torch.is_grad_enabled():
            self.clip_weights()
        told = () if labels is None else (one_hot(labels, self.classes, x),)
        return one_per_row(lambda x: self.net(x, *told), x, "critic")

    def players(self) -> Sequence[Player]:
        """One, for a game against fakes that stay as they are."""
        return [Player("critic", self.parameters, self.loss)]

    def loss(self, batch: Pairs) -> Tensor:
        """Objective and penalties (n,) at a pair of batches, data and fakes, both (n, *event_shape)."""
        real, fake = batch
        return self.against(self.check_batch(real, "real"), self.check_batch(fake, "fake"))

    def against(self, real: Tensor, fake: Tensor, labels: Tensor | None = None) -> Tensor:
        """The critic's loss (n,) at data and fakes that are of the same shape and bear the same labels (n,)."""
        self.clip_weights()
        loss = self.objective.critic(self(real, labels), self(fake, labels))
        return loss + sum(penalty(lambda x: self(x, labels), real, fake) for penalty in self.regularisers)

    def clip_weights(self) -> None:
        """Bring the weights back within the bound, if there is one."""
        if self.clip is not None:
            clip_weights(self.net, self.clip)


class GAN(GenerativeModel):
    """A generator and a critic; a sample costs one evaluation of the generator.

    Args:
        generator: ε (n, latent) -> x (n, *event_shape); with `classes` it takes the labels, one-hot (n, classes), beside ε.
        critic: the net of the critic; it, `objective`, `regularisers` and `clip` make a `Critic`.
        event_shape: of one datum.
        latent: length of ε, or the lengths of its named parts in their order.
        critic_steps: the generator plays on every so manieth step only.
        classes: number of labels; then `fit` takes pairs (x, y), y (n,) whole numbers.

    Raises ValueError as `Critic` does.

    >>> from gmcourse.nets.mlp import MLP
    >>> GAN(MLP(2, 2), MLP(2, ()), event_shape=(2,), latent=2).sample(3).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        *,
        event_shape: Sequence[int],
        latent: int | Mapping[str, int],
        objective: str | objectives.Objective = "non-saturating",
        regularisers: Regulariser | Sequence[Regulariser] = (),
        clip: float | None = None,
        critic_steps: int = 1,
        classes: int = 0,
    ):
        super().__init__(event_shape)
        self.noise_blocks = dict(latent) if isinstance(latent, Mapping) else {"z": check_count(latent, "latent")}
        self.generator, self.classes = generator, classes
        self.critic_steps = check_count(critic_steps, "critic_steps")
        settings = {"objective": objective, "regularisers": regularisers, "clip": clip, "classes": classes}
        self.critic = Critic(critic, event_shape=event_shape, **settings)
        self.register_buffer("origin", torch.zeros(()), persistent=False)  # knows the device and the dtype

    def players(self) -> Sequence[Player]:
        """The critic, who plays at every step, and the generator."""
        return [
            Player("critic", self.critic.parameters, self.critic_loss),
            Player("generator", self.generator.parameters, self.generator_loss, every=self.critic_steps),
        ]

    def critic_loss(self, batch: Tensor | Pairs) -> Tensor:
        """The critic's loss (n,) at a batch (n, *event_shape), or pairs with labels, and at as many fakes of the labels."""
        x, labels = self._parts(batch)
        with torch.no_grad():
            fake = self.push(self.noise(len(x)), labels)
        return self.critic.against(x, fake, labels)

    def generator_loss(self, batch: Tensor | Pairs) -> Tensor:
        """The generator's loss (n,) at as many fakes as the batch has data, with its labels if there are any."""
        x, labels = self._parts(batch)
        self.critic.clip_weights()
        return self.critic.objective.generator(self.critic(self.push(self.noise(len(x)), labels), labels))

    def noise(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """ε ~ N(0, I), (n, latent)."""
        length = sum(self.noise_blocks.values())
        here = {"device": self.origin.device, "dtype": self.origin.dtype}
        return torch.randn(check_count(n), length, generator=generator, **here)

    def push(self, eps: Tensor, labels: Tensor | None = None) -> Tensor:
        """G(ε), (n, latent) -> (n, *event_shape); thesis (2.69). Labels (n,) if there are classes.

        Raises ValueError for labels without classes or the other way round, and for a generator of another shape.
        """
        if (labels is None) == bool(self.classes):
            raise ValueError(f"labels must {'be given' if self.classes else 'be None'}: this GAN has {self.classes} classes")
        x = self.generator(eps) if labels is None else self.generator(eps, one_hot(labels, self.classes, eps))
        return self.check_batch(x, "the generator's x")

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None, labels: Tensor | None = None) -> Tensor:
        """Draw (n, *event_shape); with classes of the labels (n,), drawn evenly if they are not given."""
        eps = self.noise(n, generator=generator)
        if self.classes and labels is None:
            labels = torch.randint(self.classes, (n,), generator=generator, device=eps.device)
        with evaluating(self):
            return self.push(eps, labels)

    @torch.no_grad()
    def logits(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """What the critic says of x (n, *event_shape), (n,), in evaluation mode, without a graph."""
        with evaluating(self):
            return self.critic(self.check_batch(x), labels)

    def _parts(self, batch: Tensor | Pairs) -> tuple[Tensor, Tensor | None]:
        x, labels = batch if isinstance(batch, (tuple, list)) else (batch, None)
        return self.check_batch(x), labels

    def extra_repr(self) -> str:
        """The game that is played."""
        regularised = ", ".join(self.critic.regularised_by) or "nothing"
        return f"event_shape={tuple(self.event_shape)}, objective={self.critic.objective.name}, regularised by {regularised}"


def one_hot(labels: Tensor, classes: int, like: Tensor) -> Tensor:
    """Labels (n,) as rows (n, classes) with the dtype and device of `like` (n, ...). ValueError for other labels."""
    if labels.shape != (len(like),) or labels.is_floating_point():
        raise ValueError(f"labels must be whole numbers of shape ({len(like)},); got {labels.dtype}, {tuple(labels.shape)}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"labels must lie in 0 … {classes - 1}; got {int(labels.min())} to {int(labels.max())}")
    return F.one_hot(labels.long(), classes).to(like)
