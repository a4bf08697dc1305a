"""Prompts: items, the instructions that put them into words, and their files; without torch."""

from metro_fast.prompts.families import unknown_family_warning
from metro_fast.prompts.few_shot import FewShot
from metro_fast.prompts.importers import (
    Imported,
    import_flan,
    import_promptbench,
    import_promptsource,
)
from metro_fast.prompts.instruction import CONTROLS, KINDS, Instruction
from metro_fast.prompts.instruction_set import InstructionSet
from metro_fast.prompts.item import Item
from metro_fast.prompts.own_sets import OWN_SETS, own_instructions
from metro_fast.prompts.prompt import Prompt, Reject, RejectError, by_reason
from metro_fast.prompts.readers import (
    Read,
    read_bbh,
    read_fewrel,
    read_lm_eval,
    read_mmlu,
    read_rows,
    read_semeval,
    read_story_cloze,
    read_table,
    with_statements,
)
from metro_fast.prompts.render import Examples, Rendered, render_examples, render_items
from metro_fast.prompts.source_report import SourceReport
from metro_fast.prompts.task import TASK_METRICS, Task

__all__ = [
    "CONTROLS",
    "KINDS",
    "OWN_SETS",
    "TASK_METRICS",
    "Examples",
    "FewShot",
    "Imported",
    "Instruction",
    "InstructionSet",
    "Item",
    "Prompt",
    "Read",
    "Reject",
    "RejectError",
    "Rendered",
    "SourceReport",
    "Task",
    "by_reason",
    "import_flan",
    "import_promptbench",
    "import_promptsource",
    "own_instructions",
    "read_bbh",
    "read_fewrel",
    "read_lm_eval",
    "read_mmlu",
    "read_rows",
    "read_semeval",
    "read_story_cloze",
    "read_table",
    "render_examples",
    "render_items",
    "unknown_family_warning",
    "with_statements",
]
