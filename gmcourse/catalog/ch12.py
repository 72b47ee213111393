"""The systems of chapter 12, latent score models."""

from gmcourse.catalog.row import Row

ROWS = (
    Row("lsgm", "Latent score-based model, end to end", "LSGM 3", 12, interactive=True),
    Row("lsgm-mixing", "Mixed normal and neural score", "LSGM 3.2", 12),
    Row(
        "lsgm-weighting",
        "Three weightings, importance sampling, geometric VPSDE",
        "LSGM 3.3–3.4",
        12,
        interactive=True,
    ),
    Row("lsgm-binary", "Binary images, NELBO", "LSGM 5.1", 12),
)
