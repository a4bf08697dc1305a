"""Write the seeds of the fuzz targets, which are small valid files: `python fuzz/make_seeds.py`."""

import struct
import zlib
from pathlib import Path

import numpy as np

from metro_fast import _core, ops
from metro_fast.experts import compress
from metro_fast.experts.adapters.tensors import StateDict
from metro_fast.testing.strategies import random_trits

SEEDS = Path(__file__).parent / "seeds"


def write(target: str, name: str, data: bytes) -> None:
    """Write one seed."""
    (SEEDS / target).mkdir(parents=True, exist_ok=True)
    (SEEDS / target / name).write_bytes(data)


def write_corpora() -> None:
    """Write the seeds of the corpus: the kind, the length of the index, the index, the tokens."""

    def seed(name: str, kind: int, index: bytes, tokens: bytes) -> None:
        write("corpus", name, struct.pack("<BH", kind, len(index)) + index + tokens)

    ids = range(3, 3 + 40)
    ends = struct.pack("<4Q", 10, 10, 25, 40)
    seed("datatrove_2", 1, ends, struct.pack("<40H", *ids))
    seed("datatrove_4", 3, ends, struct.pack("<40I", *ids))
    lengths = (10, 1, 14, 15)
    starts = (0, 10, 11, 25)
    for name, code, width, letter in (("u16", 8, 2, "H"), ("i32", 4, 4, "i"), ("u8", 1, 1, "B")):
        entries = struct.pack("<4i4q", *lengths, *(width * start for start in starts))
        tokens = struct.pack(f"<40{letter}", *ids)
        head = b"MMIDIDX\0\0" + struct.pack("<QB", 1, code)
        seed(f"fairseq_{name}", 0, head + struct.pack("<Q", 4) + entries, tokens)
        table = struct.pack("<3q", 0, 2, 4)
        seed(f"megatron_{name}", 0, head + struct.pack("<QQ", 4, 3) + entries + table, tokens)


def main() -> None:
    """Write all seeds."""
    rng = np.random.default_rng(0)
    for coding in ("t4", "bitmask"):
        for count, density in ((0, 0.5), (3, 0.9), (300, 0.1), (3000, 0.05), (33_000, 0.01)):
            packed = ops.pack(random_trits(count, density, 1), coding=coding, steps=512)
            write("block", f"{coding}_{count}", packed.tobytes())
    normal = rng.standard_normal
    experts = {
        "lora": compress(
            {
                "m.lora_A.weight": normal((2, 40)).astype(np.float32),
                "m.lora_B.weight": normal((40, 2)).astype(np.float16),
                "m.classifier.bias": np.arange(3, dtype=np.int64),
            }
        ),
        "ia3": compress({"m.ia3_l": normal(64).astype(np.float32)}, alpha="least_squares"),
        "other": compress({"w": normal((70, 70)).astype(np.float32)}, kind="other", density=0.05),
        "metadata": compress(
            StateDict({"m.ia3_l": np.arange(40, dtype=np.float32)}, {"a": '{"b": 1}', "é": ""})
        ),
        "full": compress(
            {"w": np.float32([[1, 3], [3, 5]])},
            kind="full",
            density=0.5,
            initial={"w": np.float32([[1, 2], [3, 4]])},
        ),
    }
    for name, expert in experts.items():
        file = expert.file.tobytes()
        write("expert", name, file)
        write("container", name, file)
        manifest = expert.manifest.to_json().encode()
        write("manifest", name, manifest)
        # A number for which a careless parser gets the last bit wrong.
        far = manifest.replace(
            b'"alpha": 1.0', b'"alpha": 1222222222222222222222222222222222222220'
        )
        write("manifest", "far_number", far)
        parts = {p[0]: file[p[3] : p[4]] for p in _core.decode_safetensors(expert.file)}
        json = zlib.decompress(parts["compeft.manifest"], -15)
        scales, trits = parts["compeft.scales"], parts["compeft.trits"]
        dense = b"".join(data for key, data in parts.items() if key.startswith("dense."))
        lengths = struct.pack("<3H", len(json), len(scales), len(trits))
        write("expert", f"{name}_parts", lengths + json + scales + trits + dense)
    write_corpora()
    write("container", "empty", struct.pack("<Q", 2) + b"{}")


if __name__ == "__main__":
    main()
