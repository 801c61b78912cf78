"""The part of the report on the exported files: export.json, its picture, and all scores of the one to serve."""

from collections.abc import Mapping

from components.export.settings import after_epochs
from components.reporting.analysis import slice_lines
from components.reporting.fields import Record, number_of, text_of, whole_of
from components.reporting.inline import Picture
from components.reporting.page import FormatLine, FormatSection
from components.reporting.records import score_facts


def format_section(export: Record, *, served: Record | None = None, picture: Picture | None = None) -> FormatSection:
    """`served` is the scores.json of the file that would be served; an older release left none."""
    chosen, formats = export.get("served"), export.get("formats", {})
    return FormatSection(
        lines=[_format_line(name, formats[name], name == chosen) for name in sorted(formats)],
        reasons=[str(reason) for reason in export.get("reasons", [])],
        parity=_parity(export),
        picture=picture,
        served=score_facts(served) if served else (),
        slices=slice_lines(served) if served else (),
    )


def _parity(export: Record) -> str:
    """Of each file to torch. Of an older release's files that of fp32 alone is known."""
    formats = export.get("formats", {})
    each = {name: formats[name]["parity"] for name in sorted(formats) if formats[name].get("parity")}
    told = [_parity_of(name, one) for name, one in (each or {"fp32": export.get("parity") or {}}).items()]
    return " ".join(sentence for sentence in told if sentence)


def _parity_of(name: str, parity: Record) -> str:
    difference, share = number_of(parity, "max_logit_difference"), number_of(parity, "agreement")
    if difference is None:
        return ""
    agreeing = "an unknown share" if share is None else f"{100 * share:.1f}%"
    return (
        f"Parity: between torch and the {name} file the largest difference of a logit is {difference:.2g}, "
        f"over {whole_of(parity, 'images')} real image files, of which {agreeing} get the same label."
    )


def _format_line(name: str, measured: Mapping[str, Record], chosen: bool) -> FormatLine:
    latency, test = measured.get("latency") or {}, measured.get("test") or {}
    return FormatLine(
        name=name + after_epochs(whole_of(measured, "aware_epochs") or 0),
        chosen=chosen,
        size_bytes=whole_of(measured, "bytes"),
        accuracy=number_of(test, "accuracy"),
        macro_f1=number_of(test, "macro_f1"),
        agreement=number_of(measured, "agreement"),
        p50_ms=number_of(latency, "p50_ms"),
        p95_ms=number_of(latency, "p95_ms"),
        p99_ms=number_of(latency, "p99_ms"),
        images_per_second=number_of(measured, "images_per_second"),
        best_batch=whole_of(measured, "best_batch"),
        peak_mib=number_of(measured, "peak_mib"),
        sha256=text_of(measured, "sha256"),
    )
