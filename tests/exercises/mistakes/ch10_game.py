"""What students typically get wrong about critic and generator in chapter 10: exercise -> [(what is wrong, function)]."""

import copy

import torch
from torch.func import functional_call


def summed(e):
    return e.sum()


def contrasted(
    negatives=lambda ends: ends.detach(),
    data=lambda e: e.mean(),
    model=lambda e: e.mean(),
    total=lambda d, m: d - m,
):
    """contrast with other negatives, means or signs."""
    return lambda energy, unroll, x, x0: total(data(energy(x)), model(energy(negatives(unroll(energy, x0)))))


def of_noise(energy, unroll, x, x0):
    return energy(x).mean() - energy(x0).mean()


def from_data(energy, unroll, x, x0):
    return energy(x).mean() - energy(unroll(energy, x).detach()).mean()


def both_led_down(energy, unroll, x, x0):
    return energy(unroll(energy, x).detach()).mean() - energy(unroll(energy, x0).detach()).mean()


def twice_down(energy, unroll, x, x0):
    return energy(x).mean() - energy(unroll(energy, unroll(energy, x0)).detach()).mean()


def weights_stopped(energy, unroll, x, x0):
    ends = unroll(energy, x0)
    return energy(x).mean() - copy.deepcopy(energy).requires_grad_(False)(ends).mean()


def all_stopped(energy, unroll, x, x0):
    with torch.no_grad():
        return energy(x).mean() - energy(unroll(energy, x0)).mean()


def model_under_no_grad(energy, unroll, x, x0):
    with torch.no_grad():
        at_ends = energy(unroll(energy, x0)).mean()
    return energy(x).mean() - at_ends


def switched_off(energy, unroll, x, x0):
    energy.requires_grad_(False)
    ends = unroll(energy, x0).detach()
    return energy(x).mean() - energy(ends).mean()


def off_after_it(energy, unroll, x, x0):
    loss = contrasted()(energy, unroll, x, x0)
    energy.requires_grad_(False)
    return loss


def with_backward(energy, unroll, x, x0):
    loss = contrasted()(energy, unroll, x, x0)
    loss.backward(retain_graph=True)
    return loss


def copied(energy):
    return copy.deepcopy(energy).requires_grad_(False)


def playing(
    data=lambda energy, x: energy(x).mean(),
    critic=lambda energy, ends: energy(ends.detach()).mean(),
    way=lambda energy, ends: copied(energy)(ends).mean(),
    total=lambda d, c, g: d - c + g,
    unrolled=lambda energy, unroll, x0: unroll(energy, x0),
):
    """generator with other terms, another sum, or another way down."""

    def generator(energy, unroll, x, x0):
        ends = unrolled(energy, unroll, x0)
        return total(data(energy, x), critic(energy, ends), way(energy, ends))

    return generator


def unrolled_without_gradients(energy, unroll, x0):
    with torch.no_grad():
        return unroll(energy, x0)


def unrolled_twice(energy, unroll, x, x0):
    with torch.no_grad():
        negatives = unroll(energy, x0)
    return energy(x).mean() - energy(negatives).mean() + copied(energy)(unroll(energy, x0)).mean()


def frozen_for_good(energy, unroll, x, x0):
    ends = unroll(energy, x0)
    loss = energy(x).mean() - energy(ends.detach()).mean()
    energy.requires_grad_(False)
    return loss + energy(ends).mean()


def frozen_before(energy, unroll, x, x0):
    energy.requires_grad_(False)
    ends = unroll(energy, x0)
    as_generator = energy(ends).mean()
    energy.requires_grad_(True)
    return energy(x).mean() - energy(ends.detach()).mean() + as_generator


def frozen_too_long(energy, unroll, x, x0):
    ends = unroll(energy, x0)
    energy.requires_grad_(False)
    loss = energy(x).mean() - energy(ends.detach()).mean() + energy(ends).mean()
    energy.requires_grad_(True)
    return loss


def game_with_backward(energy, unroll, x, x0):
    loss = playing()(energy, unroll, x, x0)
    loss.backward(retain_graph=True)
    return loss


def no_grad_for_the_critic(energy, ends):
    with torch.no_grad():
        return energy(ends).mean()


def detached_weights_of_a_copy(energy, unroll, x, x0):
    """The copy is unrolled, and the weights are not in its way."""
    other = copied(energy)
    ends = unroll(other, x0)
    return energy(x).mean() - energy(ends.detach()).mean() + other(ends).mean()


def first_critic():
    """The critic is copied once, at the first step."""
    kept = {}

    def generator(energy, unroll, x, x0):
        critic = kept.setdefault(id(energy), copied(energy))
        return playing(way=lambda energy, ends: critic(ends).mean())(energy, unroll, x, x0)

    return generator


def functional_without_detach(energy, ends):
    return functional_call(energy, dict(energy.named_parameters()), (ends,)).mean()


MISTAKES = {
    "short_run.contrast": [
        ("exchanged", contrasted(total=lambda d, m: m - d)),
        ("added", contrasted(total=lambda d, m: d + m)),
        ("half", contrasted(total=lambda d, m: (d - m) / 2)),
        ("data alone", contrasted(total=lambda d, m: d)),
        ("samples alone", contrasted(total=lambda d, m: -m)),
        ("both summed", contrasted(data=summed, model=summed)),
        ("data summed", contrasted(data=summed)),
        ("samples summed", contrasted(model=summed)),
        ("squares", contrasted(data=lambda e: e.square().mean(), model=lambda e: e.square().mean())),
        ("nothing stopped", contrasted(lambda ends: ends)),
        ("a clone", contrasted(lambda ends: ends.clone())),
        ("a clone that wants gradients", contrasted(lambda ends: ends.detach() + 0 * ends.clone() + ends - ends.detach())),
        ("the energy stopped instead", weights_stopped),
        ("samples' energy stopped", contrasted(model=lambda e: e.detach().mean())),
        ("samples' energy under no_grad", model_under_no_grad),
        ("data's energy stopped", contrasted(data=lambda e: e.detach().mean())),
        ("all stopped", all_stopped),
        ("noise for samples", of_noise),
        ("ways from the data", from_data),
        ("data led down, too", both_led_down),
        ("twice down", twice_down),
        ("log of a mean", contrasted(model=lambda e: -(-e).logsumexp(0))),
        ("e to the −E", contrasted(data=lambda e: -(-e).exp().mean(), model=lambda e: -(-e).exp().mean())),
        ("paired", contrasted(data=lambda e: e, model=lambda e: e, total=lambda d, m: (d - m).mean())),
        ("not reduced", contrasted(data=lambda e: e)),
        ("a float", contrasted(total=lambda d, m: float(d - m))),
        ("a pair", contrasted(total=lambda d, m: (d, m))),
        ("first sample only", contrasted(model=lambda e: e[0])),
        ("absolute", contrasted(total=lambda d, m: (m - d).abs() + 0.1)),
        ("weights off for good", switched_off),
        ("weights off after it", off_after_it),
        ("backward inside", with_backward),
        ("float32", contrasted(total=lambda d, m: (d - m).float())),
    ],
    "short_run.generator": [
        ("(5.1) alone", playing(total=lambda d, c, g: d - c)),
        ("(5.13) alone", playing(total=lambda d, c, g: g)),
        ("generator climbs", playing(total=lambda d, c, g: d - c - g)),
        ("no data", playing(total=lambda d, c, g: g - c)),
        ("critic's sign", playing(total=lambda d, c, g: c - d + g)),
        ("all turned round", playing(total=lambda d, c, g: c - d - g)),
        ("added", playing(total=lambda d, c, g: d + c + g)),
        ("no critic at the samples", playing(total=lambda d, c, g: d + g)),
        ("generator twice", playing(total=lambda d, c, g: d - c + 2 * g)),
        ("generator half", playing(total=lambda d, c, g: d - c + g / 2)),
        ("half", playing(total=lambda d, c, g: (d - c + g) / 2)),
        ("energy not stopped", playing(way=lambda energy, ends: energy(ends).mean())),
        ("functional_call with the weights themselves", playing(way=functional_without_detach)),
        ("samples not stopped", playing(lambda energy, x: energy(x).mean(), lambda energy, ends: energy(ends).mean())),
        ("nothing stopped", playing(critic=lambda energy, ends: energy(ends).mean(),
                                    way=lambda energy, ends: energy(ends).mean())),
        ("stopped the other way round", playing(critic=lambda energy, ends: copied(energy)(ends).mean(),
                                                way=lambda energy, ends: energy(ends.detach()).mean())),
        ("generator's samples stopped", playing(way=lambda energy, ends: copied(energy)(ends.detach()).mean())),
        ("generator's energy stopped by detach", playing(way=lambda energy, ends: energy(ends).detach().mean())),
        ("generator's energy under no_grad", playing(way=no_grad_for_the_critic)),
        ("critic's energy under no_grad", playing(critic=no_grad_for_the_critic)),
        ("data stopped", playing(data=lambda energy, x: energy(x).detach().mean())),
        ("way without a graph", playing(unrolled=unrolled_without_gradients)),
        ("way of a copy", detached_weights_of_a_copy),
        ("way detached", playing(unrolled=lambda energy, unroll, x0: unroll(energy, x0).detach())),
        ("two ways", unrolled_twice),
        ("frozen for good", frozen_for_good),
        ("frozen before the way", frozen_before),
        ("frozen too long", frozen_too_long),
        ("the critic of the first step", first_critic()),
        ("backward inside", game_with_backward),
        ("a random critic", playing(way=lambda energy, ends: (ends @ torch.randn_like(ends[0])).mean())),
        ("all summed", playing(lambda energy, x: energy(x).sum(), lambda energy, ends: energy(ends.detach()).sum(),
                               lambda energy, ends: copied(energy)(ends).sum())),
        ("generator summed", playing(way=lambda energy, ends: copied(energy)(ends).sum())),
        ("critic summed", playing(critic=lambda energy, ends: energy(ends.detach()).sum())),
        ("samples summed", playing(critic=lambda energy, ends: energy(ends.detach()).sum(),
                                   way=lambda energy, ends: copied(energy)(ends).sum())),
        ("squares", playing(way=lambda energy, ends: copied(energy)(ends).square().mean())),
        ("noise for samples", playing(unrolled=lambda energy, unroll, x0: x0)),
        ("softplus", playing(total=lambda d, c, g: torch.nn.functional.softplus(d - c) + g)),
        ("all stopped", playing(total=lambda d, c, g: (d - c + g).detach())),
        ("a float", playing(total=lambda d, c, g: float(d - c + g))),
        ("a triple", playing(total=lambda d, c, g: (d, c, g))),
        ("not reduced", playing(data=lambda energy, x: energy(x))),
    ],
}  # fmt: skip
