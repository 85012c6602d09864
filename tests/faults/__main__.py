"""Kills recipes at random moments, fills the disk, feeds hostile inputs; fails if anything went wrong.

python -m tests.faults                                   all of it
python -m tests.faults --kills 3 --only "train sasrec"   three kills of one scenario
python -m tests.faults --kills 0 --hostile 40 --seed 7   forty hostile inputs of another draw
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults.hub import Hub
from tests.faults.server import prepare_server


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=7, help="kills of each scenario")
    parser.add_argument("--signals", type=int, default=2, help="Ctrl-C and SIGTERM, of each scenario")
    parser.add_argument("--full", type=int, default=2, help="full disks, of each scenario")
    parser.add_argument("--pairs", type=int, default=2, help="times that each command is given twice at once")
    parser.add_argument("--hostile", type=int, help="hostile inputs, of every door in turn; all if absent")
    parser.add_argument(
        "--only", nargs="*", default=[""], help="scenarios, pairs and inputs whose names hold one of these"
    )
    parser.add_argument("--short", action="store_true", help="a few of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of all moments and draws")
    parser.add_argument("--keep", type=Path, help="folder to work in, which is kept")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        with Hub() as hub:  # before what reads where the Hub is
            prepare_server()
            from tests.faults.report import report

            return report(arguments, folder, hub)
    finally:
        if arguments.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
