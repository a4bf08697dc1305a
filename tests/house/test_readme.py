"""The four jobs of the README, run as a reader would paste them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.mark.slow  # four fresh interpreters that import torch, one of them pretrains for 20 steps
def test_every_block_of_the_readme_runs(tmp_path: Path) -> None:
    shutil.copy(README, tmp_path / "README.md")
    blocks = re.findall(r"^```(python|bash)\n(.*?)^```", README.read_text("utf-8"), re.S | re.M)
    assert [language for language, _ in blocks] == ["python", "bash", "python", "python"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for language, code in blocks:
        command = [sys.executable, "-c", code] if language == "python" else ["bash", "-ec", code]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "run" / "main" / "config.json").is_file()
    assert (tmp_path / "expert-small" / "adapter_model.compeft.safetensors").is_file()
    assert (tmp_path / "report.html").is_file()
