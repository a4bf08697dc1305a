"""Prompts: items, the instructions that put them into words, and their files; without torch."""

from metro_fast.prompts.instruction import Instruction
from metro_fast.prompts.instruction_set import InstructionSet
from metro_fast.prompts.item import Item
from metro_fast.prompts.render import render_examples
from metro_fast.prompts.task import Task

__all__ = ["Instruction", "InstructionSet", "Item", "Task", "render_examples"]
