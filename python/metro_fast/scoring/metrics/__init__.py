"""The metric of a task: from the answers to items to a number that sums of them give."""

from metro_fast.scoring.metrics.kinds import METRICS, find_metric
from metro_fast.scoring.metrics.metric import Answer, Metric

__all__ = ["METRICS", "Answer", "Metric", "find_metric"]
