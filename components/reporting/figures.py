"""Figures of a run: curves, confusion, errors, formats. matplotlib is imported where it is used: it takes a second."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from components.data.packed.image_stores import ImageRows
from components.evaluation.metrics import Scores
from components.evaluation.predictions import Predictions
from components.records.analysis import InspectedImage
from components.records.export import ExportedFile
from components.shared.files import atomic_file

if TYPE_CHECKING:
    from components.evaluation.model_analysis import HeatMaps

_TILE_PX, _CAPTION_PX, _FONT_PX, _COLUMNS = 112, 32, 12, 8
_LABELLED_CLASSES = 40


def draw_curves(history: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Losses and scores over the epochs, side by side."""
    figure, (left, right) = _new_figure(1, 2, width=9, height=3.2)
    epochs = [entry["epoch"] for entry in history]
    for name, label in (("train_loss", "training"), ("val_loss", "validation")):
        left.plot(epochs, [entry[name] for entry in history], marker="o", label=label)
    for name, label in (("val_accuracy", "accuracy"), ("val_macro_f1", "macro F1")):
        right.plot(epochs, [entry[name] for entry in history], marker="o", label=label)
    for axes, title in ((left, "loss (nats)"), (right, "validation scores")):
        axes.set(xlabel="epoch", title=title)
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, target)


def draw_rate_test(test: Mapping[str, Any], target: Path) -> None:
    """The smoothed loss over the rates of a range test, with the one that was found."""
    figure, axes = _new_figure(1, 1, width=5, height=3.2)
    axes.plot(test["rates"], test["losses"])
    axes.axvline(test["found"], linestyle="--", label=f"found: {test['found']:.2g}")
    lowest = min(test["losses"])
    axes.set(
        xlabel="learning rate", xscale="log", title="smoothed loss (nats)", ylim=(0.9 * lowest, 2.5 * test["losses"][0])
    )
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, target)


def draw_confusion(scores: Scores, target: Path) -> None:
    """Rows: true classes; columns: predicted ones; counts in the cells. Multi-label data has no such matrix."""
    if scores.confusion is None:
        return
    counts = scores.confusion
    labels = [one.label for one in scores.classes]
    side = min(14.0, 2.5 + 0.45 * len(labels))
    figure, axes = _new_figure(1, 1, width=side, height=side)
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", title=f"{scores.images} test images, accuracy {scores.accuracy:.4f}")
    if len(labels) <= _LABELLED_CLASSES:
        axes.set_xticks(range(len(labels)), labels, rotation=90)
        axes.set_yticks(range(len(labels)), labels)
        for row, column in np.argwhere(counts > 0):
            shade = "white" if fractions[row, column] > 0.5 else "black"
            axes.text(column, row, counts[row, column], ha="center", va="center", color=shade, fontsize=8)
    _save(figure, target)


def draw_label_confusion(predictions: Predictions, target: Path) -> None:
    """True and false positives and negatives of each label of multi-label data."""
    from sklearn.metrics import multilabel_confusion_matrix

    found_K22 = multilabel_confusion_matrix(predictions.target, predictions.predicted)
    counts_K4 = found_K22.reshape(-1, 4)[:, [3, 2, 1, 0]]
    labels, columns = (
        predictions.classes,
        ("true positives", "false negatives", "false positives", "true negatives"),
    )
    figure, axes = _new_figure(1, 1, width=6.5, height=min(14.0, 2 + 0.35 * len(labels)))
    axes.imshow(counts_K4 / len(predictions.target), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(4), columns, rotation=20)
    axes.set_title(f"{len(predictions.target)} test images, all labels correct in {predictions.correct_N.mean():.4f}")
    if len(labels) <= _LABELLED_CLASSES:
        axes.set_yticks(range(len(labels)), labels)
        for row, column in np.ndindex(*counts_K4.shape):
            shade = "white" if counts_K4[row, column] > 0.5 * len(predictions.target) else "black"
            axes.text(column, row, counts_K4[row, column], ha="center", va="center", color=shade, fontsize=8)
    _save(figure, target)


def draw_answers(scores: Scores, predictions: Predictions, pixels_NHWC: ImageRows, folder: Path, *, most: int) -> None:
    """confusion.png and errors.png."""
    if not predictions.task.exclusive:
        draw_label_confusion(predictions, folder / "confusion.png")
    else:
        draw_confusion(scores, folder / "confusion.png")
    draw_errors(predictions, pixels_NHWC, folder / "errors.png", most=most)


def draw_errors(predictions: Predictions, pixels_NHWC: ImageRows, target: Path, *, most: int) -> None:
    """The errors with the highest confidence, each with its true and its predicted class."""
    wrong = np.flatnonzero(~predictions.correct_N)
    confidence = predictions.confidence_N
    true_N, predicted_N = (predictions.task.names(chosen) for chosen in (predictions.target, predictions.predicted))
    chosen = wrong[np.argsort(-confidence[wrong])][:most]
    height = _TILE_PX + _CAPTION_PX
    lines = max(1, -(-len(chosen) // _COLUMNS))
    grid = Image.new("RGB", (_COLUMNS * _TILE_PX, lines * height), "white")
    draw = ImageDraw.Draw(grid)
    if not len(chosen):
        draw.text((8, 8), "no errors on the test split", fill="black", font_size=_FONT_PX)
    for number, index in enumerate(chosen):
        left, top = number % _COLUMNS * _TILE_PX, number // _COLUMNS * height
        picture = Image.fromarray(pixels_NHWC[index]).resize((_TILE_PX - 6, _TILE_PX - 6))
        grid.paste(picture, (left + 3, top + 3))
        _write_below(draw, left, top, true_N[index], f"predicted {predicted_N[index]}", f" {confidence[index]:.2f}")
    with atomic_file(target) as draft:
        grid.save(draft, "PNG")


_LATENCY = "ms per image (line: 95%)"


def draw_formats(formats: Mapping[str, ExportedFile], target: Path) -> None:
    """Size, latency, throughput, memory and accuracy of each exported file, side by side."""
    panels: dict[str, Callable[[ExportedFile], float]] = {
        "MB": lambda one: one.measured.size_bytes / 1e6,
        _LATENCY: lambda one: one.measured.latency.p50_ms,
        "images/s, best batch": lambda one: one.measured.images_per_second,
        "MiB of memory": lambda one: one.measured.peak_mib or 0.0,
        "accuracy on test": lambda one: one.test.values["accuracy"],
    }
    figure, all_axes = _new_figure(1, len(panels), width=2.4 * len(panels), height=2.6)
    for axes, (title, value_of) in zip(all_axes, panels.items(), strict=True):
        values = [value_of(one) for one in formats.values()]
        # Distance to the 95th percentile: a long line means that the measurement is unreliable.
        latencies = [one.measured.latency for one in formats.values()]
        tails = [max(0.0, one.p95_ms - one.p50_ms) for one in latencies]
        error_bars = {"yerr": [[0.0] * len(tails), tails], "capsize": 3} if title == _LATENCY else {}
        bars = axes.bar(list(formats), values, color="tab:blue", **error_bars)
        axes.bar_label(bars, [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in values], fontsize=8)
        axes.set_title(title, fontsize=9)
        axes.margins(y=0.15)
    _save(figure, target)


def draw_neighbours(
    inspected_images: Sequence[InspectedImage], pixels_NHWC: ImageRows, known_NHWC: ImageRows, target: Path
) -> None:
    """One row per test image: the image, then its nearest training images; no file where there is none."""
    if not inspected_images:
        return
    columns = 1 + max(len(one.neighbours) for one in inspected_images)
    grid = _Grid(len(inspected_images), columns)
    for line, one in enumerate(inspected_images):
        grid.tile(line, 0, pixels_NHWC[one.row], one.label, f"predicted {one.predicted}", f" {one.confidence:.2f}")
        for place, (near, row) in enumerate(zip(one.neighbours, one.neighbour_rows, strict=True), start=1):
            grid.tile(line, place, known_NHWC[row], near.label, "similarity", f" {near.similarity:.2f}")
    grid.write(target)


def draw_heat_maps(maps: "HeatMaps | None", pixels_NHWC: ImageRows, target: Path) -> None:
    """One row per image: the image, its Grad-CAM heat map, and the attention map where the model has one."""
    heat_maps = [] if maps is None else [("Grad-CAM", maps.grad_cam_NHW), ("attention", maps.attention_NHW)]
    shown = [(name, found) for name, found in heat_maps if found is not None]
    if maps is None or not shown:
        return
    from components.evaluation.saliency import overlay

    grid = _Grid(len(maps.rows), 1 + len(shown))
    for line, row in enumerate(maps.rows):
        grid.tile(line, 0, pixels_NHWC[row], "image")
        for place, (name, found) in enumerate(shown, start=1):
            grid.tile(line, place, overlay(pixels_NHWC[row], found[line]), name)
    grid.write(target)


@dataclass(frozen=True)
class Tradeoff:
    """A model as a point of the plot."""

    name: str
    accuracy: float
    latency_ms: float
    megabytes: float
    training_seconds: float | None
    """None where it is unknown: the point is left out."""
    non_dominated: bool


def draw_tradeoffs(models: Sequence[Tradeoff], target: Path) -> None:
    """Accuracy against latency, size and training time; a filled point is a model that no other one dominates.

    A .png or .svg, by the name of the target.
    """
    measures = (
        ("latency_ms", "milliseconds per image"),
        ("megabytes", "megabytes of the served file"),
        ("training_seconds", "seconds of training"),
    )
    figure, panels = _new_figure(1, len(measures), width=12, height=3.8)
    for axes, (name, label) in zip(panels, measures, strict=True):
        known = [(number, model) for number, model in enumerate(models) if getattr(model, name) is not None]
        for number, model in known:
            colour, place = f"C{number % 10}", (getattr(model, name), model.accuracy)
            axes.scatter(*place, s=60, facecolors=colour if model.non_dominated else "none", edgecolors=colour)
            axes.annotate(model.name, place, textcoords="offset points", xytext=(6, 4), fontsize=8)
        axes.set(xlabel=label, ylabel="test accuracy")
        values = [getattr(model, name) for _, model in known]
        if values and 0 < 10 * min(values) < max(values):
            axes.set_xscale("log")
        axes.margins(0.2)
        axes.grid(alpha=0.3)
    figure.suptitle("filled: no other model is as good in all of accuracy, latency, size and training time", fontsize=9)
    _save(figure, target, kind=target.suffix.lower().removeprefix("."))


class _Grid:
    """A grid of captioned tiles, several rows side by side, no wider than a page shows at full size."""

    _TILES_ACROSS = 8

    def __init__(self, lines: int, columns: int) -> None:
        self._beside, self._line_px = min(lines, self._TILES_ACROSS // columns), columns * _TILE_PX + _CAPTION_PX
        size = (self._beside * self._line_px - _CAPTION_PX, -(-lines // self._beside) * (_TILE_PX + _CAPTION_PX))
        self._image = Image.new("RGB", size, "white")
        self._draw = ImageDraw.Draw(self._image)

    def tile(
        self, line: int, column: int, pixels_HWC: NDArray[np.uint8], above: str, below: str = "", end: str = ""
    ) -> None:
        """Texts that are too long are cut, `end` never."""
        left = line % self._beside * self._line_px + column * _TILE_PX
        top = line // self._beside * (_TILE_PX + _CAPTION_PX)
        picture = Image.fromarray(pixels_HWC).resize((_TILE_PX - 6, _TILE_PX - 6))
        self._image.paste(picture, (left + 3, top + 3))
        _write_below(self._draw, left, top, above, below, end)

    def write(self, target: Path) -> None:
        with atomic_file(target) as draft:
            self._image.save(draft, "PNG")


def _write_below(draw: ImageDraw.ImageDraw, left: int, top: int, above: str, below: str, end: str = "") -> None:
    """Two lines below a tile."""
    place = (left + 3, top + _TILE_PX - 4)
    draw.text(place, _fitting(draw, above), fill="black", font_size=_FONT_PX)
    draw.text((place[0], place[1] + 15), _fitting(draw, below, end), fill="firebrick", font_size=_FONT_PX)


def _fitting(draw: ImageDraw.ImageDraw, text: str, end: str = "") -> str:
    """The text and its end; of a text that is wider than a tile the beginning."""
    for letters in range(len(text), 0, -1):
        shown = text[:letters] + ("…" if letters < len(text) else "") + end
        if draw.textlength(shown, font_size=_FONT_PX) <= _TILE_PX - 6:
            return shown
    return end


def _new_figure(rows: int, columns: int, *, width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns)


def _save(figure: Any, target: Path, *, kind: str = "png") -> None:
    from matplotlib import rc_context

    # Without the software's version or the time in it, equal figures are equal bytes.
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with atomic_file(target) as draft, rc_context({"svg.hashsalt": target.name}):
        figure.savefig(draft, format=kind, dpi=110, metadata=metadata)
