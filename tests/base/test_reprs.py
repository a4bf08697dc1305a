"""Each repr is short, one line, and says what a reader would ask first."""

from pathlib import Path
from typing import Any

import pytest

from metro_fast._training.run_folder import RunFolder
from metro_fast.metro import MetroConfig, PretrainConfig
from metro_fast.metro.held_out import RowSelection
from metro_fast.metro.options import MetroOptions
from metro_fast.prompts import Instruction, InstructionSet, Item, Task
from metro_fast.tuning import FinetuneConfig, PairLoss, TuningOptions

ITEM = Item("1", {"text": "long " * 99}, ("yes", "no"), 0)
WORDS = [Instruction(f"i{n}", "qa", "{{ text }} " * 50) for n in range(5)]
MAIN = {"vocab_size": 64, "d_model": 8, "d_kv": 4, "num_heads": 2, "num_layers": 1}
FILES: dict[str, Any] = {"model": "m", "tasks": [Path("t")], "instructions": Path("i")}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (ITEM, "Item('1', choices=('yes', 'no'), answer=0)"),
        (Item("2", {}, tuple("abcdefg"), 3), "Item('2', 7 choices, answer=3)"),
        (WORDS[0], "Instruction('i0', 'qa', '{{ text }} {{ text }} {{ text }} {{ tex…')"),
        (InstructionSet(), "InstructionSet(0 instructions)"),
        (InstructionSet(WORDS[:1]), "InstructionSet(1 instruction: 'i0')"),
        (InstructionSet(WORDS), "InstructionSet(5 instructions: 'i0', 'i1', 'i2', ...)"),
        (Task("facts", "qa", (ITEM,)), "Task('facts', 'qa', 1 item, split='test')"),
        (
            MetroConfig(main=MAIN),
            "MetroConfig(t5, d_model=8, vocab_size=64, layers 4 + 1 + 1, rtd_head='encoder')",
        ),
        (TuningOptions(), "TuningOptions()"),
        (TuningOptions(method="lora", steps=5), "TuningOptions(steps=5, method='lora')"),
        (
            FinetuneConfig(**FILES, output=Path("o")),
            "FinetuneConfig(model='m', tasks=[PosixPath('t')], instructions=PosixPath('i'), "
            "output=PosixPath('o'))",
        ),
        (
            PretrainConfig(
                output="o",
                data={"corpus": "c"},
                objective={"rtd_weight": 9},
                training={"max_steps": 2, "warmup_steps": 1000},
            ),
            "PretrainConfig(output=PosixPath('o'), data=DataSection(corpus=PosixPath('c')), "
            "objective=MetroSettings(rtd_weight=9.0), training={'max_steps': 2})",
        ),
        (RowSelection("abcdef", 2, held_out=True), "RowSelection(2 of 6 rows, held out)"),
        (RunFolder(Path("nowhere"), resume=True), "RunFolder('nowhere', resume=True)"),
    ],
)
def test_reprs(value: object, text: str) -> None:
    assert repr(value) == text.replace("PosixPath", type(Path()).__name__)


def test_repr_of_a_loss(tiny_tokenizer: Any) -> None:
    loss = PairLoss(tiny_tokenizer, [("is it red ?", "yes"), ("is it blue ?", "no")])
    assert repr(loss) == "PairLoss(2 pairs, 4 target tokens)"


def test_the_model_config_has_the_options_and_their_defaults() -> None:
    config, options = MetroConfig(), MetroOptions()
    for name, value in vars(options).items():
        assert getattr(config, name) == value
