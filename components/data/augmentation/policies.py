"""Augmentation policies: what is drawn, with all randomness taken from one seed a draw.

Four kinds: the mild ones (affine.py), a mix of albumentations' transforms, the published searches
(published_policies.py), and a pipeline written out in params.yaml from the names of albumentations' transforms, which
is data and never code.
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

from components.data.augmentation.affine import BASIC, MEDICAL, Flips, MildDraws, MildRanges
from components.data.augmentation.published_policies import SEARCHES, Search, draw_search
from components.shared.errors import SettingsError, nearest

if TYPE_CHECKING:
    import albumentations

    Transforms = list[albumentations.BasicTransform | albumentations.BaseCompose]

Policy = Literal["none", "basic", "advanced", "medical", "autoaugment", "randaugment", "trivialaugment", "pipeline"]
NAMED: tuple[Policy, ...] = ("none", "basic", "advanced", "medical", "autoaugment", "randaugment", "trivialaugment")
"""The policies that need nothing but their name."""
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
    """The steps of a policy in their order, mirror images first; `none` has none, whatever the flips are."""
    if policy in _MILD:
        return [MildDraws(_MILD[policy], flips)]
    transforms = [*_flips(flips), *_albumentations_of(policy, pipeline)] if policy != "none" else []
    steps: list[SeededStep] = [_Albumentations(transforms)] if transforms else []
    if policy in SEARCHES:
        steps.append(_Searched(policy))
    return steps


def read_pipeline(entries: list[Any]) -> "Transforms":
    """The transforms that params.yaml writes out; raises SettingsError naming the first that can't be made.

    An entry is a name, or a name with its arguments: `GaussianBlur` or `{GaussianBlur: {blur_limit: [3, 5], p: 0.3}}`.
    OneOf, SomeOf, Sequential and RandomOrder take entries of their own under `transforms`.
    """
    if not entries:
        raise SettingsError(
            "params.yaml: augment.pipeline: is empty; write transforms such as `- HorizontalFlip: {p: 0.5}`, "
            "or choose another augment.policy"
        )
    return [_transform(entry, f"params.yaml: augment.pipeline.{place}") for place, entry in enumerate(entries)]


class _Albumentations:
    """One pair of generators for all transforms. albumentations' own seeding gives every transform the same draws."""

    def __init__(self, transforms: "Transforms") -> None:
        self._transforms = transforms
        self._bits = np.random.PCG64(0)
        self._python = random.Random(0)
        generator = np.random.Generator(self._bits)
        for transform in transforms:
            transform.set_random_state(generator, self._python)

    def __call__(self, pixels_HWC: NDArray[np.uint8], seed: bytes) -> NDArray[np.uint8]:
        # Both generators are set in place, which is cheaper by far than new ones for every transform.
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


class _Searched:
    """A published search on a generator of its own."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._python = random.Random(0)

    def __call__(self, pixels_HWC: NDArray[np.uint8], seed: bytes) -> NDArray[np.uint8]:
        self._python.seed(int.from_bytes(seed, "big"))
        return np.asarray(draw_search(self._search, Image.fromarray(pixels_HWC), self._python))


def _albumentations() -> Any:
    # albumentations asks the network for its newest version when it is imported, unless told not to.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def _albumentations_of(policy: Policy, pipeline: list[Any]) -> "Transforms":
    if policy == "pipeline":
        return read_pipeline(pipeline)
    if policy in SEARCHES:
        return []
    with warnings.catch_warnings():
        # An argument name that it doesn't know only warns and runs on defaults: here that is an error.
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


def _transform(entry: Any, place: str) -> Any:
    name, arguments = _name_and_arguments(entry, place)
    alb = _albumentations()
    if name in _REFUSED:
        raise SettingsError(f"{place}: {name} {_REFUSED[name]}; leave it out")
    if name not in _known_names():
        raise SettingsError(f"{place}: {name} is no transform of albumentations{nearest(name, _known_names())}")
    kind = getattr(alb, name)
    _refuse_unknown_arguments(kind, arguments, f"{place}.{name}")
    if name in _COMPOSITIONS:
        inner = arguments.get("transforms")
        if not isinstance(inner, list) or not inner:
            raise SettingsError(f"{place}.{name}: needs a list of transforms under `transforms`")
        arguments = arguments | {
            "transforms": [_transform(one, f"{place}.{name}.{number}") for number, one in enumerate(inner)]
        }
    return _made(kind, arguments, f"{place}.{name}")


def _name_and_arguments(entry: Any, place: str) -> tuple[str, dict[str, Any]]:
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, dict) and len(entry) == 1:
        name, arguments = next(iter(entry.items()))
        if isinstance(name, str) and (arguments is None or isinstance(arguments, dict)):
            return name, dict(arguments or {})
    raise SettingsError(
        f"{place}: is {entry!r}, should be a transform with its arguments, such as `HorizontalFlip: {{p: 0.5}}`"
    )


def _known_names() -> list[str]:
    """Image transforms of albumentations' own and its compositions; nothing else of the module can be reached."""
    alb = _albumentations()
    kinds = (alb.ImageOnlyTransform, alb.DualTransform)
    found = [
        name
        for name, kind in vars(alb).items()
        if inspect.isclass(kind)
        and issubclass(kind, kinds)
        and kind not in kinds
        and "apply" in dir(kind)
        and not name.startswith("Base")
        and name not in _REFUSED
    ]
    return sorted([*found, *_COMPOSITIONS])


def _refuse_unknown_arguments(kind: Any, arguments: dict[str, Any], place: str) -> None:
    known = [name for name in inspect.signature(kind).parameters if name not in ("args", "kwargs")]
    for name in arguments:
        if name not in known:
            raise SettingsError(f"{place}.{name}: unknown{nearest(str(name), known)} (it takes {', '.join(known)})")


def _made(kind: Any, arguments: dict[str, Any], place: str) -> Any:
    with warnings.catch_warnings():
        # Advice on other transforms is no mistake; an argument that would be ignored is.
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*not valid.*")
        try:
            return kind(**arguments)
        # albumentations refuses values with pydantic errors, ValueErrors, TypeErrors and warnings of its own.
        except Exception as problem:
            raise SettingsError(f"{place}: {_reason(problem)}") from None


def _reason(problem: Exception) -> str:
    for one in (problem, problem.__cause__):
        errors = getattr(one, "errors", None)
        if callable(errors):
            first = errors()[0]
            if first["type"] == "missing":
                return f"needs {first['loc'][0]}"
            return f"{'.'.join(map(str, first['loc'][:1])) or 'arguments'}: is {first['input']!r}: {first['msg']}"
    return " ".join(str(problem).split())
