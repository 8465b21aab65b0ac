"""One pinned protocol, docs/evaluation.md: what a stack is measured to do, beside yardsticks of equal size."""

from __future__ import annotations

from zoo.evaluation.comparison import Comparison, Row, compare
from zoo.evaluation.measure import evaluate
from zoo.evaluation.normality import Anomalies, anomalies
from zoo.evaluation.report import markdown, table
from zoo.evaluation.rungs import Redrawn, redraw
from zoo.evaluation.search import coded, nearest
from zoo.evaluation.verifying import Check, verify

__all__ = [
    "Anomalies",
    "Check",
    "Comparison",
    "Redrawn",
    "Row",
    "anomalies",
    "coded",
    "compare",
    "evaluate",
    "markdown",
    "nearest",
    "redraw",
    "table",
    "verify",
]
