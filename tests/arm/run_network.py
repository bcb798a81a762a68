"""Run every network of an artifact on given inputs: on this processor by import, on another one as a script.

    run_network.py ARTIFACT FEEDS.npz ANSWERS.npz ROUNDS

Arrays are named `network/case/tensor`. The answers also hold `network/case/seconds`, the processor time of each round.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping

import numpy as np

from facedeploy.artifact.folder import Artifact
from facedeploy.runtimes import open_network
from facedeploy.runtimes.base import Arrays, RuntimeOptions


def answer(artifact: Artifact, feeds: Mapping[str, Arrays], rounds: int = 1) -> dict[str, Arrays]:
    """The outputs and times of `{"network/case": inputs}`. All cases take turns in each round, on one thread."""
    manifest = artifact.manifest
    with contextlib.ExitStack() as stack:
        runtimes = {
            network.spec.name: stack.enter_context(
                open_network(manifest.model, manifest.target, network, artifact.path, RuntimeOptions(1))
            )
            for network in manifest.networks
        }
        answers: dict[str, Arrays] = {}
        seconds = np.zeros((rounds, len(feeds)))
        for row in seconds:
            for i, (case, feed) in enumerate(feeds.items()):
                began = time.process_time()
                answers[case] = runtimes[case.partition("/")[0]].run(feed)
                row[i] = time.process_time() - began
    return {case: {**answers[case], "seconds": seconds[:, i]} for i, case in enumerate(feeds)}


def save(path: str, cases: Mapping[str, Arrays]) -> None:
    arrays = {f"{case}/{name}": array for case, named in cases.items() for name, array in named.items()}
    np.savez(path, **arrays)  # type: ignore[arg-type]  # newer ones have a keyword of another type


def read(path: str) -> dict[str, Arrays]:
    cases: dict[str, Arrays] = {}
    with np.load(path) as arrays:
        for key in arrays:
            case, _, name = key.rpartition("/")
            cases.setdefault(case, {})[name] = arrays[key]
    return cases


if __name__ == "__main__":
    save(sys.argv[3], answer(Artifact.open(sys.argv[1]), read(sys.argv[2]), int(sys.argv[4])))
