"""A model file is looked through before anything loads it."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from components.errors import ServiceError
from components.serving.classifier import OnnxClassifier
from components.serving.model_file import check_model_file


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
    ("made", "kind"),
    [
        (safetensors_file, "is a safetensors file, no ONNX model"),
        (torch_file, "is a zip archive, perhaps a torch checkpoint, no ONNX model"),
        (pickle_file, "is a pickle, no ONNX model"),
        (empty_file, r"is empty \(0 bytes\)"),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_name(tmp_path: Path, made, kind: str) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "other.onnx"
    made(file)
    with pytest.raises(ServiceError, match=f"other.onnx {kind}; give the .onnx file"):
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
    ) as said:
        OnnxClassifier(file)
    assert repr(location) in str(said.value)


def test_weights_elsewhere_are_found_in_constants_and_branches(tmp_path: Path) -> None:
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
    with pytest.raises(ServiceError, match="doesn't take what its model card says, images of 24×24"):
        OnnxClassifier(tmp_path / "other.onnx")


def test_thresholds_that_are_not_one_a_class_are_refused(onnx_file: Path, tmp_path: Path) -> None:
    model = onnx.load(onnx_file)
    (entry,) = model.metadata_props
    entry.value = entry.value.replace('"thresholds": null', '"thresholds": [0.5]')
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ServiceError, match="has 1 thresholds for 3 classes; export it again"):
        OnnxClassifier(tmp_path / "other.onnx")
