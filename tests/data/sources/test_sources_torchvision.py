"""torchvision's data sets, from small files in each set's own layout on disk."""

import bz2
import gzip
import hashlib
import io
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image
from scipy.io import savemat

from components.data.sources import find
from components.data.sources.torchvision import _DATA_SETS
from components.shared.errors import DataError

Patch = pytest.MonkeyPatch
Expected = list[tuple[str, str, str | None, Any]]
"""Path, label and split of each image, and its pixels or the file whose bytes it should have."""


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write(file: Path, content: bytes | str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def picture(file: Path) -> Path:
    """Each has bytes of its own, which nobody would write again by decoding and encoding."""
    stream = io.BytesIO()
    Image.effect_noise((12, 9), 60).save(stream, file.suffix[1:].replace("jpg", "jpeg"))
    end = b"\xff\xd9" if file.suffix == ".jpg" else b""
    return write(file, stream.getvalue() + file.name.encode() + end)


def some_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def cifar(name: str, root: Path, patch: Patch) -> Expected:
    """Two training batches and one to test with; torchvision checks the MD5 of each."""
    data_set = getattr(torchvision.datasets, name)
    folder, key = root / data_set.base_folder, "labels" if name == "CIFAR10" else "fine_labels"

    def batch(file: str, labels: list[int]) -> list[str]:
        written = write(folder / file, pickle.dumps({"data": some_pixels(len(labels), 3072), key: labels}))
        return [file, md5(written)]

    meta = write(folder / data_set.meta["filename"], pickle.dumps({data_set.meta["key"]: ["apple", "bear", "chair"]}))
    patch.setattr(data_set, "meta", data_set.meta | {"md5": md5(meta)})
    patch.setattr(data_set, "train_list", [batch("data_batch_1", [0, 1, 2]), batch("data_batch_2", [2, 1])])
    patch.setattr(data_set, "test_list", [batch("test_batch", [1, 2])])
    images = [(3, number, f"train/{number}.png", "train") for number in range(3)]
    images += [(2, number, f"train/{number + 3}.png", "train") for number in range(2)]
    images += [(2, number, f"test/{number}.png", "test") for number in range(2)]
    labels = ("apple", "bear", "chair", "chair", "bear", "bear", "chair")
    return [
        (path, label, split, some_pixels(of, 3072)[number].reshape(3, 32, 32).transpose(1, 2, 0))
        for (of, number, path, split), label in zip(images, labels, strict=True)
    ]


def mnist(name: str, root: Path, _: Patch) -> Expected:
    folder = root / name / "raw"
    classes = getattr(torchvision.datasets, name).classes
    expected: Expected = []
    for split, prefix, count in (("train", "train", 4), ("test", "t10k", 2)):
        for content, array in (
            ("images-idx3", some_pixels(count, 28, 28)),
            ("labels-idx1", np.arange(count, dtype=np.uint8)),
        ):
            header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
            file = write(folder / f"{prefix}-{content}-ubyte", header + array.tobytes())
            write(file.with_name(file.name + ".gz"), gzip.compress(file.read_bytes()))
        expected += [
            (f"{split}/{number}.png", classes[number], split, some_pixels(count, 28, 28)[number])
            for number in range(count)
        ]
    return expected


def svhn(_: str, root: Path, patch: Patch) -> Expected:
    """The digit 0 has the label 10 in the file."""
    lists: dict[str, list[str]] = {}
    for split in ("train", "test"):
        file = root / f"{split}_32x32.mat"
        savemat(file, {"X": some_pixels(32, 32, 3, 2), "y": np.array([[10], [7]], dtype=np.uint8)})
        lists[split] = ["", file.name, md5(file)]
    patch.setattr(torchvision.datasets.SVHN, "split_list", lists)
    return [
        (f"{split}/{number}.png", label, split, some_pixels(32, 32, 3, 2)[..., number])
        for split in ("train", "test")
        for number, label in enumerate("07")
    ]


def stl10(_: str, root: Path, patch: Patch) -> Expected:
    """Images lie by columns, and labels start at 1."""
    data_set, folder = torchvision.datasets.STL10, root / "stl10_binary"
    names = [write(folder / f"{split}_X.bin", some_pixels(2, 3, 96, 96).tobytes()) for split in ("train", "test")]
    names += [write(folder / f"{split}_y.bin", bytes([2, 1])) for split in ("train", "test")]
    write(folder / "class_names.txt", "airplane\nbird\n")
    entries = [[file.name, md5(file)] for file in names]
    patch.setattr(data_set, "train_list", entries[0::2])
    patch.setattr(data_set, "test_list", entries[1::2])
    return [
        (f"{split}/{number}.png", label, split, some_pixels(2, 3, 96, 96)[number].transpose(2, 1, 0))
        for split in ("train", "test")
        for number, label in enumerate(("bird", "airplane"))
    ]


def usps(_: str, root: Path, __: Patch) -> Expected:
    """A line an image, such as `7 1:-1 2:0.5 …`; labels start at 1."""
    expected: Expected = []
    for split, file in (("train", "usps.bz2"), ("test", "usps.t.bz2")):
        lines = [
            f"{label} " + " ".join(f"{place}:{grey}" for place, grey in enumerate([value] * 256, 1))
            for label, value in ((1, -1), (10, 1))
        ]
        write(root / file, bz2.compress("\n".join(lines).encode()))
        for number, (label, grey) in enumerate((("0", 0), ("9", 255))):
            expected.append((f"{split}/{number}.png", label, split, np.full((16, 16), grey, np.uint8)))
    return expected


def flowers102(_: str, root: Path, patch: Patch) -> Expected:
    data_set, folder = torchvision.datasets.Flowers102, root / "flowers-102"
    files = [picture(folder / "jpg" / f"image_{number:05d}.jpg") for number in range(1, 7)]
    savemat(folder / "imagelabels.mat", {"labels": np.array([1, 1, 2, 2, 102, 102], dtype=np.uint8)})
    savemat(folder / "setid.mat", {"trnid": np.array([1, 3]), "valid": np.array([2, 5]), "tstid": np.array([6, 4])})
    for key, file in (("label", "imagelabels.mat"), ("setid", "setid.mat")):
        patch.setitem(data_set._file_dict, key, (file, md5(folder / file)))
    return [
        ("train/0.jpg", "pink primrose", "train", files[0]),
        ("train/1.jpg", "hard-leaved pocket orchid", "train", files[2]),
        ("val/0.jpg", "pink primrose", "val", files[1]),
        ("val/1.jpg", "blackberry lily", "val", files[4]),
        ("test/0.jpg", "hard-leaved pocket orchid", "test", files[3]),
        ("test/1.jpg", "blackberry lily", "test", files[5]),
    ]


def oxford_pets(_: str, root: Path, __: Patch) -> Expected:
    folder = root / "oxford-iiit-pet"
    expected: Expected = []
    for split, file, number in (("train", "trainval", 1), ("test", "test", 2)):
        names = [f"Abyssinian_{number}", f"american_bulldog_{number}"]
        lines = "".join(f"{name} {label} {label} 1\n" for label, name in enumerate(names, 1))
        write(folder / "annotations" / f"{file}.txt", lines)
        for place, (name, label) in enumerate(zip(names, ("Abyssinian", "American Bulldog"), strict=True)):
            expected.append((f"{split}/{place}.jpg", label, split, picture(folder / "images" / f"{name}.jpg")))
    return expected


def food101(_: str, root: Path, __: Patch) -> Expected:
    folder = root / "food-101"
    expected: Expected = []
    for split, name in (("train", "10"), ("test", "11")):
        listed = {food: [f"{food}/{name}"] for food in ("apple_pie", "ice_cream")}
        write(folder / "meta" / f"{split}.json", json.dumps(listed))
        write(folder / "meta" / f"{split}.txt", "\n".join(path for paths in listed.values() for path in paths))
        for number, food in enumerate(listed):
            file = picture(folder / "images" / food / f"{name}.jpg")
            expected.append((f"{split}/{number}.jpg", food, split, file))
    return expected


def folders(name: str, root: Path, _: Patch) -> Expected:
    """Sets that lie as a folder a class, some of them below a folder a split."""
    above: dict[str | None, str]
    above, classes, ending = {
        "EuroSAT": ({None: "eurosat/2750"}, ("Forest", "River"), "jpg"),
        "Country211": (
            {"train": "country211/train", "val": "country211/valid", "test": "country211/test"},
            ("AD", "ZW"),
            "jpg",
        ),
        "RenderedSST2": (
            {"train": "rendered-sst2/train", "val": "rendered-sst2/valid", "test": "rendered-sst2/test"},
            ("negative", "positive"),
            "png",
        ),
    }[name]
    return [
        (
            f"{split}/{number}.{ending}" if split else f"{number}.{ending}",
            label,
            split,
            picture(root / folder / label / f"x_1.{ending}"),
        )
        for split, folder in above.items()
        for number, label in enumerate(classes)
    ]


def dtd(_: str, root: Path, __: Patch) -> Expected:
    folder = root / "dtd" / "dtd"
    expected: Expected = []
    for split in ("train", "val", "test"):
        names = [f"{label}/{label}_{split}.jpg" for label in ("banded", "zigzagged")]
        write(folder / "labels" / f"{split}1.txt", "\n".join(names) + "\n")
        for number, name in enumerate(names):
            expected.append((f"{split}/{number}.jpg", name.partition("/")[0], split, picture(folder / "images" / name)))
    return expected


def aircraft(_: str, root: Path, __: Patch) -> Expected:
    folder = root / "fgvc-aircraft-2013b" / "data"
    write(folder / "variants.txt", "707-320\nF/A-18\n")
    expected: Expected = []
    for split in ("train", "val", "test"):
        files = [picture(folder / "images" / f"{split}{number}.jpg") for number in range(2)]
        lines = f"{files[0].stem} F/A-18\n{files[1].stem} 707-320\n"
        write(folder / f"images_variant_{split}.txt", lines)
        labels = ("F/A-18", "707-320")
        expected += [(f"{split}/{number}.jpg", labels[number], split, files[number]) for number in range(2)]
    return expected


def sun397(_: str, root: Path, __: Patch) -> Expected:
    folder = root / "SUN397"
    write(folder / "ClassName.txt", "/a/abbey\n/c/church/outdoor\n")
    files = [
        picture(folder / name / f"sun_{number}.jpg") for name in ("a/abbey", "c/church/outdoor") for number in "ba"
    ]
    return [
        ("0.jpg", "abbey", None, files[1]),
        ("1.jpg", "abbey", None, files[0]),
        ("2.jpg", "church/outdoor", None, files[3]),
        ("3.jpg", "church/outdoor", None, files[2]),
    ]


def stanford_cars(_: str, root: Path, __: Patch) -> Expected:
    folder = root / "stanford_cars"
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012"], dtype=object)
    (folder / "devkit").mkdir(parents=True)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})
    expected: Expected = []
    for split, table in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        files = [picture(folder / f"cars_{split}" / f"0000{number}.jpg") for number in (1, 2)]
        rows = [(file.name, label) for file, label in zip(files, (2, 1), strict=True)]
        savemat(folder / table, {"annotations": np.array(rows, dtype=[("fname", object), ("class", "u1")])})
        expected += [(f"{split}/{number}.jpg", names[1 - number], split, files[number]) for number in range(2)]
    return expected


LAYOUTS: dict[str, Callable[[str, Path, Patch], Expected]] = {
    "CIFAR10": cifar,
    "CIFAR100": cifar,
    "Country211": folders,
    "DTD": dtd,
    "EuroSAT": folders,
    "FGVCAircraft": aircraft,
    "FashionMNIST": mnist,
    "Flowers102": flowers102,
    "Food101": food101,
    "KMNIST": mnist,
    "MNIST": mnist,
    "OxfordIIITPet": oxford_pets,
    "RenderedSST2": folders,
    "STL10": stl10,
    "SUN397": sun397,
    "SVHN": svhn,
    "StanfordCars": stanford_cars,
    "USPS": usps,
}


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def test_every_set_that_is_offered_is_tried() -> None:
    assert set(LAYOUTS) == set(_DATA_SETS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_images_come_with_names_of_classes_and_the_authors_splits(
    name: str, tmp_path: Path, monkeypatch: Patch
) -> None:
    expected = LAYOUTS[name](name, tmp_path, monkeypatch)
    images = find(f"torchvision:{name}?root={tmp_path}").images
    listed = [(image.path, image.labels, image.given_split) for image in images]
    assert listed == [(path, (label,), split) for path, label, split, _ in expected]
    for image, (path, *_, content) in zip(images, expected, strict=True):
        if isinstance(content, Path):
            assert image.read() == content.read_bytes(), path
        else:
            assert np.array_equal(pixels(image.read()), content), path


def test_the_root_may_come_from_the_environment(tmp_path: Path, monkeypatch: Patch) -> None:
    mnist("FashionMNIST", tmp_path, monkeypatch)
    monkeypatch.setenv("DARKROOM_DATASETS", str(tmp_path))
    assert find("torchvision:FashionMNIST").images[0].labels == ("T-shirt/top",)


def offline(*_: Any, **__: Any) -> None:
    raise OSError("Network is unreachable")


def test_without_files_and_network_the_remedy_is_named(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", offline)
    with pytest.raises(DataError) as caught:
        find(f"torchvision:CIFAR10?root={tmp_path / 'sets'}")
    assert "can't be downloaded (Network is unreachable)" in str(caught.value)
    assert "torchvision:CIFAR10?root=FOLDER or DARKROOM_DATASETS=FOLDER" in str(caught.value)


def test_a_set_that_can_no_longer_be_downloaded_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"StanfordCars dataset cannot be downloaded anymore.*; put torchvision's files"
    ):
        find(f"torchvision:StanfordCars?root={tmp_path}")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("CIFAR10", "cifar-10-batches-py/data_batch_2"),
        ("Food101", "food-101/meta/test.json"),
        ("KMNIST", "KMNIST/raw/t10k-images-idx3-ubyte"),
        ("OxfordIIITPet", "oxford-iiit-pet/annotations/test.txt"),
        ("StanfordCars", "stanford_cars/devkit/cars_meta.mat"),
        ("USPS", "usps.bz2"),
    ],
)
def test_files_that_are_cut_are_not_taken(name: str, file: str, tmp_path: Path, monkeypatch: Patch) -> None:
    LAYOUTS[name](name, tmp_path, monkeypatch)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", offline)
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:-10])
    with pytest.raises(DataError, match="is not complete in") as caught:
        find(f"torchvision:{name}?root={tmp_path}")
    assert "\n" not in str(caught.value)


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
