"""The validation report as one HTML file that asks for nothing from outside, with the pictures that broke each rule.

Paths, labels and reasons are untrusted: all of them are escaped, and a content policy forbids scripts and requests.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

_SIDE_PX = 160
_SHOWN_QUARANTINED = 200
_STYLE = """
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .8rem .3rem 0;
border-bottom:1px solid #8884;vertical-align:top;overflow-wrap:anywhere}.pictures{display:flex;flex-wrap:wrap;gap:.8rem}
figure{margin:0;width:10rem;
font-size:.8rem;overflow-wrap:anywhere}img{max-width:160px;max-height:160px;min-width:96px;image-rendering:auto}
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def picture_uri(pixels_HWC: NDArray[np.uint8]) -> str:
    """A data: URI of the image at 160 px at most."""
    scale = min(1.0, _SIDE_PX / max(pixels_HWC.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in pixels_HWC.shape[:2])
    small = cv2.resize(pixels_HWC, (width, height), interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()


def validation_page(record: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """`record` is what validation.json holds; `pictures` has a data: URI for each path that can be shown."""
    verdict = "The data may be used" if record["passed"] else "The data must not be used as it is"
    body = [
        Markup("<h1>{}</h1><p>{} images, {} quarantined, {} classes</p>").format(
            verdict, record["num_images"], record["num_quarantined"], len(record["images_per_class"])
        ),
        _rules(record["results"]),
        *(_broken(result, pictures) for result in record["results"] if not result["passed"] and result["examples"]),
        _suspects(record, pictures),
        _table("Corrected labels", ("path", "label", "corrected"), record.get("corrected_labels", [])),
        _table(
            "Quarantined" + _cut(_SHOWN_QUARANTINED, len(record["quarantined"])),
            ("path", "reason"),
            record["quarantined"][:_SHOWN_QUARANTINED],
        ),
    ]
    return Markup(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Validation of the data</title>'
        '<meta http-equiv="Content-Security-Policy" content="{}">'
        '<meta name="viewport" content="width=device-width"><style>{}</style></head><body>{}</body></html>\n'
    ).format(_POLICY, Markup(_STYLE), Markup("\n").join(body))


def _rules(results: Sequence[Mapping[str, Any]]) -> Markup:
    rows = [
        {
            "rule": result["rule"],
            "outcome": "holds" if result["passed"] else "warns" if result["level"] == "warn" else "stops",
            "found": result["value"],
            "should be": result["limit"],
        }
        for result in results
    ]
    return _table("Rules", ("rule", "outcome", "found", "should be"), rows)


def _broken(result: Mapping[str, Any], pictures: Mapping[str, str]) -> Markup:
    figures = [_figure(pictures[path], path) for path in result["examples"] if path in pictures]
    others = [path for path in result["examples"] if path not in pictures]
    heading = result["rule"] + _cut(len(result["examples"]), result["num_broken"])
    return Markup('<h2>{}</h2><p>{}; should be {}</p><p>{}</p><div class="pictures">{}</div>').format(
        heading, result["value"], result["limit"], ", ".join(others), Markup("").join(figures)
    )


def _cut(num_shown: int, total: int) -> str:
    return f" (the first {num_shown:,} of {total:,})" if num_shown < total else ""


def _suspects(record: Mapping[str, Any], pictures: Mapping[str, str]) -> Markup:
    suspects, unjudged = record.get("suspected_label_errors", []), record.get("classes_not_searched", [])
    if not suspects and not unjudged:
        return Markup("")
    figures = [
        _figure(pictures[one["path"]], f"{one['label']} → {one['suggested']}? ({one['score']:.2f}) {one['path']}")
        for one in suspects
        if one["path"] in pictures
    ]
    note = f"Too small to be searched: {', '.join(unjudged)}." if unjudged else ""
    return Markup('<h2>Suspected label errors{}</h2><p>{}</p><div class="pictures">{}</div>').format(
        _cut(len(suspects), record.get("num_suspected", 0)), note, Markup("").join(figures)
    )


def _figure(uri: str, caption: str) -> Markup:
    return Markup('<figure><img src="{}" alt="{}"><figcaption>{}</figcaption></figure>').format(uri, caption, caption)


def _table(title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Markup:
    if not rows:
        return Markup("")
    head = Markup("").join(Markup("<th>{}</th>").format(name) for name in columns)
    lines = [
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(row[name]) for name in columns))
        for row in rows
    ]
    table = Markup("<h2>{}</h2><table><tr>{}</tr>{}</table>").format(title, head, Markup("\n").join(lines))
    return Markup(escape(table))
