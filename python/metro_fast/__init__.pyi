from metro_fast import data as data
from metro_fast import experts as experts
from metro_fast import metro as metro
from metro_fast import ops as ops
from metro_fast import prompts as prompts
from metro_fast import robustness as robustness
from metro_fast import scoring as scoring
from metro_fast import testing as testing
from metro_fast import tuning as tuning
from metro_fast._core import __version__ as __version__
from metro_fast.errors import FormatError as FormatError
from metro_fast.errors import MetroFastError as MetroFastError
from metro_fast.errors import MissingExtraError as MissingExtraError

__all__ = ["FormatError", "MetroFastError", "MissingExtraError", "__version__"]
