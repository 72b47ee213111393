"""What every explorer must hold."""

import torch


def check_same_picture(make, values):
    """Two explorers, made under different seeds, show the same picture at `values`, and another than at the start."""
    torch.manual_seed(1)
    first = make()
    torch.manual_seed(2)
    second = make()
    second.picture()
    assert first.picture(**values) == second.picture(**values) != first.picture()
