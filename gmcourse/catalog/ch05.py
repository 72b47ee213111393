"""The systems of chapter 5, diffusion models."""

from gmcourse.catalog.row import Row

ROWS = (
    Row("ddpm", "DDPM, posterior, VLB", "thesis 2.4.1–2.4.2; slides 26–28", 5, interactive=True),
    Row("ddim", "DDIM, strided sampling", "slides 29–30; thesis 2.4.4", 5, interactive=True),
    Row("ncsn", "NCSN, NCSNv2, annealed Langevin", "slides 24–25", 5),
    Row(
        "score-sde",
        "VP, VE, sub-VP; reverse SDE; predictor–corrector",
        "thesis 2.4.3; slides 31–33",
        5,
        interactive=True,
    ),
    Row("probability-flow", "Probability-flow ODE and likelihood", "LSGM 2; thesis 6.2", 5),
    Row("cld", "Critically damped Langevin diffusion", "slides 34–36", 5, interactive=True),
    Row("guidance", "Classifier and classifier-free guidance", "D&C 3.3", 5),
)
