"""The systems of chapter 4, energy-based models."""

from gmcourse.catalog.row import Row

ROWS = (
    Row("product-of-experts", "Products of experts, composed energies", "thesis 2.3.1", 4, interactive=True),
    Row("rbm", "Restricted Boltzmann machine", "thesis (2.34)–(2.35)", 4),
    Row(
        "ebm-mle",
        "Maximum likelihood with CD, persistent, short-run MCMC",
        "thesis 2.3.2; slides 20",
        4,
        interactive=True,
    ),
    Row("implicit-sm", "Implicit score matching", "thesis (2.41); slides 21", 4),
    Row("denoising-sm", "Denoising score matching", "thesis (2.42); slides 22", 4, interactive=True),
    Row("sliced-sm", "Sliced score matching", "slides 23", 4),
    Row("nce", "Noise-contrastive estimation of an EBM", "thesis (2.43); slides 37–39", 4),
    Row("other-ebm", "Minimum probability flow, Stein discrepancy", "slides, other methods", 4),
)
