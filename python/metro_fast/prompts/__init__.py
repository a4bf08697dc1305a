"""Prompts: items, the instructions that put them into words, and their files; without torch."""

from metro_fast.prompts.instruction import KINDS, Instruction
from metro_fast.prompts.instruction_set import InstructionSet
from metro_fast.prompts.item import Item
from metro_fast.prompts.prompt import Prompt, Reject, RejectError, by_reason
from metro_fast.prompts.render import Rendered, render_examples, render_items
from metro_fast.prompts.task import Task

__all__ = [
    "KINDS",
    "Instruction",
    "InstructionSet",
    "Item",
    "Prompt",
    "Reject",
    "RejectError",
    "Rendered",
    "Task",
    "by_reason",
    "render_examples",
    "render_items",
]
