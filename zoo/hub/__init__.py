"""Saved stacks on the Hub: pushed in one commit, pulled at one commit, every byte checked; and published by a name."""

from __future__ import annotations

from zoo.hub.publishing import Notice, bundle, publish
from zoo.hub.pulling import Pulled, copy, pull
from zoo.hub.pushing import push
from zoo.hub.references import PREFIX, Reference

__all__ = ["PREFIX", "Notice", "Pulled", "Reference", "bundle", "copy", "publish", "pull", "push"]
