"""Importers of public instruction sets, each with a counted report of what was taken."""

from metro_fast.prompts.importers.imported import Imported
from metro_fast.prompts.importers.patterns import import_flan, import_promptbench
from metro_fast.prompts.importers.promptsource import import_promptsource

__all__ = ["Imported", "import_flan", "import_promptbench", "import_promptsource"]
