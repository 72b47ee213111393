"""Dominance between rows of numbers."""

import pytest
import torch

from gmcourse.metrics import undominated


def test_it_is_the_definition_said_row_by_row():
    scores = torch.randint(4, (40, 3), generator=torch.Generator().manual_seed(0)).double()
    table = scores.tolist()

    def dominated(row):
        return any(
            all(a >= b for a, b in zip(other, row, strict=True)) and any(a > b for a, b in zip(other, row, strict=True))
            for other in table
        )

    assert undominated(scores).tolist() == [not dominated(row) for row in table]


def test_in_one_column_only_the_best_is_left_with_its_equals():
    assert undominated(torch.tensor([[1.0], [3.0], [3.0], [2.0]])).tolist() == [False, True, True, False]


def test_front_of_a_front_is_itself_and_monotone_maps_change_nothing():
    scores = torch.randn(100, 3, generator=torch.Generator().manual_seed(1))
    front = undominated(scores)
    assert 0 < front.sum() < 100 and undominated(scores[front]).all()
    assert torch.equal(undominated(scores.exp()), front)


@pytest.mark.parametrize(
    ("scores", "words"), [(torch.zeros(3), r"\(n, m\); got \(3,\)"), (torch.tensor([[float("nan")]]), "got NaN")]
)
def test_what_cannot_be_compared_is_refused(scores, words):
    with pytest.raises(ValueError, match=words):
        undominated(scores)
