"""Damaged expert files are refused, or their content is unchanged.

`METRO_FAST_FULL=1 pytest -s tests/experts/file/test_hostile_files.py` damages 100,000 files and
prints the counts.
"""

import json
import os
import struct
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metro_fast import FormatError, MetroFastError, _core
from metro_fast.experts import Expert, compress
from metro_fast.experts.adapters.checkpoint import read_places
from metro_fast.experts.adapters.state_file import read_safetensors
from metro_fast.experts.adapters.tensors import StateDict

FULL = bool(os.environ.get("METRO_FAST_FULL"))
DAMAGES = 100_000 if FULL else 3_000
KINDS = ("flipped bit", "cut", "splice", "duplicated block", "zeroed block")


def experts() -> list[Expert]:
    """Experts of every coding, dtype and initial value; two of three hold dense tensors."""
    rng = np.random.default_rng(0)

    def normal(*shape: int, dtype: type = np.float32) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    lora = {
        "m.lora_A.weight": normal(8, 200),
        "m.lora_B.weight": normal(200, 8, dtype=np.float16),
    }
    head = {"m.classifier.weight": normal(3, 64), "m.classifier.bias": normal(3)}
    return [
        compress(lora | head, density=0.2),
        compress({"m.ia3_l": normal(4096)} | head, density=0.05, alpha="least_squares"),
        compress({"w": normal(300, 300)}, kind="other", density=0.02),
        compress({"m.lora_A.weight": normal(2, 9), "m.lora_B.weight": normal(9, 2)} | head),
        compress({"w": normal(40, 40)}, kind="full", initial={"w": normal(40, 40)}, density=0.5),
        compress({"m.prompt_embeddings": normal(20, 64), "m.classifier.bias": normal(3)}),
        compress(StateDict(lora | head, {"format": "pt", "lora_adapter_metadata": '{"r": 8}'})),
    ]


def damaged(rng: np.random.Generator, kind: str, file: np.ndarray) -> np.ndarray:
    """One file, damaged in one way; never the same bytes."""
    while True:
        size = file.size
        at, other = (int(place) for place in rng.integers(0, size, 2))
        length = int(rng.integers(1, max(2, min(512, size // 4))))
        new = file.copy()
        if kind == "flipped bit":
            new[at] ^= 1 << int(rng.integers(8))
        elif kind == "cut":
            new = new[:at]
        elif kind == "splice":
            length = min(length, size - max(at, other))
            new[at : at + length] = file[other : other + length]
        elif kind == "duplicated block":
            block = file[at : at + length]
            new = np.concatenate([file[: at + block.size], block, file[at + block.size :]])
        else:
            new[at : at + length] = 0
        if not np.array_equal(new, file):
            return new


def content(expert: Expert) -> list[tuple[str, str, bytes]]:
    """Everything that a user reads from the file, as bytes."""
    trits = {name: trits.tobytes() for name, trits in expert.trits().items()}
    scales = [("scales", "F32", expert.scales.tobytes())]
    if any(tensor.initial == "given" for tensor in expert.manifest.tensors):
        return scales + sorted((name, "trits", data) for name, data in trits.items())
    return scales + [(n, t.dtype, t.bytes.tobytes()) for n, t in expert.raw().items()]


@pytest.mark.timeout(3600)
def test_damage_is_refused_or_changes_nothing():
    rng = np.random.default_rng(20_260_311)
    originals = experts()
    wholes = [(expert.manifest, content(expert)) for expert in originals]
    with_dense = [i for i, expert in enumerate(originals) if expert.manifest.dense]
    assert len(with_dense) * 2 > len(originals)
    counts: Counter[tuple[str, str]] = Counter()
    slowest, dense = 0.0, 0
    for trial in range(DAMAGES):
        kind, which = KINDS[trial % len(KINDS)], int(rng.integers(len(originals)))
        dense += which in with_dense
        file = damaged(rng, kind, originals[which].file)
        start = time.perf_counter()
        try:
            expert = Expert(file)
            expert.verify()
        except FormatError:
            counts[kind, "refused"] += 1
        else:
            assert (expert.manifest, content(expert)) == wholes[which], (trial, kind)
            counts[kind, "loaded, the same"] += 1
        slowest = max(slowest, time.perf_counter() - start)
    assert sum(counts.values()) == DAMAGES
    assert dense * 2 > DAMAGES
    # Only the header's text for people may differ: no code relies on it.
    assert sum(n for (_, end), n in counts.items() if end != "refused") < DAMAGES / 20
    if FULL:
        for (kind, end), number in sorted(counts.items()):
            print(f"{kind}, {end}: {number}")
        print(f"{DAMAGES} files, {dense} with dense tensors; slowest {1e3 * slowest:.1f} ms")
        assert slowest < 1.0


@given(data=st.binary(max_size=2000))
def test_any_bytes_are_refused(data):
    with pytest.raises(FormatError):
        _core.decode_expert(np.frombuffer(data, np.uint8))
    with pytest.raises(FormatError):
        Expert(np.frombuffer(data, np.uint8))


def container(header: object, data: bytes = b"") -> bytes:
    """A safetensors file of a header that may be wrong."""
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text)) + text.encode() + data


def tensor(dtype: str, shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


TWICE = '{"w":%s,"w":%s}' % ((json.dumps(tensor("U8", [1], 0, 1)),) * 2)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (container({"w": tensor("F32", [2**62, 8], 0, 4)}, bytes(4)), "overflow"),
        (container({"w": tensor("F32", [1], 0, 400)}, bytes(4)), "invalid|incomplete|offset"),
        (container({"w": tensor("F32", [1], 4, 0)}, bytes(4)), "offset"),
        (
            container({"a": tensor("U8", [4], 0, 4), "b": tensor("U8", [4], 2, 6)}, bytes(6)),
            "offset",
        ),
        (
            container({"a": tensor("U8", [2], 0, 2), "b": tensor("U8", [2], 4, 6)}, bytes(6)),
            "offset",
        ),
        (
            container({"a": tensor("U8", [2], 0, 2)}, bytes(6)),
            "has .* bytes, but its header describes .*: cut",
        ),
        (container(TWICE, bytes(1)), 'the key "w" appears twice'),
        (container({"w": tensor("F99", [1], 0, 4)}, bytes(4)), "F99"),
        (struct.pack("<Q", 2**63) + b"{}", "header"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\x80\x02cposix\nsystem\n(Vtrue\ntR.", "a pickle, which is not opened"),
        (b"", "an empty file"),
    ],
)
def test_hostile_containers_are_named(tmp_path, file, message):
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(file)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    for read in (read_safetensors, read_places, compress):
        with pytest.raises(FormatError, match=message):
            read(tmp_path if read is compress else path)
    with pytest.raises(FormatError, match=message):
        Expert(np.frombuffer(file, np.uint8))


def test_the_command_line_reports_it_in_one_line(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(container(TWICE, bytes(1)))
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    for arguments in (["compress", tmp_path, tmp_path / "out"], ["inspect", tmp_path]):
        found = subprocess.run(
            [sys.executable, "-m", "metro_fast.cli", "expert", *map(str, arguments)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert found.returncode != 0
        assert "Traceback" not in found.stderr
        assert "appears twice" in found.stderr or "compress it first" in found.stderr
    assert not (tmp_path / "out").exists()


def test_an_expert_of_another_base_is_refused():
    before, after = np.float32([[1, 2], [3, 4]]), np.float32([[1, 2], [3, 9]])
    expert = compress({"w": after}, kind="full", initial={"w": before}, density=0.25)
    with pytest.raises(MetroFastError, match="not those that compress was given"):
        expert.arrays(initial={"w": before + 1})
