"""Our clock beside the vendor's tool."""

from __future__ import annotations

from collections.abc import Mapping

from facedeploy.benchmarks.latency.vendors import TOLERANCE
from facedeploy.benchmarks.record import Record, VendorCheck
from facedeploy.benchmarks.report.numbers import bounds, digits, number, percent
from facedeploy.benchmarks.report.table import Column, Note, ReportTable, TableCell


def vendor_table(record: Record, called: Mapping[str, str]) -> ReportTable | None:
    """Our clock beside the vendor's tool."""
    checks = [(m, check) for m in record.measurements for check in m.vendors]
    if not checks:
        return None
    ms = digits(v for _, check in checks for v in (check.ours, check.theirs))
    rows = [
        (
            TableCell(called[m.name]),
            TableCell(check.network),
            TableCell(check.tool),
            TableCell(number(check.ours, ms)),
            TableCell(number(check.theirs, ms)),
            TableCell(number(check.ratio.value, 3), (Note(bounds(check.ratio, 3)), _agreement(check))),
        )
        for m, check in checks
    ]
    texts = (Column(title, kind="text") for title in ("artifact", "network", "tool"))
    columns = (*texts, Column("ours", "ms"), Column("theirs", "ms"), Column("ours over theirs"))
    about = (
        "The network alone, timed in turns by us and by the tool: medians, and the median of the ratios of the turns. "
        f"Agreed: within {percent(TOLERANCE)}; not certain: the interval of the ratio says that it may be otherwise."
    )
    return ReportTable("Against the vendor's tool", columns, tuple(rows), about)


def _agreement(check: VendorCheck) -> Note:
    inside = [abs(v - 1) <= TOLERANCE for v in (check.ratio.value, check.ratio.low, check.ratio.high)]
    agreed = inside[0]
    certain = all(inside) if agreed else not any(inside) and (check.ratio.low > 1 or check.ratio.high < 1)
    text = "agreed" if agreed else "not agreed"
    return Note(text if certain else f"{text}, not certain", "bad" if not agreed else "good" if certain else "quiet")
