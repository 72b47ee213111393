r"""The true denoising law q(x_s | x_t), by quadrature: what one step back from t to any s < t has to draw from (thesis 6.1).

    q(x_s | x_t) = ∫ q(x_s | x_t, x_0) q(x_0 | x_t) dx_0 = q(x_s) q(x_t | x_s) / q(x_t)               thesis Fig. 6.3
    q(x_0 | x_t) ∝ p(x_0) N(x_t; α_t x_0, σ_t² I),        q(x_s) = ∫ p(x_0) N(x_s; α_s x_0, σ_s² I) dx_0
    q(x_s | x_t, x_0) = N(c x_0 + k x_t, β̃ I),   c = α_s b/σ_t²,  k = a σ_s²/σ_t²,  β̃ = b σ_s²/σ_t²      thesis (2.51)
    with x_t | x_s ~ N(a x_s, b I),   a = α_t/α_s,  b = σ_t² − a² σ_s²

Source has q(x_0) for q(x_0 | x_t) in Fig. 6.3's integral. On a grid of x_0 both forms of the first line are the same number;
the second costs less. A small step's law is nearly Gaussian: as b falls, KL(q ‖ its best Gaussian) → b³ (∂³ log q(x_t))²/12
on the line. A large step's law has as many humps as the data that x_t may have come from.

Grids are equal cells and the midpoint rule: on what is as wide as a cell it errs by 2 exp(−2π²) < 1e-8, on less it fails.
"""

import math
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, Normal

from gmcourse.data.known import MAX_NODES
from gmcourse.diffusion.edit import Process, marginal_at
from gmcourse.diffusion.reverse import check_step, forward_step
from gmcourse.diffusion.sde import SDE
from gmcourse.metrics.grid import Grid
from gmcourse.model import check_count

POINTS = {0: 1000, 1: 400}  # nodes of x_0 per axis, on the line and in the plane
MARGIN = 0.5  # of the grid of x_0, in lengths of p0's extent
LOST = 0.01  # of the data's mass that the grid may miss
EDGE = 1e-3  # of the mass of q(x_0 | x_t) that outermost cells may hold
REACH = 8.0  # σ_s beyond the data's box
FINE = 2.0  # cells of x_s per √β̃
BLOCK = 10_000_000  # numbers at once

Level = tuple[float, float]


def true_denoising(p0: Distribution, process: Process, t: float, s: float, x: Tensor, *, points: int | None = None):
    """q(x_s | x_t = x) as a `DenoisingLaw`, t > s, of a chain (s = −1: the data) or an SDE (s = 0); thesis Fig. 6.3.

    Args:
        p0: law of the data on the line or in the plane; needs `log_prob`, and `extent` or mean and variance.
        process: `DiscreteDiffusion` or `SDE`.
        x: (*batch, *event_shape), where the step begins.
        points: nodes of x_0 per axis, else 1000 on the line, 400 in the plane.

    Raises ValueError for times that are none, and whatever `DenoisingLaw` refuses.

    >>> from gmcourse.data.toy1d import Mixture1D
    >>> from gmcourse.diffusion.schedule import DiscreteDiffusion, vp_betas
    >>> law = true_denoising(Mixture1D(), DiscreteDiffusion(vp_betas(4)), 3, -1, torch.zeros(1))
    >>> law.modes(), law.mean       # a step from noise to the data meets all three humps
    (tensor([3]), tensor([-0.0100]))
    """
    if isinstance(process, SDE):
        check_step(t, s)
    elif not (t == int(t) and s == int(s) and -1 <= s < t < len(process)):
        raise ValueError(f"t and s must be whole, {len(process)} > t > s ≥ −1; got {t} and {s}")
    return DenoisingLaw(p0, marginal_at(process, t), marginal_at(process, s), x, points=points)


class DenoisingLaw(Distribution):
    """q(x_s | x_t = x) for every x of a batch, from (α_t, σ_t), `now`, and (α_s, σ_s), `then`; σ_s = 0 is the data.

    A `torch.distributions.Distribution`: batch_shape is that of x, and `log_prob(y)` takes whatever broadcasts with it, so
    y (m, 1, *event_shape) asks each x for the same m points. Worked out in float64 on the CPU; results have x's dtype and
    device. Densities below 1e-300 are 0.

    Raises ValueError for p0 neither on the line nor in the plane; x of another shape, not floats, not finite, or so far
    out that the grid does not hold q(x_0 | x_t); `then` not nearer to the data than `now`; and grids whose cells are too
    wide for p0 or for the noise.
    """

    arg_constraints = {}

    def __init__(self, p0: Distribution, now: Level, then: Level, x: Tensor, *, points: int | None = None):
        event = p0.event_shape
        if event not in (torch.Size(), torch.Size([2])):
            raise ValueError(f"p0 must be on the line, event_shape (), or in the plane, (2,); got {tuple(event)}")
        _check_point(x, event, "x")
        _check_levels(now, then)
        super().__init__(x.shape[: x.ndim - len(event)], event, validate_args=False)
        self.p0, self.now, self.then = p0, now, then
        self._like, self._x = x, x.detach().double().cpu().reshape(-1, event.numel())
        points = POINTS[len(event)] if points is None else check_count(points, "points")
        self._grid = Grid.around(p0, points=points, margin=MARGIN)
        self._mass = p0.log_prob(self._grid.nodes).exp().reshape(self._grid.shape) * self._grid.cell
        self._check_grid()
        self._a, self._b = forward_step(*now, *then)
        share = self._b / now[1] ** 2
        self._of_x0, self._of_xt, self._spread = then[0] * share, self._a * (then[1] / now[1]) ** 2, then[1] ** 2 * share
        self._kernels, scale = self._seen_from(self._x, *now)
        self._evidence = self._sum(self._kernels)
        self._edge = self._check_reach()
        self._log_evidence = self._evidence.log() + scale

    def log_prob(self, value: Tensor) -> Tensor:
        """log q(value | x) in nats; the shape that value's, less event_shape, and x's batch_shape broadcast to."""
        _check_point(value, self.event_shape, "value")
        d = self._x.shape[1]
        y = value.detach().double().cpu()
        y = y.reshape(*y.shape[: y.ndim - len(self.event_shape)], d)
        log_marginal = self._log_marginal(y.reshape(-1, d)).reshape(y.shape[:-1])
        away = (self._x.reshape(*self.batch_shape, d) - self._a * y).square().sum(-1)
        log_step = -0.5 * away / self._b - 0.5 * d * math.log(2 * math.pi * self._b)
        return (log_marginal + log_step - self._log_evidence.reshape(self.batch_shape)).to(self._like)

    def log_evidence(self) -> Tensor:
        """log q(x_t = x) in nats, (*batch_shape)."""
        return self._log_evidence.reshape(self.batch_shape).to(self._like)

    def sample(self, sample_shape=(), *, generator: torch.Generator | None = None) -> Tensor:
        """Draws (*sample_shape, *batch_shape, *event_shape), a whole number n standing for (n,): x_0 first, x_s between.

        Draws of the data are uniform within a cell of the grid; all others follow the law that `log_prob` tells.
        """
        shape = torch.Size((sample_shape,) if isinstance(sample_shape, int) else sample_shape)
        device = generator.device if generator else None
        n, (rows, d) = shape.numel(), self._x.shape
        u = torch.rand(2, d, n, rows, generator=generator, device=device, dtype=torch.float64).cpu()
        x0 = self._draw_x0(u[0])
        if self.then[1] == 0:
            cells = [(high - low) / self._grid.points for low, high in self._grid.box]
            y = self.then[0] * (x0 + torch.tensor(cells) * (u[1].movedim(0, -1) - 0.5))
        else:
            z = torch.randn(n, rows, d, generator=generator, device=device, dtype=torch.float64).cpu()
            y = self._of_x0 * x0 + self._of_xt * self._x + self._spread**0.5 * z
        return y.reshape(shape + self.batch_shape + self.event_shape).to(self._like)

    @property
    def mean(self) -> Tensor:
        """E[x_s | x_t], (*batch_shape, *event_shape): c E[x_0 | x_t] + k x_t."""
        return self._moments[0].reshape(self._like.shape).to(self._like)

    @property
    def variance(self) -> Tensor:
        """Of each coordinate, (*batch_shape, *event_shape)."""
        return self._moments[1].diagonal(dim1=1, dim2=2).reshape(self._like.shape).to(self._like)

    def gaussian(self) -> Normal | MultivariateNormal:
        """The Gaussian nearest to the law in KL(q ‖ ·): the one with its mean and covariance."""
        if not self.event_shape:
            return Normal(self.mean, self.variance.sqrt())
        covariance = self._moments[1].reshape(*self.batch_shape, 2, 2).to(self._like)
        return MultivariateNormal(self.mean, covariance)

    def gaussian_gap(self) -> Tensor:
        """KL(q ‖ gaussian()) in nats, (*batch_shape): ½ log det 2πe Σ − H(q), what a Gaussian step must lose."""
        widths = torch.linalg.eigvalsh(2 * math.pi * math.e * self._moments[1])
        entropy = self._lattice.cell * self._over_lattice(lambda log_q: torch.special.entr(log_q.exp()).sum(1))
        return (0.5 * widths.log().sum(1) - entropy).reshape(self.batch_shape).to(self._like)

    def modes(self, least: float = 1e-3) -> Tensor:
        """How many local maxima, of at least `least` times the highest, (*batch_shape), torch.int64; on the line only."""
        if self.event_shape:
            raise ValueError("modes are counted on the line only; this law is in the plane")
        return self._over_lattice(lambda log_q: _maxima(log_q, math.log(least))).reshape(self.batch_shape)

    @property
    def error(self) -> Tensor:
        """By how much quadrature errs, (*batch_shape): the worst of |∫ p0 − 1|, |∫ q − 1| and what lies at the edges."""
        law = self._lattice.cell * self._over_lattice(lambda log_q: log_q.exp().sum(1)) - 1
        worst = torch.maximum(law.abs(), self._edge).clamp_min(abs(float(self._mass.sum()) - 1))
        return worst.reshape(self.batch_shape).to(self._like)

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean (n, d) and covariance (n, d, d) of x_s, from those of x_0."""
        axes, d = self._grid.axes, self._x.shape[1]

        def expected(factors):
            return self._sum([k * factors.get(i, 1.0) for i, k in enumerate(self._kernels)]) / self._evidence

        mean = torch.stack([expected({i: axes[i]}) for i in range(d)], 1)
        off = [axes[i] - mean[:, i, None] for i in range(d)]
        pairs = [{i: off[i].square()} if i == j else {i: off[i], j: off[j]} for i in range(d) for j in range(d)]
        covariance = torch.stack([expected(pair) for pair in pairs], 1).reshape(-1, d, d)
        bridge = self._spread * torch.eye(d, dtype=torch.float64)
        return self._of_x0 * mean + self._of_xt * self._x, self._of_x0**2 * covariance + bridge

    @cached_property
    def _lattice(self) -> Grid:
        """A grid of x_s, the same for all x: as fine as the bridge is narrow; for the data the grid of x_0."""
        (alpha, sigma), points = self.then, self._grid.points
        box = [(alpha * low - REACH * sigma, alpha * high + REACH * sigma) for low, high in self._grid.box]
        if sigma > 0:
            width = self._spread**0.5
            points = math.ceil(FINE * max(high - low for low, high in box) / width)
            if points ** len(box) > MAX_NODES:
                raise ValueError(f"s must be further from t: a step {width:.2g} wide needs {points:,} nodes per axis")
        return Grid(box, points)

    @cached_property
    def _log_marginal_there(self) -> Tensor:
        """log q(x_s) at the lattice's nodes, (m,)."""
        alpha, sigma = self.then
        if sigma == 0:
            return self._log_data(self._lattice.nodes)
        kernels, scales = zip(
            *(self._kernel(axis, i, alpha, sigma) for i, axis in enumerate(self._lattice.axes)), strict=True
        )
        mass = kernels[0] @ self._mass
        return (mass if len(kernels) == 1 else mass @ kernels[1].T).log().flatten() + _outer(scales)

    def _over_lattice(self, f) -> Tensor:
        """f, (n, m) -> (n,), of log q(x_s | x_t) at the lattice's nodes, some x at a time."""
        log_marginal, axes, d = self._log_marginal_there, self._lattice.axes, self._x.shape[1]

        def log_law(x, log_evidence):
            steps = [-0.5 * (x[:, i, None] - self._a * axes[i]).square() / self._b for i in range(d)]
            return log_marginal + _outer(steps) - 0.5 * d * math.log(2 * math.pi * self._b) - log_evidence[:, None]

        rows = max(1, BLOCK // len(log_marginal))
        parts = zip(self._x.split(rows), self._log_evidence.split(rows), strict=True)
        return torch.cat([f(log_law(*part)) for part in parts])

    def _log_marginal(self, y: Tensor) -> Tensor:
        """log q(x_s = y), (n, d) -> (n,)."""
        if self.then[1] == 0:
            return self._log_data(y.reshape(-1, *self.event_shape))
        parts = []
        for block in y.split(max(1, BLOCK // self._grid.points)):
            kernels, scale = self._seen_from(block, *self.then)
            parts.append(self._sum(kernels).log() + scale)
        return torch.cat(parts)

    def _log_data(self, y: Tensor) -> Tensor:
        """log q(x_s = y) where x_s is α_s times the data, (n, *event_shape) -> (n,)."""
        return self.p0.log_prob(y / self.then[0]) - self._x.shape[1] * math.log(self.then[0])

    def _kernel(self, y: Tensor, axis: int, alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
        """N(y; α x_0, σ²) for y (n,) and the nodes of an axis (k,): over its largest, (n, k), and the log of that, (n,)."""
        log_kernel = -0.5 * ((y[:, None] - alpha * self._grid.axes[axis]) / sigma).square()
        top = log_kernel.amax(1, keepdim=True)
        return (log_kernel - top).exp(), top[:, 0] - math.log(math.sqrt(2 * math.pi) * sigma)

    def _seen_from(self, y: Tensor, alpha: float, sigma: float) -> tuple[list[Tensor], Tensor]:
        """The kernels of every axis for y (n, d), and the sum of the logs taken out of them, (n,)."""
        kernels, scales = zip(*(self._kernel(y[:, i], i, alpha, sigma) for i in range(y.shape[1])), strict=True)
        return list(kernels), sum(scales)

    def _sum(self, kernels: list[Tensor]) -> Tensor:
        """Σ over all nodes of p0's mass times the kernels, (n, k) of each axis, -> (n,)."""
        first = kernels[0] @ self._mass
        return first if len(kernels) == 1 else (first * kernels[1]).sum(1)

    def _draw_x0(self, u: Tensor) -> Tensor:
        """Nodes (m, n, d) drawn from q(x_0 | x_t) with u (d, m, n), axis by axis."""
        along = self._mass if len(self._kernels) == 1 else self._kernels[1] @ self._mass.T
        first = _draw(self._kernels[0] * along, u[0])
        if len(u) == 1:
            return self._grid.axes[0][first][..., None]
        row = torch.arange(u.shape[2]).expand_as(first)
        blocks = (v.flatten().split(max(1, BLOCK // self._grid.points)) for v in (first, row, u[1]))
        second = [_draw(self._mass[i] * self._kernels[1][k], v[None])[0] for i, k, v in zip(*blocks, strict=True)]
        return torch.stack([self._grid.axes[0][first], self._grid.axes[1][torch.cat(second).reshape(first.shape)]], 2)

    def _check_grid(self) -> None:
        mass = float(self._mass.sum())
        if not abs(mass - 1) <= LOST:
            raise ValueError(f"points must resolve p0: with {self._grid.points} nodes an axis its integral is {mass:.4g}")
        alpha, sigma = self.now if self.then[1] == 0 else self.then
        cell = max((high - low) / self._grid.points for low, high in self._grid.box)
        if sigma < alpha * cell:
            wanted = f"narrower than the noise, σ/α = {sigma / alpha:.2g}"
            raise ValueError(f"points must give cells {wanted}; got {self._grid.points} points, cells of {cell:.2g}")

    def _check_reach(self) -> Tensor:
        """The share of q(x_0 | x) in the outermost cells, (n,), a measure of what lies beyond; ValueError for too much."""
        edge = torch.zeros(self._grid.points, dtype=torch.float64)
        edge[0] = edge[-1] = 1
        at_edges = [[k * edge if i == j else k for j, k in enumerate(self._kernels)] for i in range(len(self._kernels))]
        share = sum(self._sum(kernels) for kernels in at_edges) / self._evidence
        if not (share < EDGE).all():
            far = self._x[(share < EDGE).long().argmin()].tolist()
            raise ValueError(f"x must lie where the data's box {self._grid.box} holds q(x_0 | x_t); got {far}")
        return share


def average_gap(
    p0: Distribution, process: Process, t: float, s: float, *, points: int | None = None, nodes: int = 200
) -> float:
    """E KL(q(x_s | x_t) ‖ its best Gaussian) over x_t ~ q(x_t), in nats, on the line; midpoint rule at so many x_t.

    Summed over the steps of a chain it is the least that Gaussian steps can lose of the joint law of all x_t.

    >>> from gmcourse.data.toy1d import Mixture1D
    >>> from gmcourse.diffusion.schedule import DiscreteDiffusion, vp_betas
    >>> average_gap(Mixture1D(), DiscreteDiffusion(vp_betas(4)), 1, 0)
    0.012547...
    """
    (low, high), (alpha, sigma) = Grid.around(p0, margin=0.0).box[0], marginal_at(process, t)
    grid = Grid([(alpha * low - 5 * sigma, alpha * high + 5 * sigma)], nodes)
    law = true_denoising(p0, process, t, s, grid.nodes, points=points)
    return grid.integrate(law.log_evidence().exp() * law.gaussian_gap())


def _draw(weights: Tensor, u: Tensor) -> Tensor:
    """Places (m, n) in the rows of weights (n, k), not normalised, with u (m, n) uniform in [0, 1)."""
    upto = weights.cumsum(1)
    return torch.searchsorted(upto, (u.T * upto[:, -1:]).contiguous(), right=True).clamp(max=weights.shape[1] - 1).T


def _outer(terms) -> Tensor:
    """One (…, m), or the sums of each of (…, m) with each of (…, k), (…, m k)."""
    return terms[0] if len(terms) == 1 else (terms[0][..., :, None] + terms[1][..., None, :]).flatten(-2)


def _maxima(log_q: Tensor, depth: float) -> Tensor:
    """Local maxima along rows (n, m) that are at least `depth` + the highest, (n,)."""
    inner = log_q[:, 1:-1]
    peak = (inner > log_q[:, :-2]) & (inner >= log_q[:, 2:])
    return (peak & (inner >= depth + log_q.amax(1, keepdim=True))).sum(1)


def _check_point(x: Tensor, event: torch.Size, name: str) -> None:
    if x.shape[x.ndim - len(event) :] != event or not x.is_floating_point():
        wanted = "(..., 2)" if event else "(...)"
        raise ValueError(f"{name} must be floats of shape {wanted}; got {tuple(x.shape)}, {x.dtype}")
    if not x.isfinite().all():
        raise ValueError(f"{name} must be finite; got NaN or inf")


def _check_levels(now: Level, then: Level) -> None:
    """ValueError unless 0 ≤ σ_s/α_s < σ_t/α_t < ∞."""
    if not (now[0] > 0 and then[0] > 0 and 0 <= then[1] / then[0] < now[1] / now[0]):
        raise ValueError(f"then must have less noise than now, 0 ≤ σ_s/α_s < σ_t/α_t; got {then} and {now}")
