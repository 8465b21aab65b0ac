"""A Hub of the tests' own, on this machine: small, in memory, and with faults that a test can switch on."""

from __future__ import annotations

from loopback.elsewhere import Machine, publish
from loopback.faults import Fault
from loopback.forks import Forks
from loopback.repositories import Hub, Repository
from loopback.server import Server

__all__ = ["Fault", "Forks", "Hub", "Machine", "Repository", "Server", "publish"]
