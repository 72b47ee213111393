"""The systems of chapter 1, foundations."""

from gmcourse.catalog.row import Row

ROWS = (
    Row(
        "divergences",
        "Divergences: KL both ways, JS, Fisher, TV, Wasserstein",
        "thesis 1.1–1.2, 2.5; slides 19–21, 43",
        1,
        interactive=True,
    ),
    Row("mle-gmm", "Maximum likelihood; Gaussian mixture, EM", "thesis 1.2.1", 1),
    Row(
        "density-ratio",
        "Classifier density ratio, NCE reweighting, SIR",
        "thesis 1.2.2",
        1,
        interactive=True,
    ),
    Row(
        "langevin",
        "Langevin dynamics (ULA), MALA, temperature, HMC",
        "thesis 1.2.3, (1.15)–(1.18)",
        1,
        interactive=True,
    ),
    Row(
        "evaluation",
        "Likelihood, IS, FID, KID, precision/recall, mode coverage, AUROC",
        "thesis 1.2.4, 3.4, 4.4, 6.4",
        1,
    ),
)
