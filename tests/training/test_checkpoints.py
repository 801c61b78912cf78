"""Lightning checkpoints as safetensors: what goes in comes out, and nothing is pickled."""

import random
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from components.training.checkpoints import SafetensorsCheckpoints, read_checkpoint


def roundtrip(folder: Path, checkpoint: dict[Any, Any]) -> dict[Any, Any]:
    SafetensorsCheckpoints().save_checkpoint(checkpoint, folder / "c.safetensors")
    return read_checkpoint(folder / "c.safetensors")


def test_plain_values_and_tensors_come_back_as_they_went_in(tmp_path: Path) -> None:
    checkpoint = {
        "epoch": 3,
        "state_dict": OrderedDict(weight=torch.arange(6.0).reshape(2, 3), steps=torch.tensor(7)),
        "optimizer_states": [{"state": {0: {"momentum": torch.ones(2)}}, "betas": (0.9, 0.999), "fused": None}],
        "nested": {"list": [1, 2.5, "text", True, None], "empty": {}, "tuple": ((), ("a",))},
        (1, "key"): "keys that are no text",
    }
    back = roundtrip(tmp_path, checkpoint)
    assert torch.equal(back["state_dict"]["weight"], checkpoint["state_dict"]["weight"])  # type: ignore[index]
    assert back["state_dict"]["steps"].dtype == torch.int64
    assert torch.equal(back["optimizer_states"][0]["state"][0]["momentum"], torch.ones(2))
    assert back["optimizer_states"][0]["betas"] == (0.9, 0.999)
    assert back["nested"] == checkpoint["nested"]
    assert isinstance(back["nested"]["tuple"], tuple)
    assert back[(1, "key")] == "keys that are no text"
    assert list(back) == list(checkpoint)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.bool])
def test_every_type_of_number_is_stored_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.tensor([0, 1, 1, 0]).to(dtype)
    assert torch.equal(roundtrip(tmp_path, {"t": tensor})["t"], tensor)
    assert roundtrip(tmp_path, {"t": tensor})["t"].dtype == dtype


def test_numbers_that_json_lacks_survive(tmp_path: Path) -> None:
    back = roundtrip(tmp_path, {"best": float("inf"), "rate": 0.1 + 0.2, "seed": 2**63})
    assert back == {"best": float("inf"), "rate": 0.1 + 0.2, "seed": 2**63}


def test_tensors_that_share_memory_are_kept_apart(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    back = roundtrip(tmp_path, {"a": shared, "b": shared, "view": shared[::2]})
    assert torch.equal(back["a"], shared)
    assert torch.equal(back["view"], torch.tensor([0.0, 2.0]))


def test_tensors_keep_their_layout(tmp_path: Path) -> None:
    weight = torch.arange(2.0 * 3 * 4 * 5).reshape(2, 3, 4, 5).to(memory_format=torch.channels_last)
    back = roundtrip(tmp_path, {"last": weight, "first": weight.contiguous()})
    assert torch.equal(back["last"], weight)
    assert back["last"].stride() == weight.stride()
    assert back["first"].is_contiguous()


def test_the_file_is_ordinary_safetensors(tmp_path: Path) -> None:
    roundtrip(tmp_path, {"state_dict": {"weight": torch.ones(2)}})
    assert torch.equal(load_file(tmp_path / "c.safetensors")["0"], torch.ones(2))


def test_what_would_need_a_pickle_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    roundtrip(tmp_path, {"epoch": 1})
    with pytest.raises(TypeError, match="holds a Random, which is neither a tensor nor plain data"):
        roundtrip(tmp_path, {"epoch": 2, "generator": random.Random(0)})
    assert read_checkpoint(tmp_path / "c.safetensors") == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


def test_a_checkpoint_can_be_removed_twice(tmp_path: Path) -> None:
    roundtrip(tmp_path, {"epoch": 1})
    for _ in range(2):
        SafetensorsCheckpoints().remove_checkpoint(tmp_path / "c.safetensors")
    assert not any(tmp_path.iterdir())
