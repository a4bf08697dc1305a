"""The kernels: they take whole batches of numpy arrays or torch tensors, and return the same kind.

Importing this package needs only numpy. Torch is used only if the caller passes a tensor.
"""

from metro_fast.ops.corrupt_spans import SpanBatch, compute_input_and_target_lengths, corrupt_spans
from metro_fast.ops.denoiser import Denoiser, metro_t0_baseline, ul2_denoisers
from metro_fast.ops.mask_tokens import MaskBatch, mask_tokens
from metro_fast.ops.masking import Masking
from metro_fast.ops.pack import pack
from metro_fast.ops.replaced_token_labels import ReplacedBatch, replaced_token_labels
from metro_fast.ops.sample_replacements import sample_replacements
from metro_fast.ops.span_corruption import SpanCorruption
from metro_fast.ops.span_lengths import SpanLengths
from metro_fast.ops.ternarize import Ternary, ternarize
from metro_fast.ops.unpack import unpack
from metro_fast.ops.vocabulary import Vocabulary

__all__ = [
    "Denoiser",
    "MaskBatch",
    "Masking",
    "ReplacedBatch",
    "SpanBatch",
    "SpanCorruption",
    "SpanLengths",
    "Ternary",
    "Vocabulary",
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
