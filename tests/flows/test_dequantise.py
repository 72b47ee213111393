"""Dequantisation: bounds against quadrature, the optimal noise, the grid, bits per dimension."""

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor, nn

from gmcourse.data.images import load_images
from gmcourse.fit import fit
from gmcourse.flows import Affine, Flow, Layer
from gmcourse.flows.conditional import Conditional
from gmcourse.flows.dequantise import Dequantise, Logit, VariationalDequantise, bits_per_dim
from gmcourse.model import GenerativeModel, Likelihood, StandardNormal

BINS = 4
STEP = 2 / (BINS - 1)
GRID = torch.linspace(-1, 1, BINS, dtype=torch.float64)[:, None]
SIGMA = 0.4  # of the known density below: it bends within a cell


class Scale(Layer):
    """z = x / SIGMA, so that N(0, 1) behind it is N(0, SIGMA²)."""

    def forward(self, x, context=None):
        return x / SIGMA, x.new_full((len(x),), -math.log(SIGMA))

    def invert(self, z, context=None):
        return z * SIGMA, z.new_full((len(z),), -math.log(SIGMA))


class TruncatedNormal(Layer):
    """The optimal noise for N(0, SIGMA²): u -> Φ⁻¹ of the share of the cell's mass that lies below u."""

    def forward(self, u, context=None):
        below, mass = self._cell(context)
        y = context + STEP * (u - 0.5)
        eps = torch.special.ndtri((torch.special.ndtr(y / SIGMA) - below) / mass)
        return eps, self._log_det(y, eps, mass)

    def invert(self, eps, context=None):
        below, mass = self._cell(context)
        y = SIGMA * torch.special.ndtri(below + mass * torch.special.ndtr(eps))
        return (y - context) / STEP + 0.5, self._log_det(y, eps, mass)

    def _cell(self, x):
        low, high = (torch.special.ndtr((x + side * STEP / 2) / SIGMA) for side in (-1, 1))
        return low, high - low

    def _log_det(self, y, eps, mass):
        normal = torch.distributions.Normal(0, 1)
        slope = normal.log_prob(y / SIGMA) - math.log(SIGMA) - mass.log() + math.log(STEP) - normal.log_prob(eps)
        return slope.sum(1)


class Logistic(GenerativeModel):
    """The logistic distribution: behind a logit without margin it is uniform."""

    def log_prob(self, z: Tensor) -> Tensor:
        return (nn.functional.logsigmoid(z) + nn.functional.logsigmoid(-z)).flatten(1).sum(1)


def truth() -> Tensor:
    """log P of every grey value under N(0, SIGMA²), by SciPy."""
    edges = [(x - STEP / 2, x + STEP / 2) for x in GRID.flatten().tolist()]
    masses = [norm.cdf(b, scale=SIGMA) - norm.cdf(a, scale=SIGMA) for a, b in edges]
    return torch.tensor(masses, dtype=torch.float64).log()


def test_the_uniform_bound_is_the_mean_log_density_of_the_cell_and_below_the_truth():
    flow = Flow(StandardNormal((1,)), [Dequantise((1,), bins=BINS), Scale()]).double()
    assert flow.likelihood is Likelihood.LOWER_BOUND
    torch.manual_seed(0)
    for x, log_p in zip(GRID, truth(), strict=True):
        draws = flow.log_prob(x.expand(40_000, 1))
        a, b = x.item() - STEP / 2, x.item() + STEP / 2
        bound = quad(lambda y: norm.logpdf(y, scale=SIGMA), a, b)[0] / STEP + math.log(STEP)
        assert abs(draws.mean().item() - bound) < 5 * draws.std().item() / 200
        assert bound < log_p - 0.01


def test_the_optimal_noise_closes_the_gap_in_every_single_draw():
    flow = Flow(StandardNormal((1,)), [VariationalDequantise((1,), [TruncatedNormal()], bins=BINS), Scale()]).double()
    assert flow.likelihood is Likelihood.LOWER_BOUND
    torch.manual_seed(0)
    torch.testing.assert_close(flow.log_prob(GRID.repeat(5, 1)), truth().repeat(5), atol=1e-9, rtol=0)


def test_learned_noise_lies_between_the_uniform_bound_and_the_truth():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 16), nn.SiLU(), nn.Linear(16, 2))
    learned = VariationalDequantise((1,), [Logit(), Conditional(net, Affine())], bins=BINS)
    flows = [Flow(StandardNormal((1,)), [noise, Scale()]) for noise in (Dequantise((1,), bins=BINS), learned)]
    x = GRID.float()
    fit(flows[1], x.repeat(64, 1), steps=250, lr=2e-2, progress=False)
    with torch.no_grad():
        uniform, variational = (flow.log_prob(x.repeat(5000, 1)).view(-1, BINS).mean(0) for flow in flows)
    assert (variational < truth() + 5e-3).all()
    gaps = (truth() - uniform).mean(), (truth() - variational).mean()
    assert gaps[1] < 0.1 * gaps[0]


def test_invert_of_uniform_noise_has_the_contribution_of_forward():
    layer = Dequantise((2, 3), bins=BINS)
    y, forward = layer(torch.ones(4, 2, 3))
    assert torch.equal(layer.invert(y)[1], forward) and forward.tolist() == pytest.approx([6 * math.log(STEP)] * 4)


def test_forward_and_invert_of_learned_noise_agree_on_the_contribution():
    torch.manual_seed(0)
    layer = VariationalDequantise((3,), [Logit(), Conditional(nn.Linear(3, 6), Affine())], bins=17).double()
    x = (torch.randint(0, 17, (50, 3)) / 8 - 1.0).double()
    y, forward = layer(x)
    back, inverse = layer.invert(y)
    assert torch.equal(back, x)
    torch.testing.assert_close(forward, inverse, atol=1e-8, rtol=0)


@pytest.mark.parametrize("bins", [2, 17, 256])
def test_a_uniform_density_costs_exactly_log2_of_the_number_of_grey_values(bins):
    shape = (2, 3)
    x = torch.randint(0, bins, (8, *shape)).double() * 2 / (bins - 1) - 1
    edge = bins / (bins - 1)
    flow = Flow(Logistic(shape), [Dequantise(shape, bins=bins), Logit(-edge, edge)])
    expected = torch.full((8,), math.log2(bins), dtype=torch.float64)
    torch.testing.assert_close(bits_per_dim(flow.log_prob(x), shape), expected, atol=1e-6, rtol=0)
    log_density = torch.full((8,), -6 * math.log(2 * edge), dtype=torch.float64)
    torch.testing.assert_close(bits_per_dim(log_density, shape, bins=bins), expected)


def test_the_probabilities_of_all_grey_values_add_up_to_one():
    """The mass that a flow on (−edge, edge) puts into the cells, integrated by SciPy."""
    edge = BINS / (BINS - 1)
    density = Flow(StandardNormal((1,)), [Logit(-edge, edge)]).double()
    flow = Flow(StandardNormal((1,)), [Dequantise((1,), bins=BINS), Logit(-edge, edge)]).double()
    x = torch.full((1, 1), -1.0, dtype=torch.float64)
    total, cell = 0.0, Dequantise((1,), bins=BINS)(x)[1].item()
    for x in GRID.flatten().tolist():
        a, b = max(x - STEP / 2, -edge + 1e-12), min(x + STEP / 2, edge - 1e-12)
        total += quad(lambda y: density.log_prob(torch.tensor([[y]]).double()).exp().item() / STEP, a, b)[0] * math.exp(cell)
    assert abs(total - 1) < 1e-6
    assert (flow.log_prob(GRID) < 0).all()


@pytest.mark.parametrize(("name", "bins"), [("digits", 17), ("fashion_mnist", 256), ("emoji", 256)])
def test_images_survive_noise_and_rounding(name, bins):
    x = load_images(name, "test")[0][:50]
    layer = Dequantise(x.shape[1:], bins=bins)
    y, contribution = layer(x)
    assert (y - x).abs().max() <= 1.001 / (bins - 1) and (y != x).float().mean() > 0.9
    back = layer.inverse(y)
    assert ((back - x).abs() < 1e-6).float().mean() > 0.9999  # float32 carries one point in 10⁵ over the edge of its cell
    assert (back - x).abs().max() < 2.001 / (bins - 1)
    torch.testing.assert_close(contribution, torch.full((50,), x[0].numel() * math.log(2 / (bins - 1))))


def test_data_off_the_grid_is_refused():
    digits = load_images("digits", "test")[0]
    with pytest.raises(ValueError, match=r"x must take only the 256 values evenly spaced from -1 to 1 \(see bins\); got"):
        Dequantise((1, 8, 8))(digits)
    with pytest.raises(ValueError, match="x must take only the 17 values"):
        Dequantise((1, 8, 8), bins=17)(digits + 2.0)
    with pytest.raises(ValueError, match="x must take only the 3 values"):
        VariationalDequantise((1,), [Logit()], bins=3)(torch.tensor([[0.3]]))


def test_rounding_stays_on_the_grid_and_lets_gradients_through():
    y = torch.tensor([[-7.0, -0.9, 0.2, 0.34, 55.0]], requires_grad=True)
    x = Dequantise((5,), bins=3).inverse(y)
    torch.testing.assert_close(x, torch.tensor([[-1.0, -1.0, 0.0, 0.0, 1.0]]), atol=1e-6, rtol=0)
    assert torch.equal(torch.autograd.grad(x.sum(), y)[0], torch.ones_like(y))


@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_the_logit_agrees_with_autograd(margin):
    layer = Logit(-1.5, 2.0, margin=margin)
    x = torch.linspace(-1.49, 1.99, 7, dtype=torch.float64)[:, None]
    z, log_det = layer(x)
    slope = torch.autograd.functional.jacobian(lambda v: layer(v)[0].sum(0), x).flatten()
    torch.testing.assert_close(log_det, slope.log(), atol=1e-10, rtol=0)
    back, same = layer.invert(z)
    torch.testing.assert_close(back, x, atol=1e-12, rtol=0)
    torch.testing.assert_close(same, log_det)


def test_a_margin_keeps_the_ends_of_the_interval_finite():
    z, log_det = Logit(margin=1e-3)(torch.tensor([[0.0, 1.0]]))
    assert z.isfinite().all() and log_det.isfinite().all()
    x, log_det = Logit().invert(torch.tensor([[-1e4, 1e4]]))
    assert torch.equal(x, torch.tensor([[0.0, 1.0]])) and log_det.isfinite().all()


def test_conditions_and_settings_that_make_no_sense_are_named():
    with pytest.raises(ValueError, match="bins must be a whole number of at least 2; got 1"):
        Dequantise((1,), bins=1)
    with pytest.raises(ValueError, match="layers must be bijections"):
        VariationalDequantise((1,), [Dequantise((1,))])
    with pytest.raises(ValueError, match=r"margin must lie in \[0, 0.5\); got 0.5"):
        Logit(margin=0.5)
    with pytest.raises(ValueError, match="low must be below high; got 1.0 and 1.0"):
        Logit(1.0, 1.0)
    with pytest.raises(ValueError, match="context must be given to a conditional layer; got None"):
        Conditional(nn.Linear(1, 2), Affine())(torch.zeros(1, 1))
