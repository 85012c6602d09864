"""Runs commands of recipes one after the other in one process: importing torch for each would be most of their time.

Reads ``[[script, argument, …], …]`` as JSON from standard input and writes ``[[exit code, stdout, stderr], …]``.
"""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
from pathlib import Path


def run(script: str, *arguments: str) -> tuple[int, str, str]:
    """One command, as ``python script arguments`` would run it."""
    said, complained = io.StringIO(), io.StringIO()
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        try:
            runpy.run_path(script, run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return code, said.getvalue(), complained.getvalue()


if __name__ == "__main__":
    results = [run(*command) for command in json.load(sys.stdin)]
    json.dump(results, sys.stdout)
