"""A model file is looked through before anything loads it."""

import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from components.serving.model_file import check_model_file
from components.serving.onnx_classifier import OnnxClassifier
from components.shared.errors import ServiceError


def test_models_as_they_ship_pass(onnx_file: Path) -> None:
    check_model_file(onnx_file.read_bytes(), onnx_file)


def safetensors_file(file: Path) -> None:
    save_file({"weight": np.zeros(3, np.float32)}, file)


def torch_file(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"")


def pickle_file(file: Path) -> None:
    file.write_bytes(pickle.dumps({"weight": [1.0]}))


def empty_file(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize(
    ("made", "file_type"),
    [
        (safetensors_file, "is a safetensors file, no ONNX model"),
        (torch_file, "is a zip archive, perhaps a torch checkpoint, no ONNX model"),
        (pickle_file, "is a pickle, no ONNX model"),
        (empty_file, r"is empty \(0 bytes\)"),
    ],
)
def test_a_file_of_another_type_is_named(tmp_path: Path, made, file_type: str) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "other.onnx"
    made(file)
    with pytest.raises(ServiceError, match=f"other.onnx {file_type}; give the .onnx file"):
        OnnxClassifier(file)


def test_a_model_cut_anywhere_is_refused(onnx_file: Path) -> None:
    content = onnx_file.read_bytes()
    for kept in [*range(1, 400), *np.linspace(400, len(content) - 1, 200).astype(int)]:
        with pytest.raises(ServiceError) as refused:
            check_model_file(content[:kept], Path("cut.onnx"))
        assert "\n" not in str(refused.value)


def test_noise_is_refused_without_a_crash() -> None:
    random = np.random.default_rng(0)
    for size in (3, 50, 1000):
        for _ in range(50):
            with pytest.raises(ServiceError):
                check_model_file(random.bytes(size), Path("noise.onnx"))


@pytest.mark.parametrize("location", ["weights.bin", "/etc/passwd", "../../secret"])
def test_weights_in_another_file_are_never_read(onnx_file: Path, tmp_path: Path, location: str) -> None:
    model = onnx.load(onnx_file)
    tensor = next(one for one in model.graph.initializer if one.dims)
    (tmp_path / "weights.bin").write_bytes(numpy_helper.to_array(tensor).tobytes())
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    file = tmp_path / "outside.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(
        ServiceError, match=r"in another file .*which is never read; export it again as one file"
    ) as caught:
        OnnxClassifier(file)
    assert repr(location) in str(caught.value)


def test_weights_in_another_file_are_found_in_constants_and_branches(tmp_path: Path) -> None:
    outside = TensorProto(name="hidden", dims=[1], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="elsewhere")
    constant = helper.make_node("Constant", [], ["c"], value=outside)
    branch = helper.make_graph([constant], "branch", [], [])
    for node in (constant, helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)):
        model = helper.make_model(helper.make_graph([node], "g", [], []))
        with pytest.raises(ServiceError, match=r"'hidden' in another file \('elsewhere'\)"):
            check_model_file(model.SerializeToString(), tmp_path / "model.onnx")


def with_classes(source: Path, target: Path, classes: list[str]) -> Path:
    model = onnx.load(source)
    (entry,) = model.metadata_props
    entry.value = entry.value.replace('["cat", "dog, big", "\\u00c4/\\u00f6"]', str(classes).replace("'", '"'))
    onnx.save(model, target)
    return target


@pytest.mark.parametrize("classes", [["cat", "dog"], ["a", "b", "c", "d"]])
def test_a_class_list_of_another_length_is_refused(onnx_file: Path, tmp_path: Path, classes: list[str]) -> None:
    file = with_classes(onnx_file, tmp_path / "other.onnx", classes)
    with pytest.raises(ServiceError, match=f"gives 3 logits, while its list of classes needs {len(classes)}"):
        OnnxClassifier(file)


def test_a_card_of_another_network_is_refused(onnx_file: Path, tmp_path: Path) -> None:
    model = onnx.load(onnx_file)
    (entry,) = model.metadata_props
    entry.value = entry.value.replace('"image_size_px": 16', '"image_size_px": 24')
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ServiceError, match="does not take images of 24×24, as its model card says"):
        OnnxClassifier(tmp_path / "other.onnx")


def test_thresholds_that_are_not_one_a_class_are_refused(onnx_file: Path, tmp_path: Path) -> None:
    model = onnx.load(onnx_file)
    (entry,) = model.metadata_props
    entry.value = entry.value.replace('"thresholds": null', '"thresholds": [0.5]')
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ServiceError, match="has 1 thresholds for 3 classes; export it again"):
        OnnxClassifier(tmp_path / "other.onnx")


def other_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type, model.graph.node[0].domain = "Nope", "ours"
    model.opset_import.add(domain="ours", version=1)


def later_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def broken_shape(model: onnx.ModelProto) -> None:
    weights = next(tensor for tensor in model.graph.initializer if tensor.dims)
    weights.dims[0] += 1


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (other_operator, "ours:Nope.* is not a registered function/op"),
        (later_opset, "ONNX Runtime only .*guarantees.* support for models"),
        (broken_shape, ""),
    ],
)
def test_an_error_of_the_runtime_is_reported_without_its_source_locations(
    onnx_file: Path, tmp_path: Path, damage: Callable[[onnx.ModelProto], None], reason: str
) -> None:
    model = onnx.load(onnx_file)
    damage(model)
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(
        ServiceError, match=f"other.onnx can't be loaded as ONNX: .*{reason}.*; export it again"
    ) as caught:
        OnnxClassifier(tmp_path / "other.onnx")
    assert not re.search(r"onnxruntime_src|ONNXRuntimeError|std::|\n", str(caught.value))
    assert len(str(caught.value).removeprefix(str(tmp_path))) < 400


def test_a_model_of_one_batch_size_is_refused(onnx_file: Path, tmp_path: Path) -> None:
    model = onnx.load(onnx_file)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    batch.dim_value = 1
    onnx.save(model, tmp_path / "one.onnx")
    with pytest.raises(ServiceError, match="takes only 1 images at once; export it again for any number"):
        OnnxClassifier(tmp_path / "one.onnx")


def test_a_graph_that_fails_on_a_batch_is_reported_in_one_sentence(onnx_file: Path, tmp_path: Path) -> None:
    """Its input has any batch size, but its output is reshaped for one image."""
    model = onnx.load(onnx_file)
    model.graph.node[-1].output[0] = "frozen"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 3], np.int64), "one"))
    model.graph.node.append(helper.make_node("Reshape", ["frozen", "one"], ["logits"]))
    onnx.save(model, tmp_path / "frozen.onnx")
    classifier = OnnxClassifier(tmp_path / "frozen.onnx")
    assert classifier.logits(np.zeros((1, 16, 16, 3), np.uint8)).shape == (1, 3)
    with pytest.raises(ServiceError, match=r"the model fails on 2 images at once: .*; export it again") as caught:
        classifier.logits(np.zeros((2, 16, 16, 3), np.uint8))
    assert "\n" not in str(caught.value)


def test_a_card_that_names_a_class_twice_is_refused(onnx_file: Path, tmp_path: Path) -> None:
    file = with_classes(onnx_file, tmp_path / "other.onnx", ["cat", "dog", "cat"])
    with pytest.raises(ServiceError, match="contradicts itself: the list of classes holds cat more than once; export"):
        OnnxClassifier(file)
