"""The page of leaking pairs: both pictures of each pair that stands in two parts, side by side.

One HTML file that asks for nothing from outside. What a user named is untrusted: all of it is escaped, and a content
policy forbids scripts and requests even if something slipped through.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.data.split.leak_proof import PAIRS_FILE

_SHOWN_PX = 96
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1c1c1c; }
table { border-collapse: collapse; } td, th { padding: .4rem .8rem; text-align: left; vertical-align: top; }
tr + tr { border-top: 1px solid #ddd; } figure { margin: 0; } figcaption { font-size: 13px; overflow-wrap: anywhere; }
img { image-rendering: pixelated; background: #eee; }
"""


@dataclass(frozen=True)
class LeakingImage:
    path: str
    label: str
    part: str
    thumbnail_SS: NDArray[np.uint8] | None
    """Grey; None where the data has no small pictures."""


@dataclass(frozen=True)
class LeakSection:
    kind: str
    """exact, near or group."""
    count: int
    """Of all pairs of this kind across parts."""
    pairs: Sequence[tuple[LeakingImage, LeakingImage]]
    """As many as are worth showing."""


def render_leaks(
    sections: Sequence[LeakSection],
    *,
    given: Sequence[LeakSection] | None = None,
    excluded: Sequence[tuple[str, str]],
    num_excluded: int,
) -> str:
    """The page's text; `given` are the leaks of the author's own parts, where the split departs from them.

    `excluded` are paths and reasons, as many as are worth showing.
    """
    body = [f"<h1>{_verdict(sections)}</h1>", *(_section(section) for section in sections)]
    if given is not None:
        body += [f"<h1>As given: {_verdict(given)}</h1>", *(_section(section) for section in given)]
    if num_excluded:
        rows = "".join(f"<tr><td>{escape(path)}</td><td>{escape(reason)}</td></tr>" for path, reason in excluded)
        body.append(
            f"<h2>{num_excluded:,} excluded</h2><p>{_shown(len(excluded), num_excluded, 'leakage.json')}</p>"
            f"<table><tr><th>image</th><th>why</th></tr>{rows}</table>"
        )
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>Leaking pairs</title><style>{_STYLE}</style></head><body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _verdict(sections: Sequence[LeakSection]) -> str:
    total = sum(section.count for section in sections)
    return "No pair stands in two parts." if total == 0 else f"{total:,} pairs stand in two parts."


def _section(section: LeakSection) -> str:
    heading = f"<h2>{escape(section.kind)}: {section.count:,}</h2>"
    if not section.pairs:
        return heading
    rows = "".join(f"<tr><td>{_figure(left)}</td><td>{_figure(right)}</td></tr>" for left, right in section.pairs)
    return f"{heading}<p>{_shown(len(section.pairs), section.count, PAIRS_FILE)}</p><table>{rows}</table>"


def _shown(shown: int, total: int, file: str) -> str:
    return "All are shown." if shown == total else f"The first {shown:,} are shown; {file} names all."


def _figure(image: LeakingImage) -> str:
    caption = f"<b>{escape(image.part)}</b> · {escape(image.label)}<br>{escape(image.path)}"
    if image.thumbnail_SS is None:
        return f"<figure><figcaption>{caption}</figcaption></figure>"
    stream = io.BytesIO()
    Image.fromarray(image.thumbnail_SS).save(stream, "PNG")
    source = base64.b64encode(stream.getvalue()).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{source}" width="{_SHOWN_PX}" height="{_SHOWN_PX}" '
        f'alt="{escape(image.path)}"><figcaption>{caption}</figcaption></figure>'
    )
