"""Doors to other harnesses: the logs of lm-eval, Inspect and HELM, read into cells."""

from metro_fast.robustness.doors.foreign import ForeignCell, ForeignRead
from metro_fast.robustness.doors.helm import read_helm
from metro_fast.robustness.doors.inspect_logs import read_inspect
from metro_fast.robustness.doors.lm_eval_samples import read_lm_eval_samples

__all__ = ["ForeignCell", "ForeignRead", "read_helm", "read_inspect", "read_lm_eval_samples"]
