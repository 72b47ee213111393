"""The systems of chapter 11, denoising diffusion GAN."""

from gmcourse.catalog.row import Row

ROWS = (
    Row("ddgan", "Denoising diffusion GAN", "thesis 6.3", 11, interactive=True),
    Row("ddgan-ablations", "T, parameterizations, no latent, diffusion augmentation", "thesis Table 6.2", 11),
    Row(
        "denoising-posterior",
        "True denoising distribution by quadrature",
        "thesis Fig. 6.3",
        11,
        interactive=True,
    ),
    Row("stacked-mnist", "StackedMNIST: 1000 modes", "thesis 4.4.3, 6.4.3", 11),
    Row("sdedit", "SDEdit: stroke-based synthesis", "thesis 6.4.6", 11),
)
