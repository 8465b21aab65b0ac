"""One pinned protocol, docs/evaluation.md: what a stack is measured to do, beside yardsticks of equal size."""

from __future__ import annotations

from zoo.evaluation.measure import evaluate
from zoo.evaluation.report import markdown, table
from zoo.evaluation.verifying import Check, verify

__all__ = ["Check", "evaluate", "markdown", "table", "verify"]
