"""The tutorial, word by word in an empty folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.test_readme import ROOT, run

TUTORIAL = (ROOT / "docs" / "tutorials" / "first.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_tutorial(tmp_path: Path) -> None:
    """Its commands and files in their order, in a folder beside the repository; what it shows of the output is true."""
    pytest.importorskip("ncnn")
    pytest.importorskip("pnnx")
    (tmp_path / "facedeploy").symlink_to(ROOT, target_is_directory=True)
    folder = tmp_path / "first"
    folder.mkdir()
    said = ""
    for name, text in re.findall(r"<!-- tested(?:: (.*?))? -->\n```\w+\n(.*?)```", TUTORIAL, flags=re.DOTALL):
        if name:
            (folder / name).write_text(text, encoding="utf-8")
            continue
        for line in text.strip().splitlines():
            said += run(["sh", "-c", line], folder).stdout
    assert (folder / "checkpoint" / "mos.safetensors").is_file()
    assert (folder / "drawn" / "astronaut.jpg").is_file()
    assert (folder / "report" / "index.html").is_file()
    assert (folder / "app" / "face" / "README.md").is_file()
    assert re.search(r"desk: 2 networks, [\d,]+ kB; largest difference from PyTorch .*\(detector.boxes\)", said)
    assert "photos/astronaut.jpg: 1 face\n  0.877     173.8     62.9    275.8    168.0  yaw 0  pitch -8  roll 4" in said
    assert said.count("1 the same, 0 missing, 0 extra") == 2
    assert said.count("verified") == 3
