"""What students typically get wrong about the losses of chapter 8: exercise -> [(what is wrong, function)]."""

import math

import torch
from torch.distributions import Normal
from torch.nn.functional import binary_cross_entropy, mse_loss, softplus

LOG_2PI = math.log(2 * math.pi)


def half_square(x, found):
    return (x - found).flatten(1).square().sum(1) / 2


def log_normal(z, mean=0.0, sd=1.0):
    return Normal(mean, sd).log_prob(z).sum(1)


def glf(error=half_square, nll=lambda flow, z: -flow.log_prob(z.detach()), total=lambda e, nll, beta: beta * e + nll):
    """loss with another error, likelihood of the codes, or sum of both."""

    def loss(encoder, decoder, flow, beta, x):
        z = encoder(x)
        return total(error(x, decoder(z)), nll(flow, z), beta)

    return loss


def all_stopped(encoder, decoder, flow, beta, x):
    z = encoder(x).detach()
    return beta * half_square(x, decoder(z)) - flow.log_prob(z)


def wrong_one_stopped(encoder, decoder, flow, beta, x):
    z = encoder(x)
    return beta * half_square(x, decoder(z.detach())) - flow.log_prob(z)


def without_a_graph(encoder, decoder, flow, beta, x):
    with torch.no_grad():
        z = encoder(x)
    return beta * half_square(x, decoder(z)) - flow.log_prob(z)


def code_of_reconstruction(encoder, decoder, flow, beta, x):
    found = decoder(encoder(x))
    return beta * half_square(x, found) - flow.log_prob(encoder(found).detach())


def noisy_code(encoder, decoder, flow, beta, x):
    z = encoder(x)
    return beta * half_square(x, decoder(z + 0.1 * torch.randn_like(z))) - flow.log_prob(z.detach())


def prior(noise=lambda u, z: -log_normal(u), stretch=lambda log_det: -log_det, after=lambda nll, d: nll):
    """prior_term with another density of the noise, another term of the determinant, or something done to it."""

    def prior_term(z, layer):
        u, log_det = layer(z)
        return after(noise(u, z) + stretch(log_det), z.shape[1])

    return prior_term


def vae(
    draw=lambda mu, ls, eps: mu + ls.exp() * eps,
    seen=lambda x, found: log_normal(x, found),
    log_p=lambda flow, z, mu: flow.log_prob(z),
    log_q=lambda z, mu, ls, eps: log_normal(z, mu, ls.exp()),
    total=lambda seen, p, q, beta: q - p - beta * seen,
    decoded=lambda z, mu: z,
):
    """objective with another draw of z, density of x, of the prior, of the posterior, or sum of the three."""

    def objective(x, mu, log_sigma, eps, decoder, flow, beta):
        z = draw(mu, log_sigma, eps)
        q = log_q(z, mu, log_sigma, eps)
        return total(seen(x, decoder(decoded(z, mu))), log_p(flow, z, mu), q, beta)

    return objective


def closed_form_kl(x, mu, log_sigma, eps, decoder, flow, beta):
    kl = (mu**2 + (2 * log_sigma).exp() - 1 - 2 * log_sigma).sum(1) / 2
    return kl - beta * log_normal(x, decoder(mu + log_sigma.exp() * eps))


def no_entropy_needed(x, mu, log_sigma, eps, decoder, flow, beta):
    z = mu + log_sigma.exp() * eps
    return -flow.log_prob(z) - beta * log_normal(x, decoder(z))


def players(
    critic=lambda p, c: softplus(-p) + softplus(c),
    encoder=lambda p, c: softplus(-c),
    autoencoder=lambda e, p, c: e,
    names=("autoencoder", "critic", "encoder"),
):
    """adversary with another loss of a player, or other names."""
    return lambda p, c, e: dict(zip(names, (autoencoder(e, p, c), critic(p, c), encoder(p, c)), strict=True))


def loss_cut_off(t, label):
    return binary_cross_entropy(torch.sigmoid(t), torch.full_like(t, label), reduction="none")


MISTAKES = {
    "latent_flow.loss": [
        ("no stopped gradient", glf(nll=lambda f, z: -f.log_prob(z))),
        ("z stopped everywhere", all_stopped),
        ("the wrong z stopped", wrong_one_stopped),
        ("encoder without a graph", without_a_graph),
        ("log p stopped", glf(nll=lambda f, z: -f.log_prob(z).detach())),
        ("reconstruction stopped", glf(lambda x, r: half_square(x, r.detach()))),
        ("all stopped", glf(total=lambda e, nll, b: (b * e + nll).detach())),
        ("mean over pixels", glf(lambda x, r: (x - r).flatten(1).square().mean(1))),
        ("half a mean over pixels", glf(lambda x, r: (x - r).flatten(1).square().mean(1) / 2)),
        ("mse of torch", glf(lambda x, r: mse_loss(r, x))),
        ("half the sum over everything", glf(lambda x, r: mse_loss(r, x, reduction="sum") / 2)),
        ("mean over the batch of the sums", glf(lambda x, r: half_square(x, r).mean())),
        ("half missing", glf(lambda x, r: 2 * half_square(x, r))),
        ("norm", glf(lambda x, r: (x - r).flatten(1).norm(dim=1))),
        ("absolute errors", glf(lambda x, r: (x - r).flatten(1).abs().sum(1))),
        ("with the constant", glf(lambda x, r: -log_normal(x.flatten(1), r.flatten(1)))),
        ("summed over one axis", glf(lambda x, r: (x - r).square().sum(1) / 2)),
        ("sign of the likelihood", glf(total=lambda e, nll, b: b * e - nll)),
        ("sign of all", glf(total=lambda e, nll, b: -b * e - nll)),
        ("β on the likelihood", glf(total=lambda e, nll, b: e + b * nll)),
        ("β on both", glf(total=lambda e, nll, b: b * (e + nll))),
        ("no β", glf(total=lambda e, nll, b: e + nll)),
        ("1/β", glf(total=lambda e, nll, b: e / b + nll)),
        ("no likelihood", glf(total=lambda e, nll, b: b * e)),
        ("no reconstruction", glf(total=lambda e, nll, b: nll)),
        ("log p averaged over dimensions", glf(nll=lambda f, z: -f.log_prob(z.detach()) / z.shape[1])),
        ("log p averaged over the batch", glf(nll=lambda f, z: -f.log_prob(z.detach()).mean())),
        ("log p summed over the batch", glf(nll=lambda f, z: -f.log_prob(z.detach()).sum())),
        ("standard normal for the flow", glf(nll=lambda f, z: -log_normal(z.detach()))),
        ("code of the reconstruction", code_of_reconstruction),
        ("noise in the code", noisy_code),
        ("mean over the batch", glf(total=lambda e, nll, b: (b * e + nll).mean())),
        ("a pair", glf(total=lambda e, nll, b: (b * e, nll))),
    ],
    "latent_flow.prior_term": [
        ("sign of the log-det", prior(stretch=lambda s: s)),
        ("no log-det", prior(stretch=lambda s: 0 * s)),
        ("log-det only", prior(noise=lambda u, z: 0)),
        ("log-det averaged over the batch", prior(stretch=lambda s: -s.mean())),
        ("log-det summed over the batch", prior(stretch=lambda s: -s.sum())),
        ("determinant", prior(stretch=lambda s: -s.exp())),
        ("logarithm of the log-det", prior(stretch=lambda s: -s.log())),
        ("logarithm of |log-det|", prior(stretch=lambda s: -s.abs().log())),
        ("twice the log-det", prior(stretch=lambda s: -2 * s)),
        ("half the log-det", prior(stretch=lambda s: -s / 2)),
        ("|log-det|", prior(stretch=lambda s: -s.abs())),
        ("no constant", prior(noise=lambda u, z: u.square().sum(1) / 2)),
        ("constant of one dimension", prior(noise=lambda u, z: (u.square().sum(1) + LOG_2PI) / 2)),
        ("constant without its half", prior(noise=lambda u, z: u.square().sum(1) / 2 + z.shape[1] * LOG_2PI)),
        ("sign of the constant", prior(noise=lambda u, z: (u.square() - LOG_2PI).sum(1) / 2)),
        ("squares without their half", prior(noise=lambda u, z: (u.square() + LOG_2PI / 2).sum(1))),
        ("norm for squares", prior(noise=lambda u, z: u.norm(dim=1) / 2 + z.shape[1] * LOG_2PI / 2)),
        ("mean over dimensions", prior(noise=lambda u, z: -log_normal(u) / z.shape[1])),
        ("squares averaged", prior(noise=lambda u, z: u.square().mean(1) / 2 + z.shape[1] * LOG_2PI / 2)),
        ("everything averaged", prior(after=lambda nll, d: nll / d)),
        ("log-det averaged over dimensions", lambda z, layer: -log_normal(layer(z)[0]) - layer(z)[1] / z.shape[1]),
        ("density at z", prior(noise=lambda u, z: -log_normal(z))),
        ("sign", prior(after=lambda nll, d: -nll)),
        ("density", prior(after=lambda nll, d: (-nll).exp())),
        ("bits", prior(after=lambda nll, d: nll / math.log(2))),
        ("per dimension summed over the wrong axis", prior(noise=lambda u, z: -Normal(0.0, 1.0).log_prob(u).sum(0))),
        ("not summed", lambda z, layer: -Normal(0.0, 1.0).log_prob(layer(z)[0]) - layer(z)[1][:, None]),
        ("mean over the batch", prior(after=lambda nll, d: nll.mean())),
    ],
    "latent_flow.objective": [
        ("the bound", vae(total=lambda s, p, q, b: b * s + p - q)),
        ("β on the KL", vae(total=lambda s, p, q, b: b * (q - p) - s)),
        ("no β", vae(total=lambda s, p, q, b: q - p - s)),
        ("β on all", vae(total=lambda s, p, q, b: b * (q - p - s))),
        ("1/β", vae(total=lambda s, p, q, b: q - p - s / b)),
        ("closed-form KL to N(0, I)", closed_form_kl),
        ("N(0, I) for the flow", vae(log_p=lambda f, z, mu: log_normal(z))),
        ("sign of log q", vae(total=lambda s, p, q, b: -q - p - b * s)),
        ("sign of log p", vae(total=lambda s, p, q, b: q + p - b * s)),
        ("no entropy", no_entropy_needed),
        ("no prior", vae(total=lambda s, p, q, b: q - b * s)),
        ("entropy in closed form", vae(log_q=lambda z, mu, ls, e: -(ls + (LOG_2PI + 1) / 2).sum(1))),
        ("entropy without its constant", vae(log_q=lambda z, mu, ls, e: -ls.sum(1))),
        ("density of ε", vae(log_q=lambda z, mu, ls, e: log_normal(e))),
        ("density of ε, plus log σ", vae(log_q=lambda z, mu, ls, e: log_normal(e) + ls.sum(1))),
        ("log_sigma taken for a log-variance", lambda x, mu, ls, *rest: vae()(x, mu, ls / 2, *rest)),
        ("log_sigma taken for a log-variance in z", vae(lambda mu, ls, e: mu + (ls / 2).exp() * e)),
        ("log_sigma taken for a log-variance in q", vae(log_q=lambda z, mu, ls, e: log_normal(z, mu, (ls / 2).exp()))),
        ("variance for a scale in q", vae(log_q=lambda z, mu, ls, e: log_normal(z, mu, (2 * ls).exp()))),
        ("noise scaled by a variance", vae(lambda mu, ls, e: mu + (2 * ls).exp() * e)),
        ("noise scaled by log σ", vae(lambda mu, ls, e: mu + ls * e)),
        ("noise not used", vae(lambda mu, ls, e: mu)),
        ("noise drawn inside", vae(lambda mu, ls, e: mu + ls.exp() * torch.randn_like(mu))),
        ("μ decoded", vae(decoded=lambda z, mu: mu)),
        ("flow at μ", vae(log_p=lambda f, z, mu: f.log_prob(mu))),
        ("no constant of x", vae(seen=lambda x, r: -half_square(x, r))),
        ("constant of x without β", lambda x, *rest: vae(seen=lambda x, r: -half_square(x, r))(x, *rest)
         + x.shape[1] * LOG_2PI / 2),
        ("no constant of q", vae(log_q=lambda z, mu, ls, e: -(e.square() / 2 + ls).sum(1))),
        ("no constants", vae(seen=lambda x, r: -half_square(x, r),
                             log_q=lambda z, mu, ls, e: -(e.square() / 2 + ls).sum(1))),
        ("half missing in x", vae(seen=lambda x, r: -2 * half_square(x, r) - x.shape[1] * LOG_2PI / 2)),
        ("pixels averaged", vae(seen=lambda x, r: Normal(r, 1.0).log_prob(x).mean(1))),
        ("log q averaged", vae(log_q=lambda z, mu, ls, e: Normal(mu, ls.exp()).log_prob(z).mean(1))),
        ("log p averaged", vae(log_p=lambda f, z, mu: f.log_prob(z) / z.shape[1])),
        ("flow's z stopped", vae(log_p=lambda f, z, mu: f.log_prob(z.detach()))),
        ("z stopped", vae(lambda mu, ls, e: (mu + ls.exp() * e).detach())),
        ("posterior stopped in log q", vae(log_q=lambda z, mu, ls, e: log_normal(z, mu.detach(), ls.detach().exp()))),
        ("all stopped", vae(total=lambda s, p, q, b: (q - p - b * s).detach())),
        ("mean over the batch", vae(total=lambda s, p, q, b: (q - p - b * s).mean())),
    ],
    "latent_flow.adversary": [
        ("real and fake exchanged", players(lambda p, c: softplus(p) + softplus(-c))),
        ("real and fake exchanged for both", lambda p, c, e: players()(c, p, e)),
        ("saturating", players(encoder=lambda p, c: -softplus(c))),
        ("encoder wants to be caught", players(encoder=lambda p, c: softplus(c))),
        ("encoder's sign", players(encoder=lambda p, c: -softplus(-c))),
        ("encoder sees draws", players(encoder=lambda p, c: softplus(-p))),
        ("encoder makes draws look like codes", players(encoder=lambda p, c: softplus(p))),
        ("encoder has both", players(encoder=lambda p, c: softplus(p) + softplus(-c))),
        ("zero-sum", players(encoder=lambda p, c: -softplus(-p) - softplus(c))),
        ("Wasserstein's encoder", players(encoder=lambda p, c: -c)),
        ("probability for the encoder", players(encoder=lambda p, c: torch.sigmoid(-c))),
        ("minus a probability for the encoder", players(encoder=lambda p, c: -torch.sigmoid(c))),
        ("critic's sign", players(lambda p, c: -softplus(-p) - softplus(c))),
        ("critic like the encoder", players(lambda p, c: softplus(-p) + softplus(-c))),
        ("critic's fakes with the wrong sign", players(lambda p, c: softplus(-p) - softplus(c))),
        ("half of the critic's", players(lambda p, c: (softplus(-p) + softplus(c)) / 2)),
        ("critic without draws", players(lambda p, c: softplus(c))),
        ("critic without codes", players(lambda p, c: softplus(-p))),
        ("Wasserstein's critic", players(lambda p, c: c - p)),
        ("hinge", players(lambda p, c: (1 - p).relu() + (1 + c).relu())),
        ("probabilities", players(lambda p, c: torch.sigmoid(-p) + torch.sigmoid(c))),
        ("naive logarithms", players(lambda p, c: -torch.sigmoid(p).log() - (1 - torch.sigmoid(c)).log())),
        ("ε in the logarithm", players(encoder=lambda p, c: -(torch.sigmoid(c) + 1e-12).log())),
        ("cut off at −100", players(lambda p, c: loss_cut_off(p, 1.0) + loss_cut_off(c, 0.0),
                                    lambda p, c: loss_cut_off(c, 1.0))),
        ("error in the encoder's", lambda p, c, e: players(encoder=lambda p, c: softplus(-c) + e)(p, c, e)),
        ("adversary in the auto-encoder's", players(autoencoder=lambda e, p, c: e + softplus(-c))),
        ("minus the critic in the auto-encoder's", players(autoencoder=lambda e, p, c: e - softplus(-p) - softplus(c))),
        ("mean error", players(autoencoder=lambda e, p, c: e.mean())),
        ("mean error, spread", players(autoencoder=lambda e, p, c: e.mean() + 0 * e)),
        ("critic and encoder exchanged", players(names=("autoencoder", "encoder", "critic"))),
        ("other names", players(names=("autoencoder", "critic", "generator"))),
        ("a tuple", lambda p, c, e: tuple(players()(p, c, e).values())),
        ("two players", lambda p, c, e: {"critic": softplus(-p) + softplus(c), "encoder": softplus(-c)}),
        ("nobody", lambda p, c, e: {}),
    ],
}  # fmt: skip
