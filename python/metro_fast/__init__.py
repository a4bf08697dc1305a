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

from typing import TYPE_CHECKING

from metro_fast._core import __version__
from metro_fast.errors import FormatError, MetroFastError, MissingExtraError

if TYPE_CHECKING:
    from metro_fast import data as data
    from metro_fast import experts as experts
    from metro_fast import metro as metro
    from metro_fast import ops as ops
    from metro_fast import prompts as prompts
    from metro_fast import robustness as robustness
    from metro_fast import scoring as scoring
    from metro_fast import testing as testing
    from metro_fast import tuning as tuning
else:
    # Type checkers must not see this: to them, every attribute would seem to exist.
    _ROOMS = (
        "data", "experts", "metro", "ops", "prompts", "robustness", "scoring", "testing", "tuning",
    )  # fmt: skip

    def __getattr__(name):
        if name in _ROOMS:
            import importlib

            return importlib.import_module(f"metro_fast.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *_ROOMS})


__all__ = ["FormatError", "MetroFastError", "MissingExtraError", "__version__"]
