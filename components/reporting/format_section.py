"""Report section on the exported files: export.json and its picture."""

from components.export.settings import after_epochs
from components.records.export import ExportedFile, ExportRecord, Parity
from components.reporting.inline_pictures import Picture
from components.reporting.report_page import FormatLine, FormatSection
from components.reporting.score_estimates import named_estimate


def format_section(export: ExportRecord, *, served: str, picture: Picture | None = None) -> FormatSection:
    """`served` is the format that is registered, or that would be."""
    return FormatSection(
        lines=[_format_line(name, one, chosen=name == served) for name, one in sorted(export.formats.items())],
        reasons=export.reasons,
        parity=[_parity(name, one.parity) for name, one in sorted(export.formats.items())],
        picture=picture,
    )


def _parity(name: str, parity: Parity) -> str:
    return (
        f"{name} compared with the PyTorch model on {parity.images} image files: {100 * parity.agreement:.1f}% of the "
        f"predictions are the same; the largest difference of a logit is {parity.max_logit_difference:.2g}."
    )


def _format_line(name: str, one: ExportedFile, *, chosen: bool) -> FormatLine:
    measured, test = one.measured, one.test
    return FormatLine(
        name=name + after_epochs(measured.qat_epochs),
        chosen=chosen,
        size_bytes=measured.size_bytes,
        accuracy=named_estimate("accuracy", test.values, test.intervals),
        macro_f1=named_estimate("macro_f1", test.values, test.intervals),
        agreement=measured.agreement,
        p50_ms=measured.latency.p50_ms,
        p95_ms=measured.latency.p95_ms,
        p99_ms=measured.latency.p99_ms,
        images_per_second=measured.images_per_second,
        best_batch=measured.best_batch,
        peak_mib=measured.peak_mib,
        sha256=one.sha256,
    )
