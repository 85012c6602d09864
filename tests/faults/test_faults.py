"""The short run: a few kills and some hostile inputs of every kind; ``make faults`` is the long one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


def run_harness(*arguments: str) -> str:
    """In a process of its own, which has one thread."""
    command = [sys.executable, "-m", "tests.faults", *arguments]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment, timeout=900)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow  # an interpreter of its own, and some sixty runs of recipes
def test_a_few_kills_and_hostile_inputs():
    shown = run_harness("--short")
    assert "\nall " in shown
