"""Cells an hour of the study of a real model: the `hf` model of lm-eval, and `Engine.answer`.

`python benches/real_model_speed.py` needs lm_eval (0.4.13), the model of `make real-model` and the
data of real_model_study.py, and writes benches/results/real_model_speed.json. A cell is a task in
one wording under one protocol at the study's size. Both sides start from the same texts and answer
the same few items of each cell in fp32 on one thread, by turns, cell after cell; a cell's seconds
are those of an item times the number of its items. Scores must be equal to 3e-4, since sums over 14
tokens were found to differ by 1.02e-4. A small sample is to the disadvantage of both sides, whose
batches are larger in the study.
"""

import argparse
import json
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import real_model_study as study
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from metro_fast.prompts import render_items
from metro_fast.scoring import Engine, Outcome, Protocol

RESULTS = study.RESULTS / "real_model_speed.json"
PACKAGES = (*study.PACKAGES, "lm_eval")
BATCH_SIZE = 8
TOLERANCE = 3e-4


def peer_answers(peer: HFLM, prompts: Any, protocol: Protocol) -> list[Any]:
    """The scores of each prompt, or what was written."""
    wrapper = protocol.wrapper
    read = [wrapper.wrap(prompt.input) for prompt in prompts]
    if protocol.generate:
        options = {"until": [], "max_gen_toks": protocol.max_new_tokens, "do_sample": False}
        return peer.generate_until(
            [Instance("generate_until", {}, (text, options), 0) for text in read],
            disable_tqdm=True,
        )
    between = " " if wrapper.separator is None else wrapper.separator
    requests = [
        Instance("loglikelihood", {}, (text, between + choice), 0)
        for text, prompt in zip(read, prompts, strict=True)
        for choice in prompt.choices
    ]
    values = iter(peer.loglikelihood(requests, disable_tqdm=True))
    return [[next(values)[0] for _ in prompt.choices] for prompt in prompts]


def compared(outcomes: list[Outcome], answers: list[Any]) -> dict[str, Any]:
    """How equal both are.

    Raises:
        ValueError: If scores differ by 3e-4 or more.
    """
    if outcomes[0].scores is None:
        same = sum(o.text == text for o, text in zip(outcomes, answers, strict=True))
        return {"same_texts": same}
    difference = max(
        abs(ours - theirs)
        for outcome, row in zip(outcomes, answers, strict=True)
        for ours, theirs in zip(outcome.scores or (), row, strict=True)
    )
    if difference >= TOLERANCE:
        raise ValueError(f"scores differ by {difference}, expected less than {TOLERANCE}")
    same = sum(
        o.prediction == row.index(max(row)) for o, row in zip(outcomes, answers, strict=True)
    )
    return {"largest_difference": difference, "same_predictions": same}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=study.ROOT.parent / "shared/data")
    parser.add_argument("--sample", type=int, default=4, help="items of each cell")
    parser.add_argument("--relations", type=int, default=2, help="items of each cell of SemEval")
    parser.add_argument("--machine", required=True, help="named in the results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer, _ = study.load("fp32")
    engine = Engine(model, tokenizer)
    peer = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=BATCH_SIZE,
                device="cpu")  # fmt: skip
    cells = []
    known = study.tasks(args.data)
    for name in reversed(known):  # the relations, which take most of the time, come last
        task, set_name = known[name]
        count = args.relations if name.startswith("semeval") else args.sample
        words = study.wordings(set_name, study.FULL_WORDINGS)[0]
        prompts = render_items(words, study.drawn(task, count)).prompts
        for how, protocol in study.protocols(tokenizer, study.NEW_TOKENS):
            start = time.process_time()
            answers = peer_answers(peer, prompts, protocol)
            middle = time.process_time()
            outcomes = engine.answer(prompts, protocol)
            end = time.process_time()
            factor = study.SIZES[name] / len(prompts)
            cell = {
                "task": name,
                "protocol": how,
                "wording": words.id,
                "items": study.SIZES[name],
                "sampled": len(prompts),
                "seconds": {
                    "lm_eval": round((middle - start) * factor, 1),
                    "ours": round((end - middle) * factor, 1),
                },
                **compared(outcomes, answers),
            }
            cells.append(cell)
            print(json.dumps(cell), flush=True)
            write(cells, args.machine)


def write(cells: list[dict[str, Any]], machine: str) -> None:
    """Write what has been measured so far, since a run takes minutes."""
    hours = {side: sum(c["seconds"][side] for c in cells) / 3600 for side in ("lm_eval", "ours")}
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine,
        "threads": 1,
        "dtype": "fp32",
        "lm_eval_batch_size": BATCH_SIZE,
        "versions": {package: metadata.version(package) for package in PACKAGES},
        "cells_an_hour": {side: round(len(cells) / hours[side], 1) for side in hours},
        "ratio": round(hours["lm_eval"] / hours["ours"], 2),
    }
    lines = ",\n  ".join(map(json.dumps, cells))
    head = json.dumps(result, indent=1).removesuffix("\n}")
    RESULTS.write_text(f'{head},\n "cells": [\n  {lines}\n ]\n}}\n')


if __name__ == "__main__":
    main()
