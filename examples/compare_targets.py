"""Export one model for several targets, and see which is fastest on your pictures and what it costs.

python examples/compare_targets.py photos --targets openvino-fp32 openvino-int8 ncnn-fp32
"""

from __future__ import annotations

import argparse
from pathlib import Path

import facedeploy


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure targets of the default model side by side.")
    parser.add_argument("pictures", nargs="+", type=Path, help="Files, or folders of pictures.")
    parser.add_argument("--targets", nargs="+", default=["openvino-fp32", "ncnn-fp32", "onnx-fp32"])
    parser.add_argument("--input-size", nargs=2, type=int, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, help="Default: what 3 seconds a target allow.")
    parser.add_argument("--output", type=Path, default=Path("targets"))
    args = parser.parse_args()
    height, width = args.input_size

    artifacts = [args.output / f"mos-tiny-{target}-{height}x{width}" for target in args.targets]
    for target, artifact in zip(args.targets, artifacts, strict=True):
        if not artifact.exists():
            facedeploy.export("mos-tiny", target, output=artifact, input_size=(height, width))

    # They take turns on the same pictures, so that whatever else the machine does hits all of them alike.
    record = facedeploy.benchmark(artifacts, args.pictures, rounds=args.rounds, cold=False)
    for measured in record.measurements:
        ratio = measured.ratio
        lost = "-" if measured.lost is None else f"{measured.lost:.1f} points of AP lost"
        print(f"{measured.target:14} {ratio.value:.2f} times as fast ({ratio.low:.2f} to {ratio.high:.2f}), {lost}")
    print(f"fastest beyond doubt: {record.fastest or 'none'}")


if __name__ == "__main__":
    main()
