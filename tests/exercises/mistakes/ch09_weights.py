"""What students typically get wrong about weights and log Z in chapter 9: exercise -> [(what is wrong, function)]."""

import math

import torch


def weighted(
    weights=lambda e: (-e).softmax(0).detach(),
    data=lambda e: e.mean(),
    base=lambda w, e: (w * e).sum(),
    total=lambda data, base: data - base,
):
    """importance_loss with other weights, another mean of either, or another sum of both."""
    return lambda e_data, e_base: total(data(e_data), base(weights(e_base), e_base))


def raw(e):
    return (-e).exp().detach()


def no_graph(e_data, e_base):
    with torch.no_grad():
        return e_data.mean() - ((-e_base).softmax(0) * e_base).sum()


def weights_on_data(e_data, e_base):
    return ((-e_data).softmax(0).detach() * e_data).sum() - e_base.mean()


def right_value(e):
    return torch.logsumexp(-e, 0) - math.log(len(e))


def right_error(e):
    return (-e).softmax(0).std() * len(e) ** 0.5


def right_size(e):
    return 1 / (-e).softmax(0).square().sum()


def estimated(value=right_value, error=right_error, size=right_size):
    """log_z with another of its three parts."""
    return lambda e: (value(e), error(e), size(e))


def naive(e):
    w = (-e).exp()
    return w.mean().log(), w.std() / w.mean() / len(w) ** 0.5, w.sum() ** 2 / (w**2).sum()


def shifted_and_forgotten(e):
    w = (e.min() - e).exp()
    return w.mean().log(), w.std() / w.mean() / len(w) ** 0.5, w.sum() ** 2 / (w**2).sum()


def joint(
    energy=lambda data, model: data.mean() - model.mean(),
    base=lambda data, model: model.mean() - data.mean(),
):
    """joint_loss with another part of the energy, or of the base."""
    return lambda e_data, q_data, e_model, q_model: energy(e_data, e_model) + base(q_data, q_model)


def reweighted(e_data, q_data, e_model, q_model):
    w = (-e_model).softmax(0).detach()
    return (e_data - q_data).mean() - (w * (e_model - q_model)).sum()


def base_reweighted(e_data, q_data, e_model, q_model):
    w = (-e_model).softmax(0).detach()
    return e_data.mean() - e_model.mean() - q_data.mean() + (w * q_model).sum()


def weighed_by_the_model(e_data, q_data, e_model, q_model):
    w = (q_model - e_model).softmax(0)
    return (e_data - q_data).mean() - (w * (e_model - q_model)).sum()


def product(e_data, q_data, e_model, q_model):
    return (-q_data.exp() * (-e_data).exp()).mean() + (q_model.exp() * (-e_model).exp()).mean()


MISTAKES = {
    "tilting.importance_loss": [
        ("sign", weighted(total=lambda d, b: b - d)),
        ("added", weighted(total=lambda d, b: d + b)),
        ("weights not stopped", weighted(lambda e: (-e).softmax(0))),
        ("weights not stopped, divided by a sum", weighted(lambda e: (e.min() - e).exp() / (e.min() - e).exp().sum())),
        ("no weights", weighted(lambda e: torch.full_like(e, 1 / len(e)))),
        ("weights of high energies", weighted(lambda e: e.softmax(0).detach())),
        ("half an energy", weighted(lambda e: (-e / 2).softmax(0).detach())),
        ("twice an energy", weighted(lambda e: (-2 * e).softmax(0).detach())),
        ("not normalised", weighted(raw)),
        ("not normalised, a mean", weighted(raw, base=lambda w, e: (w * e).mean())),
        ("divided by the largest", weighted(lambda e: (e.min() - e).exp().detach())),
        ("mean for the sum", weighted(base=lambda w, e: (w * e).mean())),
        ("naive normalisation", weighted(lambda e: raw(e) / raw(e).sum())),
        ("ε in the normalisation", weighted(lambda e: raw(e) / (raw(e).sum() + 1e-12))),
        ("clipped energies", weighted(lambda e: (-e.clamp(-50, 50)).softmax(0).detach())),
        ("mean of e to the −E", lambda d, b: d.mean() + (-b).exp().mean()),
        ("naive logarithm", lambda d, b: d.mean() + (-b).exp().mean().log()),
        ("log of a mean energy", lambda d, b: d.mean() - b.mean()),
        ("draws stopped", weighted(base=lambda w, e: (w * e.detach()).sum())),
        ("data stopped", weighted(data=lambda e: e.detach().mean())),
        ("everything stopped", no_graph),
        ("no draws", weighted(total=lambda d, b: d)),
        ("no data", weighted(total=lambda d, b: -b)),
        ("data summed", weighted(data=lambda e: e.sum())),
        ("both summed", weighted(data=lambda e: e.sum(), base=lambda w, e: len(e) * (w * e).sum())),
        ("weights on the data", weights_on_data),
        ("weights on both", weighted(data=lambda e: ((-e).softmax(0).detach() * e).sum())),
        ("half", weighted(total=lambda d, b: (d - b) / 2)),
        ("squares", weighted(data=lambda e: e.square().mean())),
        ("heaviest alone", weighted(base=lambda w, e: e.min())),
        ("not reduced", lambda d, b: d - ((-b).softmax(0).detach() * b).sum()),
        ("a float", lambda d, b: float(d.mean() - ((-b).softmax(0) * b).sum())),
        ("a pair", weighted(total=lambda d, b: (d, b))),
        ("softmax over all", lambda d, b: d.mean() - ((-torch.cat([d, b])).softmax(0).detach()[len(d):] * b).sum()),
    ],
    "tilting.log_z": [
        ("naive", naive),
        ("shift forgotten", shifted_and_forgotten),
        ("mean of −E", estimated(lambda e: -e.mean())),
        ("sum for mean", estimated(lambda e: torch.logsumexp(-e, 0))),
        ("log n twice", estimated(lambda e: right_value(e) - math.log(len(e)))),
        ("sign inside", estimated(lambda e: torch.logsumexp(e, 0) - math.log(len(e)))),
        ("both signs", estimated(lambda e: math.log(len(e)) - torch.logsumexp(e, 0))),
        ("sign", estimated(lambda e: -right_value(e))),
        ("Z", estimated(lambda e: right_value(e).exp())),
        ("lowest energy", estimated(lambda e: -e.min())),
        ("n − 1 in the mean", estimated(lambda e: torch.logsumexp(-e, 0) - math.log(len(e) - 1))),
        ("bits", estimated(lambda e: right_value(e) / math.log(2))),
        ("half energies", estimated(lambda e: right_value(e / 2))),
        ("error of Z", estimated(error=lambda e: (-e).exp().std() / len(e) ** 0.5)),
        ("spread of Z", estimated(error=lambda e: (-e).exp().std())),
        ("spread of one weight", estimated(error=lambda e: right_error(e) * len(e) ** 0.5)),
        ("n for √n", estimated(error=lambda e: right_error(e) / len(e) ** 0.5)),
        ("variance", estimated(error=lambda e: right_error(e) ** 2)),
        ("n in the variance", estimated(error=lambda e: (-e).softmax(0).std(correction=0) * len(e) ** 0.5)),
        ("error of the energies", estimated(error=lambda e: e.std() / len(e) ** 0.5)),
        ("spread of the energies", estimated(error=lambda e: e.std())),
        ("one over the root of the size", estimated(error=lambda e: right_size(e) ** -0.5)),
        ("one over √n", estimated(error=lambda e: len(e) ** -0.5)),
        ("error of heavy energies", estimated(error=lambda e: right_error(-e))),
        ("share for a size", estimated(size=lambda e: right_size(e) / len(e))),
        ("inverse size", estimated(size=lambda e: 1 / right_size(e))),
        ("size not normalised", estimated(size=lambda e: 1 / (-2 * e).exp().sum())),
        ("sum not squared", estimated(size=lambda e: (-e).exp().sum() / (-2 * e).exp().sum())),
        ("root of the size", estimated(size=lambda e: right_size(e).sqrt())),
        ("number of draws", estimated(size=lambda e: float(len(e)))),
        ("size of heavy energies", estimated(size=lambda e: right_size(-e))),
        ("perplexity", estimated(size=lambda e: torch.distributions.Categorical(logits=-e).entropy().exp())),
        ("heaviest alone", estimated(size=lambda e: 1 / (-e).softmax(0).max())),
        ("energies as weights", estimated(size=lambda e: e.sum() ** 2 / (e**2).sum())),
        ("two of three", lambda e: estimated()(e)[:2]),
        ("value alone", right_value),
        ("error and size exchanged", lambda e: (right_value(e), right_size(e), right_error(e))),
        ("float32", lambda e: estimated()(e.float())),
    ],
    "tilting.joint_loss": [
        ("two stages", joint(base=lambda d, m: -d.mean())),
        ("base held still", joint(base=lambda d, m: 0)),
        ("base's sign", joint(base=lambda d, m: d.mean() - m.mean())),
        ("base's log Z with the wrong sign", joint(base=lambda d, m: -d.mean() - m.mean())),
        ("base adds up", joint(base=lambda d, m: d.mean() + m.mean())),
        ("base from log Z alone", joint(base=lambda d, m: m.mean())),
        ("base from log Z alone, its sign", joint(base=lambda d, m: -m.mean())),
        ("base's model stopped", joint(base=lambda d, m: m.detach().mean() - d.mean())),
        ("base's data stopped", joint(base=lambda d, m: m.mean() - d.detach().mean())),
        ("base's sums", joint(base=lambda d, m: m.sum() - d.sum())),
        ("base's sum over data", joint(base=lambda d, m: m.mean() - d.sum())),
        ("base's half", joint(base=lambda d, m: (m.mean() - d.mean()) / 2)),
        ("densities of the base", joint(base=lambda d, m: m.exp().mean() - d.exp().mean())),
        ("base by a log-mean", joint(base=lambda d, m: torch.logsumexp(m, 0) - d.mean())),
        ("base reweighted", base_reweighted),
        ("all reweighted", reweighted),
        ("weighted by the model's own density", weighed_by_the_model),
        ("energy's sign", joint(lambda d, m: m.mean() - d.mean())),
        ("energies added", joint(lambda d, m: d.mean() + m.mean())),
        ("energy without log Z", joint(lambda d, m: d.mean())),
        ("energy from log Z alone", joint(lambda d, m: -m.mean())),
        ("energies summed", joint(lambda d, m: d.sum() - m.sum())),
        ("data's energies summed", joint(lambda d, m: d.sum() - m.mean())),
        ("energies by a log-mean", joint(lambda d, m: d.mean() + torch.logsumexp(-m, 0))),
        ("e to the −E", joint(lambda d, m: d.mean() + (-m).exp().mean())),
        ("energy's half", joint(lambda d, m: (d.mean() - m.mean()) / 2)),
        ("energy held still", joint(lambda d, m: 0)),
        ("log-likelihood", lambda *a: -joint()(*a)),
        ("log q with the energy's sign", joint(base=lambda d, m: d.mean() - m.mean())),
        ("products", product),
        ("stopped", lambda *a: joint()(*a).detach()),
        ("not reduced", lambda ed, qd, em, qm: ed - qd - (em - qm).mean()),
        ("data and model paired", lambda ed, qd, em, qm: ((ed - qd) - (em - qm)).mean()),
    ],
}  # fmt: skip
