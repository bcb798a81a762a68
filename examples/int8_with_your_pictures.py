"""Calibrate int8 with your own pictures, and see what it costs and gains.

python examples/int8_with_your_pictures.py photos

The pictures should be such as the device will see: 100 to 300 of them, most with faces.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import facedeploy


def main() -> None:
    parser = argparse.ArgumentParser(description="Calibrate the default model with pictures, for an int8 target.")
    parser.add_argument("photos", type=Path, help="A folder of pictures.")
    parser.add_argument("--target", default="openvino-int8")
    parser.add_argument("--input-size", nargs=2, type=int, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--output", type=Path, default=Path("int8"))
    parser.add_argument("--force", action="store_true", help="Write it although it loses much.")
    args = parser.parse_args()
    height, width = args.input_size

    # A fifth of the pictures is held back, and says what int8 costs.
    artifact = facedeploy.export(
        "mos-tiny",
        args.target,
        output=args.output,
        input_size=(height, width),
        int8=facedeploy.Int8Options(calibration=args.photos, force=args.force),
    )
    calibration = artifact.manifest.calibration
    assert calibration is not None  # Every int8 artifact has it.
    print(f"calibrated with {calibration.pictures} pictures; {artifact.size / 1024:.0f} kB")
    if calibration.loss is not None:
        print(f"lost on pictures held back: {calibration.loss.points:.1f} points")
    if calibration.faster is not None:
        print(f"{calibration.faster:.2f} times as fast as fp32 on this machine")

    checked = facedeploy.verify(artifact, images=[args.photos])
    print("verified" if not checked.problems else "\n".join(checked.problems))


if __name__ == "__main__":
    main()
