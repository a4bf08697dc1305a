"""Evaluations in processes of their own, which tests kill or run as ranks."""

import os
from pathlib import Path

from metro_fast.errors import MetroFastError
from metro_fast.prompts import Instruction, InstructionSet, Item, Task
from metro_fast.robustness import evaluate
from metro_fast.scoring import Engine

WORDINGS = InstructionSet(
    Instruction(f"w{n}", "qa", f"{{{{ name }}}} w{n} {'choose the ' * (n % 4)}: {{{{ text }}}} ?")
    for n in range(12)
)


def make_tasks(count: int = 4) -> list[Task]:
    cities, animals = ("paris", "rome", "oslo"), ("cat", "dog", "bird", "fish")
    return [
        Task(
            f"task{number}",
            "qa",
            tuple(
                Item(f"{n}", {"name": f"task{number}", "text": f"the {animals[n % 4]} sees {city}"},
                     cities, n % 3)
                for n, city in enumerate((*cities, *cities)[: 3 + number])
            ),
        )
        for number in range(count)
    ]  # fmt: skip


def name_of(text: str) -> str:
    """The cell that an input belongs to, as in the name of its file."""
    return "-".join(text.split()[:2])


def run(model: Path, output: Path, log: Path, *, tasks: list[Task] | None = None) -> None:
    """Evaluate; the log gets a line for each cell that the model is asked."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    answer = Engine.answer

    def logged(engine, prompts, protocol):
        with log.open("a") as file:
            file.write(f"{name_of(prompts[0].input)}\n")
        return answer(engine, prompts, protocol)

    Engine.answer = logged
    os.environ["SOURCE_DATE_EPOCH"] = "1800000000"
    evaluate(
        AutoModelForSeq2SeqLM.from_pretrained(model),
        AutoTokenizer.from_pretrained(model),
        make_tasks() if tasks is None else tasks,
        WORDINGS,
        model_name="tiny",
        model_family="t5",
        output=output,
        progress=False,
    )


def rank(model: Path, output: Path, logs: Path) -> None:
    """One of several processes that share an evaluation."""
    run(model, output, logs / f"asked{os.environ['RANK']}.txt")
    _leave()


def rank_with_tasks_of_its_own(model: Path, output: Path, logs: Path) -> None:
    """One of several processes that were given different tasks, by mistake."""
    number = int(os.environ["RANK"])
    try:
        run(model, output, logs / "asked.txt", tasks=make_tasks(1 + number))
    except MetroFastError as error:
        (logs / f"error{number}.txt").write_text(str(error))
    _leave()


def _leave() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()
    os._exit(0)  # a thread of gloo may outlive the interpreter's teardown


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder but those that a killed process has not finished."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
