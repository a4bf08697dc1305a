"""The kernels: whole batches of numpy arrays or CPU torch tensors in, the same kind out.

Importing this package needs numpy alone; torch is touched only where a tensor comes in.
"""

from metro_fast.ops.corrupt_spans import SpanBatch, compute_input_and_target_lengths, corrupt_spans
from metro_fast.ops.denoiser import Denoiser, metro_t0_baseline, ul2_denoisers
from metro_fast.ops.mask_tokens import MaskBatch, mask_tokens
from metro_fast.ops.pack import pack
from metro_fast.ops.replaced_token_labels import ReplacedBatch, replaced_token_labels
from metro_fast.ops.sample_replacements import sample_replacements
from metro_fast.ops.span_lengths import SpanLengths
from metro_fast.ops.ternarize import Ternary, ternarize
from metro_fast.ops.unpack import unpack

__all__ = [
    "Denoiser",
    "MaskBatch",
    "ReplacedBatch",
    "SpanBatch",
    "SpanLengths",
    "Ternary",
    "compute_input_and_target_lengths",
    "corrupt_spans",
    "mask_tokens",
    "metro_t0_baseline",
    "pack",
    "replaced_token_labels",
    "sample_replacements",
    "ternarize",
    "ul2_denoisers",
    "unpack",
]
