"""Recipes of chapter 10: energies as generators.

In the plane one net is trained in three ways: by the contrast of data and samples along a gradient flow, by the likelihood
of that same flow, and by chains with Langevin's own noise. What is kept of the first is what does best on held-out data by
the flow's likelihood, which the contrast does not minimise; averages of the weights, as those of the moment turn round the
goal, and Adam without momentum, which makes the turns wider. On images the three rows of thesis Table 5.1, with the same
net, steps and batches; of each run the weights are kept whose samples are nearest to held-out images, in other features than
the judge's.
"""

from functools import partial

import torch
from torch import Tensor

from gmcourse.compositions.dynamics import Dynamics, GradientFlow, Langevin
from gmcourse.compositions.self_contrast import SelfContrast, exact_likelihood
from gmcourse.compositions.short_run import Objective, ShortRun
from gmcourse.ebm import conv_energy, mlp_energy
from gmcourse.fit import cosine
from gmcourse.nets.confined import Confined
from gmcourse.recipes.judged import distance, generated
from gmcourse.recipes.keep import Keep
from gmcourse.recipes.measures import readings, transport
from gmcourse.recipes.recipe import Recipe

TIME = 0.2  # of the flow, thesis 5.5.3
ADAM = partial(torch.optim.Adam, betas=(0.9, 0.99))
# of the contrast: weight of E² in the loss, settings of fit
TOYS: dict[str, tuple[float, dict]] = {
    "swiss_roll": (0.002, {"steps": 10_000, "lr": 1e-3, "ema": 0.998}),
    "gaussian_grid9": (0.01, {"steps": 2500}),
}


def slowing(done: float) -> float:
    """Schedule: constant for half of the run, then down to a tenth on a straight line."""
    return 1.0 if done < 0.5 else 1.0 - 1.8 * (done - 0.5)


PLANE = {"batch_size": 256, "lr": 2e-3, "schedule": slowing, "ema": 0.995, "optimizer": ADAM}
CONTRAST = PLANE | {"optimizer": partial(torch.optim.Adam, betas=(0.0, 0.99))}
LIKELIHOOD = PLANE | {"steps": 800, "lr": 4e-3, "schedule": cosine(0.05), "ema": 0.98, "clip": 5.0}
CHAIN = {"steps": 20, "step": 20.0}
SOFT = {"l2": 0.1, "data_noise": 0.03}
IMAGES = {
    "steps": 1200,
    "batch_size": 32,
    "lr": 1e-3,
    "clip": 0.1,
    "schedule": cosine(0.05),
    "optimizer": partial(torch.optim.Adam, betas=(0.0, 0.999)),
    "checkpoint_every": 100,
}
PICTURES = ("mnist", "fashion_mnist")


def plane(dynamics: Dynamics, objective: Objective) -> ShortRun:
    """A net of the plane that sees fine detail, and grows at infinity."""
    energy = Confined(mlp_energy(2, (64,) * 4, input_scale=3.0))
    return ShortRun(energy, dynamics, event_shape=(2,), objective=objective)


def flow(steps: int, objective: Objective) -> ShortRun:
    """The gradient flow of such an energy, by RK4."""
    return plane(GradientFlow(TIME, steps=steps), objective)


def noisy() -> ShortRun:
    """Chains of the same length with the noise that makes them Langevin's: T = Kη/2."""
    return plane(Langevin(40, 2 * TIME / 40), SelfContrast(l2=0.01))


def image(noise: float, generator: float) -> ShortRun:
    """A small net like thesis Table 5.2's. Its energies are held near 0, so that the step must be long: 20 times 20 here, 40
    times 0.1 there."""
    energy = conv_energy((1, 28, 28), (8, 16, 32, 32))
    dynamics, objective = Langevin(**CHAIN, noise=noise, checkpointed=False), SelfContrast(generator, **SOFT)
    return ShortRun(energy, dynamics, event_shape=(1, 28, 28), objective=objective)


@torch.no_grad()
def surprise(model: ShortRun, held_out: Tensor) -> Tensor:
    """Mean of −log p of held-out data, in nats."""
    return -model.log_prob(held_out).mean()


def _flow(data: str) -> Recipe:
    l2, settings = TOYS[data]
    keep, model = Keep(surprise, rows=1000, every=200), partial(flow, 10, SelfContrast(l2=l2))
    summary = f"gradient flow of {data.replace('_', ' ')} by the contrast of data and samples"
    family = "gradient flow" if data == "swiss_roll" else None
    return Recipe(f"gradient_flow_{data}", summary, model, data, readings, CONTRAST | settings, keep=keep, family=family)


def _likely(data: str) -> Recipe:
    summary = f"gradient flow of {data.replace('_', ' ')} by maximum likelihood"
    return Recipe(f"gradient_flow_ml_{data}", summary, partial(flow, 10, exact_likelihood), data, readings, LIKELIHOOD)


def _image(kind: str, data: str, noise: float, generator: float) -> Recipe:
    summary = f"short-run generator of {data.replace('_', ' ')}, {kind}"
    source = "thesis Table 5.1 and 5.2, smaller nets, fewer and longer steps"
    model, measure = partial(image, noise, generator), partial(generated, data)
    keep = Keep(partial(distance, data), every=50)
    return Recipe(f"short_run_{kind}_{data}", summary, model, data, measure, IMAGES, keep=keep, source=source)


RECIPES = (
    *(_flow(data) for data in TOYS),
    *(_likely(data) for data in TOYS),
    Recipe(
        "short_run_noisy_gaussian_grid9",
        "energy of 9 Gaussians by short-run Langevin",
        noisy,
        "gaussian_grid9",
        transport,
        PLANE | {"steps": 2000},
    ),
    *(_image("noisy", data, 0.1, 0.0) for data in PICTURES),
    *(_image("free", data, 0.0, 0.0) for data in PICTURES),
    *(_image("adversarial", data, 0.0, 0.1) for data in PICTURES),
)
