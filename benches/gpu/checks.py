"""Every kernel against float64 or the CPU, on new inputs; nothing is timed if one fails."""

from collections.abc import Callable

import numpy as np
import torch
from cases import block, trits

from metro_fast import ops
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.ops import torch as registered
from metro_fast.ops.cuda.lora import LoraTable, TernaryLora, apply_lora

FORMATS = (torch.float32, torch.float16, torch.bfloat16)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors hold the same bytes."""
    return torch.equal(one.cpu().view(torch.uint8), other.cpu().view(torch.uint8))


def decoding(device: torch.device, seed: int) -> int:
    """Blocks of odd sizes and all codings, into poisoned memory; returns the parameters checked."""
    seen = 0
    for i, count in enumerate((1, 31, 33, 257, 4_099, 70_001, 1_000_003, 5_000_011)):
        for coding in ("t4", "bitmask"):
            for density in (0.0, 0.02, 0.3):
                values = trits(count, density, seed + i)
                packed = block(values, coding, (512, 2048, 4096)[i % 3])
                dtype = FORMATS[(i + seen) % 3]
                expected = ops.unpack(packed, count, scale=-0.37, dtype=dtype)
                out = torch.full((count + 64,), torch.nan, dtype=dtype, device=device)
                registered.unpack_out(packed.to(device), -0.37, out[:count])
                assert same_bits(out[:count], expected), (count, coding, density, dtype)
                assert out[count:].isnan().all(), "written past the end"
                seen += count
    return seen


def damage(device: torch.device, seed: int, trials: int = 200) -> int:
    """Damaged blocks give an error or the values of the CPU; returns the number refused."""
    random = np.random.default_rng(seed)
    count, refused = 200_000, 0
    whole = block(trits(count, 0.03, seed), "t4", 512)
    for _ in range(trials):
        broken = whole.clone()
        at = int(random.integers(0, broken.numel()))
        broken[at] ^= 1 << int(random.integers(0, 8))
        try:
            registered.unpack(broken.to(device), count, 1.0, torch.float32)
        except (FormatError, MetroFastError):
            refused += 1
    assert 2 * refused > trials, refused
    # The device still works.
    expected = ops.unpack(whole, count, dtype=torch.float32)
    assert same_bits(registered.unpack(whole.to(device), count, 1.0, torch.float32), expected)
    return refused


def sampling(device: torch.device, seed: int) -> int:
    """The tokens equal the CPU's for equal logits; returns the number of rows."""
    torch.manual_seed(seed)
    rows = 0
    for vocabulary in (1, 33, 1_000, 32_128, 60_001, 128_256):
        for dtype in FORMATS:
            logits = (4 * torch.randn(5, vocabulary)).to(dtype)
            pair = torch.tensor([seed, vocabulary])
            ids, places = torch.randint(0, 2**62, (5,)), torch.arange(5)
            expected = registered.sample_replacements(logits, pair, ids, places, 0.9)
            on_device = [t.to(device) for t in (logits, pair, ids, places)]
            found = registered.sample_replacements(*on_device, 0.9)
            assert torch.equal(found.cpu(), expected), (vocabulary, dtype)
            rows += 5
    return rows


def labels(device: torch.device, seed: int) -> int:
    """Input and labels of replaced-token detection; returns the number of tokens."""
    torch.manual_seed(seed)
    original = torch.randint(0, 32_000, (64, 513))
    original[:, 400:] = -100
    places = torch.nonzero((original.flatten() >= 0) & (torch.rand(original.numel()) < 0.15))[:, 0]
    drawn = torch.randint(0, 32_000, places.shape)
    expected = registered.replaced_token_labels(original, drawn, places, 0)
    on_device = (t.to(device) for t in (original, drawn, places))
    found = registered.replaced_token_labels(*on_device, 0)
    assert all(torch.equal(a.cpu(), b) for a, b in zip(found, expected, strict=True))
    return original.numel()


def packed_lora(device: torch.device, seed: int) -> int:
    """Experts in a batch against float64; returns the number of rows. On a GPU only."""
    if device.type != "cuda":
        return 0
    random = np.random.default_rng(seed)
    inner, outer, rows = 1_000, 777, 16
    experts = [
        TernaryLora(
            trits(rank * inner, 0.2, seed + rank).reshape(rank, inner),
            trits(outer * rank, 0.2, seed - rank + 100).reshape(outer, rank),
            0.02,
            0.01,
        )
        for rank in (4, 16, 65)
    ]
    table = LoraTable(experts, device)
    x = torch.from_numpy(random.standard_normal((rows, inner)).astype(np.float32))
    y = torch.from_numpy(random.standard_normal((rows, outer)).astype(np.float32))
    which = torch.from_numpy(random.integers(-1, 3, rows).astype(np.int32))
    found = y.to(device)
    apply_lora(x.to(device), found, which.to(device), table)
    for row, number in enumerate(which.tolist()):
        exact = y[row].double()
        if number >= 0:
            one = experts[number]
            a, b = (torch.from_numpy(m.astype(np.float64)) for m in (one.a, one.b))
            exact = exact + one.a_scale * one.b_scale * b @ (a @ x[row].double())
        error = torch.linalg.vector_norm(found[row].cpu().double() - exact)
        assert error <= 1e-5 * torch.linalg.vector_norm(exact), (row, number, float(error))
    return rows


CHECKS: dict[str, Callable[[torch.device, int], int]] = {
    "decoding": decoding,
    "damage": damage,
    "sampling": sampling,
    "labels": labels,
    "packed LoRA": packed_lora,
}


def graphs(device: torch.device, seed: int) -> int:
    """A captured graph draws other numbers after its seed's tensor has changed. On a GPU only."""
    if device.type != "cuda":
        return 0
    logits = torch.randn(64, 5_000, device=device)
    pair = torch.tensor([seed, 0], device=device)
    registered.sample_replacements(logits, pair)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        drawn = registered.sample_replacements(logits, pair)
    for epoch in range(3):
        pair[1] = epoch
        graph.replay()
        expected = registered.sample_replacements(logits, pair)
        assert torch.equal(drawn, expected), epoch
    registered.raise_flagged(device)
    return 3


CHECKS["graphs"] = graphs
