"""Explorers of chapter 2: a two-dimensional latent space of digits, for several β, and the hole between q(z) and p(z)."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from gmcourse.vae import VAE, aggregated_posterior
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, Slider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.mosaic import mosaic_array
from gmcourse.viz.plane import grid, on_grid
from gmcourse.viz.plots import draw_density

REACH = 3.0
EXTENT = (-REACH, REACH, -REACH, REACH)
TILES = 13


@torch.no_grad()
def beta_traversal(models: Mapping[float, VAE], images: Tensor, labels: Tensor) -> Explorer:
    """Walk through latent space: where the digits lie, what the decoder makes of every place, for each β.

    Args:
        models: VAEs with two latent dimensions, by their β.
        images, labels: (n, 1, h, w) in [-1, 1] and (n,), shown on the latent map.
    """
    places = grid(EXTENT, TILES)
    colours = np.array(style.PALETTE)[labels.numpy() % len(style.PALETTE)]
    means = {beta: model.encoder(images).mean.numpy() for beta, model in models.items()}
    tiles = {beta: _manifold(model, places) for beta, model in models.items()}

    @torch.no_grad()
    def compute(beta, z1, z2):
        model = models[beta]
        digit = model.likelihood_of_x.mean(model.decoder(torch.tensor([[z1, z2]])))
        return means[beta], tiles[beta], digit[0, 0].numpy(), (z1, z2)

    def backdrop(axes):
        for ax, title in zip(axes, ("where the digits lie", "what the decoder makes of each place", "here"), strict=True):
            ax.set(title=title, aspect="equal")
        for ax in axes[:2]:
            ax.set(xlim=EXTENT[:2], ylim=EXTENT[2:], xlabel="$z_1$")
        axes[0].set_ylabel("$z_2$")
        axes[2].set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))

    def draw(axes, drawn):
        latent, manifold, digit, here = drawn
        axes[0].scatter(*latent.T, c=colours, s=12)
        axes[1].imshow(manifold, extent=EXTENT, cmap="gray")
        axes[2].imshow(digit, extent=(0, 1, 0, 1), cmap="gray", vmin=-1, vmax=1)
        for ax in axes[:2]:
            ax.plot(*here, "+", color=style.VERMILION, markersize=16, markeredgewidth=3)

    return Explorer(
        compute,
        draw,
        {
            "beta": Choice(
                {f"{beta:g}": beta for beta in models}, value=1.0 if 1.0 in models else next(iter(models)), label="β"
            ),
            "z1": Slider(-REACH, REACH, 0.1, 0.0, label="z₁"),
            "z2": Slider(-REACH, REACH, 0.1, 0.0, label="z₂"),
        },
        backdrop=backdrop,
        panels=(1, 3),
        size=(10.0, 3.9),
        caption="Left: posterior means of test digits, one colour per digit. Middle and right: decoder means. "
        "A large β presses the cloud onto the prior, a small one lets it spread.",
    )


@torch.no_grad()
def prior_hole(model: VAE, images: Tensor) -> Explorer:
    """Put the cursor where the prior expects a latent and no datum ever was, and see what the decoder makes of it.

    Args:
        model: a VAE with two latent dimensions.
        images: data (n, 1, h, w) in [-1, 1] whose posteriors make up q(z).
    """
    posterior = aggregated_posterior(model, images)
    density = on_grid(posterior.log_prob, EXTENT, 120).exp()
    circle = np.linspace(0, 2 * np.pi, 100)

    @torch.no_grad()
    def compute(z1, z2):
        z = torch.tensor([[z1, z2]])
        digit = model.likelihood_of_x.mean(model.decoder(z))[0, 0].numpy()
        return digit, (z1, z2), float(model.prior.log_prob(z).exp()), float(posterior.log_prob(z).exp())

    def backdrop(axes):
        draw_density(axes[0], density, EXTENT)
        for radius in (1, 2):
            axes[0].plot(radius * np.cos(circle), radius * np.sin(circle), "--", color="0.4", linewidth=1)
        axes[0].set(xlim=EXTENT[:2], ylim=EXTENT[2:], aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
        axes[0].set_title("q(z) in blue, p(z) at 1σ and 2σ")
        axes[1].set(title="decoded", xticks=[], yticks=[], aspect="equal", xlim=(0, 1), ylim=(0, 1), xlabel=" \n ")

    def draw(axes, drawn):
        digit, here, p, q = drawn
        axes[0].plot(*here, "+", color=style.VERMILION, markersize=16, markeredgewidth=3)
        axes[1].imshow(digit, extent=(0, 1, 0, 1), cmap="gray", vmin=-1, vmax=1)
        verdict = "a hole: prior likes it, no datum lives here" if p > 0.02 and q < p / 5 else ""
        axes[1].text(0.5, -0.02, f"p(z) = {p:.3f},  q(z) = {q:.3f}", ha="center", va="top", fontsize=10)
        axes[1].text(0.5, -0.075, verdict, ha="center", va="top", fontsize=10, color=style.VERMILION)

    return Explorer(
        compute,
        draw,
        {"z1": Slider(-REACH, REACH, 0.1, 0.0, label="z₁"), "z2": Slider(-REACH, REACH, 0.1, 0.0, label="z₂")},
        backdrop=backdrop,
        panels=(1, 2),
        size=(8.6, 4.4),
        caption="The prior hole: places that p(z) will visit when sampling, and q(z) never did in training.",
    )


def _manifold(model: VAE, places: Tensor) -> np.ndarray:
    """Decoder means at a square grid of places (lowest z₂ first) as one grey picture, highest z₂ on top."""
    digits = model.likelihood_of_x.mean(model.decoder(places)).unflatten(0, (TILES, TILES))
    return mosaic_array(digits.flip(0).flatten(0, 1), TILES)
