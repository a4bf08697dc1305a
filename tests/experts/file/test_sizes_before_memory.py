"""A small file that promises a huge expert is refused before memory is taken for it."""

import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.support.forged_sizes import manifest, zero_block, zero_expert
from tests.support.malformed import safetensors

from metro_fast import FormatError, MetroFastError, _core
from metro_fast._memory import decoded_limit, read_small
from metro_fast.experts import Expert, compress, merge, similarity
from metro_fast.experts.adapters.npz_file import read_npz
from metro_fast.experts.adapters.state_file import read_safetensors

LIMIT = 1 << 28
DOORS: dict[str, Callable[[Expert], object]] = {
    "arrays": lambda e: e.arrays(),
    "trits": lambda e: e.trits(),
    "describe": lambda e: e.describe(),
    "verify": lambda e: e.verify(),
    "card": lambda e: e.card(),
    "merge": lambda e: merge([e, e]),
    "similarity": lambda e: similarity([e, e]),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("trits", [1 << 31, 1 << 40])
def test_no_door_decodes_more_than_the_limit(door: str, trits: int) -> None:
    expert = Expert(zero_expert(trits), max_decoded_bytes=LIMIT)
    with pytest.raises(MetroFastError, match=r"would take [\d,]+ bytes of memory, and the limit"):
        DOORS[door](expert)


def test_the_variable_is_the_limit_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    expert = compress({"w": np.float32([[1, -3] * 16])}, kind="other")
    monkeypatch.setenv("METRO_FAST_MAX_DECODED_BYTES", "127")
    with pytest.raises(MetroFastError, match=r"would take 128 bytes .* limit is 127"):
        expert.arrays()
    monkeypatch.setenv("METRO_FAST_MAX_DECODED_BYTES", "128")
    assert expert.arrays()["w"].shape == (1, 32)
    monkeypatch.setenv("METRO_FAST_MAX_DECODED_BYTES", "much")
    with pytest.raises(MetroFastError, match="is 'much', expected a number of bytes"):
        expert.arrays()
    monkeypatch.delenv("METRO_FAST_MAX_DECODED_BYTES")
    assert 1 << 20 < decoded_limit() < 1 << 60


@pytest.mark.parametrize("shape", [(0, 1 << 63), (1 << 62, 0, 4), (1 << 41,)])
def test_a_shape_that_no_array_has_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    count = 0 if 0 in shape else 64
    with pytest.raises(FormatError, match="impossible shape"):
        _core.encode_expert(manifest({"w": shape}), np.float32([1]), zero_block(count), [])
    if 0 in shape:
        entry = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 0]}
        path = tmp_path / "a.safetensors"
        path.write_bytes(safetensors({"w": entry}))
        with pytest.raises(FormatError, match=r"more than 2\^40 elements|Overflow|overflow"):
            read_safetensors(path)


def test_many_tensors_are_refused() -> None:
    text = manifest({f"{i:06d}": (0,) for i in range(140_000)})
    deflated = zlib.compress(text.encode(), 9, wbits=-15)
    block, scales, head = zero_block(0).tobytes(), bytes(4), struct.pack("<2I", 1, len(text))
    crc = _core.crc32c(np.frombuffer(head + deflated + scales + block[:32], np.uint8))
    parts = {
        "compeft.head": ("U32", 4, head + struct.pack("<2I", crc, 0)),
        "compeft.scales": ("F32", 4, scales),
        "compeft.manifest": ("U8", 1, deflated),
        "compeft.trits": ("U8", 1, block),
    }
    header, data = {}, b""
    for name, (dtype, size, part) in parts.items():
        place = [len(data), len(data) + len(part)]
        header[name] = {"dtype": dtype, "shape": [len(part) // size], "data_offsets": place}
        data += part
    file = safetensors(json.loads(json.dumps(header)), data)
    with pytest.raises(FormatError, match="140000 tensors, but at most 131072 are allowed"):
        Expert(np.frombuffer(file, np.uint8))


def test_a_bomb_in_an_archive_is_not_inflated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, w=np.zeros(1 << 22, np.float32))
    assert path.stat().st_size < 1 << 15
    assert zipfile.is_zipfile(path)
    monkeypatch.setenv("METRO_FAST_MAX_DECODED_BYTES", str(1 << 23))
    with pytest.raises(MetroFastError, match="would take 16,777,3"):
        read_npz(path)


def test_a_file_of_another_size_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "adapter_config.json"
    with path.open("wb") as file:
        file.truncate(5 << 30)  # a hole: nothing is on the disk
    with pytest.raises(FormatError, match="5,368,709,120 bytes, expected at most 67,108,864"):
        read_small(path)
