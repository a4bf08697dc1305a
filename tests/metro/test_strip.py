"""The strip of a few rows: its tokens against the batch and the output, and its page."""

import io
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from metro_cases import MASK, MetroCollator, Rows, arguments, metro_model
from metro_fast.errors import MetroFastError
from metro_fast.metro import MetroTrainer, SentenceStrip

HELD_OUT = Rows([9, 14, 6], seed=3)


class Names:
    """A tokenizer whose tokens are named by their ids; one of them would move the cursor."""

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return ["\x1b[2J<b>" if i == 50 else f"t{i}" for i in ids]


def held_out_batch() -> dict[str, torch.Tensor]:
    return MetroCollator()([HELD_OUT[i] for i in range(3)])


def run(folder: Path, strip: SentenceStrip | None, **options: Any) -> MetroTrainer:
    trainer = MetroTrainer(
        metro_model(main={"dropout_rate": 0.1}, **options.pop("model", {})),
        arguments(folder, **{"max_steps": 2, **options}),
        train_dataset=Rows(),
        eval_dataset=HELD_OUT,
        data_collator=MetroCollator(),
        callbacks=[] if strip is None else [strip],
    )
    trainer.train()
    return trainer


def expected_cells(trainer: MetroTrainer, row: int) -> list[tuple[str, str, str, str]]:
    """The cells of a row, from the model's output for the batch."""
    batch = held_out_batch()
    with torch.no_grad():
        output = trainer.model.eval()(**batch)
    width, found = batch["labels"].shape[1], []
    drawn = dict(zip(batch["masked_positions"].tolist(), output.sampled_ids.tolist(), strict=True))
    for i in range(int(batch["attention_mask"][row].sum())):
        original = int(batch["labels"][row, i])
        name = Names().convert_ids_to_tokens([original])[0].replace("\x1b", "\\x1b")
        sampled, replaced = "", False
        if row * width + i in drawn:
            token = drawn[row * width + i]
            replaced = token != original
            shown = Names().convert_ids_to_tokens([token])[0].replace("\x1b", "\\x1b")
            sampled = f"[{shown}]" if replaced else f"({shown})"
        chance = float(output.rtd_logits[row, i].sigmoid())
        wrong = "!" if (chance >= 0.5) != replaced else ""
        masked = f"t{MASK}" if row * width + i in drawn else name
        found.append((name, masked, sampled, f"{100 * chance:.0f}{wrong}"))
    return found


def columns(block: list[str]) -> list[tuple[str, ...]]:
    """The cells of one block of four lines, cut where the columns of its first line begin."""
    starts = [match.start() for match in re.finditer(r"\S+", block[0])][1:]
    ends = [*starts[1:], None]
    return [
        tuple(line[start:end].strip() for line in block)
        for start, end in zip(starts, ends, strict=True)
    ]


def test_text_has_the_tokens_the_draws_and_the_probabilities(tmp_path: Path) -> None:
    file = io.StringIO()
    strip = SentenceStrip(Names(), held_out_batch(), rows=2, every=2, file=file)
    trainer = run(tmp_path, strip)
    text = file.getvalue()
    assert "\x1b" not in text  # neither colors nor the token that would move the cursor
    rows = text.split("row ")[1:]
    assert [row.split(";")[0] for row in rows] == ["0 at step 2", "1 at step 2"]
    for number, row in enumerate(rows):
        lines = row.splitlines()[1:]
        blocks = [lines[i : i + 4] for i in range(0, len(lines) - 1, 5)]
        assert [line.split()[0] for line in blocks[0]] == [
            "original",
            "masked",
            "sampled",
            "detector",
        ]
        found = [cell for block in blocks for cell in columns(block)]
        assert found == expected_cells(trainer, number)


class Columns(HTMLParser):
    """The texts of the spans of each token of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tokens: list[list[str]] = []
        self.headings: list[str] = []
        self._inside, self._named = "", True
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._inside = tag
        kind = dict(attrs).get("class") or ""
        if tag == "div" and "token" in kind:
            self._named = "names" in kind
            if not self._named:
                self.tokens.append([])
        if tag == "span" and not self._named:
            self.tokens[-1].append("")
        if tag == "h2":
            self.headings.append("")

    def handle_data(self, data: str) -> None:
        if self._inside == "span" and not self._named:
            self.tokens[-1][-1] += data
        if self._inside == "h2":
            self.headings[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def test_the_page_has_the_newest_step_first_and_loads_nothing(tmp_path: Path) -> None:
    page = tmp_path / "strip.html"
    strip = SentenceStrip(Names(), held_out_batch(), rows=1, every=1, html=page, file=io.StringIO())
    trainer = run(tmp_path, strip)
    html = page.read_text()
    assert not re.search(r"<script|<link|<img|src=|href=", html)
    read = Columns(html)
    assert read.headings == ["Rows after 2 steps", "Rows after 1 step"]
    expected = expected_cells(trainer, 0)
    for found, (original, masked, sampled, chance) in zip(read.tokens, expected, strict=False):
        assert found[0] == original
        assert found[1] == (masked if sampled else "·")
        assert found[2] == sampled
        assert found[3] == chance.rstrip("!")
    assert html.count('class="token wrong"') >= sum(chance.endswith("!") for *_, chance in expected)


def test_a_strip_at_each_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "strip.html"
    strip = SentenceStrip(Names(), held_out_batch(), every=None, show=False, html=page)
    run(tmp_path, strip, max_steps=4, eval_strategy="steps", eval_steps=2)
    assert Columns(page.read_text()).headings == ["Rows after 4 steps", "Rows after 2 steps"]
    assert "original" not in capsys.readouterr().err


def test_a_strip_changes_nothing_in_the_training(tmp_path: Path) -> None:
    strip = SentenceStrip(Names(), held_out_batch(), every=1, file=io.StringIO())
    plain, watched = run(tmp_path, None), run(tmp_path, strip)
    weights = watched.model.state_dict()
    assert all(torch.equal(weights[n], w) for n, w in plain.model.state_dict().items())
    assert watched.model.training


def test_without_a_detector_there_are_no_probabilities(tmp_path: Path) -> None:
    file = io.StringIO()
    strip = SentenceStrip(Names(), held_out_batch(), rows=1, every=2, file=file)
    run(tmp_path, strip, model={"rtd_head": "none"})
    last = file.getvalue().splitlines()[4]
    assert last.strip() == "detector"


def test_a_terminal_gets_colors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setattr(sys, "stderr", Terminal())
    run(tmp_path, SentenceStrip(Names(), held_out_batch(), every=2))
    assert "\x1b[1;38;2;213;94;0m[t" in sys.stderr.getvalue()  # a replaced token


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(MetroFastError, match="every is 0"):
        SentenceStrip(Names(), held_out_batch(), every=0)
    with pytest.raises(MetroFastError, match="the batch lacks masked_positions, sample_ids"):
        SentenceStrip(Names(), {"input_ids": 1, "attention_mask": 1, "labels": 1, "epoch": 1})
