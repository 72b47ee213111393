"""The systems of chapter 6, adversarial networks."""

from gmcourse.catalog.row import Row

ROWS = (
    Row(
        "gan",
        "Minimax and non-saturating GAN, optimal discriminator, JS",
        "thesis 2.5.1; slides 40–42",
        6,
        interactive=True,
    ),
    Row("mode-collapse", "Mode collapse, and what cures it", "thesis 2.5.2", 6),
    Row("wgan", "Wasserstein GAN with clipping", "thesis (2.80)–(2.83); slides 43", 6),
    Row("wgan-gp", "Gradient penalty", "slides 44", 6),
    Row("spectral-norm", "Spectral normalisation", "slides, algorithm", 6),
    Row("r1", "R1 regularisation", "thesis (6.16)", 6),
    Row(
        "stylegan",
        "Mapping network, AdaIN, constant input, style mixing",
        "thesis 2.5.3",
        6,
        interactive=True,
    ),
    Row("gan-dynamics", "Dirac-GAN dynamics", "slides 45", 6, interactive=True),
)
