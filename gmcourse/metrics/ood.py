r"""Is this from the data at all? How well a score, say log p(x) or −E(x), tells familiar data from foreign ones.

    AUROC = P(s(x_in) > s(x_out)) + ½ P(s(x_in) = s(x_out))

Without a threshold to choose: 1 separates, ½ guesses, and below ½ the score prefers what it has never seen, as
log-likelihoods of images notoriously do (SVHN under a model of CIFAR-10).
"""

import torch
from torch import Tensor


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
