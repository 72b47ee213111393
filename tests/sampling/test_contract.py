"""What every sampler owes its callers, tried on all of them."""

from functools import partial

import pytest
import torch
from problems.gaussian_energy import GaussianEnergy, standard_score

from gmcourse.sampling import HMC, MALA, ULA, AnnealedLangevin

STEPS = 20
MATRIX = [[1.5, 0.5], [0.5, 1.0]]
CHAINS = {  # name -> (energy, temperature) -> sampler
    "ula": lambda energy, t: ULA(energy, step=0.1, temperature=t),
    "ula_score": lambda energy, t: ULA(score=standard_score, step=0.1, temperature=t),
    "ula_clipped": lambda energy, t: ULA(energy, step=0.1, temperature=t, clip=50.0),
    "mala": lambda energy, t: MALA(energy, step=0.5, temperature=t),
    "mala_score": lambda energy, t: MALA(energy, score=standard_score, step=0.5, temperature=t),
    "mala_clipped": lambda energy, t: MALA(energy, step=0.5, temperature=t, clip=0.5),
    "hmc": lambda energy, t: HMC(energy, step=0.4, leaps=4, temperature=t),
    "hmc_score": lambda energy, t: HMC(energy, score=standard_score, step=0.4, leaps=4, temperature=t),
}
PRECONDITIONED = {
    "ula_matrix": lambda energy, t: ULA(energy, step=0.1, temperature=t, preconditioner=MATRIX),
    "mala_matrix": lambda energy, t: MALA(energy, step=0.5, temperature=t, preconditioner=MATRIX),
    "hmc_mass": lambda energy, t: HMC(energy, step=0.3, leaps=4, temperature=t, mass=MATRIX),
    "ula_diagonal": lambda energy, t: ULA(energy, step=0.1, temperature=t, preconditioner=[1.5, 1.0]),
    "mala_diagonal": lambda energy, t: MALA(energy, step=0.5, temperature=t, preconditioner=[1.5, 1.0]),
    "hmc_diagonal": lambda energy, t: HMC(energy, step=0.3, leaps=4, temperature=t, mass=[1.5, 1.0]),
}
ANNEALED = "annealed"
NAMES = [*CHAINS, ANNEALED]
every_sampler = pytest.mark.parametrize("name", [*NAMES, *PRECONDITIONED])


def annealed_score(x, sigma):
    """Of N(0, I) blurred by sigma."""
    return -x / (1 + sigma**2)


def runner(name, energy=None, temperature=1.0):
    """(x, generator) -> x after the run."""
    if name == ANNEALED:
        return AnnealedLangevin(annealed_score, [2.0, 1.0, 0.5], step=0.1, each=10).run
    make = (CHAINS | PRECONDITIONED)[name]
    return partial(make(energy or GaussianEnergy(), temperature).run, steps=STEPS)


def start(shape=(2,), n=8, dtype=torch.float32):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(), (2,), (1, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_shape_and_dtype_are_those_of_the_start(name, shape, dtype):
    x = start(shape, dtype=dtype)
    found = runner(name)(x, generator=seeded())
    assert found.shape == x.shape and found.dtype == dtype and found.device == x.device
    assert found.isfinite().all() and not found.requires_grad and not torch.equal(found, x)


@pytest.mark.gpu
@every_sampler
def test_chains_stay_on_their_device(name):
    x = start().cuda()
    found = runner(name, GaussianEnergy().cuda())(x, generator=torch.Generator("cuda").manual_seed(0))
    assert found.device == x.device and found.isfinite().all()


@every_sampler
def test_the_seed_decides_and_the_global_generator_is_left_alone(name):
    run, x = runner(name), start()
    before = torch.random.get_rng_state()
    first, again, other = (run(x, generator=seeded(k)) for k in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


@every_sampler
def test_without_a_generator_the_global_seed_decides(name):
    run, x, found = runner(name), start(), []
    for _ in range(2):
        torch.manual_seed(5)
        found.append(run(x))
    assert torch.equal(*found)


@every_sampler
def test_the_start_is_not_modified_and_may_carry_gradients(name):
    x = start().requires_grad_()
    before = x.detach().clone()
    found = runner(name)(x, generator=seeded())
    assert torch.equal(x, before) and x.grad is None and not found.requires_grad


@every_sampler
def test_parameters_get_no_gradients_and_keep_asking_for_them(name):
    energy = GaussianEnergy()
    runner(name, energy)(start(), generator=seeded())
    assert energy.precision.grad is None and energy.precision.requires_grad


@every_sampler
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradient_modes_make_no_difference(name, mode):
    wanted = runner(name)(start(), generator=seeded())
    with mode():
        found = runner(name)(start(), generator=seeded())
    assert torch.equal(found, wanted) and not found.requires_grad


@pytest.mark.parametrize("name", [*CHAINS, *PRECONDITIONED])
def test_half_the_temperature_is_half_the_variance(name):
    """p^{1/T} of N(0, I) is N(0, T I); ULA's noise is proportional to √T, so the ratio holds with its bias."""
    if name == "ula_clipped":
        pytest.skip("clipping makes ULA's law another one")
    x = torch.randn(4000, 2, generator=seeded(), dtype=torch.float64)
    hot, cold = (runner(name, temperature=t)(x * t**0.5, generator=seeded(k)) for k, t in ((2, 1.0), (3, 0.5)))
    ratio = (cold.square().mean(0) / hot.square().mean(0)).tolist()
    assert ratio == pytest.approx([0.5, 0.5], abs=4.5 * 0.5 * (2 * 2 / 4000) ** 0.5)


@pytest.mark.parametrize("name", [*CHAINS, *PRECONDITIONED])
def test_the_trace_ends_where_the_run_ends(name):
    make, x = (CHAINS | PRECONDITIONED)[name], start()
    trace = make(GaussianEnergy(), 1.0).trace(x, 12, every=4, skip=STEPS - 12, generator=seeded())
    assert trace.x.shape == (3, *x.shape) and torch.equal(trace.x[-1], runner(name)(x, generator=seeded()))
    tested = not name.startswith("ula")
    assert (trace.acceptance is not None) == tested
    if tested:
        assert trace.acceptance.shape == (len(x),) and ((trace.acceptance >= 0) & (trace.acceptance <= 1)).all()


@pytest.mark.parametrize(("name", "calls"), [("ula", STEPS), ("mala", STEPS + 1), ("hmc", 4 * STEPS + 1)])
def test_no_point_is_evaluated_twice(name, calls):
    energy = GaussianEnergy()
    runner(name, energy)(start(), generator=seeded())
    assert energy.calls == calls


def test_progress_is_shown_on_request_only(capsys):
    sampler = CHAINS["ula"](GaussianEnergy(), 1.0)
    sampler.run(start(), 5)
    assert capsys.readouterr().err == ""
    sampler.run(start(), 5, progress=True)
    assert "ULA" in capsys.readouterr().err


def flat_energy(x):
    return x.new_zeros(len(x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e, x: ULA(step=0.1), "exactly one of energy and score; got neither"),
        (lambda e, x: ULA(e, score=standard_score, step=0.1), "exactly one of energy and score; got both"),
        (lambda e, x: ULA(3.0, step=0.1), "energy must be a function of x; got float"),
        (lambda e, x: ULA(e, step=0.0), "step must be positive; got 0.0"),
        (lambda e, x: MALA(e, step=-0.1), "step must be positive; got -0.1"),
        (lambda e, x: HMC(e, step=float("nan")), "step must be positive; got nan"),
        (lambda e, x: ULA(e, step=0.1, temperature=-1.0), "temperature must not be negative; got -1.0"),
        (lambda e, x: MALA(e, step=0.1, temperature=0), "temperature must be positive; got 0"),
        (lambda e, x: HMC(e, step=0.1, temperature=0), "temperature must be positive; got 0"),
        (lambda e, x: HMC(e, step=0.1, leaps=0), "leaps must be a positive whole number; got 0"),
        (lambda e, x: MALA(e, step=0.1, clip=0.0), "clip must be positive; got 0.0"),
        (lambda e, x: ULA(e, step=0.1).run(x, 0), "steps must be a positive whole number; got 0"),
        (lambda e, x: ULA(e, step=0.1).trace(x, 4, every=5), "every must be at most steps = 4; got 5"),
        (lambda e, x: ULA(e, step=0.1).run(x.long(), 1), "x must be floats of shape .*; got .*torch.int64"),
        (lambda e, x: ULA(e, step=0.1).run(x[:0], 1), r"x must be floats of shape .*; got \(0, 2\)"),
        (lambda e, x: ULA(lambda x: x, step=0.1).run(x, 1), r"energy must return shape \(n,\); got \(8, 2\)"),
        (lambda e, x: MALA(lambda x: x.sum(), step=0.1).run(x, 1), r"shape \(n,\); got \(\)"),
        (lambda e, x: ULA(flat_energy, step=0.1).run(x, 1), "energy must be differentiable in x"),
        (lambda e, x: ULA(score=lambda x: x[:, 0], step=0.1).run(x, 1), r"score must have .*\(8, 2\); got \(8,\)"),
        (lambda e, x: ULA(e, step=0.1, preconditioner=[1.0, -1.0]), "preconditioner must be positive; .* -1"),
        (lambda e, x: MALA(e, step=0.1, preconditioner=[[1.0, 2.0], [2.0, 1.0]]), "positive definite; .*eigenvalue is -1"),
        (lambda e, x: ULA(e, step=0.1, preconditioner=[[1.0, 0.5], [0.0, 1.0]]), "preconditioner must be symmetric"),
        (lambda e, x: HMC(e, step=0.1, mass=[[1.0, 0.0]]), r"mass must have shape \(d,\) or \(d, d\); got \(1, 2\)"),
        (lambda e, x: HMC(e, step=0.1, mass=[1.0, float("inf")]), "mass must be finite"),
        (lambda e, x: ULA(e, step=0.1, preconditioner=[1.0] * 3).run(x, 1), r"\(2,\) or \(2, 2\) .*; got \(3,\)"),
        (lambda e, x: AnnealedLangevin(annealed_score, [1.0, 2.0], step=0.1, each=1), "sigmas must be .*falling"),
        (lambda e, x: AnnealedLangevin(annealed_score, [1.0, 0.0], step=0.1, each=1), "sigmas must be positive"),
        (lambda e, x: AnnealedLangevin(annealed_score, [1.0], step=0.1, each=0), "each must be a positive"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(GaussianEnergy(), start())


@pytest.mark.parametrize("name", ["ula", "mala", "hmc"])
def test_a_start_of_infinite_energy_is_refused(name):
    x = start()
    x[3] = float("inf")
    with pytest.raises(ValueError, match="x must start where energy and score are finite; 1 of 8 chains do not"):
        runner(name)(x)
