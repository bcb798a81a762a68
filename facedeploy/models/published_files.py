"""Where the authors of models put their weights, and where they lie here once they were fetched."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_MB = 1 << 20


@dataclass(frozen=True)
class PublishedFile:
    """A file of a checkpoint.

    Attributes:
        name: What it is called here, as `--weights` wants it. What a server calls it is not asked.
        url: Where it is.
        limit: Bytes that it surely does not exceed.
        digest: "sha256:" and its SHA-256, or "git:" and what git calls its content, in hexadecimal; empty where neither
            is known.
        member: Its path in the zip that is at `url`; empty where the file itself is there.
    """

    name: str
    url: str
    limit: int
    digest: str = ""
    member: str = ""


@dataclass(frozen=True)
class Publication:
    """The weights of a model as their authors publish them.

    Attributes:
        name: What they are called here.
        authors: Whose they are.
        page: Where a person reads about them, and gets them by hand.
        files: All that `--weights` needs.
    """

    name: str
    authors: str
    page: str
    files: tuple[PublishedFile, ...]

    @property
    def home(self) -> Path:
        """The folder where they lie once they were fetched, in the user's cache."""
        cache = os.environ.get("XDG_CACHE_HOME", "")
        # A relative path there says nothing, by the XDG Base Directory Specification.
        return (Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache") / "facedeploy/weights" / self.name

    @property
    def fetched(self) -> Path | None:
        """That folder, if they are in it."""
        return self.home if all((self.home / file.name).is_file() for file in self.files) else None


def _raw(repository: str, commit: str, path: str) -> str:
    return f"https://raw.githubusercontent.com/{repository}/{commit}/{path}"


def _cascade(repository: str, commit: str, path: str, digests: dict[str, str]) -> tuple[PublishedFile, ...]:
    return tuple(
        PublishedFile(f"{part}.pt", _raw(repository, commit, path.format(part)), 4 * _MB, f"sha256:{digest}")
        for part, digest in digests.items()
    )


def _modelscope(model: str, name: str, limit: int) -> PublishedFile:
    url = f"https://modelscope.cn/api/v1/models/{model}/repo?Revision=master&FilePath=pytorch_model.pt"
    return PublishedFile(name, url, limit)


_MOS = "lyp-deeplearning/MOS-Multi-Task-Face-Detect"
_MOS_COMMIT = "38c6067d287e65bc06a9f3c253934a538e7b3a2f"


def _mos(name: str, content: str) -> Publication:
    file = f"{name.upper()}.pth"
    url = _raw(_MOS, _MOS_COMMIT, f"test_weights/{file}")
    return Publication(
        name,
        "Yepeng Liu and others (MOS, BMVC 2021)",
        f"https://github.com/{_MOS}",
        (PublishedFile(file, url, 128 * _MB, f"git:{content}"),),
    )


MOS = {
    "m": _mos("mos-m", "a0bee281413fc3adec5b6cc3235ce636f359d48a"),
    "s": _mos("mos-s", "f762b0b54fb3c7964f296a0f06830c41fe1092dc"),
}

MTCNN = Publication(
    "mtcnn",
    "Enderfga (mtCNN_sysu), after the MTCNN of Kaipeng Zhang and others",
    "https://github.com/Enderfga/mtCNN_sysu",
    _cascade(
        "Enderfga/mtCNN_sysu",
        "957112b50ac5fc3592020293d4a86fcffd2be996",
        "model_store/{}_epoch_20.pt",
        {
            "pnet": "e818bafbe694390fba4cf59cad9d67a04ed8fb9297e5b4032c3d2af3832e5365",
            "rnet": "cfe5d5abf979cb3d7eda838d9d6c8e1b582e4a53a1d20e9b6ff54953ed3ba042",
            "onet": "53e8fe6d59c0b3cd75ae24f37756e056e05b9fa555cd9e442543aef54cc5f887",
        },
    ),
)
MTCNN_FACENET = Publication(
    "mtcnn-facenet",
    "Timothy Esler (facenet-pytorch), after the MTCNN of Kaipeng Zhang and others",
    "https://github.com/timesler/facenet-pytorch",
    _cascade(
        "timesler/facenet-pytorch",
        "787da06156087cd6b616fe6608213722bddc30cd",
        "data/{}.pt",
        {
            "pnet": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
            "rnet": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
            "onet": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
        },
    ),
)

LANDMARKS106 = Publication(
    "landmarks106",
    "Alibaba's DAMO Academy (ModelScope)",
    "https://modelscope.cn/models/damo/cv_mobilenet_face-2d-keypoints_alignment",
    (_modelscope("damo/cv_mobilenet_face-2d-keypoints_alignment", "landmarks106.pt", 64 * _MB),),
)
MOGFACE = Publication(
    "mogface",
    "Yang Liu and others (MogFace, CVPR 2022), Alibaba's DAMO Academy (ModelScope)",
    "https://modelscope.cn/models/damo/cv_resnet101_face-detection_cvpr22papermogface",
    (_modelscope("damo/cv_resnet101_face-detection_cvpr22papermogface", "mogface.pt", 1024 * _MB),),
)

_IMG2POSE = "vitoralbiero/img2pose"
_IMG2POSE_COMMIT = "fd5473efb83d78c530afc7db12b7c2aa631ea5cb"
# The Model Zoo of its wiki leads to a zip on Google Drive; `confirm` says that it need not be looked at for viruses.
_IMG2POSE_ZIP = (
    "https://drive.usercontent.google.com/download?id=1OvnZ7OUQFg2bAgFADhT7UnCkSaXst10O&export=download&confirm=t"
)
IMG2POSE = Publication(
    "img2pose",
    "Vitor Albiero and others (img2pose, CVPR 2021)",
    f"https://github.com/{_IMG2POSE}/wiki/Model-Zoo",
    (
        *(
            PublishedFile(name, _IMG2POSE_ZIP, 1024 * _MB, member=f"models/{name}")
            for name in ("img2pose_v1.pth", "WIDER_train_pose_mean_v1.npy", "WIDER_train_pose_stddev_v1.npy")
        ),
        *(
            PublishedFile(name, _raw(_IMG2POSE, _IMG2POSE_COMMIT, f"pose_references/{name}"), _MB, f"sha256:{digest}")
            for name, digest in (
                (
                    "reference_3d_68_points_trans.npy",
                    "e0ef4f01b659229085f5c89521faba3c85e915e6c76ff89cd8ffe8ad25515088",
                ),
                ("reference_3d_5_points_trans.npy", "a9fce645484c7e326ab7ca19c77e8b99f69f5d6506ef751da4335487a76e1ccb"),
            )
        ),
    ),
)
