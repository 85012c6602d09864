"""Hostile inputs, by what they are fed to."""

from __future__ import annotations

from tests.faults.doors import records, tables
from tests.faults.hostile import Case

CASES: list[Case] = [*tables.CASES, *records.CASES]
