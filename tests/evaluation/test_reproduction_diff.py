"""What differs between two trainings is found, and what does not differ is said to be the same."""

from pathlib import Path

import numpy as np
import pytest
from colour_models import colour_model
from exports import export_record, exported_file, measured_file
from safetensors.numpy import save_file

from components.evaluation.reproduction_diff import compare_exports, compare_records, compare_weights, outcome
from components.records.export import Latency


def test_values_that_differ_are_named_by_their_path() -> None:
    then, now = {"train": {"epochs": 3, "seed": 7}}, {"train": {"epochs": 4, "seed": 7}, "new": 1}
    found = [(one.what, one.then, one.now) for one in compare_records("settings", then, now)]
    assert found == [("settings: new", "absent", "1"), ("settings: train.epochs", "3", "4")]
    (same,) = compare_records("settings", then, then)
    assert (same.what, same.same) == ("settings", True)


def test_a_score_that_could_not_be_computed_both_times_is_the_same() -> None:
    unknown, known = {"answered": float("nan")}, {"answered": 0.5}
    assert [one.same for one in compare_records("scores", unknown, {"answered": float("nan")})] == [True]
    assert [one.same for one in compare_records("scores", unknown, known)] == [False]
    assert [one.same for one in compare_records("scores", known, unknown)] == [False]


@pytest.mark.parametrize(
    ("change", "said"),
    [(0.0, "the same bit for bit"), (0.5, "apart by up to 0.5 (in b)"), (np.nan, "apart by up to inf (in b)")],
)
def test_weights_are_equal_bit_for_bit_or_so_far_apart(tmp_path: Path, change: float, said: str) -> None:
    weights = {"a": np.zeros(3, np.float32), "b": np.ones(2, np.float32)}
    save_file(weights, tmp_path / "then.safetensors")
    save_file(weights | {"b": weights["b"] + np.float32(change)}, tmp_path / "now.safetensors")
    found = compare_weights(tmp_path / "then.safetensors", tmp_path / "now.safetensors")
    assert (found.now, found.same) == (said, change == 0.0)


def test_weights_of_another_shape_are_not_the_same(tmp_path: Path) -> None:
    for name, shape in (("then", 3), ("now", 4)):
        save_file({"a": np.zeros(shape, np.float32)}, tmp_path / f"{name}.safetensors")
    assert not compare_weights(tmp_path / "then.safetensors", tmp_path / "now.safetensors").same


def exported(folder: Path, *, recipe: str, served: str, accuracy: float = 0.9, bias: float = 0.0) -> Path:
    """As `quantize` leaves it: two files, how they were made, and every way to int8 that was tried."""
    folder.mkdir()
    took = float(len(folder.name))
    formats, latency = {}, Latency(took, took, took)
    for name, way in (("fp32", "fp32"), ("int8", recipe)):
        colour_model(folder / f"model_{name}.onnx", red_bias=bias)
        measured = measured_file(way, validation_accuracy=accuracy, latency=latency)
        formats[name] = exported_file(measured, test={"accuracy": accuracy})
    recipes = ("u8s8", "u8s8_reduced", *(("s8s8",) if served == "fp32" else ()))
    tried = {name: measured_file(name, validation_accuracy=accuracy, latency=latency) for name in recipes}
    export_record(formats, served=served, int8_variants=tried).write(folder / "export.json")
    return folder


def test_files_that_were_made_alike_are_the_same_however_long_they_took(tmp_path: Path) -> None:
    folders = [exported(tmp_path / name, recipe="u8s8", served="int8") for name in ("then", "later")]
    found = list(compare_exports(*folders))
    assert [one.what for one in found] == [
        *("ONNX fp32", "ONNX int8", "scores", "int8 recipes", "formats", "format to serve")
    ]
    assert all(one.same for one in found)
    assert outcome(found) == "the file of each format the same; the file that would be served the same"


def test_a_choice_that_time_made_otherwise_is_called_that_and_no_difference_of_the_model(tmp_path: Path) -> None:
    then = exported(tmp_path / "then", recipe="u8s8", served="int8")
    now = exported(tmp_path / "now", recipe="u8s8_reduced", served="fp32")
    found = {one.what: one for one in compare_exports(then, now)}
    assert [name for name, one in found.items() if one.chosen_by_time] == ["recipe of int8", "format to serve"]
    assert (found["recipe of int8"].then, found["recipe of int8"].same) == ("u8s8", False)
    assert found["recipe of int8"].now.startswith("u8s8_reduced, the better choice by the time")
    assert [name for name, one in found.items() if one.same] == ["ONNX fp32", "scores", "int8 recipes", "formats"]


@pytest.mark.parametrize("bias", [0.0, 3.0])
def test_the_served_format_is_compared_with_the_recipe_of_the_first_export(tmp_path: Path, bias: float) -> None:
    then = exported(tmp_path / "then", recipe="u8s8", served="int8")
    now = exported(tmp_path / "now", recipe="u8s8_reduced", served="fp32")
    asked: list[str] = []

    def repeat(way: str) -> Path:
        asked.append(way)
        return colour_model(tmp_path / "again.onnx", red_bias=bias)

    found = list(compare_exports(then, now, repeat=repeat))
    assert asked == ["u8s8"]
    assert {one.what: one.same for one in found if one.kind == "file"} == {"ONNX fp32": True, "ONNX int8": not bias}
    said = outcome(found)
    assert "another format to serve (int8; now fp32, the better choice by the time measured now)" in said
    assert ("the file of each format the same" in said) is not bool(bias)
    assert ("another ONNX int8" in said) is bool(bias)


def test_a_choice_that_other_scores_made_is_not_put_down_to_time(tmp_path: Path) -> None:
    then = exported(tmp_path / "then", recipe="u8s8", served="int8")
    now = exported(tmp_path / "now", recipe="u8s8", served="fp32", accuracy=0.7)
    (choice,) = [one for one in compare_exports(then, now) if one.kind == "choice"]
    assert (choice.what, choice.same, choice.chosen_by_time, choice.now) == ("format to serve", False, False, "fp32")


def test_another_card_of_the_same_network_is_a_difference(tmp_path: Path) -> None:
    then = exported(tmp_path / "then", recipe="u8s8", served="int8")
    now = exported(tmp_path / "now", recipe="u8s8", served="int8")
    colour_model(now / "model_int8.onnx", provider="cuda")
    (file,) = [one for one in compare_exports(then, now) if not one.same]
    assert (file.what, file.kind) == ("ONNX int8", "file")
    assert file.now.endswith("the same but for provider in its card")


def test_another_graph_and_other_scores_are_differences(tmp_path: Path) -> None:
    then = exported(tmp_path / "then", recipe="u8s8", served="int8")
    now = exported(tmp_path / "now", recipe="u8s8", served="int8", accuracy=0.8, bias=5)
    differing = [one for one in compare_exports(then, now) if not one.same]
    assert not any(one.chosen_by_time for one in differing)
    assert {one.what for one in differing} == {
        "ONNX fp32",
        "ONNX int8",
        "scores: fp32.accuracy",
        "scores: int8.accuracy",
        "int8 recipes: u8s8.validation_accuracy",
        "int8 recipes: u8s8_reduced.validation_accuracy",
        "formats: fp32.validation_accuracy",
        "formats: int8.validation_accuracy",
    }
