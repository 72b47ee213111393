"""`show_source` shows the code that runs."""

import inspect

from gmcourse.vae import VAE, elbo
from gmcourse.viz.source import show_source


def test_code_is_the_source_without_its_docstring():
    shown = show_source(elbo).data
    assert shown.startswith("def elbo(") and '"""' not in shown
    lines = [line for line in inspect.getsource(elbo).splitlines() if line.strip()]
    assert set(shown.splitlines()) <= set(lines) and "return Elbo(" in shown


def test_methods_are_dedented_and_docstrings_shown_on_request():
    assert show_source(VAE.loss).data.startswith("def loss(")
    assert "thesis (2.12)" in show_source(VAE.loss, docstring=True).data


def test_something_without_a_docstring_is_shown_whole():
    def bare(x):
        return x + 1

    assert show_source(bare).data.splitlines() == ["def bare(x):", "    return x + 1"]
