"""Deploy a PyTorch network of your own, and find faces with it.

python examples/own_network.py photo.jpg

`make` below stands for your code. Its network takes whatever has the colour of skin, with another colour around it,
for a face: that needs no training, and shows what an own network gives (own_network.toml says what its outputs mean).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import torch
from torch import Tensor, nn
from torch.nn import functional

import facedeploy

HEIGHT, WIDTH = 128, 128
SIDES = (24, 32, 40)  # Of the boxes that are looked at, in pixels of the network's input.
STRIDE = 4


class SkinFinder(nn.Module):
    """Boxes of skin with something else around them.

    Input: (1, 3, HEIGHT, WIDTH) float32, BGR, 0..255. Outputs: boxes (1, P, 4), as x1, y1, x2, y2 in pixels of the
    input; scores (1, P), 0..1.
    """

    places: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Skin in the two colour axes of ITU-R BT.601, which are 0 for grey.
        self.mean = nn.Parameter(torch.tensor([22.0, -15.0]))
        self.spread = nn.Parameter(torch.tensor([10.0, 12.0]))
        y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
        self.register_buffer("places", torch.stack([x, y])[None], persistent=False)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        blue, green, red = image.chunk(3, dim=1)
        cr = 0.5 * red - 0.4187 * green - 0.0813 * blue
        cb = 0.5 * blue - 0.3313 * green - 0.1687 * red
        off = (torch.cat([cr, cb], dim=1) - self.mean[:, None, None]) / self.spread[:, None, None]
        skin = torch.exp(-(off * off).sum(dim=1, keepdim=True)) + 1e-3  # Some everywhere, so that it has a centre.
        found = [self.look(skin, side) for side in SIDES]
        return {"boxes": torch.cat([b for b, _ in found], dim=1), "scores": torch.cat([s for _, s in found], dim=1)}

    def look(self, skin: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Boxes of one size, (1, P, 4), each around the centre of the skin at its place, and their scores, (1, P).

        skin: (1, 1, HEIGHT, WIDTH), 0..1.
        """

        def inside(values: Tensor) -> Tensor:
            return functional.avg_pool2d(values[:, :, side // 2 : -(side // 2), side // 2 : -(side // 2)], side, STRIDE)

        skin_inside, skin_around = inside(skin), functional.avg_pool2d(skin, 2 * side, STRIDE)
        centre = inside(skin * self.places) / skin_inside
        boxes = torch.cat([centre - side / 2, centre + side / 2], dim=1).flatten(2).transpose(1, 2)
        return boxes, (skin_inside * (1 - (4 * skin_around - skin_inside) / 3)).flatten(1)


def make() -> nn.Module:
    """What `own_network:make` names: a callable without arguments that gives the network."""
    return SkinFinder()


def main() -> None:
    parser = argparse.ArgumentParser(description="Deploy the network of this file, and find faces with it.")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--target", default="openvino-fp32")
    parser.add_argument("--output", type=Path, default=Path("own-network"))
    args = parser.parse_args()

    # Your training has left a state dict; here it is what the network starts with.
    args.output.mkdir(parents=True, exist_ok=True)
    weights = args.output / "skin.pth"
    torch.save(make().state_dict(), weights)

    # The module is looked for where Python looks: beside this file, and in the current folder.
    artifact = facedeploy.export(
        "own_network:make",
        args.target,
        weights,
        args.output / args.target,
        config=Path(__file__).with_suffix(".toml"),
    )

    image = cv2.imread(str(args.picture))
    if image is None:
        parser.error(f"{args.picture} is not a picture that OpenCV reads")
    with facedeploy.load(artifact) as pipeline:
        for face in pipeline.detect(image):
            print(f"score {face.score:.2f}, box {[round(v) for v in face.box]}")

    # The artifact against the module that it came from: every output, and the faces in this picture.
    checked = facedeploy.verify(artifact, weights, [args.picture], factory="own_network:make")
    print("verified" if not checked.problems else "\n".join(checked.problems))


if __name__ == "__main__":
    main()
