"""The catalog has every system of the sources, in order, and no row claims what is not there."""

import dataclasses
import json

import pytest

from gmcourse.catalog import ROWS, Row, resolve, rows, slug
from gmcourse.exercises import exercises

# The ids by chapter as the sources have them; an asterisk marks a system that the course promises an explorer for.
PLAN = {
    1: "divergences* mle-gmm density-ratio* langevin* evaluation",
    2: "vae* iwae posterior-collapse prior-hole* hierarchical-vae",
    3: "coupling-flow* glow linear-flow planar-radial* sylvester-flow autoregressive-flow spline-flow"
    " monotonic-flow residual-flow continuous-flow* reverse-kl",
    4: "product-of-experts* rbm ebm-mle* implicit-sm denoising-sm* sliced-sm nce other-ebm",
    5: "ddpm* ddim* ncsn score-sde* probability-flow cld* guidance",
    6: "gan* mode-collapse wgan wgan-gp spectral-norm r1 stylegan* gan-dynamics*",
    7: "trilemma*",
    8: "vae-flow-prior* vae-flow-posterior glf* regularised-glf two-stage-vae rae-gmm aae-wae vampprior"
    " perceptual-glf",
    9: "tilted-flow* vaebm* vaebm-hvae vaebm-generator-update ddls tilting-ablations ood",
    10: "short-run* gradient-flow* self-adversarial",
    11: "ddgan* ddgan-ablations denoising-posterior* stacked-mnist sdedit",
    12: "lsgm* lsgm-mixing lsgm-weighting* lsgm-binary",
    13: "diffae score-components* component-mixing*",
    14: "survae* neural-ode neural-sde",
}


def test_every_system_has_its_row_in_order():
    planned = [
        (chapter, entry.rstrip("*"), entry.endswith("*"))
        for chapter, ids in PLAN.items()
        for entry in ids.split()
    ]
    assert [(row.chapter, row.id, row.interactive) for row in ROWS] == planned
    assert len(ROWS) == 79
    assert all(row.name and row.source for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_what_a_row_claims_is_there(row):
    resolve(row)


def test_rows_of_a_chapter():
    assert rows() == ROWS
    assert [row.id for row in rows(7)] == ["trilemma"]
    with pytest.raises(ValueError, match="chapter must lie in 1 to 14; got 15"):
        rows(15)


FULL = Row(
    "vae",
    "a VAE",
    "thesis 2.1",
    2,
    interactive=True,
    code="gmcourse.catalog:Row.as_dict",
    section="02_tiny#the-importance-weighted-bound",
    exercise="vae.iwae",
    explorer="gmcourse.catalog:rows",
    test="tests/test_catalog.py::TestNested::test_inside",
)


class TestNested:
    """What FULL refers to."""

    def test_inside(self):
        assert "vae.iwae" in exercises()


@pytest.fixture
def root(tmp_path):
    """A folder with one notebook and one test file."""
    cells = ["# 2 A tiny chapter\n\n```\n# no heading\n```\n", "## The importance-weighted bound"]
    notebook = {"cells": [{"cell_type": "markdown", "source": [text]} for text in cells]}
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "02_tiny.ipynb").write_text(json.dumps(notebook), "utf-8")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_catalog.py").write_text("class TestNested:\n    def test_inside(self): ...\n")
    return tmp_path


def test_a_full_row_resolves(root):
    resolve(FULL, root)
    assert FULL.complete


@pytest.mark.parametrize(
    ("field", "reference", "message"),
    [
        ("code", "gmcourse.nothing:VAE", "no such module"),
        ("code", "gmcourse.catalog:Nothing", "gmcourse.catalog has no Nothing"),
        ("code", "gmcourse.catalog:Row.nothing", "gmcourse.catalog has no Row.nothing"),
        ("code", "gmcourse.catalog:ROWS", "is tuple, wanted a class or function"),
        ("code", "gmcourse.catalog", "wanted the form"),
        ("explorer", "gmcourse.catalog:nothing", "gmcourse.catalog has no nothing"),
        ("section", "03_flows#coupling", "no notebook .*03_flows.ipynb"),
        ("section", "02_tiny#no-heading", "there are 2-a-tiny-chapter, the-importance-weighted-bound"),
        ("section", "02_tiny", "wanted the form"),
        ("exercise", "vae.nothing", "no such exercise"),
        ("exercise", "02_tiny#nothing", "no such heading"),
        ("test", "tests/test_nothing.py::test_it", "no file"),
        ("test", "tests/test_catalog.py::test_inside", "has no test_inside"),
        ("test", "tests/test_catalog.py", "wanted the form"),
    ],
)
def test_a_false_claim_is_found(root, field, reference, message):
    with pytest.raises(LookupError, match=f"vae: {field} .*{message}"):
        resolve(dataclasses.replace(FULL, **{field: reference}), root)


@pytest.mark.parametrize("field", ["code", "section", "exercise", "explorer", "test"])
def test_a_row_that_lacks_something_is_not_complete(field):
    row = dataclasses.replace(FULL, **{field: None})
    assert not row.complete
    assert dataclasses.replace(row, interactive=False).complete == (field == "explorer")


def test_json_has_exactly_the_promised_fields():
    promised = [
        "id",
        "name",
        "source",
        "chapter",
        "code",
        "section",
        "exercise",
        "explorer",
        "test",
        "complete",
    ]
    assert list(FULL.as_dict()) == promised
    assert json.loads(json.dumps(FULL.as_dict()))["complete"] is True


def test_slugs():
    assert slug("The ELBO, twice") == "the-elbo-twice"
    assert slug("  $\\beta$-VAE: *why* it works ") == "beta-vae-why-it-works"
