"""tests/goldens/README.md: which test reads which golden, and which of its arrays nobody checks, and why.

python -m tests.models.golden_table > tests/goldens/README.md
"""

from __future__ import annotations

import importlib
from pathlib import Path

from tests.models import golden

HEADER = """# Goldens

Numbers recorded from public implementations on tiny random data: inputs, weights, recorded randomness, graphs, losses,
gradients, scores. Each test opens its files with the `reading` of tests/models/golden.py, which fails if an array is
neither read nor listed here. The table is written by `python -m tests.models.golden_table` and compared by a test.

| golden | test | not checked | why |
|---|---|---|---|"""


def table() -> str:
    """The page."""
    rows = []
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        if file.name == "test_golden_table.py":
            continue
        module = importlib.import_module(f"tests.models.{file.stem}")
        for name in sorted(golden.MODULES):
            if golden.MODULES[name] != module.__name__:
                continue
            unchecked = golden.UNCHECKED[name] or {
                "": "" if "reading" in vars(module) else "read in parts by several tests"
            }
            rows += [
                f"| {name} | {file.name} | {f'`{pattern}`' if pattern else 'nothing'} | {why} |"
                for pattern, why in unchecked.items()
            ]
    return "\n".join([HEADER, *sorted(rows, key=str.lower)]) + "\n"


if __name__ == "__main__":
    print(table(), end="")
