"""Flags out of classes of options: one parser for every recipe, whose help texts are the options' own."""

from __future__ import annotations

import copy
import dataclasses
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from seqmm.options import OptionError, about, default_of, hints, option_fields


def parse_flags(
    sections: Mapping[str, type],
    argv: Sequence[str] | None = None,
    *,
    description: str = "",
    values: Mapping[str, Mapping[str, Any]] | None = None,
    program: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Reads flags of several classes of options: ``--section.name value``, and ``--name value`` of the section "".

    A value is a word of its own (``--x True``), several are ``--ks 5 10``; ``--x None`` is none.

    Args:
        sections: prefix -> dataclass whose fields were made by :func:`~seqmm.options.option`.
        argv: command line without the program's name; ``sys.argv[1:]`` if None.
        description: the recipe's docstring, shown by --help.
        values: what holds where a flag is not given, by section (a YAML file's), already of the right types.
        program: its name in help and errors.

    Returns:
        By section, the values of all its options: the flag's, else of ``values``, else the class' default.

    Raises:
        SystemExit: by the parser, for --help (0) or a bad flag (2).
    """
    import tyro

    fields: list[Any] = []
    for prefix, cls in sections.items():
        made = _as_plain(cls, (values or {}).get(prefix, {}))
        if prefix:
            fields.append((prefix, made, field(default_factory=made)))
        else:  # first, since its fields may have no default
            fields.insert(0, ("_", Annotated[made, tyro.conf.arg(name="")]))
    if list(sections) == [""]:
        whole: Any = fields[0][1].__origin__
    else:
        whole = dataclasses.make_dataclass("Flags", fields)
        whole.__doc__ = "Options."
    text = "\n\n".join(line for line in description.splitlines() if line.strip())  # tyro joins lines otherwise
    found = tyro.cli(
        whole,
        args=list(sys.argv[1:] if argv is None else argv),
        description=text,
        prog=program or Path(sys.argv[0]).name,
        config=(tyro.conf.FlagConversionOff,),  # --x True, so that YAML values and flags have one form
    )
    if list(sections) == [""]:
        return {"": _values(found)}
    return {prefix: _values(getattr(found, prefix or "_")) for prefix in sections}


def joined(name: str, classes: Sequence[type]) -> type:
    """One class with the options of several, for one command line; what they share is one flag.

    Raises:
        ValueError: two have an option of one name that is not the same one.
    """
    homes: dict[str, tuple[type, dataclasses.Field[Any]]] = {}
    for cls in classes:
        for each in option_fields(cls):
            home, other = homes.setdefault(each.name, (cls, each))
            same = (about(other), hints(home)[each.name], other.default) == (
                about(each),
                hints(cls)[each.name],
                each.default,
            )
            if not same:
                raise ValueError(
                    f"{home.__name__} and {cls.__name__} both have an option {flag(each.name)}, of another meaning; "
                    "rename one of them, or give them a command each"
                )
    fields: list[Any] = [
        (key, hints(cls)[key], field(default=each.default, metadata=each.metadata))
        if each.default_factory is dataclasses.MISSING
        else (key, hints(cls)[key], field(default_factory=each.default_factory, metadata=each.metadata))
        for key, (cls, each) in homes.items()
    ]
    return dataclasses.make_dataclass(name, fields, kw_only=True)


def part(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that are options of a class."""
    return {each.name: values[each.name] for each in option_fields(cls)}


def made_by_flags(cls: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """An object of a class of options; what it refuses is said of the flag.

    Raises:
        ValueError: naming the flag.
    """
    with flagged(prefix):
        return cls(**values)


@contextmanager
def flagged(prefix: str = "") -> Iterator[None]:
    """What is refused inside is said of the flag, not of a Python class.

    Raises:
        ValueError: naming the flag.
    """
    try:
        yield
    except OptionError as error:
        raise ValueError(f"{flag(error.name, prefix)}{error.problem}") from error


def flag(name: str, prefix: str = "") -> str:
    """``--prefix.some-name``."""
    return "--" + ".".join(part for part in (prefix, name.replace("_", "-")) if part)


_ARGUMENT = re.compile(r"`([a-z][a-z0-9_.]*)(?:=([^`]*))?`|\b((?:model|data|train|eval|hub)\.[a-z_]+) = (\w+)")


def in_flags(text: str) -> str:
    """A message of the library, which names arguments as Python has them, as someone at a command line types them.

    >>> in_flags("set `overwrite=True`, or name fewer with `data.features`")
    'set --overwrite True, or name fewer with --data.features'
    >>> in_flags("go on with train.resume = True")
    'go on with --train.resume True'
    """

    def typed(found: re.Match[str]) -> str:
        name, value = found[1] or found[3], found[2] or found[4] or ""
        return f"{flag(name)} {'' if value in ('{}', '()', '[]') else value}".rstrip()

    return _ARGUMENT.sub(typed, text)


def _values(found: Any) -> dict[str, Any]:
    values = {each.name: getattr(found, each.name) for each in dataclasses.fields(found)}
    return {name: value.value if isinstance(value, _Default) else value for name, value in values.items()}


class _Default(dict[Any, Any]):
    """Stands for a dict where no flag is given: of one with entries the parser would make a flag for each entry."""

    def __init__(self, value: dict[Any, Any]):
        super().__init__()
        self.value = value


def _as_plain(cls: type, values: Mapping[str, Any]) -> type:
    """A dataclass that tyro reads: types, defaults and help texts of a class of options."""
    import tyro

    fields: list[Any] = []
    for each in option_fields(cls):
        kind, text = hints(cls)[each.name], about(each).help
        typed: Any = Annotated[kind, tyro.conf.arg(help=text)] if text else kind
        if about(each).positional:
            typed = Annotated[typed, tyro.conf.Positional]
        value = values[each.name] if each.name in values else default_of(each)
        if value is dataclasses.MISSING:
            fields.append((each.name, typed))
            continue
        value = _Default(value) if isinstance(value, dict) else value
        fields.append((each.name, typed, field(default_factory=partial(copy.deepcopy, value))))
    made = dataclasses.make_dataclass(cls.__name__, fields, kw_only=True)
    made.__doc__ = (cls.__doc__ or "Options.").split("\n")[0]
    return made
