"""Experiments that one command repeats: what a source claims, measured again beside its numbers.

A recipe (`recipes/*.toml`) says which stacks, which data, how long, and what the source found; `recipes` reads it. An
experiment is a module that knows what to do with such a recipe: `reproducing` finds it by its name. `bench` trains and
measures for all of them and keeps what is finished; `page` is what comes out: Markdown, JSON and pictures. `comparing`
needs no recipe: it puts embeddings of anybody's images beside each other on such a page.
"""

from __future__ import annotations

from zoo.experiments.comparing import compare
from zoo.experiments.recipes import Recipe, names, read
from zoo.experiments.reproducing import reproduce

__all__ = ["Recipe", "compare", "names", "read", "reproduce"]
