"""The console command ``seqmm`` and what all recipes share: an error is one line and an exit code."""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import polars as pl

    from seqmm.data.filtering import Log

RECIPES = ("prepare", "extract", "pretrain", "finetune", "train", "benchmark", "recommend", "publish", "speed")


def run_recipe(main: Callable[[], None]) -> None:
    """Runs a recipe's main; a user's error becomes one line on stderr and exit code 2 (SEQMM_DEBUG=1: the trace)."""
    try:
        main()
    except KeyboardInterrupt as interrupt:
        print(f"\ninterrupted. {interrupt}".rstrip(), file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("SEQMM_DEBUG"):
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        if "torch.distributed" in sys.modules and sys.modules["torch.distributed"].is_initialized():
            sys.modules["torch.distributed"].destroy_process_group()


def pairs(values: Sequence[str], flag: str) -> dict[str, str]:
    """What a flag of several ``name=value`` holds, as a dict.

    Raises:
        ValueError: one without "=", or a name given twice.
    """
    found: dict[str, str] = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not equals or not name:
            raise ValueError(f"{flag} {value}: expected name=value")
        if name in found:
            raise ValueError(f"{flag} {value}: {name!r} was given {found[name]!r} already")
        found[name] = rest
    return found


@dataclass
class TableArguments:
    """Of files that are tables."""

    user: str = "user_id"
    """Column of the user ids."""
    item: str = "item_id"
    """Column of the item ids, in both tables."""
    timestamp: str | None = None
    """Column of the times (seconds, ISO dates); "timestamp" if there is one."""
    time_unit: Literal["s", "ms"] = "s"
    """Unit of numeric times."""
    position: str | None = None
    """Column of the place in the user's history, already chronological; "position" if there is one."""
    split: str | None = None
    """Column of split labels (0, 1, 2 or train, validation, test); "split" if there is one."""
    rename: tuple[str, ...] = ()
    """Items columns to rename, new=old; known names: title, description, brand, categories, images."""
    lists: tuple[str, ...] = ()
    """Items columns to cut into lists, column=separator (categories='|')."""

    def read_log(self, file: Path) -> Log:
        """The table of interactions; see :func:`seqmm.data.tabular.read_log`."""
        from seqmm.data.tabular import read_log

        return read_log(
            file,
            user=self.user,
            item=self.item,
            timestamp=self.timestamp,
            position=self.position,
            split=self.split,
            time_unit=self.time_unit,
        )

    def read_items(self, file: Path) -> pl.DataFrame:
        """The table of items; see :func:`seqmm.data.tabular.read_items`."""
        from seqmm.data.tabular import read_items

        rename, lists = pairs(self.rename, "--rename"), pairs(self.lists, "--lists")
        return read_items(file, key=self.item, rename=rename, lists=lists)

    def refuse(self, why: str) -> None:
        """For files that are no tables.

        Raises:
            ValueError: one of the flags was given.
        """
        for field in fields(TableArguments):
            value = getattr(self, field.name)
            if value != field.default:
                shown = value if isinstance(value, str) else " ".join(value)
                raise ValueError(f"--{field.name.replace('_', '-')} {shown}: {why}; leave it out")


def folder(name: str) -> Path:
    """``recipes`` or ``tokenized``: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).parent
    for place in (package.parent / name, package / f"_{name}"):
        if place.is_dir():
            return place
    raise FileNotFoundError(f"this installation of seqmm has no {name}/ folder; install it again")


def main() -> None:
    """``seqmm <recipe> …`` runs recipes/<recipe>.py in this process; ``seqmm path <recipe>`` prints its file."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["path"] and arguments[1:2] and arguments[1] in RECIPES:
        print(folder("recipes") / f"{arguments[1]}.py")
        return
    if not arguments or arguments[0] not in RECIPES:
        print(f"usage: seqmm {{{','.join(RECIPES)}}} [--help | options]")
        print("       accelerate launch --multi_gpu --num_processes N $(seqmm path train) …   for several processes")
        sys.exit(0 if arguments[:1] in ([], ["--help"], ["-h"]) else 2)
    script = folder("recipes") / f"{arguments[0]}.py"
    sys.argv = [str(script), *arguments[1:]]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")
