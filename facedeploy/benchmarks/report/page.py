"""The report as one HTML page that needs nothing else: no script, no font, no picture from outside."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facedeploy.benchmarks.record import Measurement, Record
from facedeploy.benchmarks.report.accuracy import accuracy_tables
from facedeploy.benchmarks.report.conditions import comparable, conditions_tables
from facedeploy.benchmarks.report.differences import difference_table, lost_and_gained
from facedeploy.benchmarks.report.display_names import display_names, headings
from facedeploy.benchmarks.report.figures import Group, common_tradeoffs, spread_of, tradeoffs_of
from facedeploy.benchmarks.report.layers import kind_table, layer_table
from facedeploy.benchmarks.report.numbers import counted, number
from facedeploy.benchmarks.report.pictures import VIEW, Panel, panels
from facedeploy.benchmarks.report.speed import phase_table, speed_table
from facedeploy.benchmarks.report.summary import leads, overview_table, remarks, verdicts
from facedeploy.benchmarks.report.svg import Figure
from facedeploy.benchmarks.report.table import ReportTable
from facedeploy.benchmarks.report.vendors import vendor_table
from facedeploy.core.optional_imports import require

_TEMPLATE = "page.html.j2"
_PICTURES = 12


@dataclass(frozen=True)
class Layers:
    """The layers of one artifact.

    Attributes:
        artifact: Its name.
        about: How their sum compares with the network's time without a profiler.
        tables: Of kinds, and of layers.
    """

    artifact: str
    about: str
    tables: tuple[ReportTable, ReportTable]


@dataclass(frozen=True)
class Section:
    """One record on the page."""

    anchor: str
    heading: str
    verdicts: tuple[str, ...]
    speed: ReportTable
    tradeoffs: Group | None
    spread: Figure | None
    tables: tuple[ReportTable, ...]
    layers: tuple[Layers, ...]
    differences: ReportTable | None
    panels: tuple[Panel, ...]


def page(records: Sequence[Record], title: str, images: Mapping[str, Path], notes: Sequence[str] = ()) -> str:
    """Write the report as HTML.

    Args:
        records: One for each model and input size.
        title: Of the report.
        images: Name of a picture in the records -> its file.
        notes: Sentences for the top.

    Returns:
        The whole document.

    Raises:
        BackendUnavailableError: Jinja is not installed.
    """
    jinja2: Any = require("jinja2", "report")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_keep_together,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    called = headings(records)
    most = max(_PICTURES // len(records), 1)
    several = len(records) > 1
    sections = [_section(r, h, f"m{i + 1}", images, most) for i, (r, h) in enumerate(zip(records, called, strict=True))]
    if not several:  # Its first sentence stands at the top.
        sections[0] = replace(sections[0], verdicts=sections[0].verdicts[1:])
    environment.filters["breakable"] = _breakable
    rendered: str = environment.get_template(_TEMPLATE).render(
        title=title,
        subtitle=_subtitle(records),
        remarks=(*notes, *remarks(records, called)),
        overview=overview_table(records, called) if several else None,
        tradeoffs=common_tradeoffs(records, called) if several and comparable(records) else None,
        sections=sections,
        leads=leads(records, called),
        faces=any(section.panels for section in sections),
        conditions=conditions_tables(records, called),
        view=VIEW,
    )
    return rendered


def _breakable(text: str) -> Any:
    """A name that may go on in the next line after a dot, a slash or an underscore; escaped."""
    return require("markupsafe", "report").Markup("<wbr>").join(re.split(r"(?<=[._/])", text))


def _keep_together(value: Any) -> Any:
    """No line ends between a number and its percent sign."""
    return value.replace(" %", "\N{NO-BREAK SPACE}%") if isinstance(value, str) else value


def _subtitle(records: Sequence[Record]) -> str:
    count = sum(len(r.measurements) for r in records)
    machines = list(dict.fromkeys(r.conditions.machine.cpu for r in records))
    days = sorted({r.conditions.before.time[:10] for r in records})
    pictures = sorted({r.protocol.count for r in records})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return (
        f"{counted(count, 'artifact')} on {' and '.join(machines)}, "
        f"{' or '.join(counted(n, 'picture') for n in pictures)}, {when}"
    )


def _section(record: Record, heading: str, anchor: str, images: Mapping[str, Path], most: int) -> Section:
    called = display_names(record)
    tables = (*accuracy_tables(record, called), phase_table(record, called), vendor_table(record, called))
    return Section(
        anchor,
        heading,
        verdicts(record, called),
        speed_table(record, called),
        tradeoffs_of(record, called),
        spread_of(record, called),
        tuple(t for t in tables if t is not None),
        tuple(_layers(m, called[m.name]) for m in record.measurements if m.layers),
        difference_table(record, called),
        panels(lost_and_gained(record), images, called, most),
    )


def _layers(m: Measurement, called: str) -> Layers:
    total = sum(layer.milliseconds for layer in m.layers)
    about = f"The layers take {number(total, 2)} ms of a picture as the backend's profiler has it"
    if "network" in m.spread:
        about += f", the networks {number(m.spread['network'].mean.value, 2)} ms in the mean without it"
    return Layers(called, f"{about}.", (kind_table(m), layer_table(m)))
