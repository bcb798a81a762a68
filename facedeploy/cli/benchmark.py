"""`facedeploy benchmark`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facedeploy.cli.output import (
    DeviceOrPhone,
    Json,
    Options,
    Processes,
    Ray,
    RuntimeName,
    Threads,
    complain,
    kilobytes,
    note,
    parse_options,
    parse_runtime,
    print_json,
    print_table,
    step,
)

if TYPE_CHECKING:
    from facedeploy.benchmarks.record import Conditions, Measurement, Record, Score
    from facedeploy.metrics.interval import Interval, Unbounded

_SLOWEST = 10  # Layers of each artifact that are printed; the record has all.


def command(
    artifacts: Annotated[
        list[Path],
        typer.Argument(metavar="ARTIFACT", help="Artifacts; the first is the one to compare with.", show_default=False),
    ],
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PICTURES",
            help="Picture or folder of pictures. Repeatable. Default: a portrait that the package ships.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOrPhone = "local",
    threads: Threads = 0,
    seconds: Annotated[
        float,
        typer.Option(
            min=0.1, metavar="SECONDS", help="Time to measure in, times the number of artifacts, without warm-up."
        ),
    ] = 3.0,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Times each picture is measured, instead of a time.", show_default=False),
    ] = None,
    streams: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Measure pictures a second too, so many at once where a backend can."),
    ] = 1,
    vendors: Annotated[
        bool, typer.Option("--vendors", help="Time the heaviest networks with the vendors' own tools too.")
    ] = False,
    layers: Annotated[bool, typer.Option("--layers", help="Measure each layer too.")] = False,
    cold: Annotated[
        bool, typer.Option("--cold/--no-cold", help="Measure load, first picture and memory in fresh processes.")
    ] = True,
    max_drop: Annotated[
        float, typer.Option(min=0, metavar="POINTS", help="AP that the fastest may lose against the first.")
    ] = 0.5,
    dataset: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND:PATH", help="Labelled pictures for accuracy, e.g. widerface:DIR. Repeatable."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Pictures of each data set, evenly spread.", show_default=False),
    ] = None,
    processes: Processes = 0,
    ray: Ray = None,
    answers: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keeps what was found in data sets, so that a stopped run goes on."),
    ] = None,
    gate: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="TOML file of limits; exit status 1 where one is broken.")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="DIR", help="Write a report: HTML, Markdown and JSON.")] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the record, for `facedeploy compare`.")
    ] = None,
    runtime: RuntimeName = None,
    option: Options = None,
    json: Json = False,
) -> None:
    """Time whole pipelines, picture in and faces out, side by side in one run."""
    from facedeploy.benchmarks.accuracy.cluster import check_reachable
    from facedeploy.benchmarks.accuracy.datasets import parse_dataset
    from facedeploy.benchmarks.accuracy.evaluate import evaluate
    from facedeploy.benchmarks.gate import check, check_measurable, read_gate
    from facedeploy.benchmarks.latency.benchmark import benchmark
    from facedeploy.benchmarks.record_file import check_place, write_record
    from facedeploy.benchmarks.report import check_report_folder, write_report
    from facedeploy.core.errors import InputError
    from facedeploy.core.images import expand
    from facedeploy.core.serialization import to_plain
    from facedeploy.devices.open import open_device
    from facedeploy.devices.python.request import MeasurementSettings
    from facedeploy.sources.plausible import SAMPLE

    machine = None if device == "local" else open_device(device)
    if machine is not None and (dataset or ray):
        msg = f"accuracy is computed on this machine, not on {device}: give --dataset and --ray without --device"
        raise InputError(msg)
    standin, changes = parse_runtime(runtime), parse_options(option)
    datasets = [parse_dataset(text) for text in dataset or ()]
    limits = None if gate is None else read_gate(gate)
    if limits is not None:
        check_measurable(limits, datasets)
    if save is not None:
        check_place(save)
    if report is not None:
        check_report_folder(report)
    if ray is not None and datasets:
        check_reachable(ray)
    pictures = images or [SAMPLE]
    if not images:
        note(f"measured on {SAMPLE.name}, a portrait that the package ships; --images takes yours, with as many faces")
    settings = MeasurementSettings(
        threads=threads,
        seconds=seconds,
        rounds=rounds,
        streams=streams,
        runtime=standin,
        options=changes,
        max_drop=max_drop,
        cold=cold,
        layers=layers,
        vendors=vendors,
    )
    if machine is None:
        record = benchmark(artifacts, pictures, **settings.named(), progress=step)
    else:
        record = machine.benchmark(artifacts, pictures, settings, step)
    if datasets:
        scores = evaluate(
            artifacts,
            datasets,
            processes=processes,
            work=answers,
            ray=ray,
            runtime=standin,
            options=changes,
            limit=limit,
        )
        record = replace(record, scores=scores)
    if save is not None:
        write_record(record, save)
    if json:
        print_json(to_plain(record))
    else:
        _print_record(record)
    if report is not None:
        files = {file.name: file for file in expand(pictures)}
        write_report([record], report, title="facedeploy benchmark", images=files)
    broken = () if limits is None else check(limits, record)
    for sentence in broken:
        complain(f"facedeploy: {sentence}")
    if broken:
        raise typer.Exit(1)


def _print_record(record: Record) -> None:
    first = record.measurements[0]
    print(
        f"{_count(len(record.pictures), 'picture')}, {_count(sum(record.openings), 'round')} in "
        f"{_count(len(record.openings), 'opening')}, {_count(record.protocol.threads, 'thread')}; milliseconds; "
        f"95 % intervals; faster: times {first.name}, paired; than network: times its networks alone"
    )
    _print_measurements(record.measurements)
    _print_executed(record.measurements)
    for m in record.measurements:
        _print_layers(m)
        for v in m.vendors:
            print(
                f"{m.name}: {v.network} {v.ours:.2f} ms here, {v.theirs:.2f} ms in {v.tool}: "
                f"{_interval(v.ratio, 3)} times as long"
            )
    _print_scores(record.scores)
    _print_conditions(record.conditions, first)
    if record.fastest is not None:
        chosen = next(m for m in record.measurements if m.name == record.fastest)
        print(
            f"fastest with at most {record.max_drop:g} points of AP lost against {first.name} on these pictures: "
            f"{chosen.name} ({chosen.ratio.value:.2f} times)"
        )


def _print_measurements(measurements: tuple[Measurement, ...]) -> None:
    streams = any(m.throughput for m in measurements)
    header = ("artifact", "target", "p50", "", "p90", "p99", "network", "host", "load", "first", "memory", "size")
    more = ("pictures/s", "") if streams else ()
    rows = []
    for m in measurements:
        whole, network = m.spread["whole"], m.spread["network"]
        cold = (f"{m.cold.load:.0f}", f"{m.cold.first:.1f}") if m.cold else ("-", "-")
        memory = kilobytes(m.cold.memory) if m.cold and m.cold.memory is not None else "-"
        rate = m.throughput.pictures_per_second if m.throughput else None
        row = (
            *(m.name, m.target, f"{whole.p50.value:.1f}", _range(whole.p50, 1), f"{whole.p90:.1f}", f"{whole.p99:.1f}"),
            *(f"{network.p50.value:.1f}", f"{1 - network.mean.value / whole.mean.value:.0%}", *cold, memory),
            *(kilobytes(m.size), *((f"{rate.value:.1f}", _range(rate, 1)) if rate else ("-", "-")[: len(more)])),
            *(sum(map(len, m.found)), "-" if m.lost is None else f"{m.lost:.1f}"),
            *(f"{m.ratio.value:.2f}", _range(m.ratio, 2)),
            f"{measurements[0].spread['network'].p50.value / whole.p50.value:.2f}",
        )
        rows.append(row)
    print_table((*header, *more, "faces", "AP lost", "faster", "", "than network"), rows)


def _print_scores(scores: tuple[Score, ...]) -> None:
    if not scores:
        return
    rows = []
    for s in scores:
        change = ("-", "") if s.change is None else (f"{s.change.value:+.2f}", _range(s.change, 2))
        value = f"{s.value.value:.2f}", _range(s.value, 2)
        rows.append((s.dataset, s.measure, s.unit, s.artifact, *value, *change, s.pictures, s.faces))
    header = ("data set", "measure", "unit", "artifact", "value", "", "change", "", "pictures", "faces")
    print_table(header, rows)


def _print_executed(measurements: tuple[Measurement, ...]) -> None:
    said = [f"{m.name} {', '.join(f'{n} {p}' for p, n in m.executed.items())}" for m in measurements if m.executed]
    if said:
        print(f"layers by the precision they ran in: {'; '.join(said)}")


def _print_layers(m: Measurement) -> None:
    if m.layers:
        print(f"{m.name}: the slowest of {len(m.layers)} layers")
        rows = [(v.network, v.name, v.kind, v.precision, f"{v.milliseconds:.3f}") for v in m.layers[:_SLOWEST]]
        print_table(("network", "layer", "kind", "precision", "ms"), rows)


def _print_conditions(c: Conditions, first: Measurement) -> None:
    from facedeploy.benchmarks.report.board import UNKNOWN, board_facts

    machine = c.machine
    known: tuple[str | None, ...] = (
        f"{machine.cpu}, cores {','.join(map(str, machine.usable))} of {machine.cores}",
        f"{c.after.mhz:.0f} MHz" if c.after.mhz else None,
        c.after.governor and f"governor {c.after.governor}",
        None if c.after.temperature is None else f"{c.after.temperature:.0f} Celsius",
        None if c.before.load is None else f"load {c.before.load:.2f} before and {c.after.load:.2f} after",
        None if c.elsewhere is None else f"{c.elsewhere:.2f} cores busy elsewhere",
        None if c.stolen is None else f"{c.stolen:.2f} stolen",
    )
    print("; ".join(filter(None, known)))
    versions = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    python = f", Python {machine.python}" if machine.python else ""
    print(f"{'virtual machine, ' if machine.virtual else ''}{machine.system}{python}; {versions}")
    said = [f"{name}: {text}" for name, text in board_facts(c).items() if text != UNKNOWN]
    if said:
        print("; ".join(said))
    for remark in c.remarks:
        print(f"note: {remark}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _range(interval: Interval | Unbounded, digits: int) -> str:
    from facedeploy.metrics.interval import Unbounded

    if isinstance(interval, Unbounded):
        return "(too few pictures)"
    return f"({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def _interval(interval: Interval, digits: int) -> str:
    return f"{interval.value:.{digits}f} {_range(interval, digits)}"
