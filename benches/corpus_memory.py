"""Anonymous memory of a training loop and its workers, over a small and a large corpus.

`python benches/corpus_memory.py` writes two corpora of random ids into a temporary folder (64 MiB
and 4 GiB; `--large-mib` and `--folder` change that), trains a tiny T5 on each for 100 steps with
two workers and shuffled blocks, and prints RssAnon of every process at steps 10 and 100. Pages of
mapped files are not counted: the system takes them back when it needs memory. Each corpus is
trained on in a fresh process, whose malloc gives freed tensors back at once: else the parent's
activations, kept or not as it falls, differ by 70 MB between two runs on one corpus. Writes
benches/results/corpus_memory.json.
"""

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "corpus_memory.json"
STEPS = (10, 100)
BLOCK, BATCH, VOCABULARY, DOCUMENT = 512, 8, 32_128, 700
GROWTH_MB, DIFFERENCE_MB = 10, 20
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def make_corpus(folder: Path, mib: int) -> None:
    """Random ids of two bytes, written in pieces; documents of 700 tokens."""
    folder.mkdir()
    tokens = mib << 19
    rng = np.random.default_rng(0)
    with (folder / "a.ds").open("wb") as file:
        for _ in range(0, tokens, 1 << 24):
            count = min(1 << 24, tokens)
            file.write(rng.integers(2, 32_000, count, dtype=np.uint16).tobytes())
    ends = np.append(np.arange(DOCUMENT, tokens, DOCUMENT), tokens).astype("<u8")
    (folder / "a.ds.index").write_bytes(ends.tobytes())
    (folder / "a.ds.metadata").write_text(f"random|2\n{tokens}\n")


def anonymous_mb(pid: int) -> float:
    """RssAnon of a process in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"/proc/{pid}/status has no RssAnon")


def train(folder: Path, blocks: str) -> dict[str, dict[str, float]]:
    """RssAnon by step and process of one training."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from metro_fast.data import CorpusLoader, DataCollatorForSpanCorruption, TokenCorpus

    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    config = T5Config(vocab_size=VOCABULARY, decoder_start_token_id=0, **shape)
    model = T5ForConditionalGeneration(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    collator = DataCollatorForSpanCorruption(
        sentinel_first=VOCABULARY - 1, eos_token_id=1, pad_token_id=0
    )
    corpus = TokenCorpus(folder, block_size=BLOCK, collator=collator, shuffle=True, blocks=blocks)
    loader = CorpusLoader(corpus, batch_size=BATCH, num_workers=2)
    found: dict[str, dict[str, float]] = {}
    for step, batch in enumerate(loader, 1):
        loss = model(input_ids=batch["input_ids"], labels=batch["labels"]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step in STEPS:
            workers = sorted(child.pid for child in multiprocessing.active_children())
            names = ["parent", *(f"worker {number}" for number in range(len(workers)))]
            pids = [multiprocessing.current_process().pid, *workers]
            found[str(step)] = {
                name: anonymous_mb(pid) for name, pid in zip(names, pids, strict=True)
            }
        if step == STEPS[-1]:
            return found
    raise RuntimeError(f"the corpus ended before step {STEPS[-1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small-mib", type=int, default=64)
    parser.add_argument("--large-mib", type=int, default=4096)
    parser.add_argument("--folder", type=Path, help="folder for the corpora while this runs")
    parser.add_argument("--blocks", nargs="*", default=["none", "pack"])
    parser.add_argument("--train", nargs=2, metavar=("FOLDER", "BLOCKS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        print(json.dumps(train(Path(options.train[0]), options.train[1])))
        return
    import torch

    result = {
        "machine": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "unit": "MB (10^6 bytes) of RssAnon",
        "corpora": {},
    }
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        for mib in (options.small_mib, options.large_mib):
            folder = Path(temporary) / str(mib)
            make_corpus(folder, mib)
            for blocks in options.blocks:
                command = [sys.executable, __file__, "--train", str(folder), blocks]
                done = subprocess.run(
                    command,
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, **MALLOC},
                )
                found = json.loads(done.stdout.splitlines()[-1])
                result["corpora"].setdefault(blocks, {})[f"{mib} MiB"] = found
                for step, processes in found.items():
                    shown = ", ".join(f"{name} {mb:.1f}" for name, mb in processes.items())
                    print(f"{blocks:8} {mib:5} MiB, step {step:>3}: {shown}", flush=True)
    for blocks, sizes in result["corpora"].items():
        small, large = sizes.values()
        growth = max(
            size["100"][name] - size["10"][name] for size in (small, large) for name in size["10"]
        )
        difference = max(abs(large["100"][name] - small["100"][name]) for name in small["100"])
        print(
            f"{blocks:8} most growth {growth:.1f} MB (goal {GROWTH_MB}), "
            f"most difference {difference:.1f} MB (goal {DIFFERENCE_MB})"
        )
        sizes["growth"], sizes["difference"] = growth, difference
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
