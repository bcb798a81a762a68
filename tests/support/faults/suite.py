"""Which wrong compiles are refused: every kind of fault in every network, on every target, and what it does to faces.

    python -m tests.support.faults.suite --assets DIR --work DIR [--only WORDS] [--subjects mos-tiny,mtcnn]
        [--targets openvino-fp16,ncnn-int8] [--keep]

Each answer is kept in DIR, a line each, so that a run can be cut and goes on. At the end it prints what was written
though it is harmful, what was refused though it is harmless, and how many of each. --keep writes the page and the list
that the tests draw a sample from.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from facedeploy.core.target import Target
from tests.support.faults import page
from tests.support.faults.inject import Fault, all_faults
from tests.support.faults.subject import TARGETS, Attempt, Bench, Effect, Question, Subject, subjects


def _effect(ap: float, faces: float, worst: list[float]) -> Effect:
    return Effect(ap, faces, tuple(worst))


class Answers:
    """What was found, kept in a file, a line each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[Question, Attempt | None] = {}
        for line in path.read_text().splitlines() if path.is_file() else ():
            question, answer = json.loads(line)
            effect = answer and answer["effect"] and _effect(**answer["effect"])
            self.found[tuple(question)] = answer and Attempt(answer["refusal"], effect)

    def keep(self, question: Question, answer: Attempt | None) -> None:
        self.found[question] = answer
        with self.path.open("a") as file:
            file.write(json.dumps([question, answer and asdict(answer)]) + "\n")


def run(bench: Bench, answers: Answers, targets: Sequence[str], faults: Sequence[Fault]) -> None:
    """Ask what was not asked yet of a subject."""
    able = []
    for target in targets:
        sound: Question = (bench.subject.name, "", "", target)
        if sound not in answers.found:
            answers.keep(sound, Attempt(bench.sound(target), None))
        if (answer := answers.found[sound]) and (refusal := answer.refusal):
            print(f"{bench.subject.name} cannot be {target}: {refusal}", file=sys.stderr)
        else:
            able.append(target)
    for question, fault in _questions(bench.subject, able, faults):
        if question not in answers.found:
            answer = _ask(bench, fault, question, answers)
            answers.keep(question, answer)
            print(" | ".join(question), str(answer)[:160], file=sys.stderr, flush=True)


def _ask(bench: Bench, fault: Fault, question: Question, answers: Answers) -> Attempt | None:
    """What comes of a fault. What a refused one would have done is what it did in float, where that is known."""
    subject, network, name, target = question
    first = answers.found.get((subject, network, name, TARGETS[0]))
    if first is not None and target != TARGETS[0]:
        answer = bench.attempt(network, fault, target, effect=False)
        if answer is None or answer.refusal:
            return answer and replace(answer, effect=first.effect)
    answer = bench.attempt(network, fault, target)
    if answer and answer.verdict(target) == "harmful and written" and target.endswith("int8"):
        # int8 moves the AP of 50 pictures by a point by itself.
        answer = bench.wider.attempt(network, fault, target)
    return answer


def _questions(subject: Subject, targets: Sequence[str], faults: Sequence[Fault]) -> Iterator[tuple[Question, Fault]]:
    for target in targets:
        for network in subject.networks:
            for fault in faults:
                if fault.concerns(Target.parse(target)):
                    yield (subject.name, network, fault.name, target), fault


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask what was not asked yet, and print what was judged otherwise than its effect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default="", help="a part of the names of faults")
    parser.add_argument("--subjects", default="mos-tiny,mtcnn,yunet,pfld")
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--keep", action="store_true", help="write docs/reference/faults.md and tests/data/faults.json")
    given = parser.parse_args(arguments)
    given.work.mkdir(parents=True, exist_ok=True)
    faults = [f for f in all_faults() if given.only in f.name]
    counts: Counter[str] = Counter()
    found: dict[Question, Attempt] = {}
    for name in given.subjects.split(","):
        answers = Answers(given.work / f"{name}.jsonl")
        run(Bench(subjects(given.assets)[name], given.assets / "images"), answers, given.targets.split(","), faults)
        counts += _report(answers)
        found |= {q: a for q, a in answers.found.items() if a is not None and q[1]}
    if given.keep:
        page.keep(found)
    print("; ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
    return int(counts["harmful and written"] > 0)


def _report(answers: Answers) -> Counter[str]:
    counts: Counter[str] = Counter()
    for question, answer in answers.found.items():
        if answer is None or not question[1]:
            continue
        kind = answer.verdict(question[3])
        counts[kind] += 1
        if kind in ("harmful and written", "harmless and refused"):
            print(f"{kind}: {', '.join(question)}: {_shown(answer)}")
    return counts


def _shown(answer: Attempt) -> Any:
    return f"{answer.effect}; {answer.refusal}"


if __name__ == "__main__":
    sys.exit(main())
