"""Embeddings come from a model file of the user's."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from projects import REPOSITORY, validate_in, write_shapes

from components.data.images.embeddings import embed
from components.data.raw.ingest import write_raw
from components.data.sources import find
from components.shared.errors import SettingsError
from components.shared.progress import silent


def flat_model(
    file: Path,
    kind: int = onnx.TensorProto.UINT8,
    shape: tuple[str | int, ...] = ("batch", 8, 8, 3),
    last: list[Any] | None = None,
) -> Path:
    """The 192 values of an 8×8 picture, as they are, or what the `last` nodes make of them."""
    entry = onnx.helper.make_tensor_value_info("x", kind, shape)
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    nodes = [
        onnx.helper.make_node("Cast", ["x"], ["f"], to=onnx.TensorProto.FLOAT),
        *(last or [onnx.helper.make_node("Flatten", ["f"], ["y"], axis=1)]),
    ]
    graph = onnx.helper.make_graph(nodes, "flat", [entry], [result])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), file)
    return file


def test_a_model_file_is_given_upright_squares(tmp_path: Path) -> None:
    model = flat_model(tmp_path / "flat.onnx")
    found = embed(70, lambda row: np.full((16, 12, 3), row, np.uint8), model=model, setting="labels.features")
    assert found.shape == (70, 192)
    assert found[:, 0].tolist() == list(range(70))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none.onnx", r"labels\.features: .*none\.onnx isn't there"),
        ("text.onnx", r"labels\.features: .*text\.onnx can't be read as an ONNX model"),
        ("float.onnx", r"labels\.features: .*takes tensor\(float\).*not uint8 RGB"),
        ("frozen.onnx", r"labels\.features: .*takes tensor\(uint8\) \[1, 8, 8, 3\], not .* of any batch; export it so"),
        ("four.onnx", r"labels\.features: .*\['batch', 8, 8, 4\], not uint8 RGB"),
        ("mean.onnx", r"labels\.features: .*gives \[\] for 2 images, not a row each; export it so"),
        ("wrong.onnx", r"labels\.features: .*fails on 2 images: .*; export it again"),
    ],
)
def test_a_bad_model_file_is_one_clear_sentence(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    flat_model(tmp_path / "float.onnx", onnx.TensorProto.FLOAT)
    flat_model(tmp_path / "frozen.onnx", shape=(1, 8, 8, 3))
    flat_model(tmp_path / "four.onnx", shape=("batch", 8, 8, 4))
    flat_model(tmp_path / "mean.onnx", last=[onnx.helper.make_node("ReduceMean", ["f"], ["y"], keepdims=0)])
    one_row = onnx.helper.make_node("Constant", [], ["row"], value_ints=[1, 192])
    flat_model(tmp_path / "wrong.onnx", last=[one_row, onnx.helper.make_node("Reshape", ["f", "row"], ["y"])])
    with pytest.raises(SettingsError, match=sentence):
        embed(2, lambda row: np.zeros((8, 8, 3), np.uint8), model=tmp_path / name, setting="labels.features")


def test_the_validate_stage_embeds_each_image_where_the_split_asks_for_it(tmp_path: Path) -> None:
    write_raw(find(str(write_shapes(tmp_path / "shapes", each=20))), tmp_path / "raw", progress=silent)
    params = tmp_path / "params.yaml"
    text = (REPOSITORY / "params.yaml").read_text()
    params.write_text(text.replace("embeddings: null", "embeddings: {model: flat.onnx, min_similarity: 0.9}"))
    with pytest.raises(SettingsError, match=r"split\.duplicates\.embeddings\.model: .*flat\.onnx isn't there"):
        validate_in(tmp_path, params)
    flat_model(tmp_path / "reference" / "flat.onnx")
    validate_in(tmp_path, params)
    assert np.load(tmp_path / "validated" / "embeddings.npy").shape == (60, 192)
