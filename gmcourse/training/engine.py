"""Where a run runs: bare in one process and float32, or on Lightning Fabric for everything else.

Both offer the same six names, so that the loop does not know the difference and a plain run pays nothing.
"""

import os

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Plain:
    """One process, float32, on the device where the model already is."""

    world_size, global_rank, is_global_zero = 1, 0, True

    def __init__(self, device: torch.device):
        self.device = device

    def setup_module(self, module: nn.Module) -> nn.Module:
        """The module as it is."""
        return module

    def setup_optimizers(self, optimizer: Optimizer) -> Optimizer:
        """The optimiser as it is."""
        return optimizer

    def backward(self, loss: Tensor) -> None:
        """Gradients of the loss."""
        loss.backward()

    def clip_gradients(
        self, module: nn.Module, optimizer: Optimizer, max_norm: float, error_if_nonfinite: bool = False
    ) -> None:
        """Scale the gradients of the optimiser's parameters down to a total norm of `max_norm`."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, max_norm, error_if_nonfinite=error_if_nonfinite)

    def all_reduce(self, values: Tensor, reduce_op: str = "mean") -> Tensor:
        """The mean over processes: of one, itself."""
        return values

    def barrier(self) -> None:
        """Nobody to wait for."""


def engine(
    model: nn.Module,
    *,
    accelerator: str | None = None,
    devices: int | list[int] = 1,
    num_nodes: int = 1,
    strategy: str = "auto",
    precision: str = "32-true",
):
    """`Plain` where that is enough, else a launched `lightning.fabric.Fabric`.

    Without an `accelerator` a single process stays on the model's own device. Several processes run DDP, which tolerates
    players that leave some parameters alone.
    """
    here = next((p.device for p in model.parameters()), torch.device("cpu"))
    several = (len(devices) if isinstance(devices, list) else devices) != 1 or num_nodes > 1
    if accelerator is None and devices == 1 and not several and strategy == "auto" and precision == "32-true":
        return Plain(here)
    from lightning_fabric import Fabric

    if several and strategy in ("auto", "ddp"):
        strategy = "ddp_find_unused_parameters_true"
    if accelerator is None and not several:
        accelerator, devices = here.type, [here.index] if here.type == "cuda" and devices == 1 else devices
    fabric = Fabric(
        accelerator=accelerator or "auto", devices=devices, num_nodes=num_nodes, strategy=strategy, precision=precision
    )
    if "LT_CLI_USED" not in os.environ:
        fabric.launch()
    return fabric
