"""What students typically get wrong about the game of GANs, chapter 6: exercise -> [(what is wrong, function)]."""

import math

import torch
from torch.nn.functional import binary_cross_entropy, logsigmoid, softplus


def lost(critic=lambda r, f: softplus(-r) + softplus(f), generator=lambda r, f: softplus(-f)):
    """losses with another loss of the critic or of the generator, from logits of data and fakes."""
    return lambda real, fake: (critic(real, fake), generator(real, fake))


def naive_losses(log):
    """losses by way of D, with some logarithm."""
    return lost(
        lambda r, f: -log(torch.sigmoid(r)) - log(1 - torch.sigmoid(f)),
        lambda r, f: -log(torch.sigmoid(f)),
    )


def losses_cut_off(real, fake):
    def loss(t, label):
        return binary_cross_entropy(torch.sigmoid(t), torch.full_like(t, label), reduction="none")

    return loss(real, 1.0) + loss(fake, 0.0), loss(fake, 1.0)


def valued(on_data=lambda d: d, on_fakes=lambda d: 1 - d, of=lambda v: v, log=torch.xlogy):
    """game_value with other scores of data and fakes, something done to V, or another p log d."""

    def value(p, q, cell):
        d = p / (p + q)
        return of(cell * (log(p, on_data(d)) + log(q, on_fakes(d))).sum())

    return value


def value_without_logarithms(p, q, cell):
    d = p / (p + q)
    return cell * (p * d + q * (1 - d)).sum()


def value_printed(p, q, cell):
    """Slides (42): 1 − log D for log(1 − D)."""
    d = p / (p + q)
    return cell * (torch.xlogy(p, d) + q - torch.xlogy(q, d)).sum()


def carried(cost=torch.abs, total=torch.mean, ranked_x=True, ranked_y=True, after=lambda w: w):
    """wasserstein_line with another cost, another sum of the costs, or samples that are not sorted."""

    def distance(x, y):
        x, y = x.sort().values if ranked_x else x, y.sort().values if ranked_y else y
        return after(total(cost(x - y)))

    return distance


def turn(sign_psi=1, sign_theta=1, theta_psi="new", slope="non-saturating", first="critic"):
    """dirac_step with other signs, the ψ that the generator answers to, its slope, and who moves first."""

    def step(theta, psi, h):
        before, moved = psi, theta
        if first == "generator":
            moved = theta + h * torch.sigmoid(-theta * psi) * psi
        psi = psi - sign_psi * h * torch.sigmoid(moved * psi) * moved
        if first == "generator":
            return moved, psi
        seen = psi if theta_psi == "new" else before
        slopes = {
            "non-saturating": torch.sigmoid(-theta * seen),
            "minimax": torch.sigmoid(theta * seen),
            "wasserstein": 1,
            "no logarithm": torch.sigmoid(theta * seen) * torch.sigmoid(-theta * seen),
        }
        return theta + sign_theta * h * slopes[slope] * seen, psi

    return step


def dirac(d_theta=lambda t, p: torch.sigmoid(-t * p) * p, d_psi=lambda t, p: -torch.sigmoid(t * p) * t):
    """dirac_step with other slopes."""

    def step(theta, psi, h):
        psi = psi + h * d_psi(theta, psi)
        return theta + h * d_theta(theta, psi), psi

    return step


def dirac_half_old(theta, psi, h):
    new = psi - h * torch.sigmoid(theta * psi) * theta
    return theta + h * torch.sigmoid(-theta * psi) * new, new


def dirac_other_half_old(theta, psi, h):
    new = psi - h * torch.sigmoid(theta * psi) * theta
    return theta + h * torch.sigmoid(-theta * new) * psi, new


MISTAKES = {
    "gan.optimal_discriminator": [
        ("q over the sum", lambda p, q: torch.sigmoid(q - p)),
        ("naive exp", lambda p, q: p.exp() / (p.exp() + q.exp())),
        ("naive exp with ε", lambda p, q: p.exp() / (p.exp() + q.exp() + 1e-12)),
        ("log-odds", lambda p, q: p - q),
        ("odds", lambda p, q: (p - q).exp()),
        ("logarithms for densities", lambda p, q: p / (p + q)),
        ("log D", lambda p, q: -softplus(q - p)),
        ("twice D", lambda p, q: 2 * torch.sigmoid(p - q)),
        ("least squares' critic", lambda p, q: torch.tanh((p - q) / 2)),
        ("σ of p − q", lambda p, q: torch.sigmoid(p.exp() - q.exp())),
        ("p", lambda p, q: p.exp()),
        ("a half", lambda p, q: torch.full_like(p, 0.5)),
        ("hard", lambda p, q: (p > q).double()),
        ("softmax over the points", lambda p, q: torch.softmax(p - q, 0)),
        ("σ of log p", lambda p, q: torch.sigmoid(p)),
        ("one exp, clamped", lambda p, q: p.clamp(min=-50).exp() / (p.clamp(min=-50).exp() + q.clamp(min=-50).exp())),
    ],
    "gan.losses": [
        ("naive logarithms", naive_losses(torch.log)),
        ("logarithms with ε", naive_losses(lambda d: (d + 1e-12).log())),
        ("logarithms clamped", naive_losses(lambda d: d.clamp(min=1e-20).log())),
        ("cut off at −100", losses_cut_off),
        ("minimax", lost(generator=lambda r, f: -softplus(f))),
        ("generator wants to be caught", lost(generator=lambda r, f: softplus(f))),
        ("generator's sign", lost(generator=lambda r, f: logsigmoid(f))),
        ("generator sees data", lost(generator=lambda r, f: softplus(-r))),
        ("generator has both", lost(generator=lambda r, f: softplus(-r) + softplus(-f))),
        ("zero-sum", lost(generator=lambda r, f: -softplus(-r) - softplus(f))),
        ("Wasserstein's generator", lost(generator=lambda r, f: -f)),
        ("no logarithm in the generator's", lost(generator=lambda r, f: -torch.sigmoid(f))),
        ("probability that the generator is caught", lost(generator=lambda r, f: torch.sigmoid(-f))),
        ("critic's sign", lost(lambda r, f: -softplus(-r) - softplus(f))),
        ("labels swapped", lost(lambda r, f: softplus(r) + softplus(-f))),
        ("fakes called real", lost(lambda r, f: softplus(-r) + softplus(-f))),
        ("(40b)", lost(lambda r, f: softplus(-r) - softplus(-f))),
        ("sign of the fakes", lost(lambda r, f: softplus(-r) - softplus(f))),
        ("half of the critic's", lost(lambda r, f: (softplus(-r) + softplus(f)) / 2)),
        ("data only", lost(lambda r, f: softplus(-r))),
        ("fakes only", lost(lambda r, f: softplus(f))),
        ("Wasserstein's critic", lost(lambda r, f: f - r)),
        ("hinge", lost(lambda r, f: (1 - r).relu() + (1 + f).relu())),
        ("no logarithms", lost(lambda r, f: 2 - torch.sigmoid(r) - torch.sigmoid(-f))),
        ("logits taken for D", lost(lambda r, f: -r.log() - (1 - f).log(), lambda r, f: -f.log())),
        ("means", lost(lambda r, f: (softplus(-r) + softplus(f)).mean(), lambda r, f: softplus(-f).mean())),
        ("order", lambda real, fake: (softplus(-fake), softplus(-real) + softplus(fake))),
        ("critic's only", lambda real, fake: softplus(-real) + softplus(fake)),
    ],
    "gan.game_value": [
        ("JS", valued(of=lambda v: v / 2 + math.log(2))),
        ("2 JS", valued(of=lambda v: v + 2 * math.log(2))),
        ("JS − 2 log 2", valued(of=lambda v: v / 2 - math.log(2))),
        ("2 JS − log 2", valued(of=lambda v: v + math.log(2))),
        ("JS − log 2", valued(of=lambda v: v / 2)),
        ("2 JS + 2 log 2", valued(of=lambda v: v + 4 * math.log(2))),
        ("sign", valued(of=lambda v: -v)),
        ("bits", valued(of=lambda v: v / math.log(2))),
        ("no cell", lambda p, q, cell: valued()(p, q, 1)),
        ("mean", lambda p, q, cell: valued()(p, q, 1 / len(p))),
        ("log D on fakes", valued(on_fakes=lambda d: d)),
        ("p and q swapped", valued(lambda d: 1 - d, lambda d: d)),
        ("no fakes", valued(on_fakes=lambda d: d**0)),
        ("no data", valued(on_data=lambda d: d**0)),
        ("no logarithms", value_without_logarithms),
        ("(42)", value_printed),
        ("not weighed", lambda p, q, cell: cell * ((p / (p + q)).log() + (q / (p + q)).log()).sum()),
        ("NaN", valued(log=lambda p, d: p * d.log())),
        ("ε in the logarithm", valued(log=lambda p, d: p * (d + 1e-3).log())),
        ("all of it −2 log 2", lambda p, q, cell: -2 * math.log(2)),
        ("integrand", lambda p, q, cell: cell * (torch.xlogy(p, p / (p + q)) + torch.xlogy(q, q / (p + q)))),
        ("KL", lambda p, q, cell: cell * torch.xlogy(p, p / q).sum()),
    ],
    "gan.wasserstein_line": [
        ("unsorted", carried(ranked_x=False, ranked_y=False)),
        ("x unsorted", carried(ranked_x=False)),
        ("y unsorted", carried(ranked_y=False)),
        ("opposite order", lambda x, y: (x.sort().values - y.sort(descending=True).values).abs().mean()),
        ("squares", carried(torch.square)),
        ("W₂", carried(torch.square, after=torch.sqrt)),
        ("sum", carried(total=torch.sum)),
        ("signs", carried(lambda d: d)),
        ("means", carried(lambda d: d, after=torch.abs)),
        ("largest", carried(total=torch.max)),
        ("median", carried(total=torch.median)),
        ("all pairs", lambda x, y: (x[:, None] - y).abs().mean()),
        ("nearest", lambda x, y: (x[:, None] - y).abs().amin(1).mean()),
        ("nearest x", lambda x, y: (x[:, None] - y).abs().amin(0).mean()),
        ("half", carried(after=lambda w: w / 2)),
        ("norm", carried(total=torch.linalg.norm)),
        ("ways themselves", carried(total=lambda w: w)),
        ("(values, indices)", lambda x, y: (x.sort() - y.sort()).abs().mean()),
    ],
    "gan.dirac_step": [
        ("simultaneous", turn(theta_psi="old")),
        ("generator first", turn(first="generator")),
        ("critic's sign", turn(sign_psi=-1)),
        ("generator's sign", turn(sign_theta=-1)),
        ("generator's sign, simultaneous", turn(sign_theta=-1, theta_psi="old")),
        ("both signs, as slides (45) has the gradients", turn(sign_psi=-1, sign_theta=-1)),
        ("minimax", turn(slope="minimax")),
        ("minimax, simultaneous", turn(slope="minimax", theta_psi="old")),
        ("Wasserstein's generator", turn(slope="wasserstein")),
        ("Wasserstein's generator, simultaneous", turn(slope="wasserstein", theta_psi="old")),
        ("generator without the logarithm", turn(slope="no logarithm")),
        ("old D, new ψ", dirac_half_old),
        ("new D, old ψ", dirac_other_half_old),
        ("Wasserstein's critic", dirac(d_psi=lambda t, p: -t)),
        ("slope of the other loss", dirac(d_psi=lambda t, p: -torch.sigmoid(-t * p) * t)),
        ("no θ", dirac(d_psi=lambda t, p: -torch.sigmoid(t * p))),
        ("ψ for θ", dirac(d_psi=lambda t, p: -torch.sigmoid(t * p) * p)),
        ("critic without the logarithm", dirac(d_psi=lambda t, p: -torch.sigmoid(t * p) * torch.sigmoid(-t * p) * t)),
        ("no ψ", dirac(d_theta=lambda t, p: torch.sigmoid(-t * p))),
        ("D of ψ alone", dirac(d_theta=lambda t, p: torch.sigmoid(-p) * p)),
        ("critic stays", dirac(d_psi=lambda t, p: 0 * t)),
        ("generator stays", dirac(d_theta=lambda t, p: 0 * t)),
        ("no h", lambda theta, psi, h: dirac()(theta, psi, 1)),
        ("change only", lambda theta, psi, h: [a - b for a, b in zip(dirac()(theta, psi, h), (theta, psi), strict=True)]),
        ("order", lambda theta, psi, h: dirac()(theta, psi, h)[::-1]),
        ("θ only", lambda theta, psi, h: dirac()(theta, psi, h)[0]),
        ("stacked", lambda theta, psi, h: torch.stack(dirac()(theta, psi, h))),
    ],
}  # fmt: skip
