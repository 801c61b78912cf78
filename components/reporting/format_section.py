"""The part of the report on the exported files: export.json and its picture."""

from collections.abc import Mapping

from components.export.settings import after_epochs
from components.reporting.inline_pictures import Picture
from components.reporting.record_fields import Record, number_of, text_of, whole_of
from components.reporting.report_page import FormatLine, FormatSection
from components.reporting.score_estimates import named_estimate


def format_section(export: Record, *, picture: Picture | None = None) -> FormatSection:
    chosen, formats = export.get("served"), export.get("formats", {})
    return FormatSection(
        lines=[_format_line(name, formats[name], name == chosen) for name in sorted(formats)],
        reasons=[str(reason) for reason in export.get("reasons", [])],
        parity=_parity(export),
        picture=picture,
    )


def _parity(export: Record) -> list[str]:
    """Of each file to torch. Of an older release's files that of fp32 alone is known."""
    formats = export.get("formats", {})
    each = {name: formats[name]["parity"] for name in sorted(formats) if formats[name].get("parity")}
    told = [_parity_of(name, one) for name, one in (each or {"fp32": export.get("parity") or {}}).items()]
    return [sentence for sentence in told if sentence]


def _parity_of(name: str, parity: Record) -> str:
    difference, share = number_of(parity, "max_logit_difference"), number_of(parity, "agreement")
    if difference is None:
        return ""
    agreeing = "an unknown share" if share is None else f"{100 * share:.1f}%"
    return (
        f"{name} beside torch, from {whole_of(parity, 'images')} real image files: the largest difference of a logit "
        f"is {difference:.2g}, and {agreeing} of the images get the same label."
    )


def _format_line(name: str, measured: Mapping[str, Record], chosen: bool) -> FormatLine:
    latency, test, intervals = (measured.get(name) or {} for name in ("latency", "test", "test_intervals"))
    return FormatLine(
        name=name + after_epochs(whole_of(measured, "qat_epochs") or 0),
        chosen=chosen,
        size_bytes=whole_of(measured, "bytes"),
        accuracy=named_estimate("accuracy", test, intervals),
        macro_f1=named_estimate("macro_f1", test, intervals),
        agreement=number_of(measured, "agreement"),
        p50_ms=number_of(latency, "p50_ms"),
        p95_ms=number_of(latency, "p95_ms"),
        p99_ms=number_of(latency, "p99_ms"),
        images_per_second=number_of(measured, "images_per_second"),
        best_batch=whole_of(measured, "best_batch"),
        peak_mib=number_of(measured, "peak_mib"),
        sha256=text_of(measured, "sha256"),
    )
