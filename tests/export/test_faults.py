"""Wrong compiles that do harm are refused: a sample of the suite, each fault once, in one network on one target."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from facedeploy.core.target import Target
from tests.support.exported import require
from tests.support.faults.inject import all_faults
from tests.support.faults.page import KEPT
from tests.support.faults.subject import Bench, subjects

FAULTS = {fault.name: fault for fault in all_faults()}
HARMFUL = [
    (subject, network, fault, target)
    for subject, networks in json.loads(KEPT.read_text(encoding="utf-8")).items()
    for network, faults in networks.items()
    for fault, targets in faults.items()
    for target in targets
]
SEED = int(os.environ.get("FACEDEPLOY_SEED", random.randrange(1 << 16)))


@pytest.fixture(scope="module")
def bench(assets: Path) -> Callable[[str], Bench]:
    made: dict[str, Bench] = {}

    def of(name: str) -> Bench:
        return made.setdefault(name, Bench(subjects(assets)[name], assets / "images"))

    return of


@pytest.mark.slow
def test_a_sample_of_harmful_faults_is_refused(bench: Callable[[str], Bench]) -> None:
    """Again with the same sample: FACEDEPLOY_SEED=... in the environment."""
    for backend in ("openvino", "ncnn", "trt"):
        require(f"{backend}-fp32")
    draw = random.Random(SEED)
    written = []
    for name in FAULTS:
        if not (able := [q for q in HARMFUL if q[2] == name]):
            continue
        subject, network, _, target = draw.choice(able)
        answer = bench(subject).attempt(network, FAULTS[name], target, effect=False)
        assert answer is not None
        if not answer.refusal:
            written.append((subject, network, name, target))
    assert not written, f"with FACEDEPLOY_SEED={SEED} these were written: {written}"


def test_the_list_knows_each_fault_and_target() -> None:
    assert {fault for _, _, fault, _ in HARMFUL} <= FAULTS.keys()
    assert all(str(Target.parse(target)) == target for *_, target in HARMFUL)
    assert len(FAULTS) >= 80
