"""The models that can be deployed. Needs no PyTorch to import."""

from __future__ import annotations

from dataclasses import replace

from facedeploy.core.errors import InputError
from facedeploy.core.terms import Terms
from facedeploy.models import network_specs as specs
from facedeploy.models import published_files
from facedeploy.models.model import Model

_MOS_SOURCE = "github.com/lyp-deeplearning/MOS-Multi-Task-Face-Detect, test_weights/MOS-{}.pth"


def _mos(size: str, backbone: str) -> tuple[Model, Model]:
    """A MOS as it is deployed, and the published graph as it is."""
    deployed = Model(
        id=f"mos-{size}",
        title=f"MOS-{size.upper()}: boxes, 5 landmarks, head pose; {backbone}, deformable convolutions",
        architecture=f"mos_networks:MOS_{size.upper()}",
        specs=specs.mos,
        family="mos",
        input_size=(480, 640),
        terms=Terms("MIT", "allowed", _MOS_SOURCE.format(size.upper())),
        published=published_files.MOS[size],
        parts=("mos",),
        any_size=True,
        # Sampling positions stay in float32 in any case, and so do the heads: half precision resolves the pixel
        # coordinates of a box to half a pixel at 640. Each candidate is taken where the one before it moves boxes.
        float32={
            "detector": (("heads.",), ("heads.", "mos.body."), ("",)),
            "pose": (("bins.",), ("",)),
        },
    )
    published = replace(
        deployed,
        id=f"mos-{size}-published",
        title=f"MOS-{size.upper()} as published: every head on every prior, nothing folded; to compare with",
        architecture=f"mos_networks:MOS_{size.upper()}_PUBLISHED",
        specs=specs.mos_published,
        family="mos-published",
        float32={"mos": ((), ("body.",), ("",))},
    )
    return deployed, published


_MTCNN = Model(
    id="mtcnn",
    title="MTCNN: three-stage cascade, boxes and 5 landmarks",
    architecture="mtcnn:MTCNN",
    specs=specs.mtcnn,
    family="mtcnn",
    input_size=(1080, 1920),
    published=published_files.MTCNN,
    terms=Terms(
        "none stated", weights="github.com/Enderfga/mtCNN_sysu, model_store/ (pnet, rnet and onet_epoch_20.pt)"
    ),
    # Suppression ranks thousands of windows whose scores differ by less than half precision resolves, and each exchange
    # moves a crop: over 12 pictures the same faces come back with scores off by 0.001 and boxes by 0.04 pixels like
    # this, by 0.14 and 19 pixels with all three networks in fp16.
    float32={"pnet": (("",),), "rnet": (("",),), "onet": (("pre_layer.0.",),)},
)
_MTCNN_FACENET = replace(
    _MTCNN,
    architecture="mtcnn_facenet:MTCNN_FACENET",
    specs=specs.mtcnn_facenet,
    terms=Terms("MIT", "allowed", "github.com/timesler/facenet-pytorch, data/ (pnet.pt, rnet.pt and onet.pt)"),
    published=published_files.MTCNN_FACENET,
    options={
        "conventions": "facenet",
        "min_face": 20.0,
        "preprocess": {"colours": "rgb", "mean": [127.5] * 3, "scale": 1 / 128, "resize": "area"},
    },
    float32={"pnet": (("",),), "rnet": (("",),), "onet": (("body.0.",),)},
)

DEFAULT = "mos-tiny"  # What a command means when it names no model.

MODELS = {
    model.id: model
    for model in (
        Model(
            id="mos-tiny",
            title="MOS-tiny, the default: boxes, 5 landmarks, head pose; small, with its weights in this package",
            architecture="mos_tiny:MOS_TINY",
            specs=specs.mos_tiny,
            family="mos",
            input_size=(240, 320),
            terms=Terms(
                "research and demonstration (docs/explanation/mos-tiny.md)", "not allowed", "in the package facedeploy"
            ),
            embedded="mos-tiny.safetensors",
            parts=("mos",),
            any_size=True,
            float32={
                "detector": (("mos.heads.",), ("mos.heads.", "mos.stem."), ("",)),
                "pose": (("bins.",), ("",)),
            },
        ),
        replace(
            _MTCNN,
            terms=Terms(
                f"{_MTCNN.terms.licence}, or {_MTCNN_FACENET.terms.licence}",
                weights=f"{_MTCNN.terms.weights}, or {_MTCNN_FACENET.terms.weights}",
            ),
            layouts=(_MTCNN, _MTCNN_FACENET),
        ),
        *_mos("m", "MobileNetV2"),
        *_mos("s", "ShuffleNetV2"),
        Model(
            id="landmarks106",
            title="106 landmarks and head pose of a face that is already found: detect --with",
            architecture="landmarks106:LANDMARKS106",
            specs=specs.landmarks106,
            published=published_files.LANDMARKS106,
            family="landmarks106",
            input_size=(96, 96),
            terms=Terms(
                "Apache-2.0",
                "allowed",
                "modelscope.cn, damo/cv_mobilenet_face-2d-keypoints_alignment, pytorch_model.pt",
            ),
            # Points are pixels of a crop of 96: a half near there is rounded to a sixteenth.
            float32={"landmarks": (("points.9.",), ("points.", "pose."), ("",))},
        ),
        Model(
            id="img2pose",
            title="img2pose: boxes, 5 landmarks and a pose in six degrees of freedom; ResNet-18 with a feature pyramid",
            architecture="img2pose_networks:IMG2POSE",
            specs=specs.img2pose,
            published=published_files.IMG2POSE,
            family="img2pose",
            input_size=(608, 800),
            terms=Terms(
                "CC BY-NC 4.0 (not for commercial use)",
                "not allowed",
                "github.com/vitoralbiero/img2pose, models/img2pose_v1.pth or img2pose_v1_ft_300w_lp.pth",
            ),
            parts=("img2pose",),
            constants={
                "pose_mean": "WIDER_train_pose_mean_v1.npy",
                "pose_std": "WIDER_train_pose_stddev_v1.npy",
                "points68": "reference_3d_68_points_trans.npy",
                "points5": "reference_3d_5_points_trans.npy",
            },
            # Proposals are pixels, which half precision resolves to half of one at 800.
            float32={
                "proposer": (("head.cls_logits.", "head.bbox_pred."), ("head.",), ("",)),
                "head": ((), ("score.", "hidden.", "dof."), ("",)),
            },
        ),
        Model(
            id="mogface",
            title="MogFace (ResNet-101): boxes down to a few pixels; very large",
            architecture="mogface_networks:MOGFACE",
            specs=specs.mogface,
            published=published_files.MOGFACE,
            family="mogface",
            input_size=(480, 640),
            terms=Terms(
                "none stated by damo-cv/MogFace; Apache-2.0 for modelscope's code",
                weights="modelscope.cn, damo/cv_resnet101_face-detection_cvpr22papermogface, pytorch_model.pt",
            ),
            parts=("mogface",),
            any_size=True,
            float32={
                "features": ((), ("backbone.",), ("",)),
                "head": ((), ("pred_net.pred_loc.", "pred_net.pred_cls."), ("",)),
            },
        ),
    )
}


def get(model: str) -> Model:
    """Look up a model.

    Args:
        model: Its id, such as "mos-m".

    Returns:
        The facts about it.

    Raises:
        InputError: no such model; the message lists those that exist.
    """
    if model not in MODELS:
        msg = f"there is no model {model!r}; models are {', '.join(MODELS)}"
        raise InputError(msg)
    return MODELS[model]


def published(name: str) -> Model:
    """The model whose published weights are called so, in their layout.

    Args:
        name: Id of a model, which means its first layout; or the name of a layout's weights, such as "mtcnn-facenet".

    Raises:
        InputError: there are none.
    """
    layouts = {m.published.name: m for known in MODELS.values() for m in known.layouts if m.published}
    return layouts.get(name) or get(name)
