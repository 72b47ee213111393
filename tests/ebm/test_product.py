"""And, or, not: composed energies against Gaussians in closed form and against quadrature."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Categorical as Shares
from torch.distributions import MixtureSameFamily, MultivariateNormal

from gmcourse.ebm.product import MixtureOfExperts, ProductOfExperts, negation
from gmcourse.metrics import Grid, log_z_grid

GRID = Grid([(-9.0, 9.0), (-9.0, 9.0)], 300)
MEANS = torch.tensor([[1.0, 0.5], [-0.5, 2.0], [0.0, -1.0]], dtype=torch.float64)
PRECISIONS = torch.tensor(
    [[[2.0, 0.5], [0.5, 1.0]], [[0.5, -0.2], [-0.2, 0.8]], [[1.0, 0.0], [0.0, 3.0]]], dtype=torch.float64
)


def bowl(mean, precision, shift=0.0):
    """A Gaussian without its normaliser, plus whatever constant."""

    def energy(x):
        away = x - mean
        return 0.5 * torch.einsum("ni,ij,nj->n", away, precision, away) + shift

    return energy


BOWLS = [bowl(m, p, shift) for m, p, shift in zip(MEANS, PRECISIONS, (0.0, 3.0, -7.0), strict=True)]


def normalised(energy):
    """log p at the nodes of GRID."""
    return -energy(GRID.nodes) - log_z_grid(energy, GRID)


@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.5), (0.0, 1.0, 3.0)])
def test_a_product_of_gaussians_is_the_gaussian_whose_precision_is_the_sum_of_theirs(weights):
    w = torch.tensor(weights or (1.0, 1.0, 1.0), dtype=torch.float64)
    precision = torch.einsum("k,kij->ij", w, PRECISIONS)
    mean = torch.linalg.solve(precision, torch.einsum("k,kij,kj->i", w, PRECISIONS, MEANS))
    found = normalised(ProductOfExperts(*BOWLS, weights=weights))
    assert torch.allclose(found, MultivariateNormal(mean, precision_matrix=precision).log_prob(GRID.nodes), atol=1e-8)


def test_the_score_of_a_product_is_the_weighted_sum_of_the_experts_scores():
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    weights = (0.7, 1.3, 2.0)
    (found,) = torch.autograd.grad(ProductOfExperts(*BOWLS, weights=weights)(x).sum(), x)
    parts = [w * (x - m) @ p for w, m, p in zip(weights, MEANS, PRECISIONS, strict=True)]
    assert torch.allclose(found, sum(parts))


def test_a_mixture_with_the_experts_log_z_is_the_mixture_of_the_normalised_gaussians():
    shares = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    log_z = [math.log(2 * math.pi) - 0.5 * math.log(p.det()) - s for p, s in zip(PRECISIONS, (0.0, 3.0, -7.0), strict=True)]
    mixture = MixtureOfExperts(*BOWLS, log_z=log_z, weights=(2, 5, 3))
    truth = MixtureSameFamily(Shares(shares), MultivariateNormal(MEANS, precision_matrix=PRECISIONS))
    assert torch.allclose(-mixture(GRID.nodes), truth.log_prob(GRID.nodes))


def test_without_their_log_z_a_constant_in_an_experts_energy_changes_its_share_of_the_mixture_but_no_product():
    same, shifted = bowl(MEANS[0], PRECISIONS[0]), bowl(MEANS[0], PRECISIONS[0], 2.0)
    products = [normalised(ProductOfExperts(expert, BOWLS[1])) for expert in (same, shifted)]
    mixtures = [normalised(MixtureOfExperts(expert, BOWLS[1])) for expert in (same, shifted)]
    assert torch.allclose(*products)
    assert (mixtures[0] - mixtures[1]).abs().max() > 0.5


def test_negation_of_gaussians_subtracts_precisions():
    alpha = 0.5
    precision = PRECISIONS[0] - alpha * PRECISIONS[1]
    mean = torch.linalg.solve(precision, PRECISIONS[0] @ MEANS[0] - alpha * PRECISIONS[1] @ MEANS[1])
    found = normalised(negation(BOWLS[0], BOWLS[1], alpha))
    assert torch.allclose(found, MultivariateNormal(mean, precision_matrix=precision).log_prob(GRID.nodes), atol=1e-6)


def test_a_product_of_gaussians_is_narrower_than_each_and_a_mixture_no_narrower_than_the_narrowest():
    def spread(log_p):
        p = log_p.exp()
        mean = torch.stack([torch.tensor(GRID.integrate(p * x)) for x in GRID.nodes.T])
        return GRID.integrate(p * (GRID.nodes - mean).square().sum(1))

    widths = [spread(normalised(b)) for b in BOWLS[:2]]
    assert spread(normalised(ProductOfExperts(*BOWLS[:2]))) < min(widths)
    assert spread(normalised(MixtureOfExperts(*BOWLS[:2], log_z=[log_z_grid(b, GRID) for b in BOWLS[:2]]))) >= min(widths)


def test_modules_among_the_experts_are_trained_and_composed_energies_compose_again():
    net = nn.Sequential(nn.Linear(2, 3), nn.SiLU(), nn.Linear(3, 1), nn.Flatten(0)).double()
    inner = MixtureOfExperts(net, BOWLS[0])
    product = ProductOfExperts(inner, BOWLS[1])
    assert {id(p) for p in product.parameters()} == {id(p) for p in net.parameters()}
    product(GRID.nodes[:5]).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    assert torch.allclose(product(GRID.nodes[:5]), inner(GRID.nodes[:5]) + BOWLS[1](GRID.nodes[:5]))


def test_an_expert_of_weight_zero_is_not_asked():
    def mute(x):
        raise AssertionError("asked")

    assert torch.equal(ProductOfExperts(BOWLS[0], mute, weights=(2.0, 0.0))(GRID.nodes), 2 * BOWLS[0](GRID.nodes))


def test_where_an_expert_of_positive_weight_says_no_the_product_does_whatever_is_repelled():
    """Two boxes, [0, 2] and [1, 3]: +inf outside. Not the second is +inf − inf at 4, −inf only where the first allows x."""
    first, second = (lambda x, low=low: torch.where((x - low - 1).abs() <= 1, x.square(), math.inf) for low in (0.0, 1.0))
    x = torch.tensor([0.5, 1.5, 2.5, 4.0])
    assert negation(first, second)(x).tolist() == [-math.inf, 0.0, math.inf, math.inf]
    assert ProductOfExperts(first, second)(x).tolist() == [math.inf, 4.5, math.inf, math.inf]


@pytest.mark.parametrize(("make", "complaint"), [
    (lambda: ProductOfExperts(), "energies must hold at least one expert; got none"),
    (lambda: ProductOfExperts(3.0), "energies must be functions of x; got float"),
    (lambda: ProductOfExperts(*BOWLS, weights=(1.0,)), "weights must hold one number for each of 3 experts; got 1"),
    (lambda: ProductOfExperts(BOWLS[0], weights=(math.nan,)), "weights must be finite"),
    (lambda: ProductOfExperts(*BOWLS, weights=(0.0, 0.0, 0.0)), "weights must not all be 0"),
    (lambda: MixtureOfExperts(*BOWLS, log_z=(0.0, 1.0)), "log_z must hold one number for each of 3 experts; got 2"),
    (lambda: MixtureOfExperts(*BOWLS, weights=(1.0, 0.0, 1.0)), "weights must be positive in a mixture"),
    (lambda: negation(BOWLS[0], BOWLS[1], 0.0), "alpha must be positive; got 0"),
])  # fmt: skip
def test_what_makes_no_composition_is_refused_by_name(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


def test_an_expert_that_gives_a_column_is_refused_where_adding_it_would_make_a_square():
    column = nn.Linear(2, 1).double()
    with pytest.raises(ValueError, match="shape"):
        ProductOfExperts(BOWLS[0], column)(GRID.nodes[:5])
