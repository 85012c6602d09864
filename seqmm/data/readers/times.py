"""What the cells of a table say of time, read to the nanosecond or refused by row and value; no order is guessed.

Numbers are seconds, ms, µs or ns since 1970: which is told by their size, since no number is a time of our days in two
of these units. Dates are read where the year comes first; every other way of writing them has to be named.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np

from seqmm.data.interactions import COUNT
from seqmm.data.readers.dates import NUMBER, Cells, iso_dates, packed_date, unknown_form, written_dates
from seqmm.names import TimeUnit

if TYPE_CHECKING:
    import polars as pl

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}

YEAR = 365 * 24 * 3600
"""Seconds of 1970: a column all in this year was read in the wrong unit."""

SLACK = 2 * 24 * 3600
"""Seconds after now that a time may have: time zones, clocks."""

_MODERN = 600_000_000
"""Seconds of 1989: a number that is later in a larger unit than its column's was not meant in the column's."""

_SCIENTIFIC = r"^[+-]?\d+(?:\.\d*)?[eE][+-]?\d{1,2}$"
_FLOAT32_EXACT, _FLOAT64_EXACT = 2**24, 2**53


@dataclass(frozen=True)
class Times:
    """Times of rows."""

    seconds: np.ndarray  # [n] int64 since 1970, -1 = unknown
    nanoseconds: np.ndarray | None  # [n] int64 after the whole second; None if all are 0
    said: str
    """What they were read as: "milliseconds, 2020-09-13 to 2020-10-29"."""


def latest() -> int:
    """The last second that is not the future."""
    return int(time.time()) + SLACK


def day(second: int) -> str:
    """``2020-09-13``."""
    return str(np.datetime64(int(second), "s"))[:10]


def read_times(
    values: pl.Series, rows: pl.Series, where: object, unit: TimeUnit = "auto", form: str | None = None
) -> Times:
    """Times of a column: numbers, dates with the year first, a date type, or text of one given form.

    Args:
        values: the column; null = unknown.
        rows: number of each row in the table.
        where: the table, for errors.
        unit: of numbers since 1970; auto = by their size.
        form: how dates are written, such as ``%m/%d/%Y`` (as in :meth:`datetime.datetime.strptime`).

    Raises:
        ValueError: naming the table, row and value of the first that is no time, that is before 1970 or in the future,
            or whose unit or form has to be said.
    """
    import polars as pl

    known = values.is_not_null()
    if values.dtype.is_float():
        known &= values.is_not_nan().fill_null(False)  # how tables with gaps write what is missing
    if form is not None and unit != "auto":
        raise ValueError(f"{where}: times are numbers or dates; leave out `time_unit` or `time_format`")
    cells = Cells(values.filter(known), rows.filter(known), where)
    if not len(cells.values):
        return Times(np.full(len(values), -1), None, "no time at all")
    kind = cells.values.dtype
    if kind.is_integer() or kind.is_float() or kind.is_decimal() or kind in (pl.String, pl.Categorical, pl.Enum):
        second, fraction, said = _written(cells, unit, form)
    elif kind == pl.Date or kind == pl.Datetime:
        second, fraction = cells.values.cast(pl.Datetime("us")).dt.epoch("s").to_numpy(), np.zeros(len(cells.values))
        if kind == pl.Datetime:
            fraction = cells.values.dt.nanosecond().cast(pl.Int64).to_numpy()
        said = "dates"
        _check(cells, second, said, "if numbers were made dates, give the unit they have")
    else:
        raise ValueError(
            f"{where}, column {values.name!r} holds {kind}, which is no time; give numbers or dates, or name "
            "another column"
        )
    return _whole(known.to_numpy(), second, fraction, said)


def of_integers(numbers: np.ndarray, unit: TimeUnit, where: object) -> Times:
    """Times of integers whose unit the kind of file says; unlike in a table, small numbers are let through.

    Raises:
        ValueError: the unit is not that of the numbers.
    """
    size = PER_SECOND[unit]
    second = numbers // size
    if len(numbers) and numbers.max() >= COUNT and second.max() < YEAR:
        raise ValueError(
            f"{where}: as {NAMES[unit]} every time is in 1970 ({numbers.max()} is {day(second.max())}); is the file of "
            "another kind or year?"
        )
    return _whole(np.ones(len(numbers), bool), second, numbers % size * (10**9 // size), NAMES[unit])


def _whole(known: np.ndarray, second: np.ndarray, fraction: np.ndarray, said: str) -> Times:
    """With the rows that have none, and what can be said of all."""
    seconds = np.full(len(known), -1, np.int64)
    seconds[known] = second
    nanoseconds = None
    if fraction.any():
        nanoseconds = np.zeros(len(known), np.int64)
        nanoseconds[known] = fraction
    first, last = (int(end(second)) for end in (np.min, np.max)) if len(second) else (0, 0)
    if last < COUNT:
        return Times(seconds, nanoseconds, f"a count from {first} to {last}, no dates")
    early = int((second < YEAR).sum())
    said += f", {day(first)} to {day(last)}" + (f", {early:,} of them in 1970" if early else "")
    return Times(seconds, nanoseconds, said)


# -- numbers and text --------------------------------------------------------------------------------------------------


def _written(cells: Cells, unit: TimeUnit, form: str | None) -> tuple[np.ndarray, np.ndarray, str]:
    """Seconds, nanoseconds after them, and what they are."""
    import polars as pl

    values = cells.values
    if form is not None:
        if values.dtype.is_float() and (values == values.floor()).all():  # 20170805.0, of a table with gaps
            values = values.cast(pl.Int64)
        cells = Cells(values.cast(pl.String).str.strip_chars(), cells.rows, cells.where)
        second, fraction = written_dates(cells, form)
        _check(cells, second, "dates", "correct them, or the form")
        return second, fraction, f"dates written {form}"
    if values.dtype.is_integer():
        whole = values.cast(pl.Int64, strict=False)
        if whole.has_nulls():
            raise cells.refused(whole.is_null(), "a time of any unit")
        return _numbers(cells, whole.to_numpy(), np.zeros(len(whole), np.int64), unit, "")
    if values.dtype.is_float():
        return _floats(cells, unit)
    text = values.cast(pl.String).str.strip_chars()
    whole = text.cast(pl.Int64, strict=False)
    if not whole.has_nulls() and not text.str.starts_with("0").any():
        return _numbers(cells, whole.to_numpy(), np.zeros(len(whole), np.int64), unit, "")
    number = text.str.contains(NUMBER) | text.str.contains(_SCIENTIFIC)
    if number.any():
        if not number.all():
            raise cells.refused(~number, f"a time: it stands beside numbers ({values.filter(number)[0]!r})")
        return _number_texts(cells, text, unit)
    cells = Cells(text.rename(values.name), cells.rows, cells.where)
    second, fraction = iso_dates(cells)
    _check(cells, second, "dates", "correct them")
    return second, fraction, "dates"


def _number_texts(cells: Cells, text: pl.Series, unit: TimeUnit) -> tuple[np.ndarray, np.ndarray, str]:
    """Of decimal numbers to the last digit."""
    import polars as pl

    padded = text.str.contains(r"^0\d{5,}$")
    if padded.any():
        raise unknown_form(cells, padded)

    scientific = text.str.contains(_SCIENTIFIC)
    if scientific.any():
        plain = [format(Decimal(cell), "f") if known else cell for cell, known in zip(text, scientific, strict=True)]
        _check_digits(cells, text.filter(scientific), unit)
        text = pl.Series(cells.values.name, plain, pl.String)
    parts = text.str.extract_groups(r"^([+-]?\d+)(?:\.(\d*))?$").struct.unnest()
    whole = parts.to_series(0).cast(pl.Int64, strict=False)
    if whole.has_nulls():
        raise cells.refused(whole.is_null(), "a time of any unit")
    digits = parts.to_series(1).fill_null("").str.slice(0, 9).str.pad_end(9, "0")
    negative = text.str.starts_with("-")
    if negative.any():
        raise cells.refused(negative, "a time after 1970")
    billionths = digits.cast(pl.Int64).to_numpy()
    if "." in "".join(text.head(1000)) and not billionths.any():
        _check_float32(cells, whole.to_numpy().astype(float), unit)
    return _numbers(cells, whole.to_numpy(), billionths, unit, "")


def _floats(cells: Cells, unit: TimeUnit) -> tuple[np.ndarray, np.ndarray, str]:
    import polars as pl

    values = cells.values.cast(pl.Float64).to_numpy()
    wrong = ~np.isfinite(values) | (np.abs(values) >= 2**63)
    if wrong.any():
        raise cells.refused(wrong, "a time")
    _check_float32(cells, values, unit)
    whole = np.floor(values)
    billionths = np.round((values - whole) * 10**9).astype(np.int64).clip(0, 10**9 - 1)
    step = float(np.spacing(values.max()))
    note = f" in floats, exact to {step:g} of them" if values.max() > _FLOAT64_EXACT else ""
    return _numbers(cells, whole.astype(np.int64), billionths, unit, note)


def _numbers(
    cells: Cells, whole: np.ndarray, billionths: np.ndarray, unit: TimeUnit, note: str
) -> tuple[np.ndarray, np.ndarray, str]:
    """Of numbers in one unit, which is checked, or found by size."""
    if (whole < 0).any():
        raise cells.refused(whole < 0, "a time after 1970")
    if unit == "auto" and whole.max() < COUNT:
        return whole, billionths, "a count"
    chosen = _unit(cells, whole, unit)
    size = PER_SECOND[chosen]
    second, rest = np.divmod(whole, size)
    larger = np.zeros(len(whole), bool)
    for other in PER_SECOND.values():
        if other < size:
            larger |= (whole >= _MODERN * other) & (whole <= latest() * other)
    if larger.any():
        raise cells.refused(larger, f"in {NAMES[chosen]} as the others are; give all times one unit")
    said = NAMES[chosen] + ("" if unit == chosen else " (by their size)") + note
    _check(cells, second, said, "correct them")
    return second, rest * (10**9 // size) + billionths // size, said


def _unit(cells: Cells, whole: np.ndarray, unit: TimeUnit) -> TimeUnit:
    """The unit of a column: the one given, if it can be, or the only one that can be."""
    top = int(whole.max())
    packed = packed_date(whole)
    fitting: list[TimeUnit] = [
        name
        for name in ("s", "ms", "us", "ns")
        if YEAR <= top // PER_SECOND[name] <= latest()  # type: ignore[misc]
    ]
    if packed is None and unit == "auto" and fitting:
        return fitting[0]
    if packed is None and unit in fitting:
        return unit
    if packed is not None:
        remedy = f"{cells.values[0]!r} looks like a date: say so (`time_format={packed}`)"
    elif fitting:
        remedy = f"these are {NAMES[fitting[0]]} (`time_unit={fitting[0]}`)"
    else:
        remedy = "no unit of s, ms, us, ns makes them times; if they only count, name their column as `position`"
    tried: TimeUnit = "s" if unit == "auto" else unit
    second = whole // PER_SECOND[tried]
    if packed is None and second.max() > latest():
        late = second > latest()
        raise cells.refused(late, f"a time in {NAMES[tried]}, it would be in the future; {remedy}", bare=True)
    first = int(whole.argmin())
    raise ValueError(
        f"{cells.where}, column {cells.values.name!r}: read as {NAMES[tried]}, "
        f"{'every time is in 1970' if second.max() < YEAR else 'the times are not plausible'} "
        f"(row {cells.rows[first]}: {cells.values[first]!r} is {_shown(second[first])}); {remedy}"
    )


def _shown(second: int) -> str:
    return day(second) if second < 2**40 else "far in the future"


# -- what cannot be ----------------------------------------------------------------------------------------------------


def _check(cells: Cells, second: np.ndarray, said: str, remedy: str) -> None:
    """Refuses what lies before 1970, in the future, or altogether in 1970."""
    if (second < 0).any():
        raise cells.refused(second < 0, "a time after 1970")
    late = second > latest()
    if late.any():
        raise cells.refused(late, f"a time until today ({day(latest() - SLACK)}): it is in the future")
    if second.max() < YEAR:
        row = int(second.argmax())
        raise ValueError(
            f"{cells.where}, column {cells.values.name!r}: read as {said}, every time is in 1970 (row "
            f"{cells.rows[row]}: {cells.values[row]!s} is {day(second[row])}), which is not plausible; {remedy}"
        )


def _check_digits(cells: Cells, text: pl.Series, unit: TimeUnit) -> None:
    """Refuses numbers that a spreadsheet shortened to 1.6E+09: rows that differed are now equal."""
    import polars as pl

    steps, values = [], []
    for cell in text.unique():
        number = Decimal(cell)
        _, _, exponent = number.as_tuple()
        steps.append(int(exponent))
        values.append(number)
    top = max(values)
    size = next((n for name, n in PER_SECOND.items() if unit in (name, "auto") and top / n <= latest()), 1)
    days = all(number % (86400 * size) == 0 for number in values)
    if 10 ** min(steps) > size and not days:
        raise cells.refused(
            cells.values.cast(pl.String).str.strip_chars() == text[0],
            "a time to the second: its last digits were lost; write whole numbers, or dates",
            bare=True,
        )


def _check_float32(cells: Cells, values: np.ndarray, unit: TimeUnit) -> None:
    """Refuses times that went through 32-bit floats, where those of two minutes become one."""
    if values.max() < _FLOAT32_EXACT or len(distinct := np.unique(values)) < 3:
        return
    if not (distinct.astype(np.float32) == distinct).all():
        return
    if any((np.diff(distinct) % (86400 * size) == 0).all() for size in PER_SECOND.values()):
        return  # whole days, which they hold
    step = float(np.spacing(np.float32(values.max())))
    raise ValueError(
        f"{cells.where}, column {cells.values.name!r}: all times are multiples of {step:g}, as 32-bit floats make "
        "them; write them as whole numbers"
    )
