r"""Residual flows: any net becomes a bijection if it contracts.

    z = x + g(x),  Lip(g) ≤ c < 1                                        slides (14); Behrmann et al. 2019
    x ← z − g(x)                                                        converges like cᵏ (Banach), from any start
    log det(I + J) = tr log(I + J) = Σ_{k≥1} (−1)^{k+1} tr(Jᵏ)/k         slides (15), (16);  J = ∂g/∂x

Four ways to the log-determinant:

    "exact"       from the Jacobian (see `tangents`): low dimension
    "series"      the sum cut after n terms, exact traces; off by at most D c^{n+1} / ((n+1)(1 − c))
    "hutchinson"  the same sum with tr(Jᵏ) = E[vᵀJᵏv], v of random signs: n backward passes whatever D; as biased, and noisy
    "roulette"    n is drawn and term k divided by P(n ≥ k): no bias (Chen et al. 2019)

The noisy ones never build the graph of Jᵏ: ∂ tr(Jᵏ)/k = tr(Jᵏ⁻¹ ∂J), so that ∂ log det = E[wᵀ ∂J v] with the Neumann series
w = Σ (−1)^{k−1} (Jᵀ)^{k−1} v / P(n ≥ k). That is a first derivative only: w counts as a constant. The roulette's variance is
finite if c² < P(n > k | n ≥ k); the default is c.

Only "exact" gives the log-density itself: train with any of the four, but report numbers with "exact". The roulette draws
one n for the whole batch, since a batch with an n per row would take as many backward passes as its largest (five times as
many for 256 rows and c = 0.97). So its error is common to the rows, and a standard error over rows does not see it.
"""

import torch
from torch import Tensor, nn

from gmcourse.flows.layer import Layer
from gmcourse.flows.solve import fixed_point, input_of
from gmcourse.model import check_count

KINDS = ("exact", "series", "hutchinson", "roulette")


class Residual(Layer):
    """z = x + g(x) with a contracting net, slides (14).

    Args:
        net: has a constant `lipschitz` < 1 and `function(context)` -> g with g(x) and g.linearise(x), as `LipschitzMLP` has.
        log_det: "exact", "series", "hutchinson" or "roulette"; may be changed at any time. "series" and "hutchinson" are
            truncated, "hutchinson" and "roulette" random: set "exact" where a log-density is reported. The random ones have
            first derivatives only, and raise RuntimeError where a gradient is taken with create_graph=True.
        terms: n of the series; for the roulette, how many terms are always taken.
        continuation: probability of each further term of the roulette; more costs time and saves variance.
        tolerance: of the inverse, relative: it ends when no number moves by more than this times (1 + its size). The
            distance to the solution then is at most c/(1 − c) times as much. None: 16 times the precision of the dtype.
        max_iterations: after which the inverse raises RuntimeError.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        log_det: str = "exact",
        terms: int = 10,
        continuation: float | None = None,
        tolerance: float | None = None,
        max_iterations: int = 2000,
    ):
        super().__init__()
        c = getattr(net, "lipschitz", None)
        if c is None or not 0 < c < 1:
            raise ValueError(f"net must have a Lipschitz constant `lipschitz` in (0, 1); got {c}")
        if log_det not in KINDS:
            raise ValueError(f"log_det must be one of {KINDS}; got {log_det!r}")
        if continuation is not None and not 0 < continuation < 1:
            raise ValueError(f"continuation must lie in (0, 1); got {continuation}")
        if tolerance is not None and not tolerance > 0:
            raise ValueError(f"tolerance must be positive; got {tolerance}")
        self.net, self.log_det, self.terms = net, log_det, check_count(terms, "terms")
        self.continuation = c if continuation is None else continuation
        self.tolerance, self.max_iterations = tolerance, check_count(max_iterations, "max_iterations")

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The cheap direction."""
        return self._evaluate(self.net.function(context), x)

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """By fixed-point iteration; gradients by the implicit function theorem, to first order.

        Raises:
            RuntimeError: the iteration has not converged, naming iterations and residual.
        """
        g = self.net.function(context)
        x = self._solve(g, z)
        return x, self._evaluate(g, x)[1]

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """As `invert`, without the log-determinant."""
        return self._solve(self.net.function(context), z)

    def error_bound(self, dim: int) -> float:
        """Largest error of "series" in `dim` dimensions, in nats."""
        c, n = self.net.lipschitz, self.terms
        return dim * c ** (n + 1) / ((n + 1) * (1 - c))

    def _evaluate(self, g, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.log_det in ("exact", "series"):
            y, j = g.linearise(x)
            return x + y, exact_log_det(j) if self.log_det == "exact" else series_log_det(j, self.terms)
        graph = torch.is_grad_enabled()
        with torch.enable_grad():
            start = input_of(x) if graph else x.detach().requires_grad_()
            y = g(start)
            contribution = noisy_log_det(y, start, self._weights(x), create_graph=graph)
            z = x + y
        return (z, contribution) if graph else (z.detach(), contribution.detach())

    def _weights(self, x: Tensor) -> list[float]:
        """1/P(n ≥ k) for k = 1 … n; n is fixed, or drawn once for the whole batch."""
        if self.log_det == "hutchinson":
            return [1.0] * self.terms
        more = int(torch.empty((), device="cpu").geometric_(1 - self.continuation)) - 1
        return [1.0] * self.terms + [self.continuation**-k for k in range(1, more + 1)]

    def _solve(self, g, z: Tensor) -> Tensor:
        tolerance = self.tolerance or 16 * torch.finfo(z.dtype).eps
        with torch.no_grad():
            x = fixed_point(lambda x: z - g(x), z, tolerance, self.max_iterations)
        return self._attach(g, z, x, tolerance) if torch.is_grad_enabled() else x

    def _attach(self, g, z: Tensor, x: Tensor, tolerance: float) -> Tensor:
        """The solution x with the gradient of the implicit function theorem: dx = (I + J)⁻¹ (dz − ∂g/∂θ dθ)."""
        found = z - g(x)
        if not found.requires_grad:
            return found
        with torch.enable_grad():
            there = x.detach().requires_grad_()
            y = g(there)

        def solve(grad: Tensor) -> Tensor:  # v = (I + Jᵀ)⁻¹ grad, by v ← grad − Jᵀ v
            size = grad.abs().amax(tuple(range(1, grad.ndim)), keepdim=True)  # a loss may be of any scale, row by row
            size = torch.where(size > 0, size, 1)
            goal = grad / size

            def step(v: Tensor) -> Tensor:
                return goal - torch.autograd.grad(y, there, v, retain_graph=True)[0]

            return fixed_point(step, goal, tolerance, self.max_iterations) * size

        found.register_hook(solve)
        return found.clone()  # the hook must see what arrives from outside only, not derivatives by x itself


def exact_log_det(j: Tensor) -> Tensor:
    """log det(I + J), (n, d, d) -> (n,); positive since J contracts.

    >>> exact_log_det(torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]))
    tensor([0.6931])
    """
    return torch.linalg.slogdet(torch.eye(j.shape[1], dtype=j.dtype, device=j.device) + j).logabsdet


def series_log_det(j: Tensor, terms: int) -> Tensor:
    """Σ_{k=1}^{terms} (−1)^{k+1} tr(Jᵏ)/k, (n, d, d) -> (n,): slides (16), cut off."""
    power, total = j, j.diagonal(dim1=1, dim2=2).sum(1)
    for k in range(2, terms + 1):
        power = power @ j
        total = total - (-1) ** k / k * power.diagonal(dim1=1, dim2=2).sum(1)
    return total


def noisy_log_det(y: Tensor, x: Tensor, weights: list[float], *, create_graph: bool) -> Tensor:
    """Σ_k weights_k (−1)^{k+1} vᵀJᵏv/k, J = ∂y/∂x, shape (n,); its gradient is the Neumann series' (see above).

    Raises RuntimeError in a backward pass with create_graph=True: the second derivative would be wrong.
    """
    v = torch.randint_like(x, 2) * 2 - 1
    row, total, neumann = v, x.new_zeros(len(x)), torch.zeros_like(x)
    for k, weight in enumerate(weights, 1):
        signed = weight * (-1) ** (k + 1)
        neumann = neumann + signed * row
        row = torch.autograd.grad(y, x, row, retain_graph=True)[0]
        total = total + signed / k * (row * v).flatten(1).sum(1)
    if not create_graph:
        return total
    surrogate = (torch.autograd.grad(y, x, neumann, create_graph=True)[0] * v).flatten(1).sum(1)
    if surrogate.requires_grad:
        surrogate.register_hook(_first_derivative)
    return total + surrogate - surrogate.detach()


def _first_derivative(grad: Tensor) -> None:
    if torch.is_grad_enabled():
        raise RuntimeError("a noisy log_det has first derivatives only; got create_graph=True (use 'exact' or 'series')")
