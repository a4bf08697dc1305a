"""The parts of an expert file, in bytes."""

from metro_fast import _core
from metro_fast.experts.expert import Expert

_HEADER, _ROW, _GUARD = 32, 16, 256
_STATES = 256
_T4 = 0


def byte_shares(expert: Expert) -> dict[str, int]:
    """Bytes of the parts of a file, which add up to the whole file (docs/expert-format.md).

    Args:
        expert: The expert.

    Returns:
        Bytes by part: the coded trits, the coder's states with the block's index, the manifest,
        the dense tensors, and the rest (scales, checksums, the safetensors header).

    Example:
        >>> import numpy as np
        >>> from metro_fast.experts import compress
        >>> weights = np.random.default_rng(0).standard_normal((64, 512)).astype(np.float32)
        >>> expert = compress({"w": weights}, kind="other", density=0.05)
        >>> sum(byte_shares(expert).values()) == expert.nbytes
        True
    """
    count, _, steps = _core.block_info(expert.block)
    streams = -(-count // (64 * steps))
    index = expert.block[_HEADER : _HEADER + _ROW * streams].reshape(-1, _ROW)
    states = _STATES * int((index[:, 8] == _T4).sum())
    overhead = _HEADER + _ROW * streams + _GUARD + states
    sizes = {name: end - start for name, _, _, start, end in _core.decode_safetensors(expert.file)}
    shares = {
        "trits": expert.block.nbytes - overhead,
        "states and index": overhead,
        "manifest": sizes["compeft.manifest"],
        "dense tensors": sum(tensor.bytes.nbytes for tensor in expert.dense.values()),
    }
    return shares | {"scales and headers": expert.nbytes - sum(shares.values())}
