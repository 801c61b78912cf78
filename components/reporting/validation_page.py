"""The validation report as one HTML file that asks for nothing from outside, with the pictures that broke each rule.

Paths, labels and reasons are untrusted: all of them are escaped, and a content policy forbids scripts and requests.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from components.data.quality.rules import meaning

_SHOWN_QUARANTINED, _SHOWN_CLASSES = 200, 30
_OUTCOMES = ("stops", "warns", "holds")
_SIGNS = {"stops": "✕", "warns": "!", "holds": "✓"}
_ABOUT_SUSPECTS = (
    "The label that an image has, the one that it looks like rather, and how sure that is, from 0 to 1. All of them "
    "stand in data/validated/label_errors.csv: mend what is wrong, put the file into data/reference and name it in "
    "labels.corrections of params.yaml."
)
_ABOUT_RULES = (
    "They stand under validate in params.yaml. One that stops ends the run until the data, or the rule, is mended; one "
    "that warns lets it go on. Quarantined files take no part."
)
_STYLE = """
:root{color-scheme:light dark;--good:#17693f;--bad:#a12c1a;--warn:#7d5200;--bar:#1c5a9e;--muted:#666}
@media (prefers-color-scheme:dark){:root{--good:#7ad3a0;--bad:#ff9f8b;--warn:#ecc46d;--bar:#84b9f2;--muted:#a4abb2}}
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:.3rem}h2{margin:2.2rem 0 .5rem}h3{margin:1rem 0 .4rem;font-size:1rem}p{max-width:46rem;margin:.4rem 0}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
td,th{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid #8884;vertical-align:top}
td{overflow-wrap:break-word;min-width:5rem}.note{color:var(--muted);font-size:.85rem}td .note{font-size:.9em}
.outcome{white-space:nowrap;font-weight:600}.holds{color:var(--good)}.warns{color:var(--warn)}.stops{color:var(--bad)}
.bars{display:grid;grid-template-columns:fit-content(14rem) 1fr max-content;gap:.15rem .8rem;font-size:.9rem}
.bars span{overflow-wrap:anywhere}
.bars i{align-self:center;height:.7rem;background:var(--bar);border-radius:.15rem;width:calc(var(--share)*100%)}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(8.5rem,1fr));gap:.8rem}
figure{margin:0;border:1px solid #8884;border-radius:.4rem;padding:.5rem;font-size:.8rem;overflow-wrap:anywhere}
figure img{width:100%;aspect-ratio:1;object-fit:contain;background:#8883;border-radius:.2rem}
figcaption{margin-top:.3rem;line-height:1.35}summary{cursor:pointer;font-weight:600}
@media (max-width:34rem){table{font-size:.82rem}td,th{padding-right:.45rem;min-width:0}
td:first-child{overflow-wrap:anywhere;min-width:5.5rem}}
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def validation_page(record: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """`record` is what validation.json holds; `pictures` has a data: URI for each path that can be shown."""
    verdict = "The data may be used" if record["passed"] else "The data must not be used as it is"
    body = [
        Markup("<h1>{}</h1><p>{:,} images, {:,} quarantined, {:,} classes</p>").format(
            verdict, record["num_images"], record["num_quarantined"], len(record["images_per_class"])
        ),
        _rules(record["results"]),
        *(_broken(result, pictures) for result in record["results"] if not result["passed"] and result["examples"]),
        _suspects(record, pictures),
        _class_bars(record["images_per_class"]),
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
    """The broken ones first, those that stop before those that warn."""
    lines = []
    for result in sorted(results, key=lambda one: _OUTCOMES.index(_outcome(one))):
        outcome = _outcome(result)
        lines.append(
            Markup(
                '<tr><td><b>{}</b><br><span class="note">{}</span></td><td class="outcome {}">{} {}</td><td>{}</td>'
                "<td>{}</td></tr>"
            ).format(
                # A narrow screen breaks a long name there.
                Markup("_<wbr>").join(result["rule"].split("_")),
                meaning(result["rule"]),
                outcome,
                _SIGNS[outcome],
                outcome,
                result["value"],
                result["limit"],
            )
        )
    return Markup(
        '<h2>Rules</h2><p class="note">{}</p><div class="scroll"><table><tr><th>rule</th><th>outcome</th>'
        "<th>found</th><th>should be</th></tr>{}</table></div>"
    ).format(_ABOUT_RULES, Markup("\n").join(lines))


def _outcome(result: Mapping[str, Any]) -> str:
    return "holds" if result["passed"] else "warns" if result["level"] == "warn" else "stops"


def _class_bars(images_per_class: Mapping[str, int]) -> Markup:
    """The largest first; where they are many, behind a click."""
    largest = max(images_per_class.values(), default=0)
    bars = [
        Markup('<span>{}</span><i style="--share:{:.4f}"></i><span>{:,}</span>').format(label, count / largest, count)
        for label, count in sorted(images_per_class.items(), key=lambda one: (-one[1], one[0]))
        if largest
    ]
    if not bars:
        return Markup("")
    shown = Markup('<div class="bars">{}</div>').format(Markup("\n").join(bars))
    if len(bars) > _SHOWN_CLASSES:
        shown = Markup("<details><summary>All {:,} classes</summary>{}</details>").format(len(bars), shown)
    return Markup("<h2>Images in each class</h2>{}").format(shown)


def _broken(result: Mapping[str, Any], pictures: Mapping[str, str]) -> Markup:
    heading = result["rule"] + _cut(len(result["examples"]), result["num_broken"])
    head = Markup("<h2>{}</h2><p>{}; should be {}</p>").format(heading, result["value"], result["limit"])
    if result["shown"]:
        groups = (
            Markup("<h3>{}</h3>{}").format(one["title"], _pictures(one["paths"], pictures)) for one in result["shown"]
        )
        return head + Markup("").join(groups)
    others = [path for path in result["examples"] if path not in pictures]
    return head + Markup("<p>{}</p>{}").format(", ".join(others), _pictures(result["examples"], pictures))


def _pictures(paths: Sequence[str], pictures: Mapping[str, str]) -> Markup:
    figures = [_figure(pictures[path], path) for path in paths if path in pictures]
    return Markup('<div class="pictures">{}</div>').format(Markup("").join(figures))


def _cut(num_shown: int, total: int) -> str:
    return f" (the first {num_shown:,} of {total:,})" if num_shown < total else ""


def _suspects(record: Mapping[str, Any], pictures: Mapping[str, str]) -> Markup:
    suspects, unjudged = record.get("suspected_label_errors", []), record.get("classes_not_searched", [])
    if not suspects and not unjudged:
        return Markup("")
    figures = [
        _figure(pictures[one["path"]], f"{one['label']} → {one['suggested']}? {one['score']:.2f}", one["path"])
        for one in suspects
        if one["path"] in pictures
    ]
    note = _ABOUT_SUSPECTS + (f" Too small to be searched: {', '.join(unjudged)}." if unjudged else "")
    return Markup('<h2>Suspected label errors{}</h2><p>{}</p><div class="pictures">{}</div>').format(
        _cut(len(suspects), record.get("num_suspected", 0)), note, Markup("").join(figures)
    )


def _figure(uri: str, *lines: str) -> Markup:
    return Markup('<figure><img src="{}" alt="{}"><figcaption>{}</figcaption></figure>').format(
        uri, " ".join(lines), Markup("<br>").join(lines)
    )


def _table(title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Markup:
    if not rows:
        return Markup("")
    head = Markup("").join(Markup("<th>{}</th>").format(name) for name in columns)
    lines = [
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(row[name]) for name in columns))
        for row in rows
    ]
    table = Markup('<h2>{}</h2><div class="scroll"><table><tr>{}</tr>{}</table></div>').format(
        title, head, Markup("\n").join(lines)
    )
    return Markup(escape(table))
