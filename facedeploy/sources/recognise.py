"""Which family a network is, by the shapes of its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import NetworkSpec, Shape, Size
from facedeploy.core.serialization import from_plain
from facedeploy.graph.decode.description import ROLES, Decode
from facedeploy.graph.decode.priors import Level, levels
from facedeploy.graph.decode.rows import layout_of
from facedeploy.sources.families import Family, Head, Looks, families, family

_NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


@dataclass(frozen=True)
class Match:
    """A family that a network may be.

    Attributes:
        family: Its name.
        settings: What a TOML file would say, plain: `family`, `input`, `pipeline`, `decode` with the network's own
            names.
        reason: Why it may be.
    """

    family: str
    settings: dict[str, Any]
    reason: str


def matches(spec: NetworkSpec, known: Mapping[str, Family] | None = None) -> tuple[Match, ...]:
    """Every form of every family that a network's outputs can be.

    Args:
        spec: The network, with the shapes of its outputs.
        known: The families to try; None for all.
    """
    size = spec.picture_size
    assert size is not None
    shapes = {t.name: tuple(d for d in t.shape if isinstance(d, int)) for t in spec.outputs}
    meant = _meant(shapes)
    known = families() if known is None else known
    found = [_match(name, each, head, meant, size) for name, each in known.items() for head in each.heads]
    looking = [_looks(name, each, looks, shapes, size) for name, each in known.items() for looks in each.looks]
    return tuple(match for match in (*found, *looking) if match is not None)


def _meant(shapes: dict[str, Shape]) -> dict[str, Shape]:
    """Without the raw grids that YOLO's exports leave beside the decoded boxes."""
    decoded = {name: shape for name, shape in shapes.items() if len(shape) < 5}
    return decoded or shapes


def as_family(name: str, spec: NetworkSpec) -> tuple[Match, ...]:
    """The forms of one family that a network can be.

    Raises:
        InputError: there is no such family, or the network has not its outputs.
    """
    if family(name).meaning:  # Its settings say what they need of the outputs.
        return (Match(name, {"family": name, **family(name).settings}, ""),)
    found = matches(spec, {name: family(name)})
    if not found:
        outputs = ", ".join(f"{t.name} {t.shape}" for t in spec.outputs)
        wanted = " or ".join(dict.fromkeys(map(_wants, family(name).heads)))
        msg = (
            f"the network is no {name}: that has {wanted}, and the network gives {outputs}; describe its head under "
            "[decode] in a TOML file"
        )
        raise InputError(msg)
    return found


def _wants(head: Head) -> str:
    held = ", ".join(
        f"{role} ({width} a box{', may be missing' if role in head.optional else ''})"
        for role, width in head.outputs.items()
    )
    counted = _template(head) if head.boxes_of is None else from_plain(Decode, _counting(head))
    return f"{held} {_where(counted)}"


def _match(name: str, described: Family, head: Head, shapes: Mapping[str, Shape], size: Size) -> Match | None:
    if head.size not in (None, size):
        return None
    template = _template(head)
    counted = template if head.boxes_of is None else from_plain(Decode, _counting(head))
    grid = levels(counted, size)
    for roles in _roles(head):
        for parts in _splits(head, template, grid):
            found = _assign({r: head.outputs[r] for r in roles}, shapes, parts, sum(v.boxes for v in grid))
            if found is not None:
                settings = {
                    "family": name,
                    "input": described.input,
                    "pipeline": described.pipeline,
                    "decode": _named(head, found),
                }
                return Match(name, settings, _reason(shapes, parts, counted, grid))
    return None


def _looks(name: str, described: Family, looks: Looks, shapes: Mapping[str, Shape], size: Size) -> Match | None:
    """Whether a network is one that looks at faces: all that there is to see are its size and its outputs."""
    if size != looks.size or sorted(shape[1:] for shape in shapes.values()) != sorted(looks.outputs):
        return None
    held = ", ".join("x".join(map(str, shape)) for shape in looks.outputs)
    reason = f"a picture of {size[0]}x{size[1]}, and of a face {held} numbers"
    return Match(name, {"family": name, **described.settings}, reason)


def _splits(head: Head, template: Decode, grid: tuple[Level, ...]) -> tuple[tuple[Level, ...], ...]:
    """Whether there is an output for each level, or one for all of them."""
    if not template.strides or head.joined:
        return ((),)
    return (grid,) if template.score_channels == "class" else (grid, ())


def _roles(head: Head) -> Iterator[tuple[str, ...]]:
    """What there may be outputs of: everything, or everything but what is optional."""
    everything = tuple(head.outputs)
    yield everything
    if head.optional:
        yield tuple(role for role in everything if role not in head.optional)


def _assign(
    widths: Mapping[str, int], shapes: Mapping[str, Shape], parts: Sequence[Level], boxes: int
) -> dict[str, list[str]] | None:
    """Role -> its outputs, one for each of `parts`, or one alone; None where the shapes are others.

    Outputs of the same shape go to their roles in the order of the file, unless a name says otherwise.
    """
    wanted: list[tuple[str, Level | None]] = [(role, part) for role in widths for part in (parts or (None,))]
    if len(wanted) != len(shapes):
        return None
    free = dict(shapes)
    found: dict[str, list[str]] = {role: [] for role in widths}
    for role, part in wanted:
        count = boxes if part is None else part.boxes
        fits = [n for n, shape in free.items() if _holds(shape, count, part, widths[role])]
        if not fits:
            return None
        named = [n for n in fits if role[:3] in n.lower()]
        taken = (named or fits)[0]
        del free[taken]
        found[role].append(taken)
    return found


def _holds(shape: Shape, boxes: int, part: Level | None, width: int) -> bool:
    found = layout_of(shape, boxes, part)
    return found is not None and found[1] == width


def _template(head: Head) -> Decode:
    """The head with placeholders for its outputs."""
    return from_plain(Decode, {"boxes": "*", "scores": "*", **head.decode})


def _counting(head: Head) -> dict[str, Any]:
    assert head.boxes_of is not None
    rows = head.boxes_of
    anchors = rows.anchors if isinstance(rows.anchors, int) else list(rows.anchors)
    return {"boxes": "*", "scores": "*", "box": "distances", "strides": list(rows.strides), "anchors": anchors}


def _named(head: Head, found: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The head's description with the network's own names."""
    decode = dict(head.decode)
    for role in ROLES:
        text = decode.pop(role, "*" if role in head.outputs else None)
        own = role if role in found else "all"
        if text is None or (role in head.outputs and role not in found):
            continue
        count = max(len(names) for names in found.values())
        texts = [_with_names(text, own, {r: names[i] for r, names in found.items()}) for i in range(count)]
        decode[role] = texts if count > 1 else texts[0]
    return decode


def _with_names(text: str, own: str, names: Mapping[str, str]) -> str:
    def named(piece: str) -> str:
        name, bracket, columns = piece.partition("[")
        return names[own if name == "*" else name] + bracket + columns

    return " + ".join(map(named, text.split(" + ")))


def _reason(shapes: Mapping[str, Shape], parts: Sequence[Level], decode: Decode, grid: Sequence[Level]) -> str:
    at = _where(decode)
    where = at if parts else f"of {sum(v.boxes for v in grid)} boxes, for{at.removeprefix('at')}"
    return f"{_word(len(shapes))} output{'' if len(shapes) == 1 else 's'} {where}"


def _where(decode: Decode) -> str:
    """As in "at strides 8, 16, 32, two boxes a cell"."""
    per_cell = decode.anchors_of_levels
    anchors = _word(per_cell[0])
    if len(set(per_cell)) > 1:
        anchors = f"with {', '.join(map(str, per_cell[:-1]))} and {per_cell[-1]}"
    boxes = "box" if set(per_cell) == {1} else "boxes"
    return (
        f"at stride{'' if len(per_cell) == 1 else 's'} {', '.join(map(str, decode.strides))}, {anchors} {boxes} a cell"
    )


def _word(number: int) -> str:
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)
