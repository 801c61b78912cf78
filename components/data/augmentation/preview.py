"""What a policy does, as a picture: originals beside draws, and the statistics of both side by side.

Letters: N images, S side, C channels.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from components.data.augmentation.augmenter import Draw
from components.data.images.channel_statistics import Look, look_of
from components.shared.files import atomic_file

STATISTICS = "statistics.json"
_ROWS, _DRAWS, _TILE, _GAP = 12, 7, 72, 8
_HEAD, _PLOT_HEIGHT = 132, 56
_COLOURS = ("#c8324b", "#2f8f4e", "#2f62b8")
_INK, _FAINT = "#222222", "#8a8a8a"


def write_sheet(target: Path, sample_NSSC: NDArray[np.uint8], draw: Draw, *, title: str) -> dict[str, Any]:
    """Writes the PNG; returns {"original": …, "augmented": …} over the sample and one draw of each of its images."""
    draws = [draw(pixels, f"preview {place}", 0) for place, pixels in enumerate(sample_NSSC)]
    looks = {"original": look_of(sample_NSSC), "augmented": look_of(np.stack(draws))}
    shown = np.unique(np.linspace(0, len(sample_NSSC) - 1, min(_ROWS, len(sample_NSSC))).astype(np.int64))
    sheet = Image.new("RGB", (_TILE * (1 + _DRAWS) + _GAP, _HEAD + _TILE * len(shown)), "white")
    _write_head(sheet, title, looks)
    for line, place in enumerate(shown):
        more = [draw(sample_NSSC[place], f"preview {place}", number) for number in range(1, _DRAWS)]
        for column, pixels in enumerate([sample_NSSC[place], draws[place], *more]):
            tile = Image.fromarray(pixels).resize((_TILE - 2, _TILE - 2), Image.Resampling.BOX)
            sheet.paste(tile, (column * _TILE + (_GAP if column else 0), _HEAD + line * _TILE))
    with atomic_file(target) as draft:
        # Photographs hardly get smaller with more effort: 6% at four times the time.
        sheet.save(draft, "PNG", compress_level=1)
    return {name: asdict(look) for name, look in looks.items()}


def _write_head(sheet: Image.Image, title: str, looks: dict[str, Look]) -> None:
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    canvas.text((4, 3), f"{title}: the original, then {_DRAWS} draws", fill=_INK, font=ImageFont.load_default(14))
    width = (sheet.width - _GAP) // 2
    highest = max(max(map(max, look.histogram)) for look in looks.values())
    for side, (name, look) in enumerate(looks.items()):
        left = side * (width + _GAP) + 4
        canvas.text((left, 24), f"{name}, {look.images} images: mean ± deviation", fill=_FAINT, font=font)
        for channel, colour in enumerate(_COLOURS):
            text = f"{look.mean[channel]:.3f} ± {look.std[channel]:.3f}"
            canvas.text((left + channel * 92, 40), text, fill=colour, font=font)
        _draw_histogram(canvas, look, left=left, top=62, width=width - 12, highest=highest)


def _draw_histogram(
    canvas: ImageDraw.ImageDraw, look: Look, *, left: int, top: int, width: int, highest: float
) -> None:
    """Share of the pixels over brightness, a line a channel, on the same scale for both sides."""
    bottom = top + _PLOT_HEIGHT
    canvas.line([(left, bottom), (left + width, bottom)], fill=_FAINT)
    for shares, colour in zip(look.histogram, _COLOURS, strict=True):
        step = width / (len(shares) - 1)
        line = [(left + number * step, bottom - _PLOT_HEIGHT * share / highest) for number, share in enumerate(shares)]
        canvas.line(line, fill=colour, width=1)
