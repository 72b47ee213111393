r"""A replay buffer: chains that live as long as the training (persistent contrastive divergence).

Between two steps of the training the energy hardly changes, so that where its chains were then is nearly a sample of it now
(Tieleman 2008). A buffer keeps many; each step takes some, moves them a little and puts them back. A share `restart` of
those taken begins anew, else a chain that was once trapped stays so for good (Du & Mordatch 2019: 10 000 chains, 5 %).

The chains are buffers of the module: they move with the model and are saved with it, and a run that resumes goes on with
the chains it had.
"""

import torch
from torch import Tensor
from torch.distributions import Distribution

from gmcourse.metrics import density
from gmcourse.model import GenerativeModel, check_count
from gmcourse.randomness import draw


class ReplayBuffer(GenerativeModel):
    """`capacity` chains, in the beginning draws of `start`; `draw` takes some, `put` brings them back where they were.

    As a model it samples from the chains as they stand, with replacement.

    Args:
        start: a Distribution or a GenerativeModel, where chains begin.
        capacity: how many there are.
        restart: probability that a chain which is taken begins anew.
        seed: of the first fill.

    Raises ValueError when a state dict with chains of another shape or number is loaded.

    >>> from gmcourse.model import StandardNormal
    >>> buffer = ReplayBuffer(StandardNormal(2), capacity=100)
    >>> buffer.put(buffer.draw(10) + 0.1)
    """

    nfe = 0

    def __init__(
        self, start: Distribution | GenerativeModel, capacity: int = 10_000, restart: float = 0.05, *, seed: int = 0
    ):
        if not isinstance(start, Distribution | GenerativeModel):
            raise ValueError(f"start must be a Distribution or a GenerativeModel; got {type(start).__name__}")
        if getattr(start, "batch_shape", ()):
            raise ValueError(f"start must be one distribution, without batch shape; got {tuple(start.batch_shape)}")
        if not 0 <= restart <= 1:
            raise ValueError(f"restart must be a probability; got {restart}")
        super().__init__(start.event_shape)
        self.start, self.restart = start, float(restart)
        self.register_buffer("chains", density.draw(start, check_count(capacity, "capacity"), seed, "start").clone())
        self._taken: Tensor | None = None
        self.register_load_state_dict_pre_hook(_refuse_other_chains)

    def __len__(self) -> int:
        return len(self.chains)

    @torch.no_grad()
    def draw(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Take n different chains, (n, *event_shape); about `restart`·n of them begin anew. ValueError if n > capacity."""
        if check_count(n) > len(self):
            raise ValueError(f"capacity must be at least the number of chains drawn, {n}; got {len(self)}")
        place = self.chains.device
        self._taken = torch.randperm(len(self), generator=generator, device=place)[:n]
        x = self.chains[self._taken]
        anew = torch.rand(n, generator=generator, device=place) < self.restart
        if count := int(anew.sum()):
            x[anew] = draw(self.start, count, generator=generator, device=place).to(x)
        return x

    @torch.no_grad()
    def put(self, x: Tensor) -> None:
        """Bring back the chains that were last drawn, now at x (n, *event_shape)."""
        if self._taken is None:
            raise ValueError("put needs chains that were drawn before; draw(n) first")
        if len(self.check_batch(x)) != len(self._taken):
            raise ValueError(f"x must hold the {len(self._taken)} chains that were drawn; got {len(x)}")
        self.chains[self._taken] = x.detach().to(self.chains)
        self._taken = None

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Copies of n of the chains, with replacement, shape (n, *event_shape)."""
        return self.chains[torch.randint(len(self), (check_count(n),), generator=generator, device=self.chains.device)]

    def extra_repr(self) -> str:
        """What decides how chains live."""
        return f"event_shape={tuple(self.event_shape)}, capacity={len(self)}, restart={self.restart:g}"


def _refuse_other_chains(buffer: ReplayBuffer, tensors, prefix, *_) -> None:
    came, wanted = tensors.get(prefix + "chains"), buffer.chains
    if came is not None and came.shape != wanted.shape:
        raise ValueError(
            f"{prefix}chains must have shape {tuple(wanted.shape)}, (capacity, *event_shape); the state to be loaded has "
            f"{tuple(came.shape)}: build the ReplayBuffer with the capacity and the events that it was saved with"
        )
