"""Hold a wheel to the glibc it promises, install it in a fresh venv and call each op there once.

Run by `make wheel` with the path of a wheel. It uses the standard library alone, so that nothing of
the development environment can hide something that the wheel lacks.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
Version = tuple[int, int]

CALLS = """
import sys
import numpy as np
import metro_fast
from metro_fast import ops

assert "torch" not in sys.modules
ids = np.arange(10, 74, dtype=np.uint16).reshape(2, 32)
spans = ops.corrupt_spans(ids)
print("corrupt_spans", spans.input_ids.shape, spans.labels.shape)
masks = ops.mask_tokens(ids, mask_token_id=4, vocab_size=100)
print("mask_tokens", masks.input_ids.shape, masks.masked_positions.size, "masked")
logits = np.random.default_rng(0).standard_normal((3, 50)).astype(np.float32)
sampled = ops.sample_replacements(logits, seed=1)
print("sample_replacements", sampled)
replaced = ops.replaced_token_labels(np.array([[1, 2, 3]]), sampled, np.arange(3))
print("replaced_token_labels", replaced.input_ids, replaced.labels)
ternary = ops.ternarize(logits, density=0.2)
print("ternarize", int(np.count_nonzero(ternary.trits)), "of", ternary.trits.size)
packed = ops.pack(ternary.trits)
restored = ops.unpack(packed, ternary.trits.size, scale=ternary.scale)
assert np.array_equal(restored.reshape(logits.shape), ternary.trits * np.float32(ternary.scale))
print("pack, unpack", packed.nbytes, "bytes")
print("metro_fast", metro_fast.__version__, "from", metro_fast.__file__)
"""


def versions(pattern: str, text: str) -> list[Version]:
    """Return the versions that the two groups of a pattern find in a text, oldest first."""
    return sorted((int(major), int(minor)) for major, minor in re.findall(pattern, text))


def promised_glibc() -> Version:
    """Return the oldest glibc that a wheel has to run on: `compatibility` of pyproject.toml."""
    maturin = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["maturin"]
    return versions(r"manylinux_(\d+)_(\d+)", maturin["compatibility"])[0]


def fault_of_age(wheel: Path) -> str | None:
    """Say why a wheel for Linux cannot run on the glibc that is promised, or return None.

    Its tag decides where pip installs it, and the versions of the symbols that its libraries
    import decide where they load: both are compared with the promise.
    """
    tags = wheel.stem.split("-")[-1]
    if "linux" not in tags:
        return None
    promised = promised_glibc()
    written = "glibc {}.{}".format
    tagged = versions(r"manylinux_(\d+)_(\d+)_", tags)
    if not tagged or tagged[0] > promised:
        return f"its tag is {tags}, but wheels are promised for {written(*promised)}"
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".so"):
                # The names of versions are plain text in the library's table of strings.
                needed = versions(r"GLIBC_(\d+)\.(\d+)", archive.read(name).decode("latin-1"))
                if needed and needed[-1] > promised:
                    return f"{name} needs {written(*needed[-1])}, not {written(*promised)}"
                print(name, "needs", written(*needed[-1]) if needed else "no glibc")
    return None


def main() -> None:
    """Check the wheel named on the command line."""
    (wheel,) = (Path(argument).resolve() for argument in sys.argv[1:])
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB")
    if fault := fault_of_age(wheel):
        sys.exit(f"{wheel.name}: {fault}; build it with `make wheel`, which links with zig")
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)],
            check=True,
        )
        subprocess.run([python, "-c", CALLS], check=True, cwd=folder)
        command = str(Path(folder) / "bin" / "metro-fast")
        subprocess.run([command, "--help"], check=True, cwd=folder, stdout=subprocess.DEVNULL)
        subprocess.run([command, "env"], check=True, cwd=folder)


if __name__ == "__main__":
    main()
