"""The timings: each op, and the peers that it is timed against."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import peers
import torch
from cases import block, steps_for, trits
from clock import interleaved
from report import Result, result

from metro_fast.ops import torch as registered
from metro_fast.ops.cuda.lora import LoraTable, TernaryLora, apply_lora

DENSITIES = (0.01, 0.05, 0.2, 0.5)


@dataclass(frozen=True)
class Sizes:
    """Sizes of the inputs; the tests take small ones.

    Attributes:
        decode: Parameters of a block, by the name of that size.
        vocabularies: By name.
        rows: Of logits; the first is the headline's.
        swap_modules: LoRA modules of the swap.
        swap_width: Their width.
        swap_rank: Their rank: modules x 2 x width x rank parameters.
        batches: Rows of the packed LoRA.
    """

    decode: dict[str, int]
    vocabularies: dict[str, int]
    rows: tuple[int, ...]
    swap_modules: int
    swap_width: int
    swap_rank: int
    batches: tuple[int, ...]


FULL = Sizes(
    decode={"1m": 1_000_000, "100m": 100_000_000, "1b": 1_000_000_000},
    vocabularies={"32k": 32_128, "128k": 128_256},
    rows=(8_192, 1_024, 32_768),
    swap_modules=192,
    swap_width=4_096,
    swap_rank=64,
    batches=(1, 4, 16, 64),
)
SMALL = Sizes(
    decode={"1m": 3_000, "100m": 5_000},
    vocabularies={"32k": 50},
    rows=(6, 2),
    swap_modules=2,
    swap_width=32,
    swap_rank=4,
    batches=(1, 3),
)


def captured(work: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """The work as a graph: no Python between its launches, and no wait for flags."""
    if device.type != "cuda":
        return work
    work()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def decoding(device: torch.device, sizes: Sizes, bandwidth: float) -> Iterator[Result]:
    """T4-rANS and bitmask to bfloat16, against a copy of the output and an upload of it."""
    for label, count in sizes.decode.items():
        out = torch.empty(count, dtype=torch.bfloat16, device=device)
        source = torch.randn(count, device=device, dtype=torch.bfloat16)
        host = source.cpu()
        host = host.pin_memory() if device.type == "cuda" else host
        for density in DENSITIES:
            values = trits(count, density, 0)
            for short, coding in (("t4", "t4"), ("bms", "bitmask")):
                packed = block(values, coding, steps_for(count)).to(device)

                def decode(packed: torch.Tensor = packed, out: torch.Tensor = out) -> None:
                    registered.unpack_out(packed, 0.02, out)

                times = interleaved(
                    {
                        "ours": captured(decode, device),
                        "copy": lambda out=out, source=source: out.copy_(source),
                        "upload": lambda out=out, host=host: out.copy_(host, non_blocking=True),
                    },
                    device,
                )
                name = f"{short}_decode_{label}_{100 * density:.0f}pct"
                floor = (packed.numel() + 2 * count) / bandwidth
                yield result(
                    name,
                    times["ours"],
                    peer="copy of the output",
                    theirs=times["copy"],
                    floor=floor,
                )
                yield result(
                    f"{name}_against_upload",
                    times["ours"],
                    peer="upload of bfloat16",
                    theirs=times["upload"],
                )
        registered.raise_flagged(device)


def sampling(device: torch.device, sizes: Sizes, bandwidth: float) -> Iterator[Result]:
    """One token per row of bfloat16 logits, against other ways to draw one."""
    fused = peers.triton_gumbel() if device.type == "cuda" else None
    for label, vocabulary in sizes.vocabularies.items():
        for number, rows in enumerate(sizes.rows):
            logits = torch.randn(rows, vocabulary, device=device).bfloat16()
            pair = torch.tensor([1, 2], device=device)

            def draw(logits: torch.Tensor = logits, pair: torch.Tensor = pair) -> torch.Tensor:
                return registered.sample_replacements(logits, pair)

            works: dict[str, Callable[[], Any]] = {
                "ours": captured(draw, device),
                "softmax + multinomial": lambda x=logits: peers.softmax_multinomial(x),
                "Gumbel in torch": lambda x=logits: peers.gumbel(x),
            }
            if fused is not None:
                works["Gumbel in Triton"] = lambda x=logits: fused(x)
            times = interleaved(works, device)
            ours = times.pop("ours")
            floor = 2 * logits.numel() / bandwidth
            name = f"sample_logits_{label}" + (f"_{rows}rows" if number else "")
            for peer, theirs in times.items():
                main = peer.startswith("softmax")
                short = name if main else f"{name}_against_{peer.lower().replace(' ', '_')}"
                limit = floor if main else None
                yield result(short, ours, peer=peer, theirs=theirs, floor=limit)
    registered.raise_flagged(device)


def swap(device: torch.device, sizes: Sizes, bandwidth: float) -> Iterator[Result]:
    """ExpertPool.swap with decoding, against an upload of the same weights in bfloat16."""
    from metro_fast.experts import ExpertPool, compress

    width, modules = sizes.swap_width, sizes.swap_modules

    def base() -> torch.nn.Module:
        layers = [torch.nn.Linear(width, width, bias=False) for _ in range(modules)]
        return torch.nn.Sequential(*layers)

    random = np.random.default_rng(0)
    state = {}
    for i in range(modules):
        for side, shape in (("A", (sizes.swap_rank, width)), ("B", (width, sizes.swap_rank))):
            values = random.standard_normal(shape, np.float32)
            state[f"base_model.model.{i}.lora_{side}.weight"] = values
    experts = [compress(state, density=0.05), compress(state, density=0.05, alpha=2.0)]
    config = {"peft_type": "LORA", "r": sizes.swap_rank, "lora_alpha": 8, "target_modules": r"\d+"}
    text = json.dumps(config).encode()
    for expert in experts:
        expert.config = text
    count = sum(values.size for values in state.values())
    host = torch.empty(count, dtype=torch.bfloat16)
    host = host.pin_memory() if device.type == "cuda" else host
    there = torch.empty(count, dtype=torch.bfloat16, device=device)
    for keep in ("host", "device"):
        with torch.device(device):
            model = base().to(torch.bfloat16)
        pool = ExpertPool(model, keep=keep)
        for i, expert in enumerate(experts):
            pool.add(str(i), expert)
        turn = iter(range(1 << 30))
        times = interleaved(
            {
                "ours": lambda pool=pool, turn=turn: pool.swap(str(next(turn) % 2)),
                "upload": lambda: there.copy_(host, non_blocking=True),
            },
            device,
        )
        floor = (experts[0].nbytes + 2 * count) / bandwidth
        yield result(
            f"swap_100m_from_{keep}",
            times["ours"],
            peer="upload of bfloat16",
            theirs=times["upload"],
            floor=floor,
        )
        registered.raise_flagged(device)
        del pool, model


def packed_lora(device: torch.device, sizes: Sizes, bandwidth: float) -> Iterator[Result]:
    """Packed experts in a batch, against decoding each row's expert and multiplying."""
    if device.type != "cuda":
        return
    width, rank = sizes.swap_width, 16
    for batch in sizes.batches:
        experts = [
            TernaryLora(
                trits(rank * width, 0.05, 2 * i).reshape(rank, width),
                trits(rank * width, 0.05, 2 * i + 1).reshape(width, rank),
                0.02,
                0.02,
            )
            for i in range(batch)
        ]
        table = LoraTable(experts, device)
        x = torch.randn(batch, width, device=device, dtype=torch.bfloat16)
        y = torch.zeros(batch, width, device=device, dtype=torch.bfloat16)
        which = torch.arange(batch, dtype=torch.int32, device=device)
        blocks = [block(np.concatenate([e.a.ravel(), e.b.ravel()]), "t4", 512) for e in experts]
        blocks = [b.to(device) for b in blocks]
        dense = torch.empty(batch, 2 * rank * width, device=device, dtype=torch.bfloat16)

        def decoded(blocks=blocks, dense=dense, x=x, y=y, batch=batch) -> None:
            for packed, out in zip(blocks, dense, strict=True):
                registered.unpack_out(packed, 0.02, out)
            a = dense[:, : rank * width].view(batch, rank, width)
            b = dense[:, rank * width :].view(batch, width, rank)
            y.add_((b @ (a @ x[:, :, None]))[:, :, 0])

        def packed(x=x, y=y, which=which, table=table) -> None:
            apply_lora(x, y, which, table)

        works = {"ours": captured(packed, device), "decoded": captured(decoded, device)}
        times = interleaved(works, device)
        floor = (table.planes.numel() * 4 + 3 * 2 * batch * width) / bandwidth
        yield result(
            f"apply_lora_{batch}rows",
            times["ours"],
            peer="decode + product",
            theirs=times["decoded"],
            floor=floor,
        )
    registered.raise_flagged(device)


TIMINGS = {
    "swap": swap,
    "sampling": sampling,
    "packed LoRA": packed_lora,
    "decoding": decoding,
}
"""All timings in the order in which they run; those for which no time is left are named."""
