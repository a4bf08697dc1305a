"""The CUDA decoders, on the CPU: equal to the Rust decoder, and never out of bounds."""

import csv
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from cuda_cases import SEGMENT, UNPACKED, Piece, bits_of, floats_of, unpack_flat, unpack_many
from cuda_emulator import Emulator, compiler
from metro_fast.errors import MetroFastError
from metro_fast.ops import pack, unpack
from metro_fast.testing import t4_rans
from metro_fast.testing.pack import crc32c

ROOT = Path(__file__).resolve().parents[3]
CUDA = ROOT / "cuda"
DENSITIES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)
FORMATS = tuple(UNPACKED)

needs_compiler = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")


def trits(count: int, density: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng([seed, count])
    kept = random.random(count) < density
    return np.where(kept, random.integers(0, 2, count) * 2 - 1, 0).astype(np.int8)


def expected(values: np.ndarray, scale: float, name: str) -> np.ndarray:
    """The values that the Rust decoder writes, as bits."""
    if name != "bf16":
        return unpack(pack(values), values.size, scale=scale, dtype=UNPACKED[name])
    torch = pytest.importorskip("torch")
    block = torch.from_numpy(np.asarray(pack(values)))
    return unpack(block, values.size, scale=scale, dtype=torch.bfloat16).view(torch.uint16).numpy()


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return Emulator()


@needs_compiler
@pytest.mark.parametrize("coding", ["t4", "bitmask"])
@pytest.mark.parametrize("density", DENSITIES)
def test_ten_million_parameters_equal_those_of_the_cpu(emulator, density: float, coding: str):
    """6 densities x 2 codings x 3 formats x 300,003: 10.8 million."""
    values = trits(300_003, density)
    block = np.asarray(pack(values, coding=coding, steps=512))
    launches = [unpack_flat(block, values.size, 0.37, name) for name in FORMATS]
    for name, found in zip(FORMATS, emulator.run(launches), strict=True):
        assert found[4][0] == 0
        wrong = np.count_nonzero(found[3] != expected(values, 0.37, name))
        assert wrong == 0, f"{wrong} mismatches of {values.size}"


@needs_compiler
@pytest.mark.parametrize("steps", [512, 1024, 4096, 16384])
def test_sizes_scales_and_codings(emulator, steps: int):
    """Around the ends of rows, words and streams; all-zero streams; signs and sizes of scales."""
    # Two are half way between values of bfloat16 and of float16.
    scales = (1.0, -0.37, 0.0, -0.0, 3e-6, 65504.0, 1e-42, 1 + 2.0**-8, -1 - 2.0**-11)
    cases = []
    for i, count in enumerate((1, 3, 31, 32, 33, 255, 256, 257, 1024, 9_999, 64 * steps + 5)):
        values = trits(count, (0.02, 0.5, 0.0)[i // 2 % 3], seed=i)
        block = np.asarray(pack(values, coding=("t4", "bitmask")[i % 2], steps=steps))
        for j, scale in enumerate(scales):
            name = FORMATS[(i + j) % 3]
            cases.append((unpack_flat(block, count, scale, name), expected(values, scale, name)))
    for found, (_, bits) in zip(emulator.run([c for c, _ in cases]), cases, strict=True):
        assert found[4][0] == 0
        kind = {4: np.uint32, 2: np.uint16}[bits.itemsize]
        np.testing.assert_array_equal(found[3].view(kind), bits.view(kind))


def scattered(seed: int, name: str, *, aligned: bool):
    """Blocks of different codings, cut into tensors for three outputs; some are added."""
    random = np.random.default_rng(seed)
    blocks, pieces, sources = [], [], []
    outputs = [random.standard_normal(90_000).astype(np.float32) for _ in range(3)]
    outputs = [
        array.astype(UNPACKED[name])
        if name != "bf16"
        else (array.view(np.uint32) >> 16).astype(np.uint16)
        for array in outputs
    ]
    free = [32 if aligned else 3] * 3
    for number, (count, density) in enumerate([(70_000, 0.05), (33_000, 0.5), (40_000, 0.0)]):
        values = trits(count, density, seed)
        sources.append(values)
        coding = ("t4", "bitmask")[(number + seed) % 2]
        blocks.append(np.asarray(pack(values, coding=coding, steps=512)))
        at = 0
        while at < count:
            size = int(random.integers(1, 9_000))
            size = min(size, count - at)
            output = int(random.integers(0, 3))
            scale = float(np.float32(random.normal(0, 0.1)))
            mode = int(random.integers(0, 2))
            if free[output] + size + 40 < 90_000 and random.random() < 0.9:
                pieces.append(Piece(number, at, size, output, free[output], scale, mode))
                free[output] += size + 1 if not aligned else -(-size // 32) * 32 + 32
            at += -(-size // 32) * 32 if aligned else size
    return blocks, pieces, outputs, sources


@needs_compiler
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_many_tensors_of_many_blocks_in_one_launch(emulator, name: str, aligned: bool):
    for seed in range(3):
        blocks, pieces, outputs, sources = scattered(seed, name, aligned=aligned)
        assert {piece.mode for piece in pieces} == {0, 1}
        bits = [array.copy() for array in outputs]
        for piece in pieces:
            values = sources[piece.block][piece.first : piece.first + piece.count]
            place = slice(piece.place, piece.place + piece.count)
            scaled = values.astype(np.float32) * np.float32(piece.scale)
            if piece.mode == 1:
                scaled = floats_of(bits[piece.output][place], name) + scaled
            new = bits_of(scaled, name)
            # Where a trit is zero, a sum is unchanged and a written value is +0.
            old = bits[piece.output][place] if piece.mode == 1 else np.zeros_like(new)
            bits[piece.output][place] = np.where(values != 0, new, old)
        found = emulator.run([unpack_many(blocks, pieces, outputs, name)])[0]
        assert found[-1][0] == 0
        for one, other in zip(found[len(blocks) : len(blocks) + 3], bits, strict=True):
            np.testing.assert_array_equal(one.view(np.uint8), other.view(np.uint8))


@needs_compiler
@pytest.mark.parametrize("name", FORMATS)
def test_values_that_start_at_one(emulator, name: str):
    """IA3: a tensor of 1 - s, 1 and 1 + s between two tensors of a LoRA."""
    values = trits(3_000, 0.3)
    outputs = [np.full(3_100, 7, UNPACKED[name])]
    pieces = [
        Piece(0, 0, 1_000, 0, 0, 0.25),
        Piece(0, 1_024, 900, 0, 1_024, 1.3, 2, (0.7, 1.0)),
        Piece(0, 1_952, 1_000, 0, 2_000, 0.25),
    ]
    for coding in ("t4", "bitmask"):
        block = np.asarray(pack(values, coding=coding, steps=512))
        found = emulator.run([unpack_many([block], pieces, outputs, name)])[0]
        assert found[-1][0] == 0
        bits = outputs[0].copy()
        for piece in pieces:
            minus, zero = piece.others if piece.mode == 2 else (-piece.scale, 0.0)
            table = bits_of(np.float32([minus, zero, piece.scale]), name)
            part = values[piece.first : piece.first + piece.count]
            bits[piece.place : piece.place + piece.count] = table[part + 1]
        np.testing.assert_array_equal(found[1].view(np.uint8), bits.view(np.uint8))


def resealed(block: np.ndarray) -> np.ndarray:
    """The block with checksums that agree with its index, as far as the index can be followed."""
    data = bytearray(block.tobytes())
    if len(data) < 32:
        return block
    streams = struct.unpack_from("<I", data, 24)[0]
    head = 32 + 16 * streams
    if head + 256 > len(data):
        return np.frombuffer(bytes(data), np.uint8)
    for i in range(streams):
        end = len(data) - 256 - head
        start = 16 * struct.unpack_from("<I", data, 32 + 16 * i)[0]
        if i + 1 < streams:
            end = 16 * struct.unpack_from("<I", data, 48 + 16 * i)[0]
        struct.pack_into("<I", data, 44 + 16 * i, crc32c(bytes(data[head + start : head + end])))
    struct.pack_into("<I", data, 28, crc32c(bytes(data[:28] + data[32:head])))
    return np.frombuffer(bytes(data), np.uint8)


def damaged(random: np.random.Generator, block: np.ndarray) -> np.ndarray:
    """One flipped bit, another byte, a cut, or a hostile number in header or index."""
    block = block.copy()
    streams = int(block[24:28].view(np.uint32)[0])
    head = 32 + 16 * streams
    kind = random.integers(0, 5)
    if kind == 0:
        at = random.integers(0, block.size)
        block[at] ^= 1 << random.integers(0, 8)
    elif kind == 1:
        block[random.integers(head, block.size - 256)] = random.integers(0, 256)
    elif kind == 2:
        cut = int(random.integers(0, block.size))
        block = block[:cut].copy()
        if cut >= 32 and random.random() < 0.8:
            block[16:24] = np.array([cut], np.uint64).view(np.uint8)
    elif kind == 3:
        at = 32 + 4 * int(random.integers(0, 4 * streams))
        word = random.choice([0, 1, 2, 255, 2**16, 2**28, 2**31, 2**32 - 1])
        block[at : at + 4] = np.array([word], np.uint32).view(np.uint8)
    else:
        at = int(random.choice([4, 5, 8, 12, 16, 20, 24]))
        block[at] = random.integers(0, 256)
    return block


@needs_compiler
@pytest.mark.slow  # builds a program with the address sanitizer, and decodes 1,200 blocks
def test_damaged_blocks_are_flagged_and_never_read_or_written_out_of_bounds():
    """Damage that the checksums let pass; outputs and blocks have their exact sizes."""
    emulator = Emulator("address")
    random = np.random.default_rng(5)
    count = 40_000
    sources = [
        (pack(trits(count, density), coding=coding, steps=512), density)
        for density in (0.003, 0.02, 0.3)
        for coding in ("t4", "bitmask")
    ]
    blocks = [
        resealed(damaged(random, np.asarray(sources[i % len(sources)][0]))) for i in range(1_200)
    ]
    names = [FORMATS[i % 3] for i in range(len(blocks))]
    launches = [
        unpack_flat(block, count, 0.5, name) for block, name in zip(blocks, names, strict=True)
    ]
    seen = {"flagged": 0, "equal": 0, "codes": set()}
    for block, name, found in zip(blocks, names, emulator.run(launches), strict=True):
        code = int(found[4][0])
        try:
            values = unpack(block, count, dtype=np.int8)
        except MetroFastError:
            values = None
        if code == 0 and values is not None:
            bits = expected(values, 0.5, name)
            np.testing.assert_array_equal(found[3].view(np.uint8), bits.view(np.uint8))
            seen["equal"] += 1
        elif code == 0:
            # Only the CPU sees damaged guard bytes and blocks of other lengths.
            guard = block[-256:].any()
            stored = int(block[8:16].view(np.uint64)[0]) if block.size >= 16 else 0
            # A block with a count of 0 has no streams.
            assert guard or stored != count or block.size < 288, block[:48]
        else:
            assert values is None, code
            seen["flagged"] += 1
            seen["codes"].add(code)
    assert seen["flagged"] > 500, seen
    assert seen["codes"] >= {1, 2, 3, 4, 5}, seen


@needs_compiler
def test_a_stream_in_the_worst_class_is_decoded(emulator):
    """Every class can be decoded; a stream in a wrong class is longer than its bitmask."""
    count = 64 * 16384
    values = np.random.default_rng(0).integers(0, 2, count).astype(np.int8) * 2 - 1
    sparsest = t4_rans.load_frequencies(ROOT / "docs" / "t4-frequencies.csv")[:1]
    stream, density_class = t4_rans.encode(values, sparsest)
    assert density_class == 0
    assert len(stream) > 2**18
    total = 32 + 16 + len(stream) + 256
    head = struct.pack("<4sBBHQQII", b"MFT4", 1, 14, 0, count, total, 1, 0)
    row = struct.pack("<IIBBHI", 0, count, 0, 0, 0, 0)
    block = resealed(np.frombuffer(head + row + stream + bytes(256), np.uint8))
    np.testing.assert_array_equal(unpack(block, count, dtype=np.int8), values)
    found = emulator.run([unpack_flat(block, count, 0.5, "f16")])[0]
    assert found[4][0] == 0
    np.testing.assert_array_equal(found[3], values * np.float16(0.5))


@needs_compiler
@pytest.mark.parametrize("coding", ["t4", "bitmask"])
def test_bytes_before_the_first_stream_are_flagged(emulator, coding: str):
    block = np.asarray(pack(trits(3_000, 0.2), coding=coding, steps=512))
    moved = np.concatenate([block[:48], np.full(16, 9, np.uint8), block[48:]])
    moved[16:24] = np.array([moved.size], np.uint64).view(np.uint8)
    moved[32:36] = np.array([1], np.uint32).view(np.uint8)
    moved = resealed(moved)
    with pytest.raises(MetroFastError, match="is not inside the payload"):
        unpack(moved, 3_000, dtype=np.int8)
    assert emulator.run([unpack_flat(moved, 3_000, 0.5, "f32")])[0][4][0] == 2


@needs_compiler
@pytest.mark.slow  # builds a program with the thread sanitizer, and runs real threads
def test_no_barrier_between_threads_is_missing():
    """One thread of the system per thread of the GPU: a missing barrier would be a race."""
    emulator = Emulator("thread")
    # Every symbol occurs, so that each thread's part of the table is read by another thread.
    values = np.concatenate([trits(15_000, 0.05), trits(3_000, 0.5)])
    blocks = [np.asarray(pack(values, coding=coding, steps=512)) for coding in ("t4", "bitmask")]
    assert [block[40] for block in blocks] == [0, 1]
    launches = [unpack_flat(block, values.size, 0.5, "f16") for block in blocks]
    for found in emulator.run(launches):
        assert found[4][0] == 0
        np.testing.assert_array_equal(found[3], expected(values, 0.5, "f16"))


def test_the_tables_equal_those_of_the_format_page():
    """docs/t4-frequencies.csv, the text for CUDA and the Rust table hold the same numbers."""
    rows = list(csv.reader((ROOT / "docs" / "t4-frequencies.csv").read_text().splitlines()))[1:]
    page = [[int(cell) for cell in row[1:]] for row in rows]
    text = (CUDA / "t4_tables.cuh").read_text()
    table = text.partition("T4_FREQUENCIES")[2]
    found = [[int(n) for n in row.split(",")] for row in re.findall(r"\{([\d, ]+)\}", table)]
    assert found == page
    keys = re.findall(r"0x([0-9A-F]{2})", text.partition("T4_KEYS")[2].partition("};")[0])
    symbols = sorted(
        (key for key in range(256) if key >> 4 & ~(key & 15) == 0),
        key=lambda key: ((key & 15).bit_count(), key),
    )
    assert [int(key, 16) for key in keys] == symbols
    assert SEGMENT.itemsize == 40
