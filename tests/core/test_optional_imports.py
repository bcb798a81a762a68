"""Libraries of extras: imported when they are used, or an error that names the extra."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from facedeploy.core import optional_imports
from facedeploy.core.errors import BackendUnavailableError
from facedeploy.core.optional_imports import LazyModule

LAZY = sorted(n for n in optional_imports.__all__ if isinstance(getattr(optional_imports, n), LazyModule))


def test_attributes_are_those_of_the_library() -> None:
    library = LazyModule("json", "export")
    assert library.dumps is json.dumps
    with pytest.raises(AttributeError, match="nothing"):
        _ = library.nothing


def test_submodule_that_its_library_does_not_import() -> None:
    """In a process of its own, where nothing has imported it yet."""
    code = "from facedeploy.core.optional_imports import onnx_inliner as m; print(m.inline_local_functions.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "inline_local_functions"


def test_nothing_is_imported_before_it_is_used() -> None:
    code = f"""if True:
        import sys, facedeploy.export.openvino, facedeploy.export.ncnn.convert, facedeploy.graph.from_torch
        import facedeploy.core.optional_imports as o
        for name in {LAZY}:
            assert not hasattr(getattr(o, name), "__wrapped__")
        print([m for m in ("torch", "onnx", "onnxsim", "onnxruntime", "openvino", "ncnn", "pnnx") if m in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", LAZY)
def test_missing_library_names_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = getattr(optional_imports, name)
    module = vars(lazy)["_module"]
    for part in [module, module.split(".")[0]]:
        monkeypatch.setitem(sys.modules, part, None)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'facedeploy\[(export|onnx|openvino|ncnn)\]'"):
        _ = lazy.anything
