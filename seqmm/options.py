"""Options: dataclass fields that say their help, their range and whether they change a result, and check themselves.

A class of options is a dataclass whose fields are made by :func:`option`; :class:`Options` (frozen) or
:func:`check_options` in ``__post_init__`` checks every value when the object is made, from Python, from YAML and from
flags alike. Flags and help texts are made from the same fields (:mod:`seqmm.flags`).
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from seqmm.names import brief, nearest
from seqmm.schema import Mismatch, coerced

T = TypeVar("T")
_KEY = "option"


class OptionError(ValueError):
    """A value that an option cannot have. ``owner.name is value; remedy``, where the owner is a class or a section.

    Who knows where the value came from says so instead: the file (:mod:`seqmm.run.settings`), the flag
    (:func:`seqmm.flags.made_by_flags`).
    """

    def __init__(self, owner: str, name: str, problem: str):
        super().__init__(f"{owner}.{name}{problem}")
        self.owner, self.name, self.problem = owner, name, problem


@dataclass(frozen=True)
class About:
    """What :func:`option` keeps in a field's metadata."""

    help: str
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    changes_result: bool = True
    positional: bool = False

    def outside(self, value: float) -> str | None:
        """What to choose instead, if the value is outside the range (NaN and infinity always are)."""
        if math.isinf(value):
            return "choose a finite number"
        inside = (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )
        return None if inside and value == value else self.range()

    def range(self) -> str:
        """In words: "0 or more", "above 0 and at most 1"."""
        low = f"above {self.above}" if self.above is not None else None
        low = f"at least {self.least}" if self.least is not None else low
        high = f"below {self.below}" if self.below is not None else None
        high = f"at most {self.most}" if self.most is not None else high
        if low and high:
            return f"choose {low} and {high}"
        if self.least is not None:
            return f"choose {self.least} or more"
        return f"choose a number {low or high}" if low or high else "choose a number"


def option(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    changes_result: bool = True,
    positional: bool = False,
) -> Any:
    """A dataclass field that knows its help text, its range, and whether another value gives another result.

    Args:
        default: its value if none is given (copied for every object); ``dataclasses.MISSING`` = it must be given.
        help: one or more sentences that stand alone.
        least: smallest value, or of a tuple the smallest entry.
        most: largest value.
        above: all values are larger.
        below: all values are smaller.
        changes_result: False for places, logging and the like: a resumed run or a benchmark may have another value.
        positional: on a command line its value stands without a flag.

    >>> from dataclasses import dataclass
    >>> import seqmm
    >>> @dataclass(frozen=True)
    ... class Shop(seqmm.Options):
    ...     rows: int = seqmm.option(100, "Rows to read.", least=1)
    >>> Shop(rows=0)
    Traceback (most recent call last):
        ...
    seqmm.options.OptionError: Shop.rows is 0; choose 1 or more
    """
    metadata = {_KEY: About(help, least, most, above, below, changes_result, positional)}
    if isinstance(default, dict | list | set):
        return field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def about(field: dataclasses.Field[Any]) -> About:
    """What a field's :func:`option` said; empty for a plain field."""
    found: About = field.metadata.get(_KEY) or About("")
    return found


def option_fields(cls: Any) -> list[dataclasses.Field[Any]]:
    """The fields of a class that were made by :func:`option`, in their order."""
    return [field for field in dataclasses.fields(cls) if _KEY in field.metadata]


def refuse_plain_fields(cls: Any, besides: frozenset[str] = frozenset()) -> None:
    """Refuses a class with a field that is no option: nothing would check it, write it down or compare it.

    Args:
        cls: a dataclass.
        besides: names that may be plain fields.

    Raises:
        TypeError: naming the field.
    """
    for each in dataclasses.fields(cls):
        if _KEY not in each.metadata and each.name not in besides:
            raise TypeError(f'{cls.__name__}.{each.name} is a plain field: make it option(default, "Help.")')


@cache
def _hints(cls: Any) -> dict[str, Any]:
    names = {each.name for each in option_fields(cls)}
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if names & set(inspect.get_annotations(base)):  # of no other base: its types may not be there when it runs
            found |= inspect.get_annotations(base, eval_str=True)
    return found


def hints(cls: Any) -> dict[str, Any]:
    """Types of a class' options."""
    return _hints(cls)


def check_options(made: Any, owner: str | None = None) -> None:
    """Checks the values of an object's options and turns lists into tuples, ints into floats, and so on, in place.

    Args:
        made: just made; of a dataclass (frozen or not).
        owner: for errors; the class' name if None.

    Raises:
        OptionError: a value of another type, none of the choices, or out of range.
    """
    cls: Any = type(made)
    for each in option_fields(cls):
        value = getattr(made, each.name)
        right = _checked(cls, each, value, owner or cls.__name__)
        if right is not value:
            object.__setattr__(made, each.name, right)


def checked_values(cls: Any, values: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Some of a class' options, as plain values, each checked alone and of its type.

    Raises:
        OptionError: an unknown key, or a value that cannot be.
    """
    known = {each.name: each for each in option_fields(cls)}
    check_keys(values, known, owner)
    return {key: _checked(cls, known[key], value, owner) for key, value in values.items()}


def _checked(cls: Any, field: dataclasses.Field[Any], value: Any, owner: str) -> Any:
    try:
        right = coerced(value, hints(cls)[field.name])
    except Mismatch as error:
        raise OptionError(owner, field.name, f" is {brief(value)}; choose {error.expected}") from None
    for number in _numbers(right):
        if (outside := about(field).outside(number)) is not None:
            raise OptionError(owner, field.name, f" is {brief(value)}; {outside}")
    return right


def _numbers(value: Any) -> list[float]:
    entries = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else (value,)
    return [entry for entry in entries if isinstance(entry, int | float) and not isinstance(entry, bool)]


def check_idle(made: Any, because: str, *names: str) -> None:
    """Raises OptionError if one of the options is not at its default although it does nothing.

    Args:
        made: a dataclass object of options.
        because: the other option and what it does.
        names: of the options that do nothing then.
    """
    for each in option_fields(type(made)):
        value = getattr(made, each.name)
        if each.name in names and value != default_of(each):
            problem = f" is {brief(value)}, but does nothing: {because}; leave {each.name} out"
            raise OptionError(type(made).__name__, each.name, problem)


def default_of(field: dataclasses.Field[Any]) -> Any:
    """A field's default, made anew; ``dataclasses.MISSING`` if it has none."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


@dataclass(frozen=True)
class Options:
    """Base of argument classes: checked when made, never changed in place (``dataclasses.replace`` makes another).

    >>> import dataclasses
    >>> import seqmm
    >>> args = seqmm.TrainArguments(epochs=3)
    >>> dataclasses.replace(args, seed=1).seed
    1
    >>> seqmm.TrainArguments.from_values({"epoch": 3})
    Traceback (most recent call last):
        ...
    seqmm.options.OptionError: train.epoch: there is no such option; did you mean 'epochs'?
    """

    section: ClassVar[str] = ""
    """Name of the YAML section and the flags' prefix."""

    def __new__(cls, *args: Any, **values: Any) -> Self:
        """Refuses a misspelt key, which a dataclass would answer with a bare TypeError."""
        refuse_plain_fields(cls)
        check_keys(values, [each.name for each in option_fields(cls)], cls.__name__)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        check_options(self)
        self.check()

    def check(self) -> None:
        """Refuses combinations of values that are each right alone; subclasses raise :class:`OptionError`."""

    def idle(self) -> dict[str, str]:
        """Options that nothing reads beside the other values, and why: ``{name: "only tfidf reads it; …"}``."""
        return {}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Made of plain values, as YAML holds them.

        Raises:
            OptionError: an unknown key, or a value that cannot be.
        """
        return cls(**checked_values(cls, values, cls.section or cls.__name__))


def refuse_idle(chosen: Sequence[Options]) -> None:
    """Refuses an option that has another value than its default though nothing reads it.

    Args:
        chosen: objects that may have options in common; what one of them reads is not idle.

    Raises:
        OptionError: naming it.
    """
    idle = [one.idle() for one in chosen]
    for one, reasons in zip(chosen, idle, strict=True):
        for each in option_fields(type(one)):
            if each.name not in reasons or getattr(one, each.name) == each.default:
                continue
            if all(each.name in other or not hasattr(two, each.name) for two, other in zip(chosen, idle, strict=True)):
                value = plain(getattr(one, each.name))
                raise OptionError(type(one).__name__, each.name, f" is {brief(value)}; {reasons[each.name]}")


def check_keys(values: Iterable[object], known: Iterable[str], owner: str) -> None:
    """Raises OptionError for a key that is not known, naming the nearest one."""
    known = list(known)
    for key in values:
        if key not in known:
            problem = f": there is no such option{nearest(key, known)}"
            raise OptionError(owner, str(key), problem)


def result_values(made: Any) -> dict[str, Any]:
    """The values of those options that change a result, as plain values."""
    return {
        each.name: plain(getattr(made, each.name)) for each in option_fields(type(made)) if about(each).changes_result
    }


def plain_values(made: Any) -> dict[str, Any]:
    """The values of all options, as YAML and JSON hold them."""
    return {each.name: plain(getattr(made, each.name)) for each in option_fields(type(made))}


def plain(value: Any) -> Any:
    """A value as YAML and JSON hold it: tuples are lists, paths are text."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
