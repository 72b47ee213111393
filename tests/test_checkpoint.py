"""Checkpoints: what is written comes back, and nothing else is believed."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gmcourse import checkpoint
from gmcourse.checkpoint import CheckpointError


@pytest.fixture
def saved(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    return model, checkpoint.save(tmp_path / "m.safetensors", model, {"recipe": "r", "seed": 3, "metrics": {"gap": 0.5}})


def test_weights_buffers_and_card_come_back(saved):
    model, path = saved
    other = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    card = checkpoint.load(path, other)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    assert card["recipe"] == "r" and card["seed"] == 3 and card["metrics"] == {"gap": 0.5}
    assert set(card["versions"]) == {"python", "torch", "gmcourse"}


@pytest.mark.parametrize("t", [torch.tensor(3), torch.ones(2, dtype=torch.bfloat16), torch.tensor([True]), torch.empty(0)])
def test_every_kind_of_tensor_comes_back(tmp_path, t):
    back = checkpoint.read(checkpoint.write(tmp_path / "t", {"t": t}, {}))[0]["t"]
    assert back.dtype == t.dtype and torch.equal(back, t)


def test_nothing_but_the_file_is_left_in_the_folder(saved):
    assert [p.name for p in saved[1].parent.iterdir()] == ["m.safetensors"]


def test_a_failed_write_leaves_the_old_file_and_no_debris(saved):
    _, path = saved
    before = path.read_bytes()
    with pytest.raises(TypeError):
        checkpoint.write(path, {"t": torch.zeros(1)}, {"card": object()})
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize("keep", [0, 4, 50, -1])
def test_a_truncated_file_is_refused_with_its_path(saved, keep):
    _, path = saved
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="m.safetensors is not a whole safetensors file"):
        checkpoint.read(path)


def test_a_flipped_bit_in_a_weight_is_found(saved):
    _, path = saved
    blob = bytearray(path.read_bytes())
    blob[-1] ^= 1
    path.write_bytes(bytes(blob))
    with pytest.raises(CheckpointError, match="m.safetensors was changed after it was written"):
        checkpoint.read(path)


def test_an_edited_card_is_found(saved):
    _, path = saved
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0.1"))
    with pytest.raises(CheckpointError, match="was changed"):
        checkpoint.read(path)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    save_file({"w": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="foreign.safetensors was not written by gmcourse"):
        checkpoint.read(tmp_path / "foreign.safetensors")


def test_a_pickle_is_refused_and_never_run(tmp_path):
    torch.save({"w": torch.zeros(2)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        checkpoint.read(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4)), r"0.bias has shape \(3,\), the model wants \(4,\)"),
        (nn.Sequential(nn.Linear(2, 3)), "has unknown 1.bias"),
        (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)), "lacks 2.bias"),
    ],
)
def test_weights_of_another_model_are_refused_and_change_nothing(saved, model, reason):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=reason):
        checkpoint.load(saved[1], model)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        checkpoint.read(tmp_path / "nowhere")


def test_the_card_can_be_read_by_any_safetensors_reader(saved):
    from safetensors import safe_open

    with safe_open(saved[1], framework="np") as file:
        assert json.loads(file.metadata()["gmcourse"])["recipe"] == "r"
