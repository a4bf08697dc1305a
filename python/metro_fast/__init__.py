"""Pretrain T5 with model-generated signals, ship small experts, measure robustness.

Importing the package needs numpy alone. The rooms are imported when they are first used, as in
`metro_fast.ops.pack`, or by an import of their own:

* `metro_fast.ops`: the kernels on numpy arrays and torch tensors.
* `metro_fast.data`: token corpora, collators, `prepare`.
* `metro_fast.metro`: METRO pretraining (arXiv 2305.12567).
* `metro_fast.tuning`: prompted finetuning, full and LoRA.
* `metro_fast.experts`: compressed experts (ComPEFT, arXiv 2311.13171).
* `metro_fast.prompts`, `scoring`, `robustness`: instructions, scores, reports.
* `metro_fast.testing`: slow, obvious references of the kernels, for tests.
"""

from importlib import import_module
from types import ModuleType

from metro_fast._core import __version__
from metro_fast._environment import warn_of_unknown
from metro_fast.errors import FormatError, MetroFastError, MissingExtraError

__all__ = ["FormatError", "MetroFastError", "MissingExtraError", "__version__"]

warn_of_unknown()

# __init__.pyi names them for type checkers.
_ROOMS = (
    "data",
    "experts",
    "metro",
    "ops",
    "prompts",
    "robustness",
    "scoring",
    "testing",
    "tuning",
)


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return import_module(f"metro_fast.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
