"""Instruction robustness: grids of task x instruction x model, statistics, comparison, report."""

from metro_fast._extras import require

require("torch", "eval")
require("transformers", "eval")
require("jinja2", "eval")

from metro_fast._adapter import load_adapter  # noqa: E402
from metro_fast._pretrained import load_model  # noqa: E402
from metro_fast.robustness.cell_record import CellRecord  # noqa: E402
from metro_fast.robustness.cells import Cell  # noqa: E402
from metro_fast.robustness.cochran import CochranQ, cochran_q  # noqa: E402
from metro_fast.robustness.compare import compare  # noqa: E402
from metro_fast.robustness.comparison import Comparison, TaskComparison  # noqa: E402
from metro_fast.robustness.control_checks import ControlCheck  # noqa: E402
from metro_fast.robustness.doors import (  # noqa: E402
    ForeignCell,
    ForeignRead,
    read_helm,
    read_inspect,
    read_lm_eval_samples,
)
from metro_fast.robustness.evaluate import evaluate  # noqa: E402
from metro_fast.robustness.facets import (  # noqa: E402
    Facet,
    TaskGap,
    adjusted_gaps,
    facets,
    pooled,
    task_gap,
)
from metro_fast.robustness.gap import SeenGap, seen_gap  # noqa: E402
from metro_fast.robustness.kinds import KindSpread  # noqa: E402
from metro_fast.robustness.over_wordings import OverWordings, over_wordings  # noqa: E402
from metro_fast.robustness.page.page import write_page  # noqa: E402
from metro_fast.robustness.paired import PairedDifference, paired_difference, tango_interval  # noqa: E402
from metro_fast.robustness.paired_wordings import InstructionComparison  # noqa: E402
from metro_fast.robustness.planning import (  # noqa: E402
    Components,
    Plan,
    plan_budget,
    plan_precision,
    variance_components,
)
from metro_fast.robustness.rank_stability import RankStability, model_ranks, rank_stability  # noqa: E402
from metro_fast.robustness.readings import ReadingComparison, compare_readings  # noqa: E402
from metro_fast.robustness.report import Report  # noqa: E402
from metro_fast.robustness.report_folder import load_reports, recompute  # noqa: E402
from metro_fast.robustness.resampled import resampled_interval  # noqa: E402
from metro_fast.robustness.resampling import (  # noqa: E402
    PairedTest,
    paired_test,
    score_interval,
)
from metro_fast.robustness.samples import write_samples  # noqa: E402
from metro_fast.robustness.scale import OnScale, on_scale  # noqa: E402
from metro_fast.robustness.spread import (  # noqa: E402
    Spread,
    SpreadDifference,
    spread_difference,
    wording_spread,
)
from metro_fast.robustness.statistics import Interval, wilson_interval  # noqa: E402
from metro_fast.robustness.summary import InstructionScore, TaskSummary  # noqa: E402
from metro_fast.robustness.verdicts import Verdicts  # noqa: E402
from metro_fast.robustness.worst_case import WorstCase  # noqa: E402

__all__ = [
    "Cell",
    "CellRecord",
    "CochranQ",
    "Comparison",
    "Components",
    "ControlCheck",
    "Facet",
    "ForeignCell",
    "ForeignRead",
    "InstructionComparison",
    "InstructionScore",
    "Interval",
    "KindSpread",
    "OnScale",
    "OverWordings",
    "PairedDifference",
    "PairedTest",
    "Plan",
    "RankStability",
    "ReadingComparison",
    "Report",
    "SeenGap",
    "Spread",
    "SpreadDifference",
    "TaskComparison",
    "TaskGap",
    "TaskSummary",
    "Verdicts",
    "WorstCase",
    "adjusted_gaps",
    "cochran_q",
    "compare",
    "compare_readings",
    "evaluate",
    "facets",
    "load_adapter",
    "load_model",
    "load_reports",
    "model_ranks",
    "on_scale",
    "over_wordings",
    "paired_difference",
    "paired_test",
    "plan_budget",
    "plan_precision",
    "pooled",
    "rank_stability",
    "read_helm",
    "read_inspect",
    "read_lm_eval_samples",
    "recompute",
    "resampled_interval",
    "score_interval",
    "seen_gap",
    "spread_difference",
    "tango_interval",
    "task_gap",
    "variance_components",
    "wilson_interval",
    "wording_spread",
    "write_page",
    "write_samples",
]
