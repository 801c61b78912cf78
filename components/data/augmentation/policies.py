"""Augmentation policies as seeded steps: all randomness comes from one seed per image.

Four types: mild (affine.py), advanced (transforms of albumentations), published (published_policies.py), and a pipeline
that params.yaml lists by the names of albumentations' transforms, which is data and never code.
"""

import inspect
import os
import random
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.data.augmentation.affine import BASIC, MEDICAL, Flips, MildRanges, MildTransform
from components.data.augmentation.published_policies import PUBLISHED, PublishedPolicy, apply_published
from components.shared.errors import SettingsError, nearest

if TYPE_CHECKING:
    import albumentations

    Transforms = list[albumentations.BasicTransform | albumentations.BaseCompose]

Policy = Literal["none", "basic", "advanced", "medical", "autoaugment", "randaugment", "trivialaugment", "pipeline"]
NAMED: tuple[Policy, ...] = ("none", "basic", "advanced", "medical", "autoaugment", "randaugment", "trivialaugment")
"""The policies that need no further settings."""
SEED_BYTES = 16

SeededStep = Callable[[NDArray[np.uint8], bytes], NDArray[np.uint8]]
"""(pixels_HWC, SEED_BYTES bytes) → an image; equal arguments give equal pixels."""

_MILD: dict[Policy, MildRanges] = {"basic": BASIC, "medical": MEDICAL}
_COMPOSITIONS = ("OneOf", "SomeOf", "Sequential", "RandomOrder")
_REFUSED = {
    **dict.fromkeys(
        ("Lambda", "FDA", "HistogramMatching", "PixelDistributionAdaptation", "TemplateTransform", "TextImage"),
        "takes functions, files or other images, which a setting can't hold",
    ),
    **dict.fromkeys(
        ("MixUp", "Mosaic", "OverlayElements", "ConstrainedCoarseDropout", "MaskDropout"),
        "needs other images, boxes or masks beside the image",
    ),
    **dict.fromkeys(
        ("Normalize", "ToFloat", "FromFloat", "ToTensorV2", "ToTensor3D"),
        "leaves 8-bit pixels; the model normalizes by itself",
    ),
}


def policy_steps(policy: Policy, flips: Flips, pipeline: list[Any]) -> list[SeededStep]:
    """The steps of a policy in order, flips first; `none` has no steps, whatever the flips."""
    if policy in _MILD:
        return [MildTransform(_MILD[policy], flips)]
    transforms = [*_flips(flips), *_albumentations_of(policy, pipeline)] if policy != "none" else []
    steps: list[SeededStep] = [_Albumentations(transforms)] if transforms else []
    if policy in PUBLISHED:
        steps.append(_Published(policy))
    return steps


def read_pipeline(entries: list[Any]) -> "Transforms":
    """The transforms that params.yaml lists; raises SettingsError for the first invalid one.

    An entry is a name, or a name with its arguments: `GaussianBlur` or `{GaussianBlur: {blur_limit: [3, 5], p: 0.3}}`.
    OneOf, SomeOf, Sequential and RandomOrder take entries of their own under `transforms`.
    """
    if not entries:
        raise SettingsError(
            "params.yaml: augment.pipeline: is empty; write transforms such as `- HorizontalFlip: {p: 0.5}`, "
            "or choose another augment.policy"
        )
    return [_transform(entry, f"params.yaml: augment.pipeline.{index}") for index, entry in enumerate(entries)]


class _Albumentations:
    """Transforms that share one pair of generators; seeded by albumentations, all would get the same random numbers."""

    def __init__(self, transforms: "Transforms") -> None:
        self._transforms = transforms
        self._bits = np.random.PCG64(0)
        self._python = random.Random(0)
        generator = np.random.Generator(self._bits)
        for transform in transforms:
            transform.set_random_state(generator, self._python)

    def __call__(self, pixels_HWC: NDArray[np.uint8], seed: bytes) -> NDArray[np.uint8]:
        # Setting the state of both generators is far cheaper than new generators for every transform.
        number = int.from_bytes(seed, "big")
        self._bits.state = {
            "bit_generator": "PCG64",
            "state": {"state": number, "inc": 1},
            "has_uint32": 0,
            "uinteger": 0,
        }
        self._python.seed(number)
        data: dict[str, Any] = {"image": pixels_HWC}
        for transform in self._transforms:
            data = transform(image=data["image"])
        augmented: NDArray[np.uint8] = data["image"]
        return augmented


class _Published:
    """A published policy with a generator of its own."""

    def __init__(self, policy: PublishedPolicy) -> None:
        self._policy = policy
        self._python = random.Random(0)

    def __call__(self, pixels_HWC: NDArray[np.uint8], seed: bytes) -> NDArray[np.uint8]:
        self._python.seed(int.from_bytes(seed, "big"))
        return np.asarray(apply_published(self._policy, Image.fromarray(pixels_HWC), self._python))


def _albumentations() -> Any:
    # albumentations looks up its newest version online when it is imported, unless this is set.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def _albumentations_of(policy: Policy, pipeline: list[Any]) -> "Transforms":
    if policy == "pipeline":
        return read_pipeline(pipeline)
    if policy in PUBLISHED:
        return []
    with warnings.catch_warnings():
        # An unknown argument would only cause a warning and run on defaults: make it an error.
        warnings.simplefilter("error")
        return _advanced()


def _flips(flips: Flips) -> "Transforms":
    if flips == "none":
        return []
    alb = _albumentations()
    horizontal: Transforms = [alb.HorizontalFlip(p=0.5)]
    return horizontal if flips == "horizontal" else [*horizontal, alb.VerticalFlip(p=0.5)]


def _advanced() -> "Transforms":
    alb = _albumentations()
    return [
        alb.Affine(translate_percent=(-0.1, 0.1), scale=(0.8, 1.2), rotate=(-15, 15), shear=(-8, 8), p=0.9),
        alb.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05, p=0.7),
        alb.OneOf([alb.GaussNoise(std_range=(0.02, 0.1)), alb.GaussianBlur(blur_limit=(3, 5))], p=0.3),
        alb.CoarseDropout(num_holes_range=(1, 2), hole_height_range=(0.1, 0.3), hole_width_range=(0.1, 0.3), p=0.5),
    ]


def _transform(entry: Any, setting: str) -> Any:
    name, arguments = _name_and_arguments(entry, setting)
    alb = _albumentations()
    if name in _REFUSED:
        raise SettingsError(f"{setting}: {name} {_REFUSED[name]}; leave it out")
    if name not in _known_names():
        raise SettingsError(f"{setting}: {name} is no transform of albumentations{nearest(name, _known_names())}")
    transform = getattr(alb, name)
    _check_arguments(transform, arguments, f"{setting}.{name}")
    if name in _COMPOSITIONS:
        inner = arguments.get("transforms")
        if not isinstance(inner, list) or not inner:
            raise SettingsError(f"{setting}.{name}: needs a list of transforms under `transforms`")
        arguments = arguments | {
            "transforms": [_transform(one, f"{setting}.{name}.{number}") for number, one in enumerate(inner)]
        }
    return _make(transform, arguments, f"{setting}.{name}")


def _name_and_arguments(entry: Any, setting: str) -> tuple[str, dict[str, Any]]:
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, dict) and len(entry) == 1:
        name, arguments = next(iter(entry.items()))
        if isinstance(name, str) and (arguments is None or isinstance(arguments, dict)):
            return name, dict(arguments or {})
    raise SettingsError(
        f"{setting}: is {entry!r}, should be a transform with its arguments, such as `HorizontalFlip: {{p: 0.5}}`"
    )


def _known_names() -> list[str]:
    """Names of albumentations' image transforms and compositions; nothing else of the module is reachable."""
    alb = _albumentations()
    bases = (alb.ImageOnlyTransform, alb.DualTransform)
    names = [
        name
        for name, transform in vars(alb).items()
        if inspect.isclass(transform)
        and issubclass(transform, bases)
        and transform not in bases
        and "apply" in dir(transform)
        and not name.startswith("Base")
        and name not in _REFUSED
    ]
    return sorted([*names, *_COMPOSITIONS])


def _check_arguments(transform: Any, arguments: dict[str, Any], setting: str) -> None:
    known = [name for name in inspect.signature(transform).parameters if name not in ("args", "kwargs")]
    for name in arguments:
        if name not in known:
            raise SettingsError(f"{setting}.{name}: unknown{nearest(str(name), known)} (it takes {', '.join(known)})")


def _make(transform: Any, arguments: dict[str, Any], setting: str) -> Any:
    with warnings.catch_warnings():
        # Recommendations of other transforms are fine; an argument that would be ignored is not.
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*not valid.*")
        try:
            return transform(**arguments)
        # albumentations raises pydantic errors, ValueErrors, TypeErrors and warnings.
        except Exception as problem:
            raise SettingsError(f"{setting}: {_reason(problem)}") from None


def _reason(problem: Exception) -> str:
    for one in (problem, problem.__cause__):
        errors = getattr(one, "errors", None)
        if callable(errors):
            first = errors()[0]
            if first["type"] == "missing":
                return f"needs {first['loc'][0]}"
            return f"{'.'.join(map(str, first['loc'][:1])) or 'arguments'}: is {first['input']!r}: {first['msg']}"
    return " ".join(str(problem).split())
