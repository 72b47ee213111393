"""Right answers to chapter 8 in the various ways students write them, the course's own: exercise -> [(manner, function)]."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors
from torch import nn
from torch.distributions import Independent, Normal

from gmcourse.compositions import GenerativeLatentFlow
from gmcourse.compositions.wae import IMQ, mmd2_unbiased
from gmcourse.metrics import nearest_neighbours


class Net(nn.Module):
    """A function as a module in float64."""

    def __init__(self, function):
        super().__init__()
        self.function, self.unit = function, nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x):
        return self.function(x)


class Codes(nn.Module):
    """A flow as a prior on d dimensions."""

    def __init__(self, flow, d):
        super().__init__()
        self.flow, self.event_shape = flow, torch.Size((d,))

    def log_prob(self, z):
        return self.flow.log_prob(z)


def loss_by_formula(encoder, decoder, flow, beta, x):
    z = encoder(x)
    return beta * 0.5 * (x - decoder(z)).pow(2).sum(dim=(1, 2, 3)) - flow.log_prob(z.detach())


def loss_by_mse(encoder, decoder, flow, beta, x):
    z = encoder(x)
    error = F.mse_loss(decoder(z), x, reduction="none").flatten(1).sum(1) / 2
    return beta * error - flow.log_prob(z.clone().detach())


def loss_encoding_twice(encoder, decoder, flow, beta, x):
    with torch.no_grad():
        stopped = encoder(x)
    wrong = (x - decoder(encoder(x))).reshape(len(x), -1)
    return beta * wrong.norm(dim=1) ** 2 / 2 - flow.log_prob(stopped)


def loss_by_the_course(encoder, decoder, flow, beta, x):
    prior = Codes(flow, encoder(x).shape[1])
    return GenerativeLatentFlow(x.shape[1:], Net(encoder), Net(decoder), prior, beta=beta).loss(x)


def prior_by_formula(z, layer):
    u, log_det = layer(z)
    return 0.5 * (u**2).sum(1) + 0.5 * z.shape[1] * math.log(2 * math.pi) - log_det


def prior_by_normal(z, layer):
    u, log_det = layer(z)
    return -Normal(0.0, 1.0).log_prob(u).sum(1).add(log_det)


def objective_by_normals(x, mu, log_sigma, eps, decoder, flow, beta):
    q = Independent(Normal(mu, log_sigma.exp()), 1)
    z = mu + log_sigma.exp() * eps
    seen = Normal(decoder(z), 1.0).log_prob(x).sum(-1)
    return -(beta * seen + flow.log_prob(z) - q.log_prob(z))


def objective_by_formula(x, mu, log_sigma, eps, decoder, flow, beta):
    z, log_2pi = mu + log_sigma.exp() * eps, math.log(2 * math.pi)
    seen = -((x - decoder(z)) ** 2 + log_2pi).sum(1) / 2
    log_q = -(eps**2 / 2 + log_sigma + log_2pi / 2).sum(1)
    return log_q - flow.log_prob(z) - beta * seen


def shrink_by_a_determinant(nll, entropy, d, s):
    log_det = torch.logdet(s * torch.eye(d, dtype=nll.dtype))
    return [nll + log_det, entropy + log_det]


def mmd_by_cdist(codes, draws):
    c = 2 * codes.shape[1]

    def kernel(a, b):
        return c / (c + torch.cdist(a, b) ** 2)

    def within(z):
        return kernel(z, z).fill_diagonal_(0).sum() / (len(z) * (len(z) - 1))

    return within(codes) + within(draws) - 2 * kernel(codes, draws).mean()


def mmd_by_a_mask(codes, draws):
    both, n = torch.cat((codes, draws)), len(codes)
    squares = (both**2).sum(1)
    distances = squares[:, None] + squares - 2 * both @ both.T
    k = 1 / (1 + distances / (2 * both.shape[1]))
    own, other = (~torch.eye(size, dtype=torch.bool) for size in (n, len(draws)))
    return k[:n, :n][own].mean() + k[n:, n:][other].mean() - k[:n, n:].mean() - k[n:, :n].mean()


def adversary_by_cross_entropy(prior, codes, error):
    def loss(t, label):
        return F.binary_cross_entropy_with_logits(t, torch.full_like(t, label), reduction="none")

    return {"encoder": loss(codes, 1.0), "critic": loss(prior, 1.0) + loss(codes, 0.0), "autoencoder": error}


def adversary_by_logsigmoid(prior, codes, error):
    critic = -F.logsigmoid(prior) - F.logsigmoid(-codes)
    return {"autoencoder": error, "critic": critic, "encoder": -F.logsigmoid(codes)}


def holes_by_cdist(codes, held_out, draws, k, level):
    own, far = (torch.cdist(z, codes).kthvalue(k).values for z in (held_out, draws))
    return (far > own.quantile(1 - level)).float().mean()


def holes_by_topk(codes, held_out, draws, k, level):
    def distance(z):
        return (z[:, None] - codes).norm(dim=-1).topk(k, largest=False).values[:, -1]

    return (distance(draws) > torch.quantile(distance(held_out), 1 - level)).sum().item() / len(draws)


def holes_by_scikit_learn(codes, held_out, draws, k, level):
    search = NearestNeighbors(n_neighbors=k).fit(codes.numpy())
    own, far = (search.kneighbors(z.numpy())[0][:, -1] for z in (held_out, draws))
    return np.mean(far > np.quantile(own, 1 - level))


def holes_by_the_course(codes, held_out, draws, k, level):
    own, far = (nearest_neighbours(z, codes, k=k).distances[:, -1] for z in (held_out, draws))
    return (far > own.quantile(1 - level)).double().mean()


SOLUTIONS = {
    "latent_flow.loss": [
        ("by formula", loss_by_formula),
        ("by mse_loss", loss_by_mse),
        ("encoding twice", loss_encoding_twice),
        ("by the course", loss_by_the_course),
    ],
    "latent_flow.prior_term": [("by formula", prior_by_formula), ("by Normal", prior_by_normal)],
    "latent_flow.objective": [("by Normal", objective_by_normals), ("by formula", objective_by_formula)],
    "latent_flow.shrink": [
        ("by formula", lambda nll, entropy, d, s: (nll + d * math.log(s), entropy + d * math.log(s))),
        ("by a determinant", shrink_by_a_determinant),
    ],
    "latent_flow.mmd": [
        ("by cdist", mmd_by_cdist),
        ("by a mask", mmd_by_a_mask),
        ("by the course", lambda codes, draws: mmd2_unbiased(codes, draws, IMQ())),
    ],
    "latent_flow.adversary": [("by cross-entropy", adversary_by_cross_entropy), ("by logsigmoid", adversary_by_logsigmoid)],
    "latent_flow.holes": [
        ("by cdist", holes_by_cdist),
        ("by topk", holes_by_topk),
        ("by scikit-learn", holes_by_scikit_learn),
        ("by the course", holes_by_the_course),
    ],
}
