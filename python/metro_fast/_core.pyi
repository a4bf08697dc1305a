"""The native module, which takes checked views of numpy arrays. It is private; use `ops`."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Final, Self, final

import numpy as np
from numpy.typing import NDArray

from metro_fast.ops.draws import Draw
from metro_fast.ops.masking import Masking
from metro_fast.ops.outputs import Outputs
from metro_fast.ops.span_corruption import SpanCorruption
from metro_fast.ops.token_rows import TextRanges, TokenRows
from metro_fast.ops.vocabulary import Vocabulary

__all__ = [
    "CudaError",
    "CudaModule",
    "FormatError",
    "MaskOptions",
    "MetroFastError",
    "Packer",
    "Quantizer",
    "SpanOptions",
    "Sweep",
    "TokenBlocks",
    "TokenFiles",
    "__version__",
    "block_info",
    "check_metadata",
    "corrupt_spans",
    "count_combinations",
    "crc32c",
    "cuda_compile",
    "cuda_devices",
    "decode_expert",
    "decode_safetensors",
    "decode_safetensors_file",
    "default_threads",
    "dot_products",
    "encode_expert",
    "encode_safetensors",
    "expand",
    "look_up",
    "mask_tokens",
    "nvrtc_version",
    "pack",
    "planes",
    "read_safetensors_header",
    "replaced_token_labels",
    "sample_replacements",
    "simd_level",
    "span_lengths",
    "ternarize",
    "unpack",
]

__version__: Final[str]

class MetroFastError(ValueError): ...
class FormatError(MetroFastError): ...
class CudaError(MetroFastError): ...

def default_threads(in_worker: bool) -> int: ...

# --- CUDA
@final
class CudaModule:
    def __new__(
        cls,
        source: str,
        device: int,
        *,
        nvrtc: Sequence[str],
        cache: str | PathLike[str] | None,
        shipped: str | PathLike[str] | None,
    ) -> Self: ...
    @property
    def origin(self) -> str: ...
    def launch(
        self,
        kernel: str,
        stream: int,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared_bytes: int,
        arguments: bytes,
        sizes: Sequence[int],
    ) -> None: ...

def cuda_compile(
    source: str,
    architecture: str,
    *,
    nvrtc: Sequence[str],
    cache: str | PathLike[str] | None,
    shipped: str | PathLike[str] | None,
) -> tuple[bytes, str]: ...
def cuda_devices() -> tuple[int, list[tuple[str, tuple[int, int], int, int]]]: ...
def nvrtc_version(names: Sequence[str]) -> tuple[str, tuple[int, int]]: ...

# --- denoise
def simd_level() -> str: ...

@final
class SpanOptions:
    def __new__(cls, corruption: SpanCorruption, vocabulary: Vocabulary) -> Self: ...

@final
class MaskOptions:
    def __new__(cls, masking: Masking, vocabulary: Vocabulary) -> Self: ...

def corrupt_spans(
    batch: TokenRows, options: SpanOptions, outputs: Outputs, counters: Draw
) -> tuple[Any, ...]: ...
def mask_tokens(
    batch: TokenRows, options: MaskOptions, outputs: Outputs, counters: Draw
) -> tuple[Any, ...]: ...
def span_lengths(
    tokens: int, noise_density: float, mean_noise_span_length: float, compat: str
) -> tuple[int, int]: ...

# --- replace
def sample_replacements(
    logits: NDArray[Any],
    sample_ids: NDArray[np.int64] | None,
    positions: NDArray[np.int64] | None,
    excluded: NDArray[np.int64] | None,
    *,
    bits: str,
    temperature: float,
    top_k: int | None,
    forbidden: NDArray[np.int64] | None,
    seed: int,
    epoch: int,
    num_threads: int,
    out: NDArray[np.int64] | None,
) -> NDArray[np.int64]: ...

@final
class Sweep:
    def __new__(cls, targets: NDArray[np.int64], vocabulary: int) -> Self: ...
    def draw(
        self,
        sample_ids: NDArray[np.int64],
        positions: NDArray[np.int64],
        *,
        seed: int,
        epoch: int,
        temperature: float,
        forbidden: NDArray[np.int64],
        exclude_targets: bool,
        vocabulary: int,
    ) -> None: ...
    def add(self, logits: NDArray[np.float32], first: int, num_threads: int) -> None: ...
    def finish(
        self, first_row: int
    ) -> tuple[
        NDArray[np.float64],
        NDArray[np.float32],
        NDArray[np.float64],
        NDArray[np.int64],
        NDArray[np.int64],
    ]: ...

def replaced_token_labels(
    original: NDArray[np.int64],
    positions: NDArray[np.int64],
    sampled: NDArray[np.int64],
    *,
    pad_token_id: int,
    num_threads: int,
    input_ids: NDArray[np.int64],
    labels: NDArray[np.int8],
) -> None: ...

# --- corpus
@final
class TokenFiles:
    def __new__(cls, path: str | PathLike[str]) -> Self: ...
    @property
    def tokens(self) -> int: ...
    @property
    def documents(self) -> int: ...
    @property
    def tokenizer(self) -> str: ...
    def cut(self, mode: str, block_size: int, drop_last: bool) -> TokenBlocks: ...
    def gather(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[Any]: ...
    def segments(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]: ...
    def corrupt_spans(
        self,
        ranges: TextRanges,
        sample_ids: NDArray[np.int64],
        phases: NDArray[np.int64] | None,
        options: SpanOptions,
        outputs: Outputs,
        counters: Draw,
    ) -> tuple[Any, ...]: ...
    def mask_tokens(
        self,
        ranges: TextRanges,
        sample_ids: NDArray[np.int64],
        options: MaskOptions,
        outputs: Outputs,
        counters: Draw,
    ) -> tuple[Any, ...]: ...

@final
class TokenBlocks:
    @property
    def count(self) -> int: ...
    @property
    def crops(self) -> bool: ...
    def locate(
        self, indices: NDArray[np.int64], shuffle: bool, seed: int, epoch: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]: ...

# ternary
def ternarize(
    parts: list[tuple[str, NDArray[np.float32]]],
    starts: list[int],
    trits: NDArray[np.int8],
    density: float,
    alpha: float | None,
    num_threads: int,
    upstream: bool = False,
) -> tuple[float, float, int, int, list[tuple[float, float, int]]]: ...

@final
class Quantizer:
    def __new__(cls, density: float, alpha: float | None, upstream: bool = False) -> Self: ...
    def scan(self, name: str, values: NDArray[np.float32], num_threads: int) -> None: ...
    def refine(self, name: str, values: NDArray[np.float32], num_threads: int) -> None: ...
    def emit(
        self,
        name: str,
        values: NDArray[np.float32],
        trits: NDArray[np.int8],
        num_threads: int,
    ) -> tuple[float, float, int]: ...
    def finish(self) -> tuple[float, float, int, int]: ...

@final
class Packer:
    def __new__(cls, count: int) -> Self: ...
    def push(self, trits: NDArray[np.int8], num_threads: int) -> None: ...
    def finish(self) -> NDArray[np.uint8]: ...

def pack(
    trits: NDArray[np.int8], coding: str, steps: int | None, num_threads: int
) -> NDArray[np.uint8]: ...
def block_info(packed: NDArray[np.uint8]) -> tuple[int, int, int]: ...
def unpack(
    packed: NDArray[np.uint8], scale: float, dtype: str, out: NDArray[Any], num_threads: int
) -> None: ...
def expand(
    packed: NDArray[np.uint8],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    values: NDArray[np.float32],
    write: NDArray[np.bool_],
    dtype: str,
    out: NDArray[Any],
    num_threads: int,
) -> None: ...
def planes(
    packed: NDArray[np.uint8], num_threads: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]: ...
def look_up(
    experts: list[tuple[NDArray[np.uint64], NDArray[np.uint64]]],
    pieces: NDArray[np.int64],
    tables: NDArray[np.float32],
    out: NDArray[np.float32],
    num_threads: int,
) -> None: ...
def count_combinations(
    experts: list[tuple[NDArray[np.uint64], NDArray[np.uint64]]],
    pieces: NDArray[np.int64],
    tables: int,
    count: int,
    num_threads: int,
) -> NDArray[np.uint64]: ...
def dot_products(
    experts: list[tuple[NDArray[np.uint64], NDArray[np.uint64]]],
    pieces: NDArray[np.int64],
    tables: int,
    count: int,
    num_threads: int,
) -> NDArray[np.int64]: ...

# expert files
def encode_expert(
    manifest: str,
    scales: NDArray[np.float32],
    block: NDArray[np.uint8],
    dense: list[NDArray[np.uint8]],
) -> NDArray[np.uint8]: ...
def decode_expert(
    file: NDArray[np.uint8],
) -> tuple[str, NDArray[np.float32], tuple[int, int], list[tuple[int, int]]]: ...
def decode_safetensors(
    file: NDArray[np.uint8],
) -> list[tuple[str, str, list[int], int, int]]: ...
def check_metadata(metadata: dict[str, str]) -> None: ...
def decode_safetensors_file(
    file: NDArray[np.uint8],
) -> tuple[list[tuple[str, str, list[int], int, int]], dict[str, str]]: ...
def read_safetensors_header(
    path: Path,
) -> tuple[list[tuple[str, str, list[int], int, int]], dict[str, str]]: ...
def encode_safetensors(
    tensors: list[tuple[str, str, list[int], NDArray[np.uint8]]],
    metadata: dict[str, str],
) -> NDArray[np.uint8]: ...
def crc32c(data: NDArray[np.uint8], before: int = 0) -> int: ...
