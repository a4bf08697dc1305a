"""A small instruction-tuned model under many wordings, by likelihood and by generation.

`python benches/real_model_study.py` asks SmolLM2-135M-Instruct (`make real-model`) the items of
SemEval-2010 Task 8 (19 labels), sentence polarity, three tasks of BIG-Bench-Hard and MMLU, each in
the package's own wordings, plain and inside the chat template, under the protocols `lm_eval` and
`generate_match`. Nothing is downloaded: the data are read from --data.

A cell is one task, wording and protocol. Each finished cell is a line of --cells, with all that the
model wrote, so that a run that was stopped continues where it ended. Several processes may run
beside each other: each takes the next cell that none has. Every task, protocol and wrapper is asked
in one wording before any is asked in the next. --items changes the size of a task, and a larger
part holds the items of every smaller one. --dtype bf16 takes 55 to 60 % of the time: the body
computes in bfloat16 and the output head in fp32, since a logit of bfloat16 between 16 and 32 is
rounded to 0.125, which makes ties of choices. real_model_study_report.py writes the results.
"""

import argparse
import fcntl
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import torch
from real_model_study_cells import ask, read_cells

from metro_fast.prompts import (
    Instruction,
    Item,
    Task,
    own_instructions,
    read_bbh,
    read_mmlu,
    read_rows,
    read_semeval,
)
from metro_fast.scoring import Engine, Protocol, find_protocol

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benches/results"
PACKAGES = ("metro_fast", "torch", "transformers")
WRAPPERS = ("plain", "chat")
NEW_TOKENS = 16
BBH = ("navigate", "disambiguation_qa", "logical_deduction_three_objects")
SIZES = {
    "semeval2010_task8": 400,
    "sentence_polarity": 150,
    "bbh_navigate": 80,
    "bbh_disambiguation_qa": 80,
    "bbh_logical_deduction_three_objects": 80,
    "mmlu": 300,
}
FULL_WORDINGS = 6


def tasks(data: Path) -> dict[str, tuple[Task, str]]:
    """Each task by its name, and the name of the instruction set that words it."""
    relations = data / "re/semeval2010_task8/TEST_FILE_FULL_first1811.TXT"
    reviews = (data / "tasks/sentence_polarity.jsonl").read_text("utf-8").splitlines()
    polarity = read_rows(
        map(json.loads, reviews),
        name="sentence_polarity",
        task_type="sentiment",
        answer="label",
        choices=("negative", "positive"),
    )
    found = [
        (read_semeval(relations).task, "re"),
        (polarity.task, "sentiment"),
        *((read_bbh(data / f"qa/bbh/{name}.json").task, "qa") for name in BBH),
        (read_mmlu(data / "qa/mmlu/zero_shot_mmlu_val.jsonl").task, "qa"),
    ]
    return {task.name: (task, words) for task, words in found}


def drawn(task: Task, count: int) -> list[Item]:
    """The items with the smallest hashes of their ids: a draw that only grows with `count`."""

    def key(item: Item) -> bytes:
        return hashlib.sha256(f"real_model_study\0{task.name}\0{item.id}".encode()).digest()

    return sorted(task, key=key)[:count]


def wordings(set_name: str, count: int) -> list[Instruction]:
    """The first wordings of a set, by turns close to those of instruction tuning and far."""
    words = own_instructions(set_name).of_kind("wording")
    near = [w for w in words if w.style == "seen-like"]
    far = [w for w in words if w.style != "seen-like"]
    return [w for pair in zip(near, far, strict=True) for w in pair][:count]


def protocols(tokenizer, new_tokens: int) -> Iterator[tuple[str, Protocol]]:
    """By likelihood and by generation, plain and inside the chat template."""
    for name, wrapper in itertools.product(("lm_eval", "generate_match"), WRAPPERS):
        protocol = find_protocol(name, wrapper=wrapper, tokenizer=tokenizer)
        how = "generation" if protocol.generate else "likelihood"
        if protocol.generate:
            protocol = replace(protocol, max_new_tokens=new_tokens)
        yield f"{how}, {wrapper}", protocol


def load(dtype: str) -> tuple[Any, Any, str]:
    """The model, its tokenizer, and the SHA-256 of its weights."""
    sys.path.insert(0, str(ROOT / "tests/support"))
    import real_model

    absence = real_model.absence()
    if absence is not None:
        sys.exit(absence)
    model, tokenizer = real_model.load()
    if dtype == "bf16":
        head = torch.nn.Linear(*reversed(model.lm_head.weight.shape), bias=False)
        head.weight.data = model.lm_head.weight.data.clone()
        model.to(torch.bfloat16)
        head.register_forward_pre_hook(lambda module, states: (states[0].float(),))
        model.lm_head = head
    return model, tokenizer, real_model.sha256(real_model.folder() / "model.safetensors")


def claimed(folder: Path, number: int) -> TextIO | None:
    """The open lock file of a cell; None if another process works on the cell."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / str(number)).open("w")
    try:  # the system lets go of the lock when the process ends, however it ends
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def run(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    model, tokenizer, weights = load(args.dtype)
    engine = Engine(model, tokenizer)
    todo = []
    known = tasks(args.data)
    for turn in range(args.wordings):  # every task in one wording before any in the next
        for name, (task, set_name) in known.items():
            words = wordings(set_name, args.wordings)[turn]
            items = drawn(task, args.items[name])
            each = dict(protocols(tokenizer, args.new_tokens))
            for wrapper in WRAPPERS:  # likelihood first: what it reads is then generated from
                asked = {how: each[how] for how in each if how.endswith(wrapper)}
                todo.append((name, words, items, asked))
    for number, (name, words, items, protocols_of) in enumerate(todo):
        lock = claimed(args.cells.with_suffix(".locks"), number)
        if lock is None:
            continue
        with lock:
            done = read_cells(args.cells)
            heads = {}
            for how, protocol in protocols_of.items():
                asked = {
                    "model": weights,
                    "dtype": args.dtype,
                    "protocol_sha256": protocol.sha256,
                    "items": len(items),
                }
                if not asked.items() <= done.get((name, words.id, how), {}).items():
                    head = {"task": name, "wording": words.id, "style": words.style}
                    heads[how] = head | {"protocol": how} | asked
            cells = ask(engine, words, items, {how: protocols_of[how] for how in heads})
            with args.cells.open("a", encoding="utf-8") as file:
                for how, head in heads.items():
                    file.write(json.dumps(head | cells[how]) + "\n")
        for how, cell in cells.items():
            print(
                f"{time.strftime('%H:%M:%S')} {number + 1}/{len(todo)} {name} {words.id} {how}: "
                f"{sum(map(int.__eq__, cell['predictions'], cell['answers']))} right of "
                f"{len(cell['answers'])}, {cell['processor_seconds']:.0f} s",
                flush=True,
            )


def size(text: str) -> tuple[str, int]:
    """A task and its number of items."""
    name, _, count = text.partition("=")
    if name not in SIZES or not count.isdigit() or int(count) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size; give TASK=COUNT, the task one of {', '.join(SIZES)}"
        )
    return name, int(count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--cells", type=Path, default=ROOT / "target/real_model_study.jsonl")
    parser.add_argument(
        "--items", type=size, nargs="+", default=[], metavar="TASK=COUNT", help="other sizes"
    )
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--wordings", type=int, default=FULL_WORDINGS, help="1 to 20 for each task")
    parser.add_argument("--new-tokens", type=int, default=NEW_TOKENS, help="most written tokens")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if not 1 <= args.wordings <= 20:
        parser.error("give 1 to 20 --wordings")
    args.items = SIZES | dict(args.items)
    args.cells.parent.mkdir(parents=True, exist_ok=True)
    run(args)


if __name__ == "__main__":
    main()
