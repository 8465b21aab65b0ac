"""Kinds of autoencoders by the size of their code: `sizes` trains and measures, `claims` judges, `pictures` draws."""

from __future__ import annotations

from zoo.experiments.sweep.sizes import run

__all__ = ["run"]
