"""Find the faces in pictures, print them, and draw them.

python examples/detect_faces.py photo.jpg another.jpg --output found
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

import facedeploy


def main() -> None:
    parser = argparse.ArgumentParser(description="Find the faces in pictures with the default model.")
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--target", default="openvino-fp32")
    parser.add_argument("--input-size", nargs=2, type=int, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--output", type=Path, default=Path("found"))
    args = parser.parse_args()
    height, width = args.input_size

    # An artifact is made once and used many times: here for as long as its folder stays.
    artifact = args.output / f"mos-tiny-{args.target}-{height}x{width}"
    if not artifact.exists():
        facedeploy.export("mos-tiny", args.target, output=artifact, input_size=(height, width))

    with facedeploy.load(artifact, options={"score_threshold": 0.6}) as pipeline:
        for path in args.pictures:
            image = cv2.imread(str(path))  # (H, W, 3) uint8, BGR: what `detect` takes.
            if image is None:
                parser.error(f"{path} is not a picture that OpenCV reads")
            faces = pipeline.detect(image)
            for face in faces:
                x1, y1, x2, y2 = face.box
                print(f"{path.name}: a face at {x1:.0f},{y1:.0f}..{x2:.0f},{y2:.0f}, sure to {face.score:.0%}")
            cv2.imwrite(str(args.output / path.name), facedeploy.draw(image, faces))


if __name__ == "__main__":
    main()
