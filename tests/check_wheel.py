"""Install a wheel in a fresh venv outside the tree, import it there and call each op once.

Run by `make wheel` with the path of a wheel. It uses the standard library alone, so that nothing of
the development environment can hide something that the wheel lacks.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

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


def main() -> None:
    """Check the wheel named on the command line."""
    (wheel,) = (Path(argument).resolve() for argument in sys.argv[1:])
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB")
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
