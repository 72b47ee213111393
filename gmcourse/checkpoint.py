"""Weights as safetensors with a JSON card: one file, written atomically, verified on reading, nothing unpickled.

The card travels in the header of the safetensors file: what the weights are, the recipe, seed, data and metrics, and the
versions that made them. A SHA-256 over card and tensors is stored beside it. A file that was cut short, changed, or made by
somebody else is refused with its path and the reason. Writing goes to a temporary file in the same folder, is flushed to the
disk and renamed, so that a reader (or a run that resumes after a power cut) finds either the old file or the new one, whole.
"""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from gmcourse.version import __version__


class CheckpointError(ValueError):
    """A checkpoint that can't be trusted or doesn't fit; the message names its path and the reason."""


def write(path: str | os.PathLike, tensors: Mapping[str, Tensor], card: Mapping) -> Path:
    """Write tensors and their card to `path`, atomically. The card must be JSON; versions are added to it.

    Returns the path. Raises TypeError if the card holds what JSON can't.
    """
    path = Path(path)
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    text = json.dumps({**card, "versions": versions()}, sort_keys=True)
    blob = to_bytes(tensors, metadata={"gmcourse": text, "sha256": _digest(tensors, text)})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict]:
    """Tensors (on the CPU) and card of the checkpoint at `path`.

    Raises FileNotFoundError if there is none, CheckpointError if it is truncated, was tampered with, or is not gmcourse's.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}); it may have been cut short") from None
    if "gmcourse" not in header or "sha256" not in header:
        raise CheckpointError(f"{path} was not written by gmcourse: its header carries no card")
    if _digest(tensors, header["gmcourse"]) != header["sha256"]:
        raise CheckpointError(f"{path} was changed after it was written: its SHA-256 does not match")
    return tensors, json.loads(header["gmcourse"])


def save(path: str | os.PathLike, model: nn.Module, card: Mapping | None = None) -> Path:
    """Write a model's parameters and buffers with a card (recipe, seed, data, metrics, …) to `path`."""
    return write(path, model.state_dict(), {"model": type(model).__name__, **(card or {})})


def load(path: str | os.PathLike, model: nn.Module) -> dict:
    """Put the weights at `path` into `model`, whatever its device, and return the card.

    Raises CheckpointError if names or shapes differ; the model is then unchanged.
    """
    tensors, card = read(path)
    fit_into(model, tensors, path)
    return card


def fit_into(model: nn.Module, tensors: Mapping[str, Tensor], path: str | os.PathLike) -> None:
    """Load a state dict after comparing names and shapes; CheckpointError names the first differences."""
    wanted = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    came = {name: tuple(t.shape) for name, t in tensors.items()}
    if wanted != came:
        lacking, extra = sorted(wanted.keys() - came.keys()), sorted(came.keys() - wanted.keys())
        other = [n for n in sorted(wanted.keys() & came.keys()) if wanted[n] != came[n]]
        reasons = [f"lacks {', '.join(lacking[:3])}"] * bool(lacking) + [f"has unknown {', '.join(extra[:3])}"] * bool(extra)
        reasons += [f"{n} has shape {came[n]}, the model wants {wanted[n]}" for n in other[:3]]
        raise CheckpointError(f"{path} does not fit {type(model).__name__}: {'; '.join(reasons)}")
    model.load_state_dict(tensors)


def versions() -> dict[str, str]:
    """Versions of what made a file: python, torch and gmcourse."""
    return {"python": platform.python_version(), "torch": torch.__version__, "gmcourse": __version__}


def _digest(tensors: Mapping[str, Tensor], card: str) -> str:
    sha = hashlib.sha256(card.encode())
    for name in sorted(tensors):
        t = tensors[name]
        sha.update(f"{name} {t.dtype} {tuple(t.shape)}".encode())
        sha.update(t.contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()
