"""The console command ``seqmm`` and what all recipes share: an error is one line and an exit code."""

from __future__ import annotations

import codecs
import io
import logging
import os
import runpy
import sys
import traceback
from collections.abc import Callable
from typing import Any, TextIO, cast

from seqmm.files import installed_folder
from seqmm.flags import in_flags
from seqmm.foreign import shown
from seqmm.registry import plug_in
from seqmm.signals import end_launcher, ending, exit_code

RECIPES = ("prepare", "extract", "pretrain", "finetune", "train", "benchmark", "recommend", "score", "publish", "speed")


class Printer(logging.Handler):
    """Prints the library's log as plain lines, past a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(in_flags(self.format(record)))
        sys.stdout.flush()


class PlainLines:
    """A stream on which nothing but line breaks and tabs steers a terminal, whoever's text is printed.

    Args:
        stream: where it goes.
    """

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        """Writes it with every other control character as ``\\u001b``."""
        self.stream.write(shown(text, keep="\n\t"))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def print_log() -> None:
    """The library logs; a recipe prints what it says from INFO on, on standard output."""
    logger = logging.getLogger("seqmm")
    if not any(isinstance(handler, Printer) for handler in logger.handlers):
        logger.addHandler(Printer())
    logger.setLevel(logging.INFO)


def print_any_text() -> None:
    """A title that the locale cannot say must stop no recipe: the C locale is taken for UTF-8, as Python itself does
    where it may, and what another one lacks is written as ``\\u00e9``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding="utf-8" if ascii_only else None, errors="backslashreplace")


LINES, CHARACTERS = 4, 1200
"""Of an error that is printed."""


def few_lines(error: BaseException) -> str:
    """What an error says, at most a few lines of it; of a path that the locale cannot name, what to do."""
    text = str(error) or type(error).__name__
    if isinstance(error, UnicodeEncodeError):
        return f"{text[:CHARACTERS]}; set PYTHONUTF8=1, or use a UTF-8 locale"
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    cut = "\n".join(lines[:LINES])[:CHARACTERS]
    return cut if len(lines) <= LINES and len(text) <= CHARACTERS else f"{cut} … (SEQMM_DEBUG=1 shows all)"


PLUGINS = """
--plugin MODULE:CLASS imports and registers a model, extractor or source of one's own first; it may be given several
times. A checkpoint or a corpus names only what is registered."""


def run_recipe(main: Callable[[], None]) -> None:
    """Runs a recipe's main; a user's error becomes one line on stderr and exit code 2 (SEQMM_DEBUG=1: the trace).

    Every recipe has the flag ``--plugin module:Class``: it is taken off the command line here.
    """
    with ending():
        _run(main)


def _run(main: Callable[[], None]) -> None:
    wants_help = "--help" in sys.argv or "-h" in sys.argv
    print_any_text()
    print_log()
    if not wants_help:  # which may be in colours
        sys.stdout = cast(TextIO, PlainLines(sys.stdout))
    try:
        sys.argv[1:], plugins = without_plugins(sys.argv[1:])
        for place in plugins:
            plug_in(place)
        main()
    except SystemExit as end:
        if wants_help and not end.code:
            print(PLUGINS)
        raise
    except KeyboardInterrupt as interrupt:
        print(shown(f"\ninterrupted. {in_flags(str(interrupt))}".rstrip(), keep="\n"), file=sys.stderr, flush=True)
        end_launcher()
        sys.exit(exit_code())
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("SEQMM_DEBUG"):
            traceback.print_exc()
        print(shown(f"error: {in_flags(few_lines(error))}", keep="\n"), file=sys.stderr)
        sys.exit(2)
    finally:
        if isinstance(sys.stdout, PlainLines):
            sys.stdout = sys.stdout.stream
        if "torch.distributed" in sys.modules and sys.modules["torch.distributed"].is_initialized():
            sys.modules["torch.distributed"].destroy_process_group()


def without_plugins(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The command line without ``--plugin X`` and ``--plugin=X``, and every X in its order."""
    rest: list[str] = []
    plugins: list[str] = []
    words = iter(arguments)
    for word in words:
        flag, equals, inline = word.partition("=")
        if flag != "--plugin":
            rest.append(word)
            continue
        place = inline if equals else next(words, "")
        if ":" not in place:
            raise ValueError(f"--plugin {place}: expected module:Class".replace("  ", " "))
        plugins.append(place)
    return rest, plugins


def main() -> None:
    """``seqmm <recipe> …`` runs recipes/<recipe>.py in this process; ``seqmm path <recipe>`` prints its file."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["path"] and arguments[1:2] and arguments[1] in RECIPES:
        print(installed_folder("recipes") / f"{arguments[1]}.py")
        return
    if not arguments or arguments[0] not in RECIPES:
        print(f"usage: seqmm {{{','.join(RECIPES)}}} [--help | options]")
        print("       accelerate launch --multi_gpu --num_processes N $(seqmm path train) …   for several processes")
        sys.exit(0 if arguments[:1] in ([], ["--help"], ["-h"]) else 2)
    script = installed_folder("recipes") / f"{arguments[0]}.py"
    sys.argv = [str(script), *arguments[1:]]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")
