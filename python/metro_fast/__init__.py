"""Pretrain T5 with model-generated signals, ship small experts, measure robustness.

Importing the package needs numpy alone. The rooms are imported where they are used:

* `metro_fast.ops`: the kernels on numpy arrays and torch tensors.
* `metro_fast.data`: token corpora, collators, `prepare`.
* `metro_fast.metro`: METRO pretraining (arXiv 2305.12567).
* `metro_fast.tuning`: prompted finetuning, full and LoRA.
* `metro_fast.experts`: compressed experts (ComPEFT, arXiv 2311.13171).
* `metro_fast.prompts`, `scoring`, `robustness`: instructions, scores, reports.
"""

from metro_fast._core import __version__
from metro_fast.errors import FormatError, MetroFastError, MissingExtraError

__all__ = ["FormatError", "MetroFastError", "MissingExtraError", "__version__"]
