"""The models that can be deployed, with the shapes of their networks. Needs no PyTorch to import."""

from __future__ import annotations

from facedeploy.errors import InputError
from facedeploy.models.model import Model, Size
from facedeploy.spec import Axis, NetworkSpec, TensorSpec


def _mtcnn(size: Size) -> tuple[NetworkSpec, ...]:
    height, width = size

    def level(name: str, maximum: int) -> Axis:
        # P-Net sees every level of the pyramid; the first of a 20-pixel face search is 12/20 of the picture.
        return Axis(name, 12, max(12, maximum * 12 // 20), max(12, maximum))

    def crops(name: str, side: int, batch: Axis, outputs: dict[str, int]) -> NetworkSpec:
        return NetworkSpec(
            name,
            inputs=(TensorSpec("image", ("batch", 3, side, side)),),
            outputs=tuple(TensorSpec(k, ("batch", n)) for k, n in outputs.items()),
            axes=(batch,),
        )

    pnet = NetworkSpec(
        "pnet",
        inputs=(TensorSpec("image", (1, 3, "height", "width")),),
        outputs=(
            TensorSpec("score", (1, 1, "rows", "columns")),
            TensorSpec("box", (1, 4, "rows", "columns")),
        ),
        axes=(level("height", height), level("width", width)),
    )
    # 256 crops a call: no slower per crop than thousands, and a backend that compiles for each new batch size
    # (OpenVINO: 10 ms at 180 crops, 240 ms at 1800) meets few of them.
    rnet = crops("rnet", 24, Axis("batch", 1, 64, 256), {"score": 1, "box": 4})
    onet = crops("onet", 48, Axis("batch", 1, 8, 64), {"score": 1, "box": 4, "landmarks": 10})
    return pnet, rnet, onet


MODELS = {
    model.id: model
    for model in (
        Model(
            id="mtcnn",
            title="MTCNN: three-stage cascade, boxes and 5 landmarks",
            module="mtcnn",
            specs=_mtcnn,
            family="mtcnn",
            input_size=(1080, 1920),
            weights="github.com/Enderfga/mtCNN_sysu, model_store/ (pnet, rnet and onet_epoch_20.pt)",
            licence="none stated",
            # Suppression ranks thousands of windows whose scores differ by less than half precision resolves, and
            # each exchange moves a crop: over 12 pictures the same faces come back with scores off by 0.001 and boxes
            # by 0.04 pixels like this, by 0.14 and 19 pixels with all three networks in fp16.
            float32={"pnet": ("",), "rnet": ("",), "onet": ("pre_layer.0.",)},
        ),
    )
}


def get(model: str) -> Model:
    """Look up a model.

    Raises:
        InputError: no such model; the message lists those that exist.
    """
    if model not in MODELS:
        msg = f"there is no model {model!r}; models are {', '.join(MODELS)}"
        raise InputError(msg)
    return MODELS[model]
