"""How large a step a chain in the noise bears: against the closed forms of a linear base, and by letting chains run."""

import pytest
import torch
from torch import nn

from gmcourse.compositions.negatives import NoiseChains, noise_energy
from gmcourse.compositions.stability import curvature, lipschitz, step_bounds, stretches, warn_above
from gmcourse.ebm.energy import mlp_energy
from gmcourse.model import StandardNormal
from gmcourse.vae import VAE, Bernoulli, Gaussian, GaussianEncoder

SIGMA, WIDTH = 0.3, 0.2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def vae(decoder: nn.Module, likelihood=None, data=3) -> VAE:
    encoder = GaussianEncoder(nn.Linear(data, 4))
    return VAE((data,), encoder, decoder, prior=StandardNormal(2), likelihood=likelihood or Gaussian(SIGMA))


def linear_vae() -> VAE:
    """x = W z + σ ε, the singular values of W being 2 and 1."""
    decoder = nn.Linear(2, 3, bias=False)
    left, right = (torch.linalg.qr(torch.randn(d, d, generator=seeded(d)))[0] for d in (3, 2))
    decoder.weight.data = left[:, :2] @ torch.diag(torch.tensor([2.0, 1.0])) @ right
    return vae(decoder)


class Scaling:
    """A transport that says nothing of the parts of its noise."""

    def noise(self, n, *, generator=None):
        return torch.randn(n, 2, generator=generator)

    def push(self, eps):
        return eps * torch.tensor([3.0, -0.5])


def detail(x):
    """E(x) = ½ ‖x‖²/w²: details of width w, everywhere."""
    return 0.5 * (x / WIDTH).square().sum(1)


def test_a_linear_decoder_stretches_by_its_largest_singular_value_and_the_paint_by_sigma():
    found = stretches(linear_vae(), generator=seeded())
    assert found == pytest.approx({"z": 2.0, "x": SIGMA}, rel=1e-4)


def test_a_bent_decoder_stretches_by_what_its_jacobians_say():
    """Singular values of the whole Jacobian at each of the same draws, by torch.func."""
    torch.manual_seed(0)
    base = vae(nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.BatchNorm1d(16), nn.Linear(16, 3)))
    eps = base.noise(20, generator=seeded(1))
    with torch.no_grad():
        base.eval()
        jacobians = torch.func.vmap(torch.func.jacrev(lambda e: base.push(e[None])[0]))(eps)
        exact = torch.linalg.matrix_norm(jacobians[:, :, :2], 2)
        base.train()
    for quantile in (1.0, 0.0):
        found = stretches(base, 20, quantile=quantile, generator=seeded(1))["z"]
        assert found == pytest.approx(float(exact.quantile(quantile)), rel=1e-3)
    assert base.decoder.training and base.decoder[2].num_batches_tracked == 0


def test_a_base_without_blocks_has_one_and_a_block_without_length_is_not_stretched():
    assert stretches(Scaling()) == pytest.approx({"ε": 3.0}, rel=1e-4)
    assert stretches(vae(nn.Linear(2, 3), Bernoulli()))["x"] == 0


def test_the_bound_is_four_over_the_curvature_along_the_block():
    """U of a linear base under a quadratic energy has one Hessian, I + JᵀJ/w²: of its diagonal blocks."""
    base = linear_vae()
    with torch.no_grad():
        hessian = torch.autograd.functional.hessian(
            lambda e: noise_energy(base, detail)(e[None])[0], torch.zeros(5), create_graph=False
        )
    exact = {"z": 4 / torch.linalg.eigvalsh(hessian[:2, :2])[-1], "x": 4 / torch.linalg.eigvalsh(hessian[2:, 2:])[-1]}
    assert step_bounds(base, WIDTH) == pytest.approx({name: float(bound) for name, bound in exact.items()}, rel=1e-3)


@pytest.mark.parametrize("block", ["z", "x"])
def test_langevin_diverges_above_the_bound_of_a_block_and_not_below_it(block):
    """The other block hardly moves; then the bound is sharp."""
    base = linear_vae()
    bound = step_bounds(base, WIDTH)
    steps = dict.fromkeys(bound, 1e-4)
    eps = base.noise(20, generator=seeded())
    below = NoiseChains(400, steps | {block: 0.9 * bound[block]}).run(base, detail, eps, seeded())
    assert below.abs().max() < 20
    with pytest.raises(FloatingPointError, match="diverged"):
        NoiseChains(400, steps | {block: 1.2 * bound[block]}).run(base, detail, eps, seeded())


def test_blocks_together_are_stable_where_their_shares_of_the_bounds_sum_to_less_than_one_and_not_far_above():
    base = linear_vae()
    bound = step_bounds(base, WIDTH)
    eps = base.noise(20, generator=seeded())
    ends = NoiseChains(400, {name: 0.48 * b for name, b in bound.items()}).run(base, detail, eps, seeded())
    assert ends.abs().max() < 20
    with pytest.raises(FloatingPointError, match="diverged"):
        NoiseChains(400, {name: 0.9 * b for name, b in bound.items()}).run(base, detail, eps, seeded())


def test_the_curvature_of_a_trained_energy_is_the_largest_eigenvalue_of_its_hessian():
    """Also where another eigenvalue, a negative one, is larger: by torch.autograd.functional.hessian at every point."""
    torch.manual_seed(0)
    base = vae(nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3))).double()
    net = mlp_energy(3, (16,)).double()
    eps = torch.randn(8, 5, dtype=torch.float64)

    def energy(x):
        return 30 * net(x) - 20 * x.square().sum(1)

    hessians = [torch.autograd.functional.hessian(lambda e: noise_energy(base, energy)(e[None])[0], e) for e in eps]
    spectra = torch.linalg.eigvalsh(torch.stack(hessians))
    assert (spectra[:, 0].abs() > spectra[:, -1]).any()
    found = curvature(base, energy, eps, rounds=2000, generator=seeded())
    assert torch.allclose(found, spectra[:, -1], rtol=1e-3)


def test_a_tilt_without_curvature_leaves_that_of_the_noise():
    assert torch.allclose(curvature(StandardNormal(2), lambda x: x.sum(1), torch.randn(3, 2)), torch.ones(3))


def test_the_slope_of_the_gradient_is_the_absolutely_largest_eigenvalue_of_the_hessian():
    """By torch.autograd.functional.hessian, at points with saddles among them, and of images as of vectors."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1), nn.Flatten(0)).double()
    x = torch.randn(10, 3, dtype=torch.float64)
    hessians = torch.stack([torch.autograd.functional.hessian(lambda e: net(e[None])[0], row) for row in x])
    spectra = torch.linalg.eigvalsh(hessians)
    assert (spectra[:, 0].abs() > spectra[:, -1]).any() and (spectra[:, 0].abs() < spectra[:, -1]).any()
    exact = spectra.abs().amax(1)
    assert torch.allclose(lipschitz(net, x, rounds=2000, generator=seeded()), exact, rtol=1e-3)
    image = lambda y: net(y.flatten(1))  # noqa: E731
    assert torch.allclose(lipschitz(image, x[:, None, :, None], rounds=2000, generator=seeded()), exact, rtol=1e-3)
    assert all(p.requires_grad for p in net.parameters())


def test_a_saddle_that_bends_both_ways_alike_is_not_taken_for_flat():
    """λ and −λ: Rayleigh's quotient of ∇²E itself would give anything in between."""
    x = torch.randn(20, 2)
    assert torch.allclose(lipschitz(lambda y: 3 * y.prod(1), x, generator=seeded()), torch.full((20,), 3.0), rtol=1e-4)
    assert torch.equal(lipschitz(lambda y: y.sum(1), x), torch.zeros(20))
    line = lipschitz(lambda y: y.square(), torch.zeros(4))  # points of event shape ()
    assert torch.allclose(line, torch.full((4,), 2.0))


def test_only_blocks_above_their_bound_are_named():
    base = linear_vae()
    with pytest.warns(UserWarning, match=r"step 0.1 in z \(bound 0.04\) is more than Langevin bears .* width 0.2"):
        warn_above(base, 0.1, WIDTH)
    with pytest.warns(UserWarning, match=r"step 0.1 in z \(bound 0.04\), 2 in x \(bound 1.2\)"):
        warn_above(base, {"z": 0.1, "x": 2.0}, WIDTH)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="width must be positive; got 0"):
        step_bounds(linear_vae(), 0.0)
    with pytest.raises(ValueError, match="n must be a positive whole number; got 0"):
        stretches(linear_vae(), 0)
    with pytest.raises(ValueError, match=r"quantile must lie in \[0, 1\]; got 2"):
        stretches(linear_vae(), quantile=2.0)
    with pytest.raises(ValueError, match="rounds must be a positive whole number; got 0"):
        stretches(linear_vae(), rounds=0)
    with pytest.raises(ValueError, match=r"energy must return shape \(n,\); got \(3, 2\)"):
        lipschitz(lambda x: x, torch.zeros(3, 2))
