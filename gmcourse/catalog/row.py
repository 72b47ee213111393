"""One system of the sources and where the course has it."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """A system and its whereabouts; a reference is None until what it names exists.

    Args:
        source: where the system comes from, e.g. "thesis 2.1".
        interactive: whether the course promises an explorer.
        code: "gmcourse.vae:VAE".
        section: the notebook and heading that teach it, "02_vae#the-elbo".
        exercise: an exercise, "vae.elbo", or a shown experiment, "02_vae#slug".
        explorer: "gmcourse.viz.explorers:vae_latent".
        test: the test against something independent, "tests/vae/test_bounds.py::test_name".
    """

    id: str
    name: str
    source: str
    chapter: int
    interactive: bool = False
    code: str | None = None
    section: str | None = None
    exercise: str | None = None
    explorer: str | None = None
    test: str | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing that the course promises for this system is missing."""
        needed = [self.code, self.section, self.exercise, self.test]
        return all(needed + [self.explorer] * self.interactive)

    def as_dict(self) -> dict:
        """The row as `gmcourse list --json` prints it."""
        fields = asdict(self) | {"complete": self.complete}
        del fields["interactive"]
        return fields
