"""The systems of chapter 10, short-run Langevin."""

from gmcourse.catalog.row import Row

ROWS = (
    Row(
        "short-run",
        "Short-run Langevin as a generator",
        "thesis 5.1",
        10,
        interactive=True,
        code="gmcourse.compositions:ShortRun",
        section="10_short_run#the-way-down-is-a-map",
        exercise="short_run.steps",
        explorer="gmcourse.viz.explorers:short_run_steps",
        test="tests/compositions/test_dynamics.py::test_noise_on_the_way_adds_up_to_a_gaussian",
    ),
    Row(
        "gradient-flow",
        "Noise-free dynamics, ODE flow and its density",
        "thesis 5.3",
        10,
        interactive=True,
        code="gmcourse.compositions:GradientFlow",
        section="10_short_run#one-energy-two-readings",
        exercise="short_run.flow_density",
        explorer="gmcourse.viz.explorers:energy_or_flow",
        test="tests/compositions/test_dynamics.py::test_the_density_is_that_of_autograds_jacobian_of_the_whole_map",
    ),
    Row(
        "self-adversarial",
        "Generator loss from the energy itself",
        "thesis 5.4",
        10,
        code="gmcourse.compositions:SelfContrast",
        section="10_short_run#a-game-with-itself",
        exercise="short_run.generator",
        test="tests/compositions/test_self_contrast.py::test_the_gradient_is_the_sum_of_those_of_its_two_updates",
    ),
)
