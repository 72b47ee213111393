r"""The base moves after its tilt: the second player of thesis 4.3.4, who brings the base nearer to the tilted model.

    energy        as in `Tilted`: E goes down at data, up where the model is
    generator     ∇_φ' KL(p_φ' ‖ p_{θ,φ}) = ∇_φ' E_{x~p_φ'}[E_θ(x)]   at φ' = φ               thesis (4.30)–(4.34)

φ' is a copy of φ that makes one step while the tilted law p_{θ,φ} ∝ p_φ e^{−E_θ} is held: log p_φ' − log p_{θ,φ} begins as
E + log Z, and the score of p_φ' has mean zero. With x = push(ε) the gradient is a mean over fresh noise, and the step is
that of a Wasserstein GAN's generator, with −E for a critic. It is no step of maximum likelihood but of the reverse KL: modes
can be lost. Each step has another target, as φ has moved: the game rests where E is constant and the base is the tilted
model, but against an energy that holds still the base would run into its lowest point.

Chains from a replay buffer go badly with it (thesis 4.4.3): they were made for a base that has moved since.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from gmcourse.compositions.tilted import Tilted
from gmcourse.ebm.contrastive import held_still
from gmcourse.ebm.energy import values
from gmcourse.model import GenerativeModel, Likelihood, Player, check_count, evaluating


class GeneratorUpdate(GenerativeModel):
    """A `Tilted` model whose base is trained along with its energy: two players, "energy" and "generator".

    Args:
        tilted: the model; its `base` moves from now on, and its log Z is forgotten at each step.
        parameters: of the base, that the generator moves; those that `push` uses if None: of a VAE the decoder and σ, of a
            GAN the generator.
        every: the generator plays on every so manieth step only.

    Raises ValueError if `push` uses no parameters, or one that is given is none of the base's.

    The thesis moves the decoder ten times slower than the energy: `fit(…, lr={"energy": 5e-5, "generator": 5e-6})`.
    """

    def __init__(self, tilted: Tilted, parameters: Iterable[nn.Parameter] | None = None, *, every: int = 1):
        super().__init__(tilted.event_shape)
        self.tilted, self.every = tilted, check_count(every, "every")
        self.data_range, self.nfe = tilted.data_range, tilted.nfe
        moved = used_by_push(tilted.base) if parameters is None else list(parameters)
        if not moved:
            raise ValueError(f"base must have parameters that push uses; {type(tilted.base).__name__} has none")
        own = {id(p) for p in tilted.base.parameters()}
        if strangers := sum(id(p) not in own for p in moved):
            raise ValueError(f"parameters must be the base's; {strangers} of {len(moved)} are not")
        self.moved = [p.requires_grad_(True) for p in moved]

    @property
    def likelihood(self) -> Likelihood:
        """What `log_prob` means: as for the tilted model."""
        return self.tilted.likelihood

    def players(self) -> Sequence[Player]:
        """The energy, who plays at every step, and the generator; each moves nothing of the other."""
        return [*self.tilted.players(), Player("generator", lambda: self.moved, self.generator_loss, every=self.every)]

    def generator_loss(self, x: Tensor) -> Tensor:
        """E(push(ε)) for as many fresh ε as x (n, *event_shape) has data, (n,) in nats: thesis (4.30), (4.34).

        The energy's weights get no gradient. Data are only counted.
        """
        self.tilted.log_z.fill_(torch.nan)
        base, energy = self.tilted.base, self.tilted.energy
        with held_still(energy), evaluating(base):
            return values(energy, base.push(base.noise(len(x))))

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw (n, *event_shape) from the tilted model; the base's own draws are `tilted.base.sample`."""
        return self.tilted.sample(n, generator=generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) of the tilted model in nats, (n,), after `tilted.normalise`; before, up to log Z."""
        return self.tilted.log_prob(x)


def used_by_push(base: GenerativeModel) -> list[nn.Parameter]:
    """The parameters that a transport's `push` depends on, by autograd; whether they want gradients stays as it was."""
    everything = list(base.parameters())
    wanted = [p.requires_grad for p in everything]
    eps = base.noise(2, generator=torch.Generator(everything[0].device).manual_seed(0)) if everything else None
    try:
        for p in everything:
            p.requires_grad_(True)
        with torch.enable_grad(), evaluating(base):
            x = base.push(eps).sum() if everything else None
            found = torch.autograd.grad(x, everything, allow_unused=True) if x is not None and x.requires_grad else []
    finally:
        for p, kept in zip(everything, wanted, strict=True):
            p.requires_grad_(kept)
    return [p for p, slope in zip(everything, found, strict=False) if slope is not None]
