"""Show the source that runs: the notebook prints the library's own code, so text and library cannot drift apart."""

import inspect
from collections.abc import Callable


def show_source(thing: Callable | type, *, docstring: bool = False):
    """The source of a function, method or class, highlighted; without its docstring unless asked for.

    >>> from gmcourse.vae import elbo
    >>> print(show_source(elbo).data.splitlines()[0])
    def elbo(model, x: Tensor, *, kl: str = "analytic", samples: int = 1) -> Elbo:
    """
    from IPython.display import Code

    text = inspect.cleandoc("\n" + inspect.getsource(thing))
    if not docstring and thing.__doc__:
        start = text.index('"""')
        end = text.index('"""', start + 3) + 3
        before = text[:start].rstrip(" r")
        text = before.rstrip() + "\n" + text[end:].lstrip("\n")
    return Code(text, language="python")
