"""The systems of chapter 13, divide and compose."""

from gmcourse.catalog.row import Row

ROWS = (
    Row("diffae", "Diffusion auto-encoder", "D&C 4.1", 13),
    Row("score-components", "Decomposed score, K latents", "D&C 4.2–4.3", 13, interactive=True),
    Row(
        "component-mixing",
        "Interpolation with the unconditional score, weights",
        "D&C 5.4–5.5",
        13,
        interactive=True,
    ),
)
