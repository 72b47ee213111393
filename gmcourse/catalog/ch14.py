"""The systems of chapter 14, beyond bijections."""

from gmcourse.catalog.row import Row

ROWS = (
    Row(
        "survae",
        "Bijective, stochastic, surjective layers: rounding, slicing, abs, max, sort, ReLU",
        "slides 46, tables",
        14,
        interactive=True,
    ),
    Row("neural-ode", "Neural ODE and its adjoint", "slides, algorithm 1", 14),
    Row("neural-sde", "Neural SDE and its adjoint", "slides, algorithm 2", 14),
)
