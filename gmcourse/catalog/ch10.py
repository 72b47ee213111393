"""The systems of chapter 10, short-run Langevin."""

from gmcourse.catalog.row import Row

ROWS = (
    Row("short-run", "Short-run Langevin as a generator", "thesis 5.1", 10, interactive=True),
    Row("gradient-flow", "Noise-free dynamics, ODE flow and its density", "thesis 5.3", 10, interactive=True),
    Row("self-adversarial", "Generator loss from the energy itself", "thesis 5.4", 10),
)
