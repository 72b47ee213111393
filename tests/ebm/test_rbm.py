"""The binary machine against enumeration of all its states, written out with numpy from thesis (2.34) alone."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import chisquare
from sklearn.neural_network import BernoulliRBM

from gmcourse import Likelihood, fit
from gmcourse.ebm import boltzmann
from gmcourse.ebm.rbm import RBM


def machine(visible, hidden, seed=0, scale=1.0, **options):
    rbm = RBM(visible, hidden, **options).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in rbm.parameters():
            p.copy_(scale * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return rbm


def states(units):
    return np.array(list(product((0.0, 1.0), repeat=units)))


class Enumerated:
    """Everything about a machine from the table of e^{xᵀWz + bᵀx + cᵀz} over all (x, z)."""

    def __init__(self, rbm):
        self.W, self.b, self.c = (p.detach().numpy() for p in (rbm.W, rbm.b, rbm.c))
        self.x, self.z = states(len(self.b)), states(len(self.c))
        weights = np.exp(self.x @ self.W @ self.z.T + (self.x @ self.b)[:, None] + self.z @ self.c)
        self.log_z = math.log(weights.sum())
        self.joint = weights / weights.sum()
        self.p = self.joint.sum(1)
        self.z_given_x = self.joint / self.p[:, None]
        self.x_given_z = self.joint / self.joint.sum(0)

    def transition(self):
        """T[x, x'] of the sweep x → z → x'."""
        return self.z_given_x @ self.x_given_z.T

    def statistics(self, law):
        """E[x zᵀ], E[x], E[z] with x ~ law and z | x."""
        z = self.z_given_x @ self.z
        return np.einsum("k,ki,kj->ij", law, self.x, z), law @ self.x, law @ z


SHAPES = [(3, 2), (2, 5), (6, 4)]


@pytest.mark.parametrize(("visible", "hidden"), SHAPES)
def test_log_prob_is_that_of_the_table_of_all_states(visible, hidden):
    rbm = machine(visible, hidden)
    table = Enumerated(rbm)
    found = rbm.log_prob(torch.from_numpy(table.x)).detach().numpy()
    assert np.allclose(found, np.log(table.p))
    assert rbm.log_z().item() == pytest.approx(table.log_z)
    assert np.exp(found).sum() == pytest.approx(1)


@pytest.mark.parametrize(("visible", "hidden"), SHAPES)
def test_free_energy_sums_the_energy_of_thesis_2_34_over_the_hidden_states(visible, hidden):
    rbm = machine(visible, hidden)
    table = Enumerated(rbm)
    x, z = (torch.from_numpy(s) for s in (table.x, table.z))
    energies = torch.stack([rbm.energy(x, one.expand(len(x), -1)) for one in z], 1).detach()
    assert np.allclose(np.exp(-energies.numpy() - table.log_z), table.joint)
    assert np.allclose(rbm.free_energy(x).detach(), -(-energies).logsumexp(1))


@pytest.mark.parametrize(("visible", "hidden"), SHAPES)
def test_conditional_probabilities_are_those_of_the_joint_table(visible, hidden):
    rbm = machine(visible, hidden)
    table = Enumerated(rbm)
    assert np.allclose(rbm.hidden_probs(torch.from_numpy(table.x)).detach(), table.z_given_x @ table.z)
    assert np.allclose(rbm.visible_mean(torch.from_numpy(table.z)).detach(), table.x_given_z.T @ table.x)


def test_free_energy_and_hidden_probabilities_are_scikit_learns():
    rbm = machine(7, 5, seed=3)
    other = BernoulliRBM(n_components=5)
    other.components_ = rbm.W.detach().numpy().T
    other.intercept_visible_, other.intercept_hidden_ = rbm.b.detach().numpy(), rbm.c.detach().numpy()
    other._n_features_out = 5
    x = (torch.rand(40, 7, generator=torch.Generator().manual_seed(1)) < 0.4).double()
    assert np.allclose(rbm.free_energy(x).detach(), other._free_energy(x.numpy()))
    assert np.allclose(rbm.hidden_probs(x).detach(), other.transform(x.numpy()))


@pytest.mark.parametrize(("visible", "hidden"), SHAPES)
def test_the_gradient_of_the_log_likelihood_is_data_minus_model_statistics(visible, hidden):
    rbm = machine(visible, hidden)
    table = Enumerated(rbm)
    data = np.random.default_rng(0).dirichlet(np.ones(len(table.x)))
    (torch.from_numpy(data) @ rbm.log_prob(torch.from_numpy(table.x))).backward()
    for parameter, of_data, of_model in zip(
        (rbm.W, rbm.b, rbm.c), table.statistics(data), table.statistics(table.p), strict=True
    ):
        assert np.allclose(parameter.grad, of_data - of_model)


def test_a_sweep_of_block_gibbs_leaves_the_enumerated_law_as_it_is_and_draws_from_its_transition_matrix():
    rbm = machine(3, 2, scale=1.5)
    table = Enumerated(rbm)
    T = table.transition()
    assert np.allclose(table.p @ T, table.p) and not np.allclose(T, np.broadcast_to(table.p, T.shape), atol=0.05)
    n, generator = 20_000, torch.Generator().manual_seed(0)
    for row, x in enumerate(torch.from_numpy(table.x)):
        moved = rbm.gibbs(x.expand(n, -1), generator=generator)
        counts = np.bincount((moved @ torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)).long(), minlength=8)
        assert chisquare(counts, n * T[row]).pvalue > 1e-4
    four = rbm.gibbs(torch.zeros(n, 3, dtype=torch.float64), 4, generator=generator)
    counts = np.bincount((four @ torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)).long(), minlength=8)
    assert chisquare(counts, n * np.linalg.matrix_power(T, 4)[0]).pvalue > 1e-4


def cd_gradient(table, data, k):
    """What the mean of CD-k's loss has as its gradient, over all chances: E_data[∂F] − E_{data Tᵏ}[∂F]."""
    after = data @ np.linalg.matrix_power(table.transition(), k)
    return [m - d for d, m in zip(table.statistics(data), table.statistics(after), strict=True)]


@pytest.mark.parametrize("k", [1, 3])
def test_the_gradient_of_the_loss_is_on_average_that_of_cd_k(k):
    rbm = machine(3, 2, scale=2.0, k=k)
    table = Enumerated(rbm)
    data = np.array([0.4, 0.0, 0.1, 0.0, 0.0, 0.2, 0.0, 0.3])
    n, rounds = 1000, 60
    x = torch.from_numpy(np.repeat(table.x, (data * n).round().astype(int), 0))
    torch.manual_seed(0)
    found = []
    for _ in range(rounds):
        rbm.zero_grad()
        rbm.loss(x).mean().backward()
        found.append(np.concatenate([p.grad.flatten().numpy() for p in (rbm.W, rbm.b, rbm.c)]))
    error = np.std(found, axis=0) / math.sqrt(rounds)
    wanted = np.concatenate([part.flatten() for part in cd_gradient(table, data, k)])
    exact = np.concatenate([part.flatten() for part in cd_gradient(table, data, 10_000)])
    away = np.abs(np.mean(found, 0) - wanted)
    assert (away < 4.5 * error).all()
    assert (np.abs(np.mean(found, 0) - exact) > 5 * error).any()  # it could have told them apart


def test_the_bias_of_cd_k_falls_to_nothing_as_k_grows():
    rbm = machine(3, 2, scale=2.0)
    table = Enumerated(rbm)
    data = np.array([0.4, 0.0, 0.1, 0.0, 0.0, 0.2, 0.0, 0.3])
    exact = [m - d for d, m in zip(table.statistics(data), table.statistics(table.p), strict=True)]

    def bias(k):
        return math.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(cd_gradient(table, data, k), exact, strict=True)))

    biases = [bias(k) for k in (1, 2, 4, 8, 16, 64)]
    assert all(after < before for before, after in zip(biases, biases[1:], strict=False))
    assert biases[0] > 0.1 and biases[-1] < 1e-3 * biases[0]


def test_persistent_chains_go_on_where_they_were_and_travel_with_the_weights():
    rbm = machine(3, 2, chains=50)
    x = torch.zeros(10, 3, dtype=torch.float64)
    torch.manual_seed(0)
    rbm.loss(x)
    torch.manual_seed(0)
    torch.bernoulli(x)  # the data are drawn first
    wanted = rbm.gibbs(torch.zeros(50, 3, dtype=torch.float64))
    assert torch.equal(rbm.chains, wanted)
    rbm.eval().loss(x)
    assert torch.equal(rbm.chains, wanted)
    other = machine(3, 2, chains=50, seed=1)
    other.load_state_dict(rbm.state_dict())
    assert torch.equal(other.chains, wanted)


def test_persistent_chains_of_a_machine_at_rest_give_the_exact_gradient():
    rbm = machine(3, 2, chains=2000)
    table = Enumerated(rbm)
    x = torch.from_numpy(table.x[[0, 0, 3, 7]])
    data = np.array([0.5, 0, 0, 0.25, 0, 0, 0, 0.25])
    torch.manual_seed(0)
    for _ in range(30):
        rbm.loss(x)
    found = []
    for _ in range(100):
        rbm.zero_grad()
        rbm.loss(x).mean().backward()
        found.append(rbm.W.grad.numpy().copy())
    wanted = table.statistics(table.p)[0] - table.statistics(data)[0]
    spread = 3 * np.std(found, axis=0) / math.sqrt(100)  # one sweep does not make the chains independent
    assert (np.abs(np.mean(found, 0) - wanted) < 4 * spread).all()


@pytest.mark.parametrize("options", [{"k": 5}, {"chains": 256, "k": 2}])
def test_training_by_fit_comes_near_the_entropy_of_bars_and_stripes(options):
    rows = [np.repeat(s[:, None], 3, 1) for s in states(3)]
    pictures = torch.tensor(np.array(rows + [r.T for r in rows]), dtype=torch.float32)[:, None]
    rbm = RBM((1, 3, 3), hidden=8, **options)
    torch.manual_seed(0)
    data = pictures.repeat(64, 1, 1, 1)[torch.randperm(1024)]
    before = float(-rbm.log_prob(pictures).mean().detach())
    fit(rbm, data, steps=800, batch_size=128, lr=3e-2, schedule=lambda done: 1 - done, progress=False)
    best = 12 / 16 * math.log(16) + 2 / 8 * math.log(8)  # blank and full are both bars and stripes
    after = float(-rbm.log_prob(pictures).mean().detach())
    assert before > best + 3 and best < after < best + 1


def test_exact_samples_have_the_enumerated_law_whichever_layer_is_summed():
    for visible, hidden in ((3, 2), (2, 5)):
        rbm = machine(visible, hidden)
        x = rbm.sample(20_000, generator=torch.Generator().manual_seed(0))
        index = (x @ 2.0 ** torch.arange(visible - 1, -1, -1, dtype=torch.float64)).long()
        assert chisquare(np.bincount(index, minlength=2**visible), 20_000 * Enumerated(rbm).p).pvalue > 1e-4


def test_exact_samples_of_a_machine_with_many_states_have_its_moments():
    """16 and 16 units, looked at in blocks; E[x] and E[x xᵀ] over the 2^16 hidden states."""
    rbm, n = machine(16, 16, scale=0.7), 20_000
    W, b, c = (p.detach().numpy() for p in (rbm.W, rbm.b, rbm.c))
    z = states(16)
    log_mass = z @ c + np.logaddexp(0, b + z @ W.T).sum(1)
    mass = np.exp(log_mass - log_mass.max())
    means = expit(b + z @ W.T)
    second = np.einsum("k,ki,kj->ij", mass / mass.sum(), means, means)
    np.fill_diagonal(second, (mass / mass.sum()) @ means)
    x = rbm.sample(n, generator=torch.Generator().manual_seed(0)).numpy()
    assert (np.abs(x.T @ x / n - second) < 5 * np.sqrt(second * (1 - second) / n) + 1e-9).all()


def test_exact_samples_miss_none_of_a_million_states_that_are_rare_one_by_one():
    """x₁ = 0 goes with the one state z = 0, x₁ = 1 with 2^20 states of 1 % altogether: 1e-8 each, less than floats add."""
    rbm, n = RBM(20, 20), 40_000
    with torch.no_grad():
        rbm.W.zero_()
        rbm.W[0], rbm.b[0] = 30.0, math.log(0.01 / 0.99) - 20 * math.log(2)
        rbm.c.fill_(-30.0)
    x = rbm.sample(n, generator=torch.Generator().manual_seed(0))
    assert x[:, 0].mean().item() == pytest.approx(0.01, abs=4.5 * (0.01 * 0.99 / n) ** 0.5)


def test_events_may_be_plain_numbers():
    rbm = machine((), 3)
    x = rbm.sample(50, generator=torch.Generator().manual_seed(0))
    assert x.shape == (50,) and rbm.gibbs(x).shape == (50,) and rbm.visible_mean(rbm.hidden_probs(x)).shape == (50,)
    assert rbm.log_prob(torch.tensor([0.0, 1.0], dtype=torch.float64)).exp().sum().item() == pytest.approx(1)
    fit(rbm.float(), x.float(), steps=2, batch_size=10, progress=False)


@pytest.fixture
def large(monkeypatch):
    """Machines that pretend to be too large for enumeration."""
    monkeypatch.setattr(boltzmann, "EXACT_UNITS", 1)


def test_without_enumeration_samples_come_from_sweeps_and_log_prob_is_minus_the_free_energy(large):
    rbm = machine(3, 2, sweeps=40)
    x = rbm.sample(20_000, generator=torch.Generator().manual_seed(0))
    counts = np.bincount((x @ torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)).long(), minlength=8)
    assert chisquare(counts, 20_000 * Enumerated(rbm).p).pvalue > 1e-4
    assert rbm.likelihood is Likelihood.UNNORMALIZED and rbm.nfe == 40
    assert torch.equal(rbm.log_prob(x), -rbm.free_energy(x))
    with pytest.raises(ValueError, match="at most 1 units; got 2: see log_z_ais"):
        rbm.log_z()


@pytest.mark.parametrize(("visible", "hidden"), [(6, 4), (3, 7)])
def test_annealing_up_and_down_hold_log_z_of_the_enumeration_between_them(visible, hidden):
    rbm = machine(visible, hidden, scale=1.5)
    truth, x = Enumerated(rbm).log_z, rbm.sample(2000, generator=torch.Generator().manual_seed(0))
    for data in (None, x):
        up = rbm.log_z_ais(n=2000, stages=100, data=data)
        down = rbm.log_z_ais_reverse(x, stages=100, data=data)
        assert abs(up.value - truth) < 4.5 * up.stderr < 0.1
        assert abs(down.value - truth) < 4.5 * down.stderr < 0.1
    assert rbm.likelihood is Likelihood.EXACT


def test_with_few_stages_annealing_is_below_log_z_going_up_and_above_it_coming_down():
    rbm = machine(6, 4, scale=3.0)
    truth, exact = Enumerated(rbm).log_z, rbm.sample(800, generator=torch.Generator().manual_seed(0)).split(4)
    up = np.array([rbm.log_z_ais(n=4, stages=2, seed=s).value for s in range(200)])
    down = np.array([rbm.log_z_ais_reverse(x, stages=2, seed=s).value for s, x in enumerate(exact)])
    assert up.mean() + 4 * up.std() / math.sqrt(200) < truth < down.mean() - 4 * down.std() / math.sqrt(200)
    weights = np.exp(up - truth)  # the mean weight itself is unbiased
    assert abs(weights.mean() - 1) < 4.5 * weights.std() / math.sqrt(200)


def test_without_bonds_log_z_is_that_of_independent_units_at_once():
    rbm = machine(5, 3)
    with torch.no_grad():
        rbm.W.zero_()
    wanted = sum(np.log1p(np.exp(bias.detach().numpy())).sum() for bias in (rbm.b, rbm.c))
    assert rbm.log_z_ais(n=400, stages=1).value == pytest.approx(wanted, abs=1e-6)


def test_starting_at_the_data_gives_their_means_without_bonds():
    x = (torch.rand(500, 4, generator=torch.Generator().manual_seed(0)) < torch.tensor([0.0, 0.2, 0.7, 1.0])).float()
    rbm = RBM(4, 2)
    rbm.start_at(x)
    assert np.allclose(expit(rbm.b.detach().numpy()), x.mean(0), atol=2e-3)


def test_grey_values_are_taken_as_probabilities_in_training_and_refused_where_they_have_none():
    rbm = machine(3, 2).eval()
    grey = torch.tensor([[0.25, 1.0, 0.0]], dtype=torch.float64).expand(40_000, -1)
    torch.manual_seed(0)
    found = rbm.loss(grey).detach()
    black, white = (torch.tensor([[v, 1.0, 0.0]], dtype=torch.float64) for v in (0.0, 1.0))
    torch.manual_seed(0)
    wanted = 0.25 * rbm.loss(white.expand(40_000, -1)).mean() + 0.75 * rbm.loss(black.expand(40_000, -1)).mean()
    assert abs(found.mean() - wanted) < 5 * 2 * found.std() / 200
    with pytest.raises(ValueError, match="x must hold zeros and ones; got 0.25"):
        rbm.log_prob(grey)


@pytest.mark.parametrize(("make", "complaint"), [
    (lambda: RBM(3, 0), "hidden must be a positive whole number; got 0"),
    (lambda: RBM(0, 3), "visible must be a positive whole number; got 0"),
    (lambda: RBM(3, 2, k=0), "k must be a positive whole number; got 0"),
    (lambda: RBM(3, 2, chains=-1), "chains must be a positive whole number; got -1"),
    (lambda: RBM(3, 2).log_prob(torch.zeros(4, 2)), r"x must have shape \(n, 3\); got \(4, 2\)"),
    (lambda: RBM(3, 2).log_z_ais(n=1), "n must be at least 2"),
    (lambda: fit(RBM(3, 2), torch.full((4, 3), -1.0), steps=1), r"must lie in \[0, 1\] for RBM"),
])  # fmt: skip
def test_settings_that_make_no_machine_are_refused_by_name(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


def test_images_keep_their_shape_and_the_same_seed_gives_the_same_samples():
    rbm = machine((1, 2, 3), 4)
    x = rbm.sample(5, generator=torch.Generator().manual_seed(1))
    assert x.shape == (5, 1, 2, 3) and torch.equal(x, rbm.sample(5, generator=torch.Generator().manual_seed(1)))
    assert rbm.gibbs(x).shape == x.shape and rbm.visible_mean(rbm.hidden_probs(x)).shape == x.shape
    assert torch.allclose(rbm.log_prob(x), machine(6, 4).log_prob(x.flatten(1)))
