r"""Denoising diffusion GANs: a chain of few large steps back, each made by a conditional GAN (thesis 6.3).

A Gaussian is right for q(x_{t−1} | x_t) only if the step is small. Here a generator with a latent z draws what the data
may have been, and noise is put back by the chain's own posterior, which is Gaussian whatever the step:

    p_θ(x_{t−1} | x_t) = ∫ p(z) q(x_{t−1} | x_t, x_0 = G_θ(x_t, z, t)) dz                          thesis (6.12)

A discriminator tells pairs (x_{t−1}, x_t) of the forward chain from those whose x_{t−1} the model made of the same x_t:

    discriminator   softplus(−D(x_{t−1}, x_t, t)) + softplus(D(x'_{t−1}, x_t, t))                  thesis (6.3), (6.4)
                    + (γ/2) ‖∇_{x_{t−1}} D(x_{t−1}, x_t, t)‖²                                      R1, thesis (6.16)
    generator       softplus(−D(x'_{t−1}, x_t, t))                                                 thesis (6.5)

With λ > 0 the generator also minimises

    (λ/d) (x_0 − x'_0)·(x_0 − x''_0),   x'_0 = G_θ(x_t, z', t), x''_0 = G_θ(x_t, z'', t), z' and z'' independent

whose mean over both latents is (λ/d) ‖x_0 − E_z G_θ(x_t, z, t)‖², the loss of a denoiser (chapter 5): it leads the *mean* of
what is said to E[x_0 | x_t] and says nothing about the spread around it. It is least where that mean is right, at the true
p(x_0 | x_t) among others, which is also where the game rests. (The squared error of one draw is that plus the spread, and
presses the spread to 0.)

t is drawn for each datum, anew for each player. With one step x_t is noise and tells nothing: that is a plain GAN.

Table 6.2 compares what the generator may say: x_0, as above; x_{t−1} itself ("direct"); the noise in x_t ("noise"); and a
generator without z, whose law of x_{t−1} is a Gaussian again. Times are those of `DiscreteDiffusion`, from 0 as in the
thesis' algorithms; t here is t + 1 in its equations.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gmcourse.diffusion.samplers import run
from gmcourse.diffusion.schedule import DiscreteDiffusion
from gmcourse.gan import objectives
from gmcourse.gan.regularisers import Regulariser, check_pair
from gmcourse.model import GenerativeModel, Player, check_count, check_not_negative, evaluating
from gmcourse.sampling.gradient import one_per_row
from gmcourse.sampling.sampler import normal_like, rows

Parameterization = Literal["x0", "direct", "noise"]


class DenoisingDiffusionGAN(GenerativeModel):
    """A generator and a discriminator on the steps of a chain; a sample costs T evaluations of the generator.

    Args:
        generator: x_t (n, *event_shape), t (n,) in torch.int64, z (n, latent) -> like x_t; without z if latent is 0.
        discriminator: x_{t−1}, x_t, t -> logits (n,).
        chain: the forward process, T = len(chain); that of the thesis is `DiscreteDiffusion(vp_betas(T))`, (6.15).
        event_shape: of one datum.
        latent: length of z; 0 for none.
        parameterization: what the generator says: "x0", "direct" for x_{t−1}, or "noise" for the ε of x_t.
        objective: the name of one of `OBJECTIVES`, or an `Objective`.
        regularisers: penalties on the slope in x_{t−1}, added to the discriminator's loss.
        denoising: λ, the weight of the generator's denoising loss; 0 leaves the thesis' game and half the generator's work.

    Raises ValueError for settings that do not go together, and for nets that return another shape.

    >>> from gmcourse.diffusion.schedule import vp_betas
    >>> from gmcourse.nets.denoiser import Denoiser
    >>> judge = lambda before, x, t: (before - x).sum(1)
    >>> model = DenoisingDiffusionGAN(
    ...     Denoiser(2, context=3), judge, DiscreteDiffusion(vp_betas(4)), event_shape=(2,), latent=3)
    >>> model.sample(5).shape, model.nfe
    (torch.Size([5, 2]), 4)
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        chain: DiscreteDiffusion,
        *,
        event_shape: Sequence[int],
        latent: int,
        parameterization: Parameterization = "x0",
        objective: str | objectives.Objective = "non-saturating",
        regularisers: Regulariser | Sequence[Regulariser] = (),
        denoising: float = 0.0,
    ):
        super().__init__(event_shape)
        if parameterization not in get_args(Parameterization):
            known = ", ".join(get_args(Parameterization))
            raise ValueError(f"parameterization must be one of {known}; got {parameterization!r}")
        if latent != 0:
            check_count(latent, "latent")
        self.denoising = check_not_negative(denoising, "denoising")
        if self.denoising and parameterization == "direct":
            raise ValueError(f"denoising must be 0 for a generator of x_{{t−1}} itself, which says no x_0; got {denoising}")
        self.generator, self.discriminator, self.chain = generator, discriminator, chain
        self.latent, self.parameterization, self.nfe = latent, parameterization, len(chain)
        self.objective = objectives.objective(objective)
        self.regularisers = (regularisers,) if isinstance(regularisers, Regulariser) else tuple(regularisers)
        check_pair(self.objective, *(r.name for r in self.regularisers))
        self.register_buffer("origin", torch.zeros(()), persistent=False)  # knows the device and the dtype

    def players(self) -> Sequence[Player]:
        """The discriminator and the generator; both play at every step."""
        return [
            Player("discriminator", self.discriminator.parameters, self.discriminator_loss),
            Player("generator", self.generator.parameters, self.generator_loss),
        ]

    def discriminator_loss(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Thesis (6.3) and the penalties at data x (n, *event_shape), (n,); at times t (n,), drawn evenly unless given."""
        return self.contest(x, t, *self.regularisers)

    def contest(self, x: Tensor, t: Tensor | None = None, *penalties: Regulariser) -> Tensor:
        """The discriminator's loss with these penalties only, (n,)."""
        before, xt, t = self._pairs(x, t)
        with torch.no_grad():
            fake = self.draw(xt, t)
        loss = self.objective.critic(self.judge(before, xt, t), self.judge(fake, xt, t))
        return loss + sum(penalty(lambda at: self.judge(at, xt, t), before, fake) for penalty in penalties)

    def generator_loss(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Thesis (6.5) at x_t made of data x (n, *event_shape), and the denoising loss, (n,); at times t (n,), drawn evenly
        unless given. With λ > 0 (6.5) is the mean over both draws, which are judged in one batch."""
        _, xt, t = self._pairs(x, t)
        if self.denoising == 0:
            return self.objective.generator(self.judge(self.draw(xt, t), xt, t))
        twice, times = torch.cat([xt, xt]), torch.cat([t, t])
        seen = self.predict(twice, times, self.latents(twice))
        before = self.restore(seen, twice, times, torch.randn_like(twice))
        game = self.objective.generator(self.judge(before, twice, times)).unflatten(0, (2, -1)).mean(0)
        one, other = (rows(x - said) for said in seen.chunk(2))
        return game + self.denoising * (one * other).mean(1)

    def judge(self, before: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """The discriminator's logits (n,) of x_{t−1} and x_t, (n, *event_shape) both, at t (n,)."""
        return one_per_row(lambda first: self.discriminator(first, xt, t), before, "discriminator")

    def say(self, xt: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """What the generator itself says of x_t, (n, *event_shape), with z (n, latent): x_0, x_{t−1} or ε."""
        if z.shape != (len(xt), self.latent):
            raise ValueError(f"z must have shape ({len(xt)}, {self.latent}); got {tuple(z.shape)}")
        said = self.generator(xt, t, z) if self.latent else self.generator(xt, t)
        return self.check_batch(said, "what the generator says")

    def predict(self, xt: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """The data that the generator sees in x_t, (n, *event_shape), with z (n, latent); ValueError where it says none."""
        if self.parameterization == "direct":
            raise ValueError("a generator of x_{t−1} itself predicts no x_0: its parameterization is 'direct'")
        said = self.say(xt, t, z)
        return self.chain.convert(said, xt, t, "eps", "x0") if self.parameterization == "noise" else said

    def reverse(self, xt: Tensor, t: Tensor, z: Tensor, eps: Tensor) -> Tensor:
        """x_{t−1} from x_t, t (n,), z (n, latent) and the noise ε of the posterior, both (n, *event_shape); thesis (6.12).

        At t = 0 the posterior has no width: what is returned is x_0 to the last bit.
        """
        if self.parameterization == "direct":
            return self.say(xt, t, z)
        return self.restore(self.predict(xt, t, z), xt, t, eps)

    def restore(self, x0: Tensor, xt: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_{t−1} of the chain between x_0 and x_t, with the noise ε of the posterior, (n, *event_shape) all of them."""
        mean, variance = self.chain.posterior(x0, xt, t)
        return mean + variance.sqrt() * eps

    def latents(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """z ~ N(0, I) for each of x (n, *event_shape), (n, latent)."""
        return normal_like(x.new_empty(len(x), self.latent), generator)

    def draw(self, xt: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A draw of x_{t−1} given x_t (n, *event_shape) at t (n,), differentiable in the weights."""
        return self.reverse(xt, t, self.latents(xt, generator), normal_like(xt, generator))

    def step(self, x: Tensor, t: int, s: int, generator: torch.Generator | None = None) -> Tensor:
        """x_s of x_t, s = t − 1, (n, *event_shape): a sampler's step, for `run` and `sdedit`. ValueError for other times."""
        if not (0 <= t < len(self.chain) and s == t - 1):
            raise ValueError(f"the model knows steps from t in 0 … {len(self.chain) - 1} to s = t − 1; got t = {t}, s = {s}")
        return self.draw(x, torch.full((len(x),), t, device=x.device), generator)

    def sample(self, n: int, *, generator: torch.Generator | None = None, progress: bool = False) -> Tensor:
        """Draw (n, *event_shape) in T steps; thesis, Algorithm 2."""
        x = normal_like(self.origin.expand(check_count(n), *self.event_shape), generator)
        with evaluating(self):
            return run(self.step, x, self.chain.times(), generator=generator, progress=progress)

    @property
    def noise_blocks(self) -> dict[str, int]:
        """Sizes of the parts of the flat noise: x_T, the latents of T steps, the noise of all posteriors but the last."""
        d, steps = self.event_shape.numel(), len(self.chain)
        rest = 0 if self.parameterization == "direct" else (steps - 1) * d
        return {"x": d, "z": steps * self.latent, "eps": rest}

    def noise(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """All noise of a draw, flat, (n, D), D the sum of the blocks."""
        return normal_like(self.origin.expand(check_count(n), sum(self.noise_blocks.values())), generator)

    def push(self, eps: Tensor) -> Tensor:
        """Noise (n, D) -> data (n, *event_shape), differentiably."""
        blocks, steps = list(self.noise_blocks.values()), len(self.chain)
        if eps.ndim != 2 or eps.shape[1] != sum(blocks):
            raise ValueError(f"eps must have shape (n, {sum(blocks)}); got {tuple(eps.shape)}")
        x, z, rest = eps.split(blocks, 1)
        x, latents = x.reshape(-1, *self.event_shape), z.reshape(len(eps), steps, self.latent).unbind(1)
        rest = rest.reshape(len(eps), -1, *self.event_shape).unbind(1) if blocks[2] else [x] * (steps - 1)
        with evaluating(self):
            for t, z, u in zip(reversed(range(steps)), latents, [*rest, x], strict=True):  # the last has width 0
                x = self.reverse(x, torch.full((len(x),), t, device=x.device), z, u)
        return x

    def _pairs(self, x: Tensor, t: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """x_{t−1} and x_t of data x, and t."""
        x = self.check_batch(x)
        t = torch.randint(len(self.chain), (len(x),), device=x.device) if t is None else t
        before, xt = self.chain.q_pair(x, t, torch.randn_like(x), torch.randn_like(x))
        return before, xt, t

    def extra_repr(self) -> str:
        """The game, and what is said in it."""
        names = ", ".join(r.name for r in self.regularisers) or "nothing"
        game = f"objective={self.objective.name}, regularised by {names}"
        denoising = f", denoising={self.denoising:g}" if self.denoising else ""
        return f"T={len(self.chain)}, latent={self.latent}, parameterization={self.parameterization!r}, {game}{denoising}"
