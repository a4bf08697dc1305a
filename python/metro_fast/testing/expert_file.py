"""A complete decoder of expert files, written only from docs/expert-format.md; it may be copied."""

import json
import math
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

SYMBOLS = sorted(
    (key for key in range(256) if (key >> 4) & ~key & 15 == 0),
    key=lambda key: ((key & 15).bit_count(), key),
)
DTYPES = {f"{kind}{8 * n}": f"<{kind.lower()}{n}" for kind in "UIF" for n in (1, 2, 4, 8)}
DTYPES |= {"BOOL": "?", "BF16": "<u2"}


def require(holds: Any, rule: str) -> None:
    """Raise ValueError unless a rule of the page holds."""
    if not holds:
        raise ValueError(rule)


def crc32c(data: bytes) -> int:
    """CRC32C, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def decode_t4(data: bytes, frequencies: list[int], count: int) -> list[int]:
    """Section 5: the trits of a T4-rANS stream, up to the end of its last row."""
    slots: list[tuple[int, int, int]] = []
    for symbol, key in enumerate(SYMBOLS):
        f = frequencies[(key & 15).bit_count()]
        slots += [(symbol, f, len(slots))] * f
    states = list(struct.unpack_from("<64I", data))
    words = [w for (w,) in struct.iter_unpack("<H", data[256:])][::-1]
    require(min(states) >= 1 << 16, "a state below its bound")
    trits: list[int] = []
    for _ in range(-(-count // 256)):
        for i, x in enumerate(states):
            symbol, f, first = slots[x % 16384]
            states[i] = f * (x // 16384) + x % 16384 - first
            key = SYMBOLS[symbol]
            trits += [(key >> j & 1) - 2 * (key >> j + 4 & 1) for j in range(4)]
        for i, x in enumerate(states):
            if x < 1 << 16:
                require(words, "a word is missing")
                states[i] = 65536 * x + words.pop()
    require(set(states) == {1 << 16} and len(words) < 8 and not any(words), "the end")
    return trits


def decode_bitmask(data: bytes, count: int) -> list[int]:
    """Section 6: the trits of a bitmask stream, up to the end of its last mask word."""
    mask_bytes = 4 * -(-count // 32)
    bits = [byte >> j & 1 for byte in data[:mask_bytes] for j in range(8)]
    signs = [byte >> j & 1 for byte in data[mask_bytes:] for j in range(8)][::-1]
    length = mask_bytes + -(-sum(bits) // 8)
    require(len(data) == length + -length % 16, "the length of masks and signs")
    trits = [1 - 2 * signs.pop() if bit else 0 for bit in bits]
    require(not any(signs), "a sign past the last")
    return trits


def unpack(block: bytes, frequencies: list[list[int]]) -> NDArray[np.int8]:
    """Section 4: the trits of a packed block."""
    require(len(block) >= 32 + 256, "cut")
    *first, log_s, zero, count, total, streams, crc = struct.unpack("<4sBBHQQII", block[:32])
    require((*first, zero, total) == (b"MFT4", 1, 0, len(block)), "the header")
    start = 32 + 16 * streams
    require(9 <= log_s <= 14 and streams == -(-count // (64 << log_s)), "the header")
    require(total >= start + 256 and count <= 1 << 40 and not any(block[-256:]), "the guard")
    require(crc == crc32c(block[:28] + block[32:start]), "the block's checksum")
    rows = list(struct.iter_unpack("<IIBBHI", block[32:start]))
    ends = [row[0] * 16 for row in rows[1:]] + [total - 256 - start]
    require(rows[0][0] == 0 if rows else ends == [0], "where the payload starts")
    trits: list[int] = []
    for (unit, nonzeros, coding, density_class, zero, crc), end in zip(rows, ends, strict=False):
        data = block[start + 16 * unit : start + end]
        length = min(64 << log_s, count - len(trits))
        require(16 * unit <= end <= total - 256 - start and crc == crc32c(data), "a stream")
        require(zero == 0 and coding <= 2 and (coding == 0 or density_class == 0), "an index row")
        require((coding == 2) == (not data) == (nonzeros == 0), "an empty stream")
        part = [0] * length
        if coding == 0:
            part = decode_t4(data, frequencies[density_class], length)
        elif coding == 1:
            part = decode_bitmask(data, length)
        require(not any(part[length:]) and sum(map(abs, part)) == nonzeros, "nonzeros")
        trits += part[:length]
    return np.array(trits, np.int8)


def read_expert(
    file: bytes,
    frequencies: list[list[int]],
    initial: Mapping[str, NDArray[np.float32]] | None = None,
) -> dict[str, NDArray[Any]]:
    """Every tensor by name, in its own dtype (BF16 as bits), after the checks of section 7."""
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    header.pop("__metadata__", None)

    def tensor(name: str) -> NDArray[Any]:
        start, end = header[name]["data_offsets"]
        data = np.frombuffer(
            file[8 + length + start : 8 + length + end], DTYPES[header[name]["dtype"]]
        )
        return data.reshape(header[name]["shape"])

    version, inflated, crc, zero = (int(word) for word in tensor("compeft.head"))
    require(version in (1, 2, 3) and zero == 0, "another version")
    deflated, scales, block = (tensor(f"compeft.{n}") for n in ("manifest", "scales", "trits"))
    covered = struct.pack("<2I", version, inflated) + deflated.tobytes() + scales.tobytes()
    require(
        crc == crc32c(covered + block[: 32 + 16 * int(block[24:28].view("<u4")[0])].tobytes()),
        "the head's checksum",
    )
    require(inflated <= min(64 << 20, 1032 * deflated.size), "an inflate bomb")
    text = zlib.decompressobj(wbits=-15).decompress(deflated.tobytes(), inflated + 1)
    require(len(text) == inflated, "the manifest's length")
    manifest = json.loads(text)
    kept = len(manifest.get("metadata", {}))  # the keys of version 2 are text for other readers
    least = 3 if "config_crc32c" in manifest else 1 + (kept > 0)
    require(manifest["version"] == version == least and kept <= 4096, "the version")
    trits = unpack(block.tobytes(), frequencies)
    names = [e["name"] for e in manifest["tensors"] if e["initial"] == "given"]
    given = {name: np.asarray((initial or {})[name], "<f4") for name in names}
    base = crc32c(b"".join(values.tobytes() for values in given.values())) if given else None
    require(manifest["base"]["initial_crc32c"] == base, "another base")
    dense = manifest["dense"]
    tensors = {entry["name"]: tensor(f"dense.{entry['name']}") for entry in dense}
    require(all(crc32c(tensors[e["name"]].tobytes()) == e["crc32c"] for e in dense), "dense")
    free = 0
    for entry in manifest["tensors"]:
        require(entry["start"] == free, "a start")
        size = math.prod(entry["shape"])
        require(math.prod(max(n, 1) for n in entry["shape"]) <= 1 << 40, "an impossible shape")
        free += -(-size // 32) * 32
        require(not trits[entry["start"] + size : free].any(), "a gap that is not zero")
        part = trits[entry["start"] : entry["start"] + size].reshape(entry["shape"])
        begin = given.get(entry["name"], np.float32(entry["initial"] == "one"))
        exact = np.asarray(begin + scales[entry["group"]] * part, np.float32)
        if entry["dtype"] == "BF16":
            exact = np.asarray((b := exact.view(np.uint32)) + 0x7FFF + (b >> 16 & 1) >> 16)
        tensors[entry["name"]] = exact.astype(DTYPES[entry["dtype"]])
    require(free == trits.size, "trits past the last tensor")
    require(len(header) == 4 + len(dense), "tensors that nobody named")
    return tensors
