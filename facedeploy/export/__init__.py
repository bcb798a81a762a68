"""Checkpoint to artifact: ONNX, its passes, and one compiler per backend."""

from __future__ import annotations

import sys
import types
from typing import Any


class _Verb(types.ModuleType):
    """This folder has the name of the verb `facedeploy.export`, so the module answers to the call as well."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from facedeploy.export.exporter import export

        return export(*args, **kwargs)


sys.modules[__name__].__class__ = _Verb
