"""The report: complete, self-contained, safe against names, and saying only what its records hold."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facedeploy.benchmarks.record import Found, Record
from facedeploy.benchmarks.report import Report, check_report_folder, write_report
from facedeploy.benchmarks.report.differences import lost_and_gained
from facedeploy.benchmarks.report.display_names import display_names, headings
from facedeploy.benchmarks.report.label_places import Box, place
from facedeploy.benchmarks.report.markdown import markdown
from facedeploy.benchmarks.report.page import page
from facedeploy.benchmarks.report.pictures import VIEW, Panel, panels
from facedeploy.benchmarks.report.svg import ChartAxis, time_axis
from facedeploy.benchmarks.report.tradeoff import Point, front
from facedeploy.core.errors import InputError
from facedeploy.core.serialization import from_plain
from facedeploy.metrics.interval import Interval, Unbounded
from tests.support.records import TARGETS, make_record

RECORD = make_record()
INT8 = "mos-tiny-openvino-int8"
EVIL = "<script>alert(1)</script>\"'&|`*"
VOID = {"meta", "br", "wbr", "image", "img"}
FaceBox = tuple[float, float, float, float]


@dataclass
class Seen(HTMLParser):
    """What a document consists of. wrong: tags that do not nest, and whatever a browser would fetch."""

    tags: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    text: str = ""
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        for name, value in attrs:
            fetched = name in ("src", "href", "xlink:href", "srcset", "poster", "data", "action", "background")
            if fetched and not (value or "").startswith(("data:", "#")):
                self.wrong.append(f"{tag} {name}={value}")
            if name == "style" and ("url(" in (value or "") or "@import" in (value or "")):
                self.wrong.append(f"{tag} style={value}")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] == "style":
            self.wrong += re.findall(r"url\([^)]*|@import[^;]*", data)


def seen(html: str) -> Seen:
    parser = Seen()
    parser.feed(html)
    parser.close()
    parser.wrong += parser.open
    return parser


def with_measurement(record: Record, name: str, **changes: Any) -> Record:
    made = tuple(replace(m, **changes) if m.name == name else m for m in record.measurements)
    return replace(record, measurements=made)


def renamed(record: Record, evil: str) -> Record:
    """Every text in it says something evil as well."""
    made = tuple(
        replace(
            m,
            name=m.name + evil,
            model=m.model + evil,
            executed={evil: 3},
            layers=tuple(replace(v, name=evil, kind=evil, precision=evil, network=evil) for v in m.layers),
            vendors=tuple(replace(v, tool=evil, network=evil) for v in m.vendors),
        )
        for m in record.measurements
    )
    machine = replace(record.conditions.machine, cpu=evil, packages={evil: evil})
    return replace(
        record,
        conditions=replace(record.conditions, machine=machine, remarks=(evil,)),
        pictures=tuple(name + evil for name in record.pictures),
        measurements=made,
        scores=tuple(
            replace(s, artifact=s.artifact + evil, dataset=evil, measure=s.measure + evil, unit=evil)
            for s in record.scores
        ),
        fastest=None if record.fastest is None else record.fastest + evil,
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of 480x640 for each picture of the record."""
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    paths = {name: folder / name for name in RECORD.pictures}
    assert all(cv2.imwrite(str(path), noise) for path in paths.values())
    return paths


# --- the folder ---


def test_three_files_and_the_records_come_back(tmp_path: Path, photos: dict[str, Path]) -> None:
    records = [RECORD, make_record(model="mtcnn")]
    notes = ["mtcnn-trt-int8 was refused: <it> is slower"]
    write_report(records, tmp_path / "a" / "report", title="Two", images=photos, notes=notes)
    assert sorted(p.name for p in (tmp_path / "a" / "report").iterdir()) == ["index.html", "report.json", "report.md"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["report"]
    report = from_plain(Report, json.loads((tmp_path / "a" / "report" / "report.json").read_text()))
    assert report == Report("facedeploy-report", 1, "Two", tuple(notes), tuple(records))
    assert "&lt;it&gt; is slower" in (tmp_path / "a" / "report" / "index.html").read_text()
    assert "\\<it\\> is slower" in (tmp_path / "a" / "report" / "report.md").read_text()


def test_an_older_report_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    report = tmp_path / "report"
    report.mkdir()
    for title in ("first", "second"):  # The first into an empty folder.
        write_report([RECORD], report, title=title)
        assert f"<h1>{title}</h1>" in (report / "index.html").read_text()
    (report / "notes.txt").write_text("mine")
    for refused in (check_report_folder, lambda folder: write_report([RECORD], folder, title="third")):
        with pytest.raises(InputError, match=r"holds notes\.txt, which no report wrote"):
            refused(report)
    assert "<h1>second</h1>" in (report / "index.html").read_text()
    assert (report / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("content", ['{"version": 1}', "{}", "", '{"format":"facedeploy-artifact",'])
def test_a_folder_of_someone_else_is_not_touched(content: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(InputError, match="which no report wrote"):
        write_report([RECORD], tmp_path, title="mine")
    assert [p.read_text() for p in tmp_path.iterdir()] == [content]


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        check_report_folder(tmp_path / "report")


def test_what_fails_leaves_the_older_report(tmp_path: Path) -> None:
    report = tmp_path / "report"
    write_report([RECORD], report, title="first")
    broken = with_measurement(RECORD, INT8, lost=float("nan"))
    with pytest.raises(ValueError, match="JSON"):
        write_report([broken], report, title="second")
    assert "<h1>first</h1>" in (report / "index.html").read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("records", [[], [replace(RECORD, measurements=())]])
def test_nothing_to_report(records: list[Record], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to report"):
        write_report(records, tmp_path / "report", title="none")
    assert not list(tmp_path.iterdir())


# --- the page ---


def forty() -> Record:
    record = make_record(tuple(TARGETS) * 5)
    made = tuple(replace(m, name=f"{m.name}-{i}") for i, m in enumerate(record.measurements))
    return replace(record, measurements=made, scores=(), fastest=None)


def bare() -> Record:
    """With nothing that may be missing."""
    made = tuple(
        replace(m, executed={}, layers=(), cold=None, throughput=None, vendors=(), lost=None, input_sizes={})
        for m in RECORD.measurements
    )
    return replace(RECORD, measurements=made, scores=(), fastest=None)


@pytest.mark.parametrize(
    "records",
    [
        [make_record(("openvino-fp32",))],
        [RECORD],
        [forty()],
        [bare()],
        [RECORD, make_record(model="mos-m", milliseconds=900.0), bare()],
        [make_record(model=f"model{i}", rounds=7) for i in range(10)],
    ],
    ids=["one", "three", "forty", "bare", "models", "ten models"],
)
def test_the_page_is_whole_and_needs_nothing_else(records: list[Record], photos: dict[str, Path]) -> None:
    html = page(records, "Title", photos)
    found = seen(html)
    assert found.wrong == []
    assert "://" not in html
    assert "script" not in found.tags
    assert "nan" not in re.findall(r"[\w.]+", found.text)
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ET.fromstring(svg)
        assert "nan" not in re.sub('"data:[^"]*"', "", svg)
    for record, heading in zip(records, headings(records), strict=True):
        assert f"<h2>{heading}</h2>" in html
        for label in display_names(record).values():
            assert label in found.text


def charts(html: str) -> list[tuple[str, ET.Element]]:
    """What each drawing of a chart is for, and the drawing."""
    found = re.findall(r'<div class="((?:wide|middling|narrow)[^"]*)">(<svg.*?</svg>)', html, re.DOTALL)
    return [(shape, ET.fromstring(svg)) for shape, svg in found]


def own_colours(svg: ET.Element) -> list[str]:
    """Elements that have a colour of their own, or none of the style sheet's."""
    inner = [e for e in svg.iter() if e is not svg and e.tag != "title"]
    return [e.tag for e in inner if set(e.keys()) & {"fill", "stroke", "color", "style"} or not e.get("class")]


def test_charts_take_their_colours_from_the_page_so_that_they_are_dark_where_it_is() -> None:
    html = page([RECORD, make_record(model="mos-m")], "Title", {})
    found = charts(html)
    assert len(found) > 20
    assert [own_colours(svg) for _, svg in found] == [[]] * len(found)
    for bad in ('<path class="mark" fill="#fff"/>', "<line/>"):  # The control.
        assert own_colours(ET.fromstring(f"<svg>{bad}</svg>"))
    rules = re.findall(r"(?m)^svg [^{]+ \{(.*)\}", html)
    colours = [value for rule in rules for value in re.findall(r"(?:fill|stroke): ([^;]+);", rule)]
    assert len(colours) > 8
    assert all(value == "none" or value.startswith("var(--") for value in colours)


def test_charts_are_legible_at_400_pixels() -> None:
    """A chart is scaled to the page; the one for narrow pages so little that its text keeps its size."""
    html = page([RECORD], "Title", {})
    found = charts(html)
    narrow = [svg for shape, svg in found if "narrow" in shape.split()]
    assert len(narrow) == html.count('<figure class="chart">') > 5
    for svg in narrow:
        assert float(svg.attrib["viewBox"].split()[2]) <= 360
    assert all(float(svg.attrib["viewBox"].split()[2]) >= 600 for shape, svg in found if "narrow" not in shape.split())


@pytest.mark.parametrize(
    "bad",
    [
        '<img src="https://example.org/a.png">',
        '<link href="style.css">',
        "<style>@import 'a.css';</style>",
        "<style>a { background: url(a.png) }</style>",
        '<i style="background: url(a.png)"></i>',
        "<div>",
        "<b></i></b>",
    ],
)
def test_a_page_that_is_not_whole_is_seen(bad: str) -> None:
    """The control."""
    assert seen(page([bare()], "Title", {}).replace("</main>", f"{bad}</main>")).wrong


def test_names_are_text(photos: dict[str, Path]) -> None:
    record = renamed(RECORD, EVIL)
    images = {f"{name}{EVIL}": path for name, path in photos.items()}
    html = page([record, renamed(make_record(model="other"), EVIL)], EVIL, images)
    found = seen(html)
    assert found.wrong == []
    assert "script" not in found.tags
    assert not [a for a in found.attributes if a.startswith("on")]
    assert found.text.count("<script>alert(1)</script>") > 50
    assert "script" in seen("<script>alert(1)</script>").tags  # The control.
    text = markdown([record], EVIL)
    assert "<script" not in text.replace("\\<script", "")


def test_the_page_says_what_the_record_says() -> None:
    record = with_measurement(RECORD, INT8, ratio=Interval(2.25, 2.125, 2.375), lost=0.375)
    text = seen(page([record], "Title", {})).text
    assert "2.25[2.12, 2.38]" in text
    assert "2.25 times as fast (95" in text
    for m in record.measurements:
        assert f"{m.spread['whole'].p99:.2f}" in text
    for s in record.scores:
        assert f"{s.value.value:.2f}" in text


def test_what_has_no_interval_says_so_and_claims_nothing() -> None:
    first = RECORD.measurements[0].name
    scores = tuple(
        replace(s, value=Unbounded(s.value.value), change=None if s.artifact == first else Unbounded(-7.25))
        for s in RECORD.scores
    )
    for record in (replace(RECORD, scores=scores), replace(RECORD, scores=scores[1:])):
        said = seen(page([record, make_record(model="mtcnn")], "Title", {})).text
        accuracy = said[said.index("Accuracy on") : said.index("Accuracy on") + 1500]
        assert "no interval: too few pictures" in accuracy
        assert "\N{MINUS SIGN}7.25" in accuracy
        table = markdown([record], "Title")
        assert "no interval: too few pictures" in table
        assert "7.25, worse" not in table
        assert "7.25, better" not in table


def test_no_difference_is_claimed_where_there_is_noise() -> None:
    def said(ratio: Interval) -> str:
        return seen(page([replace(with_measurement(plain, INT8, ratio=ratio), fastest=None)], "Title", {})).text

    plain = replace(RECORD, scores=())
    assert "within noise" in said(Interval(1.02, 0.99, 1.05))
    assert "Within noise as fast as openvino-fp32: openvino-int8." in said(Interval(1.02, 0.99, 1.05))
    assert "ithin noise" not in said(Interval(1.02, 1.01, 1.05))
    assert "Slower than openvino-fp32: openvino-int8, ncnn-fp16." in said(Interval(0.9, 0.8, 0.99))
    assert "not as accurate" not in said(Interval(1.5, 1.4, 1.6))
    plain = with_measurement(plain, INT8, found=tuple(() for _ in plain.pictures))
    lost = "Faster than openvino-fp32, but not as accurate: openvino-int8 loses 30 of 30 faces and finds no new one."
    assert lost in said(Interval(1.5, 1.4, 1.6))
    assert "not as accurate" not in said(Interval(1.5, 0.9, 1.6))
    assert "Slower than openvino-fp32: ncnn-fp16." in said(Interval(0.9, 0.8, 1.01))


def test_remarks_say_which_model_they_are_about() -> None:
    records = [make_record(remarks=("all", "one")), make_record(model="other", remarks=("all",))]
    html = page(records, "Title", {})
    assert "<li>all</li>" in html
    assert "<li>mos-tiny 480x640: one</li>" in html
    assert html.index("<li>all</li>") < html.index("<table>")


def test_what_was_not_measured_alike_is_not_set_side_by_side() -> None:
    other = make_record(model="mos-m")
    protocol = replace(other.protocol, threads=1)
    apart = replace(other, protocol=protocol, protocol_digest=protocol.digest)
    for records, alike in (([RECORD, other], True), ([RECORD, apart], False)):
        html = page(records, "Title", {})
        overview = html[html.index("All models") : html.index('id="m1"')]
        assert ("do not set the times" not in html) == alike
        assert ("p50" in overview) == alike
        assert ("<svg" in overview) == alike


def test_markdown_tables_hold_together() -> None:
    """A name with a bar or a line end does not break a row."""
    odd = renamed(RECORD, "a|b\nc")
    for text in (markdown([RECORD], "Title"), markdown([odd, RECORD], "Title|\n")):
        tables = [block for block in text.split("\n\n") if block.startswith("|")]
        assert len(tables) > 5
        for table in tables:
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.strip().split("\n")}) == 1
    for m in RECORD.measurements:
        assert f"| {m.spread['whole'].p99:.2f} |" in markdown([RECORD], "Title")


# --- its parts ---


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(list(TARGETS)), st.sampled_from([1, 2])), min_size=1
    )
)
def test_artifacts_are_told_apart(kinds: list[tuple[str, str, int]]) -> None:
    some = RECORD.measurements[0]
    made = [
        replace(some, name=f"n{i}", model=model, target=target, input_sizes={"x": (size, size)})
        for i, (model, target, size) in enumerate(kinds)
    ]
    called = display_names(replace(RECORD, measurements=tuple(made)))
    assert list(called) == [m.name for m in made]
    assert len(set(called.values())) == len(made)


@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), min_size=1, max_size=20),
    st.booleans(),
)
def test_the_front_is_what_nothing_is_beyond(values: list[tuple[int, int]], higher: bool) -> None:
    points = [Point(str(i), Interval(x, x, x), Interval(y, y, y), "", "") for i, (x, y) in enumerate(values)]
    best = front(points, higher)

    def beaten(p: Point) -> bool:
        def better(q: Point) -> bool:
            accurate = q.y.value >= p.y.value if higher else q.y.value <= p.y.value
            return q.x.value <= p.x.value and accurate and (q.x.value, q.y.value) != (p.x.value, p.y.value)

        return any(map(better, points))

    assert {(p.x.value, p.y.value) for p in best} == {(p.x.value, p.y.value) for p in points if not beaten(p)}
    assert [p.x.value for p in best] == sorted({p.x.value for p in best})


@given(st.floats(0.001, 1e5), st.floats(1, 1e4), st.integers(4, 9))
def test_ticks_lie_on_the_axis(low: float, factor: float, most: int) -> None:
    axis = time_axis(low, low * factor, 50, 600)
    ticks = axis.ticks(most)
    assert 1 <= len(ticks) <= most + 1
    assert all(50 - 1e-6 <= axis(t) <= 600 + 1e-6 for t in ticks)
    assert ticks == sorted(ticks)
    assert 50 <= axis(low) <= axis(low * factor) <= 600


ROOM = Box(0, 0, 320, 260)


@given(
    st.lists(st.tuples(st.floats(0, 320), st.floats(0, 260), st.floats(5, 200)), max_size=12),
    st.lists(st.tuples(st.floats(0, 320), st.floats(0, 260)), max_size=12),
)
def test_a_label_hides_no_mark_and_no_other_label(
    labelled: list[tuple[float, float, float]], others: list[tuple[float, float]]
) -> None:
    points = [(x, y) for x, y, _ in labelled]
    marks = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in (*points, *others)]
    places = place(points, [width for *_, width in labelled], ROOM, marks, [])
    assert len(places) == len(labelled)
    boxes = [to.box(x, y, width) for (x, y, width), to in zip(labelled, places, strict=True) if to is not None]
    for i, box in enumerate(boxes):
        assert ROOM.holds(box)
        assert not any(box.meets(other) for other in (*marks, *boxes[:i]))


def test_a_label_keeps_off_lines_and_is_left_out_where_it_fits_nowhere() -> None:
    (beside,) = place([(100.0, 100.0)], [40.0], ROOM, [], [])
    assert beside is not None
    crossed = Box(100, 94, 320, 96)
    assert beside.box(100, 100, 40).meets(crossed)
    (below,) = place([(100.0, 100.0)], [40.0], ROOM, [], [crossed])
    assert below is not None
    assert not below.box(100, 100, 40).meets(crossed)
    assert place([(100.0, 100.0)], [400.0], ROOM, [], []) == [None]
    assert place([(100.0, 100.0)], [40.0], ROOM, [ROOM], []) == [None]


def test_an_inverted_axis_has_the_same_ticks() -> None:
    up, down = ChartAxis(3.4, 4.2, 300, 20), ChartAxis(3.4, 4.2, 20, 300)
    assert up.ticks(6) == down.ticks(6) == pytest.approx([3.4, 3.6, 3.8, 4.0, 4.2])
    assert up(3.4) == down(4.2) == 300


# --- faces that one found and another lost ---


def faces(*boxes: FaceBox, score: float = 0.9) -> tuple[Found, ...]:
    return tuple(Found(box, score) for box in boxes)


A, B, C = (10.0, 10.0, 50.0, 60.0), (100.0, 100.0, 160.0, 180.0), (300.0, 200.0, 360.0, 280.0)


def compared(*found: tuple[Found, ...]) -> Record:
    """A record of one picture, in which each artifact found some faces."""
    record = make_record(list(TARGETS)[: len(found)], boxes={"photo0.jpg": [A]})
    made = tuple(replace(m, found=(f,)) for m, f in zip(record.measurements, found, strict=True))
    return replace(record, measurements=made)


def test_lost_and_gained() -> None:
    moved = (102.0, 101.0, 163.0, 182.0)
    (picture,) = lost_and_gained(compared(faces(A, B), faces(moved, C), faces(A, moved)))
    assert [(d.box, d.lost, d.names) for d in picture.differences] == [
        (A, True, ("mos-tiny-onnx-fp32",)),
        (C, False, ("mos-tiny-onnx-fp32",)),
    ]
    assert picture.kept == (B,)
    assert lost_and_gained(compared(faces(A, B), faces(B, A))) == ()


def test_one_face_that_several_gained_is_one() -> None:
    near = (301.0, 201.0, 361.0, 281.0)
    (picture,) = lost_and_gained(compared(faces(A), faces(A, C, score=0.6), faces(A, near, score=0.8)))
    (d,) = picture.differences
    assert (d.lost, d.score, len(d.names)) == (False, 0.8, 2)


def test_only_artifacts_of_one_model_are_compared() -> None:
    record = compared(faces(A), faces(B))
    first, second = record.measurements
    assert len(lost_and_gained(record)) == 1
    assert lost_and_gained(replace(record, measurements=(first, replace(second, model="other")))) == ()


def test_pictures_with_most_differences_come_first_and_twelve_at_most(photos: dict[str, Path]) -> None:
    first, second = make_record(("onnx-fp32", "ncnn-fp32")).measurements
    names = [f"{i}.jpg" for i in range(20)]
    boxes = [tuple(faces(*[(30.0 * k, 10.0, 30.0 * k + 20, 40.0) for k in range(i % 7)])) for i in range(20)]
    record = replace(
        RECORD,
        pictures=tuple(names),
        measurements=(replace(first, found=tuple(boxes)), replace(second, found=((),) * 20)),
        scores=(),
        fastest=None,
    )
    counts = [c.count for c in lost_and_gained(record)]
    assert counts == sorted(counts, reverse=True)
    assert len(counts) == 17  # Of twenty, three have no face.
    images = dict.fromkeys(names, photos["photo0.jpg"])
    html = page([record], "Title", images)
    assert html.count("<image") == 12
    assert page([record], "Title", {"6.jpg": images["6.jpg"]}).count("<image") == 1


def shown(record: Record, images: dict[str, Path]) -> tuple[Panel, ...]:
    return panels(lost_and_gained(record), images, {m.name: m.target for m in record.measurements}, 12)


def test_a_panel_is_a_small_jpeg_with_its_marks(photos: dict[str, Path]) -> None:
    (panel,) = shown(compared(faces(A, B, C), faces(B)), photos)
    data = base64.b64decode(panel.data.removeprefix("data:image/jpeg;base64,"))
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape[1] <= VIEW
    assert [(m.number, m.lost, m.text) for m in panel.marks] == [
        (1, True, "lost by onnx-fp32; score 0.90"),
        (2, True, "lost by onnx-fp32; score 0.90"),
    ]
    assert len(panel.kept) == 1


def test_pictures_that_are_gone_are_left_out(photos: dict[str, Path], tmp_path: Path) -> None:
    record = compared(faces(A), faces(B))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    assert shown(record, {}) == ()
    assert shown(record, {"photo0.jpg": tmp_path / "gone.jpg"}) == ()
    assert shown(record, {"photo0.jpg": tmp_path / "broken.jpg"}) == ()
    assert len(shown(record, photos)) == 1


coordinate = st.floats(-200, 900)


@settings(deadline=None)  # It compresses pictures.
@given(boxes=st.lists(st.tuples(coordinate, coordinate, st.floats(0, 500), st.floats(0, 500)), min_size=1, max_size=12))
def test_marks_lie_in_the_picture_whatever_the_boxes(boxes: Sequence[FaceBox], photos: dict[str, Path]) -> None:
    """Boxes may leave the picture, be empty, or be larger than it."""
    found = faces(*[(x, y, x + w, y + h) for x, y, w, h in boxes])
    for panel in shown(compared(found, ()), photos):
        for x, y, w, h in [m.box for m in panel.marks]:
            assert 0 <= x <= x + w <= VIEW + 0.2
            assert 0 <= y <= y + h <= panel.height + 0.2
        assert len(panel.marks) + panel.more == len(boxes)


def test_a_mark_is_where_the_face_is(photos: dict[str, Path]) -> None:
    """The crop's scale is the same both ways, so the mark has the shape of the box."""
    (panel,) = shown(compared(faces(C), ()), photos)
    x, y, w, h = panel.marks[0].box
    assert w / h == pytest.approx((C[2] - C[0]) / (C[3] - C[1]), rel=0.01)
    # In the middle, since nothing else is to be shown and the picture is larger.
    assert x + w / 2 == pytest.approx(VIEW / 2, abs=2)
    assert y + h / 2 == pytest.approx(panel.height / 2, abs=2)


def test_times_beyond_the_axis_are_counted() -> None:
    m = RECORD.measurements[0]
    slow = (*m.samples["whole"][:-1], (9000.0, *m.samples["whole"][-1][1:]))
    record = with_measurement(RECORD, m.name, samples={**m.samples, "whole": slow})
    assert "the longest 9,000.0 ms" in seen(page([record], "Title", {})).text


def test_each_marked_face_has_a_picture_of_its_own(tmp_path: Path) -> None:
    """The box is red and everything else grey: its picture is red in the middle and grey at the edge."""
    photo = np.full((480, 640, 3), 128, np.uint8)
    for x1, y1, x2, y2 in (B, C):
        photo[int(y1) : int(y2), int(x1) : int(x2)] = (0, 0, 255)
    assert cv2.imwrite(str(tmp_path / "photo0.png"), photo)
    (panel,) = shown(compared(faces(B, C), ()), {"photo0.jpg": tmp_path / "photo0.png"})
    assert len(panel.marks) == 2
    for mark in panel.marks:
        data = base64.b64decode(mark.crop.removeprefix("data:image/jpeg;base64,"))
        crop = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert crop is not None
        assert crop.shape == (96, 96, 3)
        reds = (crop[..., 2].astype(int) - crop[..., 0]) > 100
        assert reds[44:52, 44:52].mean() > 0.9
        assert 0.1 < reds.mean() < 0.5


def test_the_page_says_that_it_holds_pictures_where_it_does(photos: dict[str, Path]) -> None:
    record = compared(faces(A), faces(B))
    assert "This page holds parts of your pictures, with faces." in seen(page([record], "Title", photos)).text
    without = seen(page([record], "Title", {})).text
    assert "This page holds no picture" in without
    assert "parts of your pictures" not in without


# --- in a browser ---

_MEASURE = """
const page = document.querySelector("iframe").contentDocument, wide = page.documentElement.clientWidth;
const all = [...page.querySelectorAll("main *")].filter(e => !e.closest("svg") && e.getBoundingClientRect().width);
const edges = e => [e.getBoundingClientRect().left, e.getBoundingClientRect().right].map(Math.round);
const blocks = [...page.querySelectorAll("header, aside, .block, .scroll, section > .chart, .pictures, .private")];
document.title = "";
document.body.textContent = "@" + JSON.stringify({
  wide, needed: page.documentElement.scrollWidth,
  cut: all.filter(e => edges(e)[1] > wide + 1 && !e.closest(".scroll")).map(e => e.className || e.tagName),
  edges: [...new Set(blocks.filter(e => !e.closest(".pair, details")).map(e => edges(e).join()))],
}) + "@";
"""


def in_browser(html: str, width: int, folder: Path) -> dict[str, Any]:
    """What Chromium says of a page that is `width` pixels wide."""
    frame = f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{escape(html)}"></iframe>'
    script = f'<script>addEventListener("load", () => setTimeout(() => {{{_MEASURE}}}, 100))</script>'
    (folder / "frame.html").write_text(f"<!doctype html><meta charset=utf-8><body>{frame}{script}</body>")
    flags = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--hide-scrollbars",
    )
    where = (f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=3000", "--dump-dom")
    command = ["chromium", *flags, *where, (folder / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search("@(.*)@", done.stdout)
    assert found, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(unescape(found[1]))
    return answer


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_is_cut_and_blocks_are_of_one_width(width: int, photos: dict[str, Path], tmp_path: Path) -> None:
    for records in ([RECORD], [RECORD, make_record(model="a-model-with-a-long-name", size=(240, 320))]):
        html = page(records, "Title", photos)
        said = in_browser(html, width, tmp_path)
        assert said["wide"] == said["needed"] == width
        assert said["cut"] == []
        assert len(said["edges"]) == 1
    # The control.
    bad = html.replace("</main>", '<div class="block" style="width:1500px">wide</div></main>')
    said = in_browser(bad, width, tmp_path)
    assert said["needed"] > width
    assert said["cut"]
    assert len(said["edges"]) == 2
