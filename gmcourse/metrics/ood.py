r"""Is this from the data at all? How well a score, say log p(x) or −E(x), tells familiar data from foreign ones.

    AUROC = P(s(x_in) > s(x_out)) + ½ P(s(x_in) = s(x_out))

Without a threshold to choose: 1 separates, ½ guesses, and below ½ the score prefers what it has never seen, as
log-likelihoods of images notoriously do (SVHN under a model of CIFAR-10). Foreign data need not come from elsewhere: a
point between two images, x̃ = (1 − w) x + w x', is none, though each of its pixels could be (*Interp.* of thesis Table 4.8).
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from gmcourse.model import check_count, evaluating
from gmcourse.randomness import seeded

Score = Callable[[Tensor], Tensor]


class AUROCTable(dict[str, dict[str, float]]):
    """AUROC of every score on every foreign set, `table[score][name]`; printed and in notebooks it is a table.

    >>> print(AUROCTable({"VAE": {"digits": 0.25, "noise": 1.0}}))
    AUROC  digits  noise
    VAE     0.250  1.000
    """

    def __str__(self) -> str:
        rows = self._rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows)
        return "\n".join("  ".join(line) for line in lines)

    def _repr_markdown_(self) -> str:
        head, *rows = self._rows()
        rule = ["---"] + ["--:"] * (len(head) - 1)
        return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])

    def _rows(self) -> list[list[str]]:
        sets = list(dict.fromkeys(name for areas in self.values() for name in areas))
        cells = ([score, *(f"{areas[name]:.3f}" for name in sets)] for score, areas in self.items())
        return [["AUROC", *sets], *cells]


def auroc(inside: Tensor, outside: Tensor) -> float:
    """Area under the ROC curve of scores inside (n,) and outside (m,), high meaning familiar; in [0, 1].

    Scores may be infinite (a log-density is −inf where there is nothing); NaN, other shapes and empty tensors raise
    ValueError. An energy is low where data are: give −E.

    >>> auroc(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0]))     # one tie among four pairs
    0.875
    """
    from sklearn.metrics import roc_auc_score

    for name, scores in (("inside", inside), ("outside", outside)):
        if scores.ndim != 1 or len(scores) == 0:
            raise ValueError(f"{name} must hold at least one score, shape (n,); got shape {tuple(scores.shape)}")
        if scores.isnan().any():
            raise ValueError(f"{name} must not hold NaN; got {int(scores.isnan().sum())} of {len(scores)}")
    scores = torch.cat([inside.detach().cpu(), outside.detach().cpu()])
    rank = scores.unique(return_inverse=True)[1]  # keeps order and ties, and makes infinite scores finite
    return float(roc_auc_score(torch.arange(len(rank)) < len(inside), rank))


def auroc_table(
    scores: Mapping[str, Score], inside: Tensor, outside: Mapping[str, Tensor], *, batch: int = 500, seed: int = 0
) -> AUROCTable:
    """AUROC of every score between `inside` (n, *event_shape) and each set of `outside`, as in thesis Table 4.8.

    Args:
        scores: x (m, *event_shape) -> (m,), high meaning familiar, e.g. a model's `log_prob`. They are asked without
            gradients, modules and methods of modules in evaluation mode.
        batch: how many data are asked about at once.
        seed: of the random numbers that a score may take (a VAE's importance weights); the same for every set.

    Raises ValueError, which names score and set, for no scores or sets, other shapes, and NaN.

    >>> near, far = torch.zeros(4, 2), {"far": torch.full((4, 2), 9.0)}
    >>> auroc_table({"-|x|": lambda x: -x.norm(dim=1)}, near, far)["-|x|"]["far"]
    1.0
    """
    for name, given in (("scores", scores), ("outside", outside)):
        if not given:
            raise ValueError(f"{name} must hold at least one entry; got none")
    sets = {"inside": inside, **{f"outside[{name!r}]": x for name, x in outside.items()}}
    for name, x in sets.items():
        if x.shape[1:] != inside.shape[1:] or x.ndim == 0 or len(x) == 0:
            raise ValueError(f"{name} must hold data of shape {tuple(inside.shape[1:])}; got shape {tuple(x.shape)}")
    table = AUROCTable()
    for name, score in scores.items():
        familiar, *foreign = (_scored(score, x, check_count(batch, "batch"), seed, (name, key)) for key, x in sets.items())
        table[name] = {key: auroc(familiar, found) for key, found in zip(outside, foreign, strict=True)}
    return table


def interpolations(
    x: Tensor, n: int | None = None, *, weight: float | None = 0.5, generator: torch.Generator | None = None
) -> Tensor:
    """Points on the straight lines between data, (n, *event_shape): (1 − w) x_i + w x_j, i ≠ j at random, from x.

    Args:
        x: data (m, *event_shape), at least two of them.
        n: how many; m unless it is given.
        weight: w in [0, 1]; None draws each from the uniform law.

    >>> interpolations(torch.tensor([[0.0], [1.0]]), 3)
    tensor([[0.5000],
            [0.5000],
            [0.5000]])
    """
    if x.ndim == 0 or len(x) < 2 or not x.is_floating_point():
        raise ValueError(f"x must hold at least 2 data of floating-point numbers; got {tuple(x.shape)}, {x.dtype}")
    if weight is not None and not 0 <= weight <= 1:
        raise ValueError(f"weight must lie in [0, 1]; got {weight}")
    m, n, draw = len(x), check_count(len(x) if n is None else n), {"generator": generator, "device": x.device}
    one = torch.randint(m, (n,), **draw)
    other = (one + torch.randint(1, m, (n,), **draw)) % m
    w = torch.rand(n, dtype=x.dtype, **draw) if weight is None else x.new_full((n,), weight)
    return x[one].lerp(x[other], w.reshape(-1, *[1] * (x.ndim - 1)))


def _scored(score: Score, x: Tensor, batch: int, seed: int, names: tuple[str, str]) -> Tensor:
    """Scores of x, (n,)."""
    owner = getattr(score, "__self__", score)
    with torch.no_grad(), seeded(seed, x.device), evaluating(owner if isinstance(owner, nn.Module) else nn.Identity()):
        parts = [(score(part), len(part)) for part in x.split(batch)]
    told = "scores[{!r}] must give one number for each datum of {}".format(*names)
    for found, size in parts:
        if not isinstance(found, Tensor) or found.shape != (size,):
            came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"{told}, shape ({size},); got {came}")
    if (bad := (found := torch.cat([part for part, _ in parts])).isnan()).any():
        raise ValueError(f"{told}; got {int(bad.sum())} NaN of {len(found)}")
    return found
