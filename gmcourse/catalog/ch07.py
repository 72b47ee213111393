"""The systems of chapter 7, the trilemma."""

from gmcourse.catalog.row import Row

ROWS = (
    Row(
        "trilemma",
        "The scoreboard: quality, coverage, speed",
        "thesis 2.6, 6.1, Fig. 6.5",
        7,
        interactive=True,
        code="gmcourse.scoreboard:run",
        section="07_trilemma#the-rules-of-the-race",
        exercise="trilemma.pareto",
        explorer="gmcourse.viz.explorers:trilemma",
        test="tests/metrics/test_scoreboard.py::test_a_model_that_samples_the_truth_has_the_truths_numbers",
    ),
)
