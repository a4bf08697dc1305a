"""A training loop that may be killed at any time, for test_resume.py.

It continues from FOLDER/state.json if that exists, and logs `step sha256` lines to FOLDER/log.txt.
Its model is a sum over the batches.
"""

import hashlib
import json
import time
from pathlib import Path

from metro_fast._atomic import write_atomically
from metro_fast.data import CorpusLoader, DataCollatorForSpanCorruption, TokenCorpus

SAVE_EVERY = 3


def make_loader(corpus: Path, rank: int, world_size: int, workers: int) -> CorpusLoader:
    collator = DataCollatorForSpanCorruption(
        sentinel_first=999, eos_token_id=1, pad_token_id=0, seed=11, pad_to_multiple_of=64
    )
    tokens = TokenCorpus(
        corpus, block_size=48, blocks="complete", collator=collator, shuffle=True, seed=11
    )
    return CorpusLoader(tokens, batch_size=4, rank=rank, world_size=world_size, num_workers=workers)


def digest(batch: dict) -> str:
    content = hashlib.sha256()
    for name in sorted(batch):
        content.update(name.encode() + batch[name].numpy().tobytes())
    return content.hexdigest()


def main(corpus: Path, folder: Path, rank: int, world_size: int, workers: int, steps: int) -> None:
    loader = make_loader(corpus, rank, world_size, workers)
    saved = folder / "state.json"
    step, total = 0, 0
    if saved.exists():
        state = json.loads(saved.read_text())
        step, total = state["step"], state["total"]
        loader.load_state_dict(state["loader"])
    with (folder / "log.txt").open("a") as log:
        for batch in loader:
            total += int(batch["input_ids"].sum())
            log.write(f"{step} {digest(batch)}\n")
            log.flush()
            step += 1
            if step % SAVE_EVERY == 0 or step == steps:
                state = {"step": step, "total": total, "loader": loader.state_dict()}
                write_atomically(saved, json.dumps(state).encode())
            if step == steps:
                break
            time.sleep(0.01)
    (folder / "done").touch()
