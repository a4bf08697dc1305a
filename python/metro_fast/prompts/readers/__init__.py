"""Readers of task files of others, each with a counted report of what was taken."""

from metro_fast.prompts.readers.bbh import read_bbh
from metro_fast.prompts.readers.lm_eval import read_lm_eval
from metro_fast.prompts.readers.mmlu import read_mmlu
from metro_fast.prompts.readers.read import Read
from metro_fast.prompts.readers.relations import read_fewrel, read_semeval
from metro_fast.prompts.readers.rows import read_rows
from metro_fast.prompts.readers.statements import with_statements
from metro_fast.prompts.readers.table import read_story_cloze, read_table

__all__ = [
    "Read",
    "read_bbh",
    "read_fewrel",
    "read_lm_eval",
    "read_mmlu",
    "read_rows",
    "read_semeval",
    "read_story_cloze",
    "read_table",
    "with_statements",
]
