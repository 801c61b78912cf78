"""torchvision's data sets, from small files in each set's own layout on disk."""

import gzip
import hashlib
import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image

from components.data.sources import find
from components.errors import DataError


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two training batches of three and a test batch of two; torchvision checks the MD5 of each."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    random = np.random.default_rng(1)

    def batch(name: str, labels: list[int]) -> list[str]:
        data = random.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": labels}))
        return [name, md5(folder / name)]

    kind = torchvision.datasets.CIFAR10
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["airplane", "automobile", "bird"]}))
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5(folder / "batches.meta")})
    monkeypatch.setattr(kind, "train_list", [batch("data_batch_1", [0, 1, 2]), batch("data_batch_2", [2, 1, 0])])
    monkeypatch.setattr(kind, "test_list", [batch("test_batch", [1, 2])])
    return tmp_path


def idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.tobytes())


def fashion_mnist(root: Path) -> Path:
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for prefix, count in (("train", 4), ("t10k", 2)):
        images = np.arange(count * 28 * 28, dtype=np.uint32).reshape(count, 28, 28).astype(np.uint8)
        idx(folder / f"{prefix}-images-idx3-ubyte", images)
        idx(folder / f"{prefix}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8))
        for kind in ("images-idx3", "labels-idx1"):
            file = folder / f"{prefix}-{kind}-ubyte"
            file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes()))
    return root


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def test_cifar10_comes_as_png_with_the_authors_parts(cifar10: Path) -> None:
    source = find(f"torchvision:CIFAR10?root={cifar10}")
    assert [(image.path, image.labels[0], image.given_split) for image in source.images] == [
        ("train/0.png", "airplane", "train"),
        ("train/1.png", "automobile", "train"),
        ("train/2.png", "bird", "train"),
        ("train/3.png", "bird", "train"),
        ("train/4.png", "automobile", "train"),
        ("train/5.png", "airplane", "train"),
        ("test/0.png", "automobile", "test"),
        ("test/1.png", "bird", "test"),
    ]
    expected = pickle.loads((cifar10 / "cifar-10-batches-py" / "test_batch").read_bytes())["data"][1]
    assert np.array_equal(pixels(source.images[-1].read()), expected.reshape(3, 32, 32).transpose(1, 2, 0))
    assert source.images[0].read() == source.images[0].read()


def test_the_root_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_DATASETS", str(fashion_mnist(tmp_path)))
    source = find("torchvision:FashionMNIST")
    assert [image.labels[0] for image in source.images][:4] == ["T-shirt/top", "Trouser", "Pullover", "Dress"]
    assert [image.given_split for image in source.images] == ["train"] * 4 + ["test"] * 2
    assert pixels(source.images[1].read()).shape == (28, 28)
    assert pixels(source.images[1].read())[0, 0] == 784 % 256


def test_files_on_disk_come_in_as_they_are(tmp_path: Path) -> None:
    for number, name in enumerate(("Forest", "River")):
        folder = tmp_path / "eurosat" / "2750" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (64, 64), (number, 90, 90)).save(folder / f"{name}_1.jpg", quality=80)
    source = find(f"torchvision:EuroSAT?root={tmp_path}")
    assert [(image.path, image.labels[0], image.given_split) for image in source.images] == [
        ("0.jpg", "Forest", None),
        ("1.jpg", "River", None),
    ]
    assert source.images[1].read() == (tmp_path / "eurosat" / "2750" / "River" / "River_1.jpg").read_bytes()


def test_without_files_and_network_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", offline)
    with pytest.raises(DataError) as caught:
        find(f"torchvision:CIFAR10?root={tmp_path / 'sets'}")
    assert "could it be downloaded (Network is unreachable)" in str(caught.value)
    assert "torchvision:CIFAR10?root=FOLDER or DARKROOM_DATASETS=FOLDER" in str(caught.value)


def test_files_that_are_cut_are_not_taken(cifar10: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", offline)
    batch = cifar10 / "cifar-10-batches-py" / "data_batch_2"
    batch.write_bytes(batch.read_bytes()[:-10])
    with pytest.raises(DataError, match="is neither whole in"):
        find(f"torchvision:CIFAR10?root={cifar10}")


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        ("torchvision:CIFAR11", r"unknown; did you mean CIFAR10\?"),
        ("torchvision:Nothing", "unknown; known are CIFAR10, CIFAR100"),
        ("torchvision:CIFAR10?rot=/x", "the only option is root"),
    ],
)
def test_a_wrong_name_or_option_is_named(location: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        find(location)
