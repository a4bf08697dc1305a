"""Pairs NAME.bin and NAME.idx, as Megatron-LM and fairseq write them."""

import struct

import numpy as np

CODES = {"u1": 1, "i1": 2, "i2": 3, "i4": 4, "i8": 5, "u2": 8, "u4": 9}


def header(code):
    return b"MMIDIDX\0\0" + struct.pack("<QB", 1, code)


def tables(items, width):
    lengths = np.array([len(item) for item in items], "<i4")
    ends = np.cumsum(lengths, dtype="<i8") * width
    return lengths.tobytes(), np.concatenate([[0], ends[:-1]]).astype("<i8").tobytes()


def write_ids(prefix, items, dtype):
    ids = np.concatenate([np.asarray(item, np.int64) for item in items] or [np.empty(0)])
    prefix.with_name(prefix.name + ".bin").write_bytes(ids.astype("<" + dtype).tobytes())


def write_fairseq(prefix, items, dtype="u2"):
    write_ids(prefix, items, dtype)
    lengths, pointers = tables(items, np.dtype(dtype).itemsize)
    index = header(CODES[dtype]) + struct.pack("<Q", len(items)) + lengths + pointers
    prefix.with_name(prefix.name + ".idx").write_bytes(index)


def write_megatron(prefix, items, table, dtype="u2"):
    write_ids(prefix, items, dtype)
    lengths, pointers = tables(items, np.dtype(dtype).itemsize)
    counts = struct.pack("<QQ", len(items), len(table))
    documents = np.array(table, "<i8").tobytes()
    index = header(CODES[dtype]) + counts + lengths + pointers + documents
    prefix.with_name(prefix.name + ".idx").write_bytes(index)
