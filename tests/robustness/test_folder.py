"""The folder of an evaluation: second runs, damaged files, strange values, and bytes on disk."""

import dataclasses
import gzip
import json
import random
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from cell_cases import WORDINGS, make_cell, make_task, random_scores
from metro_fast.errors import FormatError
from metro_fast.prompts import FewShot, Instruction, Item, Task
from metro_fast.robustness import Report, evaluate, load_reports, recompute, write_page
from metro_fast.robustness.cell_files import CellFolder
from metro_fast.scoring import PROTOCOLS, Engine, Outcome

TASK = make_task("exact_match", 6)
OTHER = dataclasses.replace(TASK, name="others")
ANOTHER_TEXT = Instruction("ask", "cases", "Which animal is it? {{ text }}")


def run(model, tokenizer, output, tasks=(TASK,), instructions=WORDINGS, **changes) -> Report:
    options = {"model_name": "tiny", "model_family": "t5", "progress": False} | changes
    return evaluate(model, tokenizer, list(tasks), instructions, output=output, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def first_run(tmp_path_factory) -> Path:
    """A folder with one report, of chosen answers."""
    folder = tmp_path_factory.mktemp("first")
    cells = [make_cell(TASK, w, [random_scores(3, (w.id, n)) for n in range(6)]) for w in WORDINGS]
    Report(cells, date=1.0).save(folder)
    return folder


# What a second run changes, and how many results files there are after it.
SECOND_RUNS = {
    "other tasks": ({"tasks": [OTHER]}, 1),
    "more instructions": ({"instructions": [*WORDINGS, ANOTHER_TEXT.__class__(
        "more", "cases", "{{ text }} more")]}, 1),
    "other preset": ({"preset": "t0"}, 2),
    "written answers": ({"preset": "generate_match"}, 2),
    "another limit": ({"max_input_length": 4}, 2),
    "a protocol of the same name": (
        {"preset": dataclasses.replace(PROTOCOLS["metro_t0"], target_end=False)}, 2),
    "other items": ({"tasks": [dataclasses.replace(TASK, items=TASK.items[:4])]}, 2),
    "another text": ({"instructions": [ANOTHER_TEXT, *WORDINGS[1:]]}, 2),
    "another family": ({"model_family": "flan"}, 1),
    "another metric": ({"tasks": [dataclasses.replace(TASK, metric="token_f1")]}, 2),
    "another split": ({"tasks": [dataclasses.replace(TASK, split="dev")]}, 2),
    "few-shot": ({"few_shot": FewShot(make_task("exact_match", 9), k=2, seed=0)}, 2),
    "few-shot of another task": (
        {"tasks": [OTHER], "few_shot": FewShot(make_task("exact_match", 9), k=2, seed=0)}, 1),
    "another kind": (
        {"instructions": [dataclasses.replace(WORDINGS[0], kind="negated"), *WORDINGS[1:]]}, 2),
    "another name": ({"model_name": "Tiny"}, 2),
    "another wrapper": ({"wrapper": "alpaca"}, 2),
}  # fmt: skip


@pytest.fixture(scope="module")
def asked_once(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("asked")


class TestSecondRuns:
    @pytest.fixture
    def folder(self, asked_once, tmp_path, tiny_t5, tiny_tokenizer) -> Path:
        """A copy of one real run."""
        if not any(asked_once.iterdir()):
            run(tiny_t5, tiny_tokenizer, asked_once)
        return Path(shutil.copytree(asked_once, tmp_path / "folder"))

    def check(self, folder: Path, before: dict, old: Report, new: Report, files: int) -> None:
        after = contents(folder)
        stored = {name: data for name, data in before.items() if not name.startswith("results_")}
        assert stored.items() <= after.items()
        assert len(list(folder.glob("results_*.json"))) == files
        if files == 2:
            assert before.items() <= after.items()
        reports = load_reports(folder)
        assert len(reports) == files
        found = [cell for report in reports for cell in report.cells]
        answered = {(c.record.identity, c.record.metric, c.outcomes) for c in found}
        for report in (old, new):
            for cell in report.cells:
                assert (cell.record.identity, cell.record.metric, cell.outcomes) in answered
        kept = Report.load(folder / "results_tiny_metro_t0.json")
        for task in old.tasks:
            shared = {row.instruction_id: row.value for row in kept.summary(task).instructions}
            for row in old.summary(task).instructions:
                assert shared[row.instruction_id] == row.value
        with warnings.catch_warnings():
            # One model under two names has the same scores.
            warnings.filterwarnings("ignore", "every score of 'Tiny' and 'tiny'")
            page = write_page(folder / "page.html", reports).read_text()
        for report in reports:
            assert f"<strong>{report.model_name}</strong>" in page
            for task in report.tasks:
                assert f"{100 * report.summary(task).mean:.1f} %" in page
        names = {path: path.read_bytes() for path in folder.glob("results_*.json")}
        again = recompute(folder)
        assert [report.cells for report in again] == [report.cells for report in reports]
        assert {path: path.read_bytes() for path in folder.glob("results_*.json")} == names

    @pytest.mark.parametrize("name", SECOND_RUNS)
    def test_nothing_is_lost(self, name, folder, tiny_t5, tiny_tokenizer):
        changes, files = SECOND_RUNS[name]
        before, old = contents(folder), Report.load(folder)
        new = run(tiny_t5, tiny_tokenizer, folder, **changes)
        self.check(folder, before, old, new, files)
        if name == "another family":
            assert not any(cell.record.seen for cell in Report.load(folder).cells)

    def test_another_model_of_the_same_name(self, folder, tiny_t5, tiny_tokenizer):
        before, old = contents(folder), Report.load(folder)
        with torch.no_grad():
            tiny_t5.lm_head.weight[5:40] += 0.5
        new = run(tiny_t5, tiny_tokenizer, folder)
        self.check(folder, before, old, new, 2)
        names = [report.model_name for report in load_reports(folder)]
        assert names == [f"tiny ({hashed[:8]})" for hashed in (old.model_hash, new.model_hash)]

    def test_a_third_run_goes_where_it_belongs(self, folder, tiny_t5, tiny_tokenizer):
        items = [dataclasses.replace(TASK, items=TASK.items[:4])]
        run(tiny_t5, tiny_tokenizer, folder, items)
        run(tiny_t5, tiny_tokenizer, folder, [OTHER])
        run(tiny_t5, tiny_tokenizer, folder, items, [Instruction("new", "cases", "{{ text }}")])
        first, second = load_reports(folder)
        assert first.tasks == ("cases", "others")
        assert [len(report.task_cells("cases")) for report in (first, second)] == [3, 4]

    def test_instructions_that_word_none_of_the_same_items(self, folder, tiny_t5, tiny_tokenizer):
        old = Report.load(folder)
        fields = [item.fields | ({"a": "x"} if n < 3 else {"b": "x"}) for n, item in
                  enumerate(TASK.items)]  # fmt: skip
        items = [dataclasses.replace(i, fields=f) for i, f in zip(TASK.items, fields, strict=True)]
        task = dataclasses.replace(TASK, name="halves", items=tuple(items))
        for name in ("a", "b"):
            wording = Instruction(name, "cases", f"{{{{ text }}}} {{{{ {name} }}}}")
            run(tiny_t5, tiny_tokenizer, folder, [task], [wording])
        for path in folder.glob("results_*.json"):
            path.unlink()
        assert len(recompute(folder)) == 2
        first, second = load_reports(folder)
        assert first.tasks == ("cases", "halves")
        assert second.tasks == ("halves",)
        assert first.task_cells("cases") == old.task_cells("cases")

    def test_a_changed_seen_label_is_a_note(self, folder, tiny_t5, tiny_tokenizer, monkeypatch):
        before = contents(folder)
        seen = [dataclasses.replace(w, seen_by=("t5",)) for w in WORDINGS]
        monkeypatch.setattr(Engine, "answer", lambda *_: pytest.fail("the model was asked"))
        report = run(tiny_t5, tiny_tokenizer, folder, instructions=seen)
        after = contents(folder)
        assert {n for n in after if after[n] != before.get(n)} == {"results_tiny_metro_t0.json"}
        assert Report.load(folder).cells == report.cells
        assert all(cell.record.seen for cell in report.cells)

    def test_asking_again_replaces_the_answers_alone(self, folder, tiny_t5, tiny_tokenizer):
        before = contents(folder)
        asked = dataclasses.replace(TASK, metric="normalized_match")
        run(tiny_t5, tiny_tokenizer, folder, [asked], resume=False)
        old = json.loads(before["results_tiny_metro_t0.json"])
        kept = Report.load(folder / "results_tiny_metro_t0.json")
        assert kept.summary("cases").metric == "exact_match"
        assert kept.summary("cases").to_record() == old["metro_fast"]["tasks"][0]


def files_of_kind(folder: Path, kind: str) -> list[Path]:
    pattern = {"results": "results_*.json", "cells": "cells/*/*/*.gz"}.get(kind, f"{kind}/*")
    return sorted(folder.glob(pattern))


def edit_lines(path: Path, change) -> None:
    """Change the JSON lines of a file, packed or not, with a right checksum of the packing."""
    packed = path.suffix == ".gz"
    text = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    lines = change([json.loads(line) for line in text.splitlines()])
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if packed else data)


def loaded(folder: Path) -> tuple[Report | None, str]:
    """The report of a folder, or why it cannot be read."""
    try:
        return Report.load(folder), ""
    except (FormatError, FileNotFoundError) as error:
        return None, str(error)


DAMAGES = {
    "empty": lambda data, other: b"",
    "first half": lambda data, other: data[: len(data) // 2],
    "last byte": lambda data, other: data[:-1] if data[-1:] != b"\n" else data[:-2],
    "of another": lambda data, other: other,
    "not packed": lambda data, other: b"not packed",
    "packed garbage": lambda data, other: gzip.compress(b"garbage\xff"),
    "packed list": lambda data, other: gzip.compress(b"[]\n"),
    "header alone": lambda data, other: gzip.compress(b"")[:10],
    "zeros": lambda data, other: bytes(len(data)),
    "twice": lambda data, other: data + data,
}


class TestDamage:
    def test_unpacked_items_are_a_task(self, first_run, tmp_path):
        path = files_of_kind(first_run, "items")[0]
        unpacked = tmp_path / "items.jsonl"
        unpacked.write_bytes(gzip.decompress(path.read_bytes()))
        assert Task.load(unpacked) == TASK

    def refused(self, folder: Path, path: Path) -> None:
        """Every door names the damaged file."""
        for door in (load_reports, recompute):
            with pytest.raises(FormatError) as error:
                door(folder)
            assert path.name in str(error.value), str(error.value)

    @pytest.mark.parametrize("damage", DAMAGES)
    @pytest.mark.parametrize("kind", ["items", "prompts", "cells", "results"])
    def test_damaged_files(self, first_run, tmp_path, kind, damage):
        folder = Path(shutil.copytree(first_run, tmp_path / "folder"))
        path = files_of_kind(folder, kind)[0]
        others = {"items": "prompts", "results": "items"}.get(kind, kind)
        other = files_of_kind(folder, others)[-1].read_bytes()
        path.write_bytes(DAMAGES[damage](path.read_bytes(), other))
        self.refused(folder, path)

    @pytest.mark.parametrize("kind", ["items", "prompts", "cells", "results"])
    def test_a_flipped_byte_never_gives_another_number(self, first_run, tmp_path, kind):
        folder = Path(shutil.copytree(first_run, tmp_path / "folder"))
        expected = Report.load(folder)
        path = files_of_kind(folder, kind)[0]
        data, draw, refused = path.read_bytes(), random.Random(kind), 0
        for _ in range(60):
            place, bit = draw.randrange(len(data)), 1 << draw.randrange(8)
            path.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
            report, message = loaded(folder)
            if report is None:
                # A flip in the name of a cell makes it a file that is not there.
                assert path.name in message or kind == "results"
                refused += 1
                continue
            assert report.cells == expected.cells
            assert (report.date, report.versions) == (expected.date, expected.versions)
            assert report.summary("cases") == expected.summary("cases")
        assert refused > 50

    @pytest.mark.parametrize(
        "change",
        [
            lambda lines: lines[:-1],
            lambda lines: [*lines, lines[-1]],
            lambda lines: lines[1:],
            lambda lines: [lines[0], {"prediction": 0, "scores": [float("nan"), -1.0, -2.0]},
                           *lines[2:]],
            lambda lines: [lines[0], {"prediction": 0, "scores": [-1.0, -2.0]}, *lines[2:]],
            lambda lines: [lines[0], {"prediction": 2, "scores": [-1.0, -2.0, -3.0]}, *lines[2:]],
            lambda lines: [lines[0], {"prediction": 0.0, "scores": [-1.0, -2.0, -3.0]}, *lines[2:]],
            lambda lines: [lines[0], {"prediction": 7, "text": "x"}, *lines[2:]],
            lambda lines: [lines[0], {"prediction": 0, "text": 5}, *lines[2:]],
            lambda lines: [lines[0], {"scores": [-1.0, -2.0, -3.0]}, *lines[2:]],
            lambda lines: [lines[0], {"prediction": 0, "scores": ["x", -2.0, -3.0]}, *lines[2:]],
            lambda lines: [lines[0], {"prediction": 0, "scores": 5}, *lines[2:]],
            lambda lines: [lines[0] | {"format": "metro_fast.cell/9"}, *lines[1:]],
            lambda lines: [lines[0] | {"scores": "float8"}, *lines[1:]],
            lambda lines: [lines[0] | {"cell": lines[0]["cell"] | {"metric": "x"}}, *lines[1:]],
            lambda lines: [lines[0] | {"cell": lines[0]["cell"] | {"surplus": 1}}, *lines[1:]],
            lambda lines: [lines[0] | {"cell": lines[0]["cell"] | {"model_hash": "0"}}, *lines[1:]],
            lambda lines: [lines[0] | {"cell": lines[0]["cell"] | {"task": "x"}}, *lines[1:]],
        ],
    )  # fmt: skip
    def test_whole_files_with_wrong_contents(self, first_run, tmp_path, change):
        folder = Path(shutil.copytree(first_run, tmp_path / "folder"))
        path = files_of_kind(folder, "cells")[0]
        edit_lines(path, change)
        self.refused(folder, path)

    @pytest.mark.parametrize(
        ("key", "value"),
        [("input", "another"), ("answer", 2), ("target", "x"), ("id", "i1"), ("id", "absent"),
         ("choices", ["a", "b", "c"]), ("input", None), ("surplus", 1)],
    )  # fmt: skip
    @pytest.mark.parametrize("kind", ["prompts", "items"])
    def test_changed_prompts_and_items(self, first_run, tmp_path, kind, key, value):
        folder = Path(shutil.copytree(first_run, tmp_path / "folder"))
        path = files_of_kind(folder, kind)[0]

        def change(lines):
            if key == "answer":
                return [lines[0] | {"answer": (lines[0]["answer"] + 1) % 3}, *lines[1:]]
            return [lines[0] | {key: value}, *lines[1:]]

        edit_lines(path, change)
        if key == "surplus" or (kind, key) == ("items", "input"):
            # A key that is not of this version, beside whole ones.
            assert load_reports(folder)[0].cells == load_reports(first_run)[0].cells
        else:
            self.refused(folder, path)

    def test_changed_results(self, first_run, tmp_path):
        folder = Path(shutil.copytree(first_run, tmp_path / "folder"))
        (path,) = folder.glob("results_*.json")
        text = path.read_text()
        for old, new in (
            ('"model_family": "t5"', '"model_family": "flan"'),
            ('"metric": "exact_match"', '"metric": "accuracy"'),
            ('"mean": 0.', '"mean": 0.9'),
            ('"date": 1.0', '"date": 2.0'),
            ('"date": 1.0', '"date": NaN'),
            ('"seen_by": [', '"seen_by": ["flan"' if '"seen_by": []' in text else '"seen_by": [1,'),
            ("metro_fast.report/2", "metro_fast.report/1"),
        ):
            assert old in text
            path.write_text(text.replace(old, new, 1))
            self.refused(folder, path)
        record = json.loads(text)
        del record["metro_fast"]["cells"][0]
        path.write_text(json.dumps(record))
        self.refused(folder, path)

    def test_files_that_are_absent_or_renamed(self, first_run, tmp_path):
        for kind in ("items", "prompts", "cells"):
            folder = Path(shutil.copytree(first_run, tmp_path / kind))
            path = files_of_kind(folder, kind)[0]
            path.unlink()
            with pytest.raises(FileNotFoundError, match=path.name):
                load_reports(folder)
        folder = Path(shutil.copytree(first_run, tmp_path / "renamed"))
        path = files_of_kind(folder, "cells")[0]
        shutil.copy(path, path.with_name("cases-copy-0123456789abcdef.jsonl.gz"))
        with pytest.raises(FormatError, match=r"cases-copy-0123456789abcdef.* another cell"):
            recompute(folder)


STRANGE = "a\nb\r\n\u2028c\x85\x0b\x00\t\N{GRINNING FACE} \N{COMBINING ACUTE ACCENT}\\\"'{}"


class TestStrangeValues:
    @pytest.mark.parametrize(
        "scores",
        [
            np.random.default_rng(0).normal(-8, 4, 5).astype(np.float32).tolist(),
            np.random.default_rng(1).normal(-8, 4, 5).tolist(),
            [-0.1 - 0.2, -0.3, float("-inf"), -1e300, -5e-324],
            [float("-inf")] * 5,
            [float("inf"), 0.0, -0.0, 1.0, -1.0],
            [-16777217.0, -16777216.0, -1e-45, -3.4028235e38, -3.5e38],
            [-1, -2, -3, -4, 0],
        ],
    )  # fmt: skip
    def test_scores_keep_their_bits(self, tmp_path, scores):
        items = (Item("1", {"text": "a"}, ("a", "b", "c", "d", "e"), 1),)
        task = Task("cases", "cases", items)
        outcome = Outcome(scores.index(max(scores)), tuple(scores))
        cell = make_cell(task, WORDINGS[0], [outcome])
        Report([cell]).save(tmp_path)
        (loaded,) = load_reports(tmp_path)
        assert loaded.cells == (cell,)
        bits = np.array(loaded.cells[0].outcomes[0].scores, np.float64).tobytes()
        assert bits == np.array(scores, np.float64).tobytes()

    def test_texts_keep_their_characters(self, tmp_path):
        items = [
            Item(f"{STRANGE}{n}", {"text": STRANGE, STRANGE: [STRANGE]}, (STRANGE, f"{n}"), 0)
            for n in range(3)
        ]
        task = Task(STRANGE, "cases", tuple(items))
        wording = Instruction(STRANGE, "cases", "{{ text }}\n")
        outcomes = [Outcome(0, None, STRANGE, cut_tokens=n) for n in range(3)]
        cell = make_cell(task, wording, outcomes, model=STRANGE, preset="generate_match")
        path = Report([cell], versions={"a": STRANGE}).save(tmp_path)
        loaded = Report.load(path)
        assert loaded.cells == (cell,)
        assert loaded.versions == {"a": STRANGE}
        assert loaded.summary(STRANGE).instructions[0].cut == 2
        write_page(tmp_path / "page.html", [loaded])
        assert all(name.isascii() for name in contents(tmp_path))

    def test_names_that_look_alike_have_files_of_their_own(self, tmp_path):
        for name in ("a/b", "a-b", "A/b", "a b", "..", "x" * 300):
            outcomes = [random_scores(3, (name, n)) for n in range(6)]
            Report([make_cell(TASK, WORDINGS[0], outcomes, model=name)]).save(tmp_path)
        assert len({report.model_name for report in load_reports(tmp_path)}) == 6
        assert len(CellFolder(tmp_path).files()) == 6


def real_words(count: int) -> list[str]:
    """English sentences of about 300 characters, from the documentation of the standard library."""
    import pydoc_data.topics

    words = " ".join(pydoc_data.topics.topics.values()).split()
    draw = random.Random(0)
    starts = [draw.randrange(len(words) - 100) for _ in range(count)]
    return [" ".join(words[start : start + 100])[:300] for start in starts]


@pytest.mark.slow  # writes 2 x 400 cells of 250 items
@pytest.mark.parametrize("choices", [4, 19])
def test_bytes_of_a_large_evaluation(tmp_path, choices, capsys):
    """20 tasks x 20 instructions x 250 items; four of each are written, and the others alike."""
    tasks, instructions = 4, 4
    texts = iter(real_words(tasks * 250))
    labels = tuple(f"Relation-Number{n}(e1,e2)" for n in range(choices))
    wordings = [
        Instruction(f"w{n}", "cases", f"Wording {n}: {{{{ text }}}}\n{n} Which? {{{{ options }}}}")
        for n in range(instructions)
    ]
    store = CellFolder(tmp_path)
    for number in range(tasks):
        items = [Item(f"i{n}", {"text": next(texts)}, labels, n % choices) for n in range(250)]
        task = Task(f"task {number}", "cases", tuple(items))
        for wording in wordings:
            scores = np.random.default_rng(number).normal(-12, 4, (250, choices))
            rows = scores.astype(np.float32).tolist()
            outcomes = [Outcome(int(np.argmax(row)), tuple(row)) for row in rows]
            store.save(make_cell(task, wording, outcomes))
    sizes = {name: len(data) for name, data in contents(tmp_path).items()}
    parts = {"items": 20 / tasks, "prompts": 400 / tasks / instructions, "cells": 25.0}
    total = {
        part: factor * sum(size for name, size in sizes.items() if name.startswith(part)) / 1e6
        for part, factor in parts.items()
    }
    with capsys.disabled():
        print(f"\n{choices} choices: " + ", ".join(f"{p} {mb:.2f} MB" for p, mb in total.items()))
    assert sum(total.values()) <= 15
