"""The cells of real_model_study.py: asked by likelihood and by generation of contexts read once."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from metro_fast.prompts import Instruction, Item, by_reason, render_items
from metro_fast.scoring import Engine, Outcome, Protocol, match_label
from metro_fast.scoring.batches import forked
from metro_fast.scoring.decoders import Started

TOGETHER = 32  # items whose contexts are kept: 0.2 GB of keys and values in bf16


class Reading:
    """A decoder that keeps the contexts it has read, for calls whose contexts go on from them.

    A likelihood's context is what is generated from, but for white space at its end. Reading the
    context is 40 % of the time of a likelihood with 19 labels and 80 % of that of an answer.
    """

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder
        self.kept: list[tuple[list[list[int]], Started]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.decoder, name)

    def start(self, contexts: Sequence[Sequence[int]], *, cache: bool) -> Started:
        rows = [list(context) for context in contexts]
        for before, started in self.kept:
            rest = [row[len(old) :] for old, row in zip(before, rows, strict=False)]
            more = len(rest[0])
            if len(before) != len(rows) or any(len(ids) != more for ids in rest):
                continue
            if any(row[: len(old)] != old for old, row in zip(before, rows, strict=True)):
                continue
            every = torch.arange(len(rows))
            twin = forked(started.cache, every)  # a call may write into its cache
            if not more:
                return replace(started, cache=twin)
            logits, twin = self.decoder.read(started, twin, every, torch.tensor(rest), 0)
            mask = torch.cat([started.mask, started.mask.new_ones(len(rows), more)], dim=1)
            return Started(logits[:, -1], twin, mask)
        self.kept.append((rows, self.decoder.start(contexts, cache=True)))
        return self.start(contexts, cache=cache)


def ask(
    engine: Engine, words: Instruction, items: Sequence[Item], asked: dict[str, Protocol]
) -> dict[str, dict]:
    """The cells of one wording and wrapper: predictions, scores, texts, what was cut, the time."""
    rendered = render_items(words, items)
    order = sorted(range(len(rendered.prompts)), key=lambda i: len(rendered.prompts[i].input))
    outcomes: dict[str, dict[int, Outcome]] = {how: {} for how in asked}
    wall, processor = Counter(), Counter()
    engine._decoder = reading = Reading(engine._decoder)
    for start in range(0, len(order), TOGETHER):
        some = order[start : start + TOGETHER]
        for how, protocol in asked.items():
            before = time.perf_counter(), time.process_time()
            found = engine.answer([rendered.prompts[i] for i in some], protocol)
            outcomes[how] |= dict(zip(some, found, strict=True))
            wall[how] += time.perf_counter() - before[0]
            processor[how] += time.process_time() - before[1]
        reading.kept.clear()
    engine._decoder = reading.decoder
    cells = {}
    for how in asked:
        answers = [outcomes[how][i] for i in range(len(rendered.prompts))]
        cells[how] = {
            "ids": [item.id for item in rendered.items],
            "answers": [prompt.answer for prompt in rendered.prompts],
            "predictions": [outcome.prediction for outcome in answers],
            "scores": [[round(s, 5) for s in o.scores] for o in answers if o.scores],
            "choices": len(rendered.prompts[0].choices),
            "texts": [outcome.text for outcome in answers if outcome.text is not None],
            "rejects": by_reason(rendered.rejects),
            "cut": sum(outcome.cut_tokens > 0 for outcome in answers),
            "tied": sum(outcome.tied for outcome in answers),
            "seconds": round(wall[how], 3),
            "processor_seconds": round(processor[how], 3),
        }
    return cells


def read_cells(path: Path) -> dict[tuple[str, str, str], dict]:
    """The finished cells by task, wording and protocol."""
    if not path.exists():
        return {}
    cells = map(json.loads, path.read_text("utf-8").splitlines())
    return {(cell["task"], cell["wording"], cell["protocol"]): cell for cell in cells}


def reread(cell: dict, words: Instruction, items: Sequence[Item]) -> int:
    """Match the written texts of a cell with the labels once more; how many predictions change."""
    by_id = {item.id: item for item in items}
    prompts = render_items(words, [by_id[name] for name in cell["ids"]]).prompts
    found = [
        match_label(text, prompt.choices, prompt.texts)
        for text, prompt in zip(cell["texts"], prompts, strict=True)
    ]
    changed = sum(a != b for a, b in zip(found, cell["predictions"], strict=True))
    cell["predictions"] = found
    return changed


def same_items(cells: Sequence[dict], others: dict[tuple[str, str, str], dict]) -> dict[str, dict]:
    """Cells against others of fewer items, in fp32 for example, by the way of asking.

    Returns:
        For likelihood and for generation, the number of answers that both have, the share of equal
        predictions, both accuracies, and the largest difference of a score, or the share of equal
        texts.
    """
    table: dict[str, list[tuple]] = {}
    for cell in cells:
        other = others.get((cell["task"], cell["wording"], cell["protocol"]))
        if other is None:
            continue
        what = "scores" if cell["scores"] else "texts"
        place = {name: i for i, name in enumerate(cell["ids"])}
        for i, name in enumerate(other["ids"]):
            k = place[name]
            row = (cell["answers"][k], cell["predictions"][k], other["predictions"][i])
            table.setdefault(cell["protocol"].partition(",")[0], []).append(
                (*row, cell[what][k], other[what][i])
            )
    return {how: _compared(rows) for how, rows in table.items()}


def _compared(rows: list[tuple]) -> dict:
    result = {
        "answers": len(rows),
        "equal_predictions": sum(ours == theirs for _, ours, theirs, _, _ in rows) / len(rows),
        "accuracy": sum(answer == ours for answer, ours, _, _, _ in rows) / len(rows),
        "accuracy_of_the_other": sum(answer == theirs for answer, _, theirs, _, _ in rows)
        / len(rows),
    }
    if isinstance(rows[0][3], str):
        return result | {"equal_texts": sum(a == b for *_, a, b in rows) / len(rows)}
    apart = [abs(a - b) for *_, first, second in rows for a, b in zip(first, second, strict=True)]
    # Choices are ranked by the differences of their scores, in which a shift of all cancels.
    return result | {
        "largest_difference": max(apart),
        "mean_difference": sum(apart) / len(apart),
    }
