"""Text of others (names of corpora, titles, tags, notes) where a reader would take it for more than text.

A path, a line on a terminal, a card, a command, a cell of a spreadsheet: each has signs that steer it, and each has a
function here that leaves the text readable and its signs dead. Data files (parquet, JSON) hold text as it is.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable
from shlex import quote

LONGEST_NAME = 200
"""Bytes of a file's name that text may take; file systems allow 255."""
_JOINERS = "\u200c\u200d"
"""Of Persian, Indic scripts and emoji: they change the shape of letters, not their order."""
_MARKDOWN = re.compile(r"[\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def path_name(*parts: str | None) -> str:
    """Text as a file's name in one folder: letters, digits, ``_``, ``.`` and ``-``, never hidden, never too long.

    Args:
        parts: joined by ``-``; None and "" are left out.

    >>> path_name("bpr", "../my corpus", "train")
    'bpr-..-my-corpus-train'
    """
    whole = "-".join(filter(None, parts))
    name = re.sub(r"[^\w.-]+", "-", whole)
    if name.startswith("."):
        name = f"_{name}"
    if len(name.encode()) <= LONGEST_NAME:
        return name
    beginning = name.encode()[: LONGEST_NAME - 17].decode(errors="ignore")
    return f"{beginning}~{hashlib.sha256(whole.encode(errors='surrogatepass')).hexdigest()[:16]}"


def is_seen(letter: str) -> bool:
    """Whether a character shows itself: no control, no direction mark, no line or paragraph separator."""
    return letter in _JOINERS or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def shown(text: object, keep: str = "") -> str:
    r"""Text as one line of a terminal or a log: what would steer it stands there as ``\u001b``.

    Args:
        text: any.
        keep: control characters that stay, such as line breaks.

    >>> shown("red\x1b[31m and\nnew")
    'red\\u001b[31m and\\u000anew'
    """
    text = str(text)
    if text.isprintable():  # nearly always; it holds no control, format or separator character but the space
        return text
    return "".join(letter if letter in keep or is_seen(letter) else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    """As JSON escapes it, so that a JSON line stays the data it was."""
    units = letter.encode("utf-16-be", errors="surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def inline(text: object) -> str:
    """Text within a line or a table cell of a card: no markup of Markdown or HTML, no line break.

    >>> inline("a | b <b>[c](d)")
    'a \\\\| b &lt;b&gt;\\\\[c\\\\](d)'
    """
    line = re.sub(r"\s+", " ", str(text))
    if not line.isprintable():
        line = shown(line)
    line = _MARKDOWN.sub(lambda found: f"\\{found[0]}", line)
    return re.sub("[&<>]", lambda found: _ENTITIES[found[0]], line)


def front(text: object) -> str:
    """Text as a value of a card's front matter, which some show as it stands: one line, no tag."""
    return shown(text).replace("<", "\\u003c")


def code(text: object) -> str:
    """Text as code within a line of a card; a table cell is then still one."""
    line = front(text).replace("|", "\\u007c")
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def literal(value: object) -> str:
    """Plain values as Python writes them in a card's example; text in double quotes."""
    written = json.dumps(value) if isinstance(value, str) else repr(value)
    return written.replace("<", "\\u003c")


def word(text: object) -> str:
    """Text as one word of a command line in bash.

    >>> word("runs/it's mine"), word("a\\nb")
    ('\\'runs/it\\'"\\'"\\'s mine\\'', "$'a\\\\U0000000ab'")
    """
    line = str(text)
    if shown(line) == line:
        return quote(line)
    letters = (letter if is_seen(letter) else f"\\U{ord(letter):08x}" for letter in re.sub(r"[\\']", r"\\\g<0>", line))
    return f"$'{''.join(letters)}'"


def cells(values: Iterable[object]) -> list[object]:
    """A row of a CSV file that a spreadsheet shows and does not compute: numbers stay, a formula gets an apostrophe."""
    return [_cell(value) if isinstance(value, str) else value for value in values]


def _cell(text: str) -> str:
    if not text.lstrip().startswith(tuple("=+-@＝＋－＠")) and not text.startswith(("\t", "\r", "\n")):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
