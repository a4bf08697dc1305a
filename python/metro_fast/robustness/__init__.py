"""Instruction robustness: grids of task x instruction x model, statistics, comparison, report."""

from typing import TYPE_CHECKING

from metro_fast._extras import on_first_use
from metro_fast.robustness.cell_record import CellRecord
from metro_fast.robustness.cells import Cell
from metro_fast.robustness.cochran import CochranQ, cochran_q
from metro_fast.robustness.compare import compare
from metro_fast.robustness.comparison import Comparison, TaskComparison
from metro_fast.robustness.control_checks import ControlCheck
from metro_fast.robustness.doors import (
    ForeignCell,
    ForeignRead,
    read_helm,
    read_inspect,
    read_lm_eval_samples,
)
from metro_fast.robustness.facets import (
    Facet,
    TaskGap,
    adjusted_gaps,
    facets,
    pooled,
    task_gap,
)
from metro_fast.robustness.gap import SeenGap, seen_gap
from metro_fast.robustness.kinds import KindSpread
from metro_fast.robustness.over_wordings import OverWordings, over_wordings
from metro_fast.robustness.page.page import write_page
from metro_fast.robustness.paired import PairedDifference, paired_difference, tango_interval
from metro_fast.robustness.paired_wordings import InstructionComparison
from metro_fast.robustness.planning import (
    Components,
    Plan,
    plan_budget,
    plan_precision,
    variance_components,
)
from metro_fast.robustness.rank_stability import RankStability, model_ranks, rank_stability
from metro_fast.robustness.readings import ReadingComparison, compare_readings
from metro_fast.robustness.report import Report
from metro_fast.robustness.report_folder import load_reports, recompute
from metro_fast.robustness.resampled import resampled_interval
from metro_fast.robustness.resampling import (
    PairedTest,
    paired_test,
    score_interval,
)
from metro_fast.robustness.samples import write_samples
from metro_fast.robustness.scale import OnScale, on_scale
from metro_fast.robustness.spread import (
    Spread,
    SpreadDifference,
    spread_difference,
    wording_spread,
)
from metro_fast.robustness.statistics import Interval, wilson_interval
from metro_fast.robustness.study.card import ModelCard, SwappedIn
from metro_fast.robustness.study.card_file import read_cards, write_cards
from metro_fast.robustness.study.formats import tables_csv, tables_json, tables_markdown
from metro_fast.robustness.study.plans import plan_table
from metro_fast.robustness.study.references import reference_table
from metro_fast.robustness.study.study import Member, Study
from metro_fast.robustness.study.table import Table
from metro_fast.robustness.study.tables import TABLES, study_tables
from metro_fast.robustness.summary import InstructionScore, TaskSummary
from metro_fast.robustness.verdicts import Verdicts
from metro_fast.robustness.worst_case import WorstCase

if TYPE_CHECKING:
    from metro_fast._adapter import load_adapter
    from metro_fast._pretrained import load_model
    from metro_fast.robustness.evaluation import evaluate
    from metro_fast.robustness.study.evaluating import evaluate_experts
else:  # tables come from saved cells, without torch
    __getattr__ = on_first_use(
        __name__,
        {
            "evaluate": f"{__name__}.evaluation",
            "evaluate_experts": f"{__name__}.study.evaluating",
            "load_adapter": "metro_fast._adapter",
            "load_model": "metro_fast._pretrained",
        },
        ("torch", "transformers", "jinja2"),
    )

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "TABLES",
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
    "Member",
    "ModelCard",
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
    "Study",
    "SwappedIn",
    "Table",
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
    "evaluate_experts",
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
    "plan_table",
    "pooled",
    "rank_stability",
    "read_cards",
    "read_helm",
    "read_inspect",
    "read_lm_eval_samples",
    "recompute",
    "reference_table",
    "resampled_interval",
    "score_interval",
    "seen_gap",
    "spread_difference",
    "study_tables",
    "tables_csv",
    "tables_json",
    "tables_markdown",
    "tango_interval",
    "task_gap",
    "variance_components",
    "wilson_interval",
    "wording_spread",
    "write_cards",
    "write_page",
    "write_samples",
]
