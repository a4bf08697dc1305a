"""Instruction robustness: grids of task x instruction x model, statistics, comparison, report."""

from metro_fast._extras import require

require("torch", "eval")
require("transformers", "eval")
require("jinja2", "eval")

from metro_fast._adapter import load_adapter  # noqa: E402
from metro_fast._pretrained import load_model  # noqa: E402
from metro_fast.robustness.cell_record import CellRecord  # noqa: E402
from metro_fast.robustness.cells import Cell  # noqa: E402
from metro_fast.robustness.compare import compare  # noqa: E402
from metro_fast.robustness.comparison import Comparison, TaskComparison  # noqa: E402
from metro_fast.robustness.doors import (  # noqa: E402
    ForeignCell,
    ForeignRead,
    read_helm,
    read_inspect,
    read_lm_eval_samples,
)
from metro_fast.robustness.evaluate import evaluate  # noqa: E402
from metro_fast.robustness.page.page import write_page  # noqa: E402
from metro_fast.robustness.paired_wordings import InstructionComparison  # noqa: E402
from metro_fast.robustness.report import Report  # noqa: E402
from metro_fast.robustness.report_folder import load_reports, recompute  # noqa: E402
from metro_fast.robustness.resampling import (  # noqa: E402
    PairedTest,
    paired_test,
    score_interval,
)
from metro_fast.robustness.samples import write_samples  # noqa: E402
from metro_fast.robustness.statistics import Interval, wilson_interval  # noqa: E402
from metro_fast.robustness.summary import InstructionScore, TaskSummary  # noqa: E402

__all__ = [
    "Cell",
    "CellRecord",
    "Comparison",
    "ForeignCell",
    "ForeignRead",
    "InstructionComparison",
    "InstructionScore",
    "Interval",
    "PairedTest",
    "Report",
    "TaskComparison",
    "TaskSummary",
    "compare",
    "evaluate",
    "load_adapter",
    "load_model",
    "load_reports",
    "paired_test",
    "read_helm",
    "read_inspect",
    "read_lm_eval_samples",
    "recompute",
    "score_interval",
    "wilson_interval",
    "write_page",
    "write_samples",
]
