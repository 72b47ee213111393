"""The systems of chapter 9, exponential tilting."""

from gmcourse.catalog.row import Row

ROWS = (
    Row("tilted-flow", "Flow tilted by an energy", "thesis 4.3.1", 9, interactive=True),
    Row("vaebm", "VAE tilted by an energy", "thesis 4.3.2–4.3.3", 9, interactive=True),
    Row("vaebm-hvae", "Hierarchical VAE tilted", "thesis 4.4.3", 9),
    Row(
        "vaebm-generator-update",
        "VAEBM with an update of the generator, the extension (4.30)",
        "thesis 4.3.4",
        9,
    ),
    Row("ddls", "Generator of a GAN tilted by its discriminator", "thesis (4.2)", 9),
    Row("tilting-ablations", "EBM on x, initialised chains, WGAN from the decoder", "thesis Table 4.6", 9),
    Row("ood", "Out-of-distribution detection", "thesis Table 4.8", 9),
)
