"""Write benches/results/real_model_study.json and .md from the cells of real_model_study.py.

The written answers stay in --cells, and not in the results, since they may quote the data. With
--reread they are matched with the labels once more by the package as it is now, and the changed
predictions are counted. --fp32 gives cells of fewer items in fp32, for the comparison of number
formats. What the page says in words is in real_model_study_words.md, whose figures come from the
results, so that none is typed.
"""

import argparse
import json
import platform
import time
from collections import Counter
from importlib import metadata
from pathlib import Path

import real_model_study as study
from real_model_study_cells import read_cells, reread, same_items
from real_model_study_tables import HOW, markdown, summary

from metro_fast.prompts import render_items
from metro_fast.robustness import wilson_interval

WORDS = Path(__file__).parent / "real_model_study_words.md"


def endings(known: dict) -> dict[str, dict]:
    """How the input of each wording ends, and whether it asks for the answer there."""
    found = {}
    for task, set_name in known.values():
        for words in study.wordings(set_name, study.FULL_WORDINGS):
            prompt = render_items(words, task.items[:1]).prompts[0]
            last = prompt.input.rstrip().splitlines()[-1]
            found[words.id] = {
                "ends": last[-40:],
                "asks_at_its_end": not last.endswith(prompt.choices[-1]),
            }
    return found


def read_again(cell: dict, known: dict) -> int:
    """Match the written texts of a cell again; how many predictions change."""
    if not cell["texts"]:
        return 0
    task, set_name = known[cell["task"]]
    words = {w.id: w for w in study.wordings(set_name, study.FULL_WORDINGS)}
    return reread(cell, words[cell["wording"]], task.items)


def by_task(speed: dict) -> dict:
    """The cells an hour of both sides for each task."""
    rows = []
    for name in study.SIZES:
        cells = [cell for cell in speed["cells"] if cell["task"] == name]
        if cells:
            rates = {
                side: 3600 * len(cells) / sum(cell["seconds"][side] for cell in cells)
                for side in ("lm_eval", "ours")
            }
            largest = max(cell.get("largest_difference", 0.0) for cell in cells)
            head = {"task": name, "cells": len(cells), "sampled": cells[0]["sampled"]}
            rows.append(head | rates | {"largest_difference": largest})
    whole = {row["task"] for row in rows if row["cells"] == len(HOW)}
    head = {key: value for key, value in speed.items() if key != "cells"}
    return head | {"tasks": rows, "not_measured": [t for t in study.SIZES if t not in whole]}


def shortened(cell: dict) -> dict:
    """A cell without what it holds of the data and of scores, and with figures of its texts."""
    texts = cell["texts"]
    right = sum(map(int.__eq__, cell["predictions"], cell["answers"]))
    found = {key: value for key, value in cell.items() if key != "scores"} | {
        "texts": [text[:60] for text in texts[:2]],
        "empty": sum(not text.strip() for text in texts),
        "wilson_95": [round(x, 4) for x in wilson_interval(right, len(cell["answers"]))],
    }
    if texts:
        text, count = Counter(texts).most_common(1)[0]
        found["most_common_text"] = [text[:40], count]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=study.ROOT.parent / "shared/data")
    parser.add_argument("--cells", type=Path, default=study.ROOT / "target/real_model_study.jsonl")
    parser.add_argument("--fp32", type=Path, help="cells of fewer items in fp32")
    parser.add_argument("--reread", action="store_true", help="match the written texts again")
    parser.add_argument("--machine", default=platform.machine(), help="named in the results")
    args = parser.parse_args()
    cells = list(read_cells(args.cells).values())
    order = [*study.SIZES], HOW
    cells.sort(
        key=lambda c: (order[0].index(c["task"]), c["wording"], order[1].index(c["protocol"]))
    )
    if not cells:
        parser.error(f"{args.cells} holds no cells; run real_model_study.py first")
    known = study.tasks(args.data)
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.platform()}, {args.machine}",
        "versions": {name: metadata.version(name) for name in study.PACKAGES},
        "dtype": cells[0]["dtype"],
        "new_tokens": study.NEW_TOKENS,
        "sizes": study.SIZES,
        "full_wordings": study.FULL_WORDINGS,
        "endings": endings(known),
    }
    others = read_cells(args.fp32) if args.fp32 else {}
    if args.reread:
        changed = [read_again(cell, known) for cell in cells if cell["texts"]]
        result["reread"] = {
            "changed": sum(changed),
            "of": sum(len(cell["texts"]) for cell in cells),
        }
        for cell in others.values():
            read_again(cell, known)
    if others:
        result["fp32"] = same_items(cells, others)
    speed = study.RESULTS / "real_model_speed.json"
    if speed.exists():
        result["speed"] = by_task(json.loads(speed.read_text("utf-8")))
    cells = [shortened(cell) for cell in cells]
    labels = known["semeval2010_task8"][0].items[0].choices
    result |= summary(cells, study.SIZES, study.FULL_WORDINGS, labels)
    # Every cell has its own line, so that a diff shows which cells changed.
    lines = ",\n  ".join(map(json.dumps, cells))
    head = json.dumps(result, indent=1).removesuffix("\n}")
    (study.RESULTS / "real_model_study.json").write_text(
        f'{head},\n "cells": [\n  {lines}\n ]\n}}\n'
    )
    page = markdown(result | {"cells": cells}, WORDS.read_text("utf-8"))
    (study.RESULTS / "real_model_study.md").write_text(page, "utf-8")
    print(page)


if __name__ == "__main__":
    main()
