"""Hostile inputs, by what they are fed to."""

from __future__ import annotations

from tests.faults.doors import arrays, folders, media, records, tables
from tests.faults.hostile import Case

CASES: list[Case] = [*tables.CASES, *records.CASES, *arrays.CASES, *media.CASES, *folders.CASES]
