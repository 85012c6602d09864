"""Plain values checked against a type: options of a run, and records that a file holds.

A type is an annotation: ``int``, ``str | None``, a Literal, ``tuple[int, ...]``, ``dict[str, float]``, a TypedDict
inside another, any with a bound or a form beside it (``Annotated[int, Least(0)]``). :func:`coerced` takes what people
write into options (a list for a tuple, YAML's bare no for "no"); :func:`check_record` takes nothing but what was
written by a machine, and says by key what is wrong with it.
"""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Required, Self, TypeVar, get_args, get_origin

from seqmm.names import brief, nearest

T = TypeVar("T")
LARGEST = 1 << 63
"""Whole numbers lie below it: what columns and generators hold."""


class Mismatch(ValueError):
    """A value that is not of its type: ``path`` says where inside, ``expected`` what would be right there."""

    def __init__(self, value: object, expected: str, path: tuple[str, ...] = ()):
        super().__init__(expected)
        self.value, self.expected, self.path = value, expected, path

    def under(self, key: object) -> Self:
        """The same one, seen from one level further out."""
        self.path = (str(key), *self.path)
        return self

    def problem(self) -> str:
        """What follows the key in an error."""
        return f" is {brief(self.value, 100)}; expected {self.expected}"


class Missing(Mismatch):
    """A key that is not there."""

    def problem(self) -> str:
        return f" is missing; expected {self.expected}"


class Unknown(Mismatch):
    """A key that nobody reads."""

    def problem(self) -> str:
        return f": there is no such key{self.expected}"


# -- bounds and forms, beside a type -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Least:
    """Of a number: its smallest value."""

    value: float

    def refuse(self, value: Any) -> str | None:
        """What would be right, or None if it is."""
        return None if value >= self.value else f"{self.value} or more"


@dataclass(frozen=True)
class Form:
    """Of a text: what it looks like."""

    pattern: str
    words: str

    def refuse(self, value: Any) -> str | None:
        """What would be right, or None if it is."""
        return None if re.fullmatch(self.pattern, value) else self.words


@dataclass(frozen=True)
class NotEmpty:
    """Of a list or a mapping: it has an entry."""

    def refuse(self, value: Any) -> str | None:
        """What would be right, or None if it is."""
        return None if value else "at least one"


Count = Annotated[int, Least(0)]
Digest = Annotated[str, Form("[0-9a-f]{64}", "a sha256, 64 hex digits")]
ShortDigest = Annotated[str, Form("[0-9a-f]{16}", "the first 16 hex digits of a sha256")]
Name = Annotated[str, Form(r"(?s).*\S.*", "a name, not an empty text")]

# -- records -----------------------------------------------------------------------------------------------------------


def check_record(values: Any, kind: type[T], where: object, remedy: str = "") -> T:
    """The values, if they are of the type; nothing is changed.

    Args:
        values: as JSON or YAML holds them.
        kind: a TypedDict, or any other annotation.
        where: they come from, for the error; "" = who calls says it.
        remedy: what to do, for the error, after "…; ".

    Raises:
        ValueError: a wrong type, a missing or an unknown key, a number that is not finite; in one line with the key.

    >>> from typing import TypedDict
    >>> from seqmm.schema import Count, check_record
    >>> class Sizes(TypedDict):
    ...     users: Count
    >>> check_record({"users": "3"}, Sizes, "sizes.json")
    Traceback (most recent call last):
        ...
    ValueError: sizes.json: users is '3'; expected a whole number
    """
    try:
        matched(values, kind, strict=True)
    except Mismatch as error:
        key = ".".join(brief(part, 60)[1:-1] for part in error.path) or "the file"
        place = f"{where}: " if where else ""
        raise ValueError(f"{place}{key}{error.problem()}" + (f"; {remedy}" if remedy else "")) from None
    checked: T = values
    return checked


# -- types -------------------------------------------------------------------------------------------------------------


def coerced(value: Any, kind: Any) -> Any:
    """A value as the type asks for it: a list becomes a tuple, an int a float, text a path, YAML's bare no a "no".

    Raises:
        Mismatch: it is of another type; the text says what would be right.
    """
    return matched(value, kind, strict=False)


def matched(value: Any, kind: Any, *, strict: bool) -> Any:
    """The value as the type asks for it; ``strict`` = as JSON holds it, where a number is no text.

    Raises:
        Mismatch: it is of another type.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return _finite(value) if strict else value
    if origin is Annotated:
        made = matched(value, arguments[0], strict=strict)
        for bound in arguments[1:]:
            if (expected := bound.refuse(made)) is not None:
                raise Mismatch(value, expected)
        return made
    if origin in (NotRequired, Required):
        return matched(value, arguments[0], strict=strict)
    if origin in (typing.Union, types.UnionType):
        return _one_of(value, arguments, strict)
    if origin is Literal:
        return _choice(value, arguments, strict)
    if origin is tuple:
        return _tuple(value, arguments, strict)
    if origin is list:
        if not isinstance(value, list if strict else list | tuple):
            raise Mismatch(value, f"a list of {described(arguments[0], several=True)}")
        return _entries(value, [arguments[0]] * len(value), strict)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise Mismatch(value, described(kind))
        keys = [matched(key, arguments[0], strict=strict) for key in value]
        made = [_under(key, value[key], arguments[1], strict) for key in value]
        return dict(zip(keys, made, strict=True))
    if typing.is_typeddict(kind):
        return _record(value, kind, strict)
    return _plain_type(value, kind, strict)


def _under(key: object, value: Any, kind: Any, strict: bool) -> Any:
    try:
        return matched(value, kind, strict=strict)
    except Mismatch as error:
        raise error.under(key) from None


def _entries(values: Any, kinds: Any, strict: bool) -> list[Any]:
    if kinds and kinds[0] is str and set(kinds) == {str} and set(map(type, values)) == {str}:  # a vocabulary is long
        return list(values)
    return [_under(place, entry, kind, strict) for place, (entry, kind) in enumerate(zip(values, kinds, strict=True))]


@cache
def _keys(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _record(value: Any, kind: Any, strict: bool) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Mismatch(value, described(kind))
    known = _keys(kind)
    for key in value:
        if key not in known:
            raise Unknown(value[key], nearest(key, known)).under(key)
    for key, inner in known.items():
        optional = get_origin(inner) is NotRequired or key in kind.__optional_keys__
        if key not in value and not optional:
            raise Missing(None, described(inner)).under(key)
    return {key: _under(key, entry, known[key], strict) for key, entry in value.items()}


def _finite(value: Any) -> Any:
    """Any plain value without NaN and Infinity in it."""
    if isinstance(value, float) and not math.isfinite(value):
        raise Mismatch(value, "a finite number")
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise Mismatch(value, "a number below 2^63")
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            _under(key, entry, Any, True)
    return value


def _one_of(value: Any, kinds: tuple[Any, ...], strict: bool) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    problems: list[Mismatch] = []
    for kind in kinds:
        if kind is not types.NoneType:
            try:
                return matched(value, kind, strict=strict)
            except Mismatch as error:
                problems.append(error)
    deepest = max(problems, key=lambda problem: len(problem.path))
    if deepest.path:  # it was meant to be that kind, and something inside is wrong
        raise deepest
    words = " or ".join(dict.fromkeys(problem.expected for problem in problems))
    raise Mismatch(value, words + (", or none" if types.NoneType in kinds else ""))


def _choice(value: Any, choices: tuple[Any, ...], strict: bool) -> Any:
    if value is False and "no" in choices and not strict:  # YAML reads a bare no as false
        return "no"
    if isinstance(value, str | int | float) and value in choices and type(value) in {type(one) for one in choices}:
        return value
    near = nearest(value, [str(choice) for choice in choices]) if isinstance(value, str) else ""
    hint = f" ({near.removeprefix('; ')})" if "did you mean" in near else ""
    raise Mismatch(value, f"{described(Literal[choices])}{hint}")


def _tuple(value: Any, kinds: tuple[Any, ...], strict: bool) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        entries = kinds[0] if kinds[-1:] == (...,) else kinds
        raise Mismatch(value, f"a list of {described(entries, several=True)}")
    each = kinds[:1] * len(value) if kinds[-1:] == (...,) else kinds
    if len(value) != len(each):
        raise Mismatch(value, f"{len(kinds)} values")
    made = tuple(_entries(value, each, strict))
    if isinstance(value, tuple) and all(a is b for a, b in zip(made, value, strict=True)):
        return value
    return made


def _plain_type(value: Any, kind: Any, strict: bool) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST:
        return float(value)
    if kind is float and isinstance(value, str) and not strict:  # YAML reads 1e-3 as text
        try:
            return float(value)
        except ValueError:
            pass
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is int and isinstance(value, int) and abs(value) >= LARGEST:
        raise Mismatch(value, f"{described(kind)} below 2^63")
    if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
        if strict and kind is float:
            _finite(value)
        return value
    raise Mismatch(value, described(kind))


def described(kind: Any, several: bool = False) -> str:
    """A type in words, of one value or of several."""
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Annotated, NotRequired, Required):
        return described(arguments[0], several)
    if kind is Any or kind is object:
        return "values" if several else "a value"
    if kind is types.NoneType:
        return "none"
    if several and kind in words and kind is not bool:
        return f"{words[kind].removeprefix('a ')}s"
    if isinstance(kind, tuple):
        return " and ".join(described(entry) for entry in kind)
    if origin is dict:
        return f"names, each with {described(arguments[1])}"
    if typing.is_typeddict(kind):
        keys = list(_keys(kind))
        return f"a mapping with {', '.join(keys[:6])}{', …' if len(keys) > 6 else ''}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(described(entry) for entry in arguments)
    if origin is list or (origin is tuple and arguments[-1:] == (...,)):
        return f"a list of {described(arguments[0], several=True)}"
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    return words.get(kind, str(kind))
