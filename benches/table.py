"""The table of ratios of benches/results/cpu.json to peers and to the physical limit.

`python benches/table.py` prints it and writes benches/results/cpu.md. A ratio is a peer's median
over ours, of one run; "-" where a peer was not there.
"""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
LEVELS = ("avx512", "avx2", "scalar")
SPANS = "bench_corrupt_spans.py::test_"
MASKS = "bench_mask_tokens.py::test_"
CORPUS = "bench_corpus.py::test_"
SAMPLE = "bench_sample_replacements.py::test_"
UNPACK = "bench_unpack.py::test_"
COMPRESS = "bench_compress.py::test_"
MERGE = "bench_merge.py::test_"
POOL = "bench_pool.py::test_"

# Job, peer, the peer's benchmark, ours ("{}" is the level), and the targets of the design by level.
ROWS = [
    ("span corruption, 512 x 568, 1 thread", "numpy collator of metro_fast.testing",
     SPANS + "numpy_collator", SPANS + "ours[{}]", (200, 120, 100)),
    ("", "nanoT5's collator", SPANS + "nanot5_collator", SPANS + "ours[{}]", (200, 120, 100)),
    ("", "numba run copies", SPANS + "numba_run_copies", SPANS + "ours[{}]", (5, 3, 3)),
    ("", "memcpy of the output", SPANS + "copy_of_the_output", SPANS + "ours[{}]",
     (0.3, None, None)),
    ("METRO masking, 512 x 512, 1 thread", "numpy_mask_tokens of transformers",
     MASKS + "transformers_numpy_mask_tokens", MASKS + "ours[int64-{}]", (20, 10, 8)),
    ("", "the same step in lean numpy", MASKS + "numpy_whole_batch", MASKS + "ours[int64-{}]",
     (None, None, None)),
    ("", "memcpy of the output", MASKS + "copy_of_the_output", MASKS + "ours[int64-{}]",
     (None, None, None)),
    *[
        ("sampling, 256 x 32,128 bf16, 1 thread", peer, SAMPLE + name,
         SAMPLE + "ours[torch.bfloat16-{}]", targets)
        for peer, name, targets in (
            ("softmax + multinomial of torch", "softmax_multinomial[bfloat16]", (100, 40, 10)),
            ("exp + cumsum + searchsorted", "exp_cumsum_searchsorted", (15, None, None)),
            ("Gumbel and argmax", "gumbel_argmax", (None, None, None)),
            ("one read of the logits", "one_read_of_the_logits", (1 / 3, None, None)),
        )
    ],
    *[
        (f"decode {name} of 50 M at {density:.0%} to 16 bits, 1 thread", "copy of the output",
         UNPACK + "copy_of_the_output", UNPACK + f"ours[{density}-{coding}-{{}}]", targets)
        for name, coding, targets in (
            ("T4-rANS", "t4", (1, 0.5, 0.15)), ("bitmask", "bitmask", (1, 1, 1)),
        )
        for density in (0.05, 0.2, 0.5)
    ],
    *[
        ("the same, T4-rANS at 20%", f"{peer} ({bits} bits)", UNPACK + name,
         UNPACK + "ours[0.2-t4-{}]", (None, None, None))
        for peer, bits, name in (
            ("gguf TQ1_0 in numpy", 1.69, "gguf[TQ1_0]"),
            ("gguf TQ2_0 in numpy", 2.06, "gguf[TQ2_0]"),
            ("transformers' bitnet, eager", 2, "bitnet_of_transformers"),
            ("zstd -3 of two masks", 1.0, "zstd_of_two_masks[0.2]"),
        )
    ],
    ("compress 50 M at 20%, file written, 1 thread", "ComPEFT's whole path in torch",
     COMPRESS + "large_compeft_in_torch", COMPRESS + "large_to_file[{}]", (30, 15, 10)),
    *[
        ("TIES of 4 x 16.8 M to dense, 1 thread", peer, MERGE + name, MERGE + "ours[{}]", targets)
        for peer, name, targets in (
            ("disjoint_merge of PEFT", "peft_disjoint_merge", (50, None, None)),
            ("ties of PEFT, with trimming", "peft_ties", (None, None, None)),
            ("ComPEFT's TIES in torch", "compefts_ties", (None, None, None)),
            ("copy of the output", "copy_of_the_output", (None, None, None)),
        )
    ],
    *[
        ("pool swap, 72 LoRA modules, decoding included", peer, POOL + name, POOL + "ours[{}]",
         targets)
        for peer, name, targets in (
            ("hotswap_adapter of PEFT", "hotswap_of_peft", (20, None, None)),
            ("set_peft_model_state_dict", "load_state_dict_of_peft", (None, None, None)),
            ("copy of the parameters", "copy_of_the_parameters", (None, None, None)),
        )
    ],
]  # fmt: skip
PAIRS = [
    ("span corruption, 2,048 rows, 2 threads", "1 thread", SPANS + "threads[1-2048]",
     SPANS + "threads[2-2048]", 1.6),
    ("span corruption, 128 rows, threads chosen", "1 thread", SPANS + "threads[1-128]",
     SPANS + "threads[None-128]", 1.0),
    ("METRO collator, columns", "transformers' MLM collator, lists",
     MASKS + "transformers_collator[tolist]", MASKS + "our_collator_of_columns", 200),
    ("METRO collator, lists", "transformers' MLM collator, lists",
     MASKS + "transformers_collator[tolist]", MASKS + "our_collator[tolist]", None),
    ("corpus to batch", "the kernel alone", CORPUS + "kernel_alone", CORPUS + "corpus_to_batch",
     1 / 1.5),
    ("METRO-T0's baseline, masks and layout", "generate_masks of metro_t0, masks alone",
     SPANS + "metro_t0_masks", SPANS + "laws[metro_t0]", None),
    ("pool swap among 500 experts", "among 2", POOL + "flat_in_the_number_of_experts[2]",
     POOL + "flat_in_the_number_of_experts[500]", 1.0),
    ("expert from disk to the first output", "load_adapter of PEFT", POOL + "cold_start[peft]",
     POOL + "cold_start[ours]", None),
    ("packed dot, 3 pairs of 16.8 M", "torch.dot, 1 pair", MERGE + "torch_dot",
     MERGE + "packed_dot", None),
]  # fmt: skip


def table(results: dict) -> str:
    """The table in Markdown."""
    medians = {row["name"]: row["median_us"] for row in results["benchmarks"]}

    def cell(peer: str, ours: str, target: float | None) -> str:
        if peer not in medians or ours not in medians:
            return "-"
        aim = "" if target is None else f" (target {target:.3g})"
        return f"{medians[peer] / medians[ours]:.3g}{aim}"

    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    lines = [
        f"# Ratios of one run\n\n{results['date'][:10]}, {results['machine']}; {versions}.",
        "A ratio is the peer's median time over ours.\n",
        "| job | against | AVX-512 | AVX2 | scalar |",
        "|---|---|---|---|---|",
    ]
    for job, against, peer, ours, targets in ROWS:
        cells = [
            cell(peer, ours.format(level), target)
            for level, target in zip(LEVELS, targets, strict=True)
        ]
        lines.append(f"| {job} | {against} | {' | '.join(cells)} |")
    lines += ["", f"| job | against | {results['path']} |", "|---|---|---|"]
    lines += [
        f"| {job} | {against} | {cell(peer, ours, target)} |"
        for job, against, peer, ours, target in PAIRS
    ]
    shares = [
        row["extra_info"]["loader_share"]
        for row in results["benchmarks"]
        if "loader_share" in row.get("extra_info", {})
    ]
    lines += [
        f"\nThe loader's share of a step of a T5 of width 128 on this CPU: {share:.2%}."
        for share in shares
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = table(json.loads((RESULTS / "cpu.json").read_text()))
    (RESULTS / "cpu.md").write_text(text)
    print(text)
