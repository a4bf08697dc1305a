"""Prompts: items, instructions (templates that word them), and their files. No torch here."""

from metro_fast.prompts.instruction import Instruction
from metro_fast.prompts.instruction_set import InstructionSet
from metro_fast.prompts.item import Item, Task
from metro_fast.prompts.render import render_examples

__all__ = ["Instruction", "InstructionSet", "Item", "Task", "render_examples"]
