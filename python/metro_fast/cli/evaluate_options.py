"""The options of `metro-fast evaluate`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

ModelOption = Annotated[str, typer.Option(help="Folder (or Hub name) of the model and tokenizer.")]
TasksOption = Annotated[
    list[Path], typer.Option(help="JSONL file of items; may be given several times.")
]
InstructionsOption = Annotated[Path, typer.Option(help="YAML or JSON file of instructions.")]
OutputOption = Annotated[
    Path,
    typer.Option(help="Folder for cells, results and the page; what is in it stays."),
]
ExpertOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Compressed expert or PEFT adapter to put on the model; may be given several "
        "times, and each is a model of its own."
    ),
]
WithBaseOption = Annotated[
    bool, typer.Option(help="With --expert: ask the model without an expert as well.")
]
OriginalOption = Annotated[
    str,
    typer.Option(
        help="With --expert: the one at full size that the compressed ones were made from, with "
        "which the report compares them."
    ),
]
MergedOption = Annotated[
    list[str] | None,
    typer.Option(
        help="With --expert: one of them that is merged of others; may be given several times."
    ),
]
SeenTasksOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Name of a task that the experts (or, without any, the model) were trained with; may "
        "be given several times."
    ),
]
ModelNameOption = Annotated[str, typer.Option(help="Name in tables; by default the folder's.")]
ModelFamilyOption = Annotated[
    str,
    typer.Option(
        help="Instructions with this name in `seen_by` count as seen; by default model_name."
    ),
]
PresetOption = Annotated[
    Literal["metro_t0", "t0", "lm_eval", "mmlu_letters", "mmlu_argmax", "generate_match"],
    typer.Option(help="How a model is asked; docs/scoring.md describes each."),
]
WrapperOption = Annotated[
    Literal["plain", "alpaca", "vicuna", "wizardlm", "chat"],
    typer.Option(help="Text around every input; chat is the tokenizer's chat template."),
]
FewShotOption = Annotated[
    int, typer.Option(help="Number of worked examples before every item.", min=0)
]
ExamplesOption = Annotated[
    list[Path] | None,
    typer.Option(help="With --few-shot: JSONL file of a task's items of another split."),
]
FewShotSeedOption = Annotated[int, typer.Option(help="Draws the worked examples.", min=0)]
LimitOption = Annotated[
    int | None, typer.Option(help="Most items of each task, drawn by their ids.", min=1)
]
MaxNewTokensOption = Annotated[
    int | None, typer.Option(help="Most tokens of a written answer.", min=1)
]
MaxBatchTokensOption = Annotated[int, typer.Option(help="Padded tokens of one batch.")]
DeviceOption = Annotated[
    str, typer.Option(help="Such as cpu or cuda:1; by default a GPU if there is one.")
]
StoreOption = Annotated[
    Path | None,
    typer.Option(help="File of answers by content, so that none is computed twice."),
]
LogSamplesOption = Annotated[
    bool, typer.Option(help="Also write lm-eval's samples_*.jsonl into the output folder.")
]
ResumeOption = Annotated[bool, typer.Option(help="Keep the finished cells in the output folder.")]
StrictOption = Annotated[bool, typer.Option(help="Refuse items that an instruction cannot word.")]
