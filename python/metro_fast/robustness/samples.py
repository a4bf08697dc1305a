"""A report's answers as the samples files of lm-eval, for tools that read those."""

import datetime
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metro_fast._atomic import write_atomically
from metro_fast.prompts import Item, Prompt
from metro_fast.robustness.cell_files import slug
from metro_fast.robustness.cell_record import CellRecord
from metro_fast.robustness.cells import Cell
from metro_fast.robustness.report import Report
from metro_fast.scoring import Outcome

__all__ = ["write_samples"]

# Metrics that are means of a number per item; of another one, lm-eval's samples get the accuracy.
_ITEM_METRICS = {
    "accuracy": "acc",
    "exact_match": "exact_match",
    "normalized_match": "normalized_match",
    "token_f1": "f1",
}


def write_samples(report: Report, folder: str | os.PathLike[str]) -> list[Path]:
    """Write each cell of a report as lm-eval's `samples_*.jsonl`.

    A line has lm-eval's keys: `resps` are log-likelihoods of choices, or what the model wrote. Its
    `doc` is the item, and `doc_id` the item's place in its task; `arguments` hold the input with
    the text of the protocol's wrapper, and the choices as the instruction words them. Whether a
    choice is the greedy continuation is not known, so the second entry of each pair is "False".
    `read_lm_eval_samples` reads the files.

    Args:
        report: The report.
        folder: Where the files go; one of the same cell and date is replaced.

    Returns:
        The files, one per cell, in order of the report's cells. Each is named for lm-eval's task,
        which is the task and the instruction, and for the date of the report.

    Raises:
        OSError: If a file cannot be written.

    Example:
        >>> report = Report.load("results_base_metro_t0.json")  # doctest: +SKIP
        >>> write_samples(report, "samples")  # doctest: +SKIP
        [PosixPath('samples/samples_qa-plain-54e1ad0f_2026-01-02T03-04-05.jsonl')]
    """
    moment = datetime.datetime.fromtimestamp(report.date, datetime.UTC).replace(tzinfo=None)
    date = moment.isoformat().replace(":", "-")
    paths = []
    for cell in report.cells:
        name = slug(f"{cell.record.task}/{cell.record.instruction.id}")
        lines = (json.dumps(line, ensure_ascii=False) for line in _lines(cell))
        paths.append(
            write_atomically(
                Path(folder) / f"samples_{name}_{date}.jsonl", "".join(f"{li}\n" for li in lines)
            )
        )
    return paths


def _lines(cell: Cell) -> Iterator[dict[str, Any]]:
    places = {item.id: place for place, item in enumerate(cell.task)}
    metric = _ITEM_METRICS.get(cell.metric.name, "acc")
    values = cell.values if cell.metric.name in _ITEM_METRICS else cell.correct
    for item, prompt, outcome, value in zip(
        cell.items, cell.prompts, cell.outcomes, values, strict=True
    ):
        asked = _asked(cell.record, item, prompt, outcome)
        doc = item.to_record()
        yield {
            "doc_id": places[item.id],
            "doc": doc,
            **asked,
            "filter": "none",
            "metrics": [metric],
            "doc_hash": _sha256(json.dumps(doc, indent=2, ensure_ascii=False)),
            "prompt_hash": _sha256(asked["arguments"]["gen_args_0"]["arg_0"]),
            "target_hash": _sha256(asked["target"]),
            metric: float(value),
        }


def _asked(record: CellRecord, item: Item, prompt: Prompt, outcome: Outcome) -> dict[str, Any]:
    """The questions and answers, as a task of multiple choice or of generate_until."""
    wrapper = record.protocol.get("wrapper", {})
    text = wrapper.get("before", "") + prompt.input + wrapper.get("after", "")
    if outcome.scores is None:
        settings = {
            "until": list(record.protocol.get("stop", ())),
            "max_gen_toks": record.protocol.get("max_new_tokens"),
            "do_sample": False,
        }
        written = outcome.text or ""
        return {
            "target": item.answer_text if prompt.target is None else prompt.target,
            "arguments": {"gen_args_0": {"arg_0": text, "arg_1": settings}},
            "resps": [[written]],
            "filtered_resps": [written],
        }
    # lm-eval's numbers are texts too, since a JSON file of both could not be read by `datasets`.
    pairs = [[repr(score), "False"] for score in outcome.scores]
    return {
        "target": str(prompt.answer),
        "arguments": {
            f"gen_args_{place}": {"arg_0": text, "arg_1": f" {choice}"}
            for place, choice in enumerate(prompt.choices)
        },
        "resps": [[pair] for pair in pairs],
        "filtered_resps": pairs,
    }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
