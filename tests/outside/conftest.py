"""The distributions here bring tests of their own: test_outside.py runs them, where the distributions are installed."""

from __future__ import annotations

collect_ignore_glob = ["*"]
