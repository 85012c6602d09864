"""Dates in text: those with the year first are read, every other way of writing them has to be named."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl

NUMBER = r"^[+-]?\d+(?:\.\d*)?$"

ISO = (
    r"^(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})"
    r"(?:[Tt ]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d+))?)?)?"
    r"(?: ?([Zz]|UTC|GMT|[+-]\d{2}(?::?\d{2})?))?$"
)
"""Year, month, day; hour, minute, second, its decimals; time zone."""

_DAYS = (
    "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%m-%d-%Y", "%d-%m-%Y", "%m/%d/%y", "%d/%m/%y", "%d.%m.%y", "%m %d, %Y",
    "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%d-%b-%Y", "%d-%b-%y", "%Y-%m-%d", "%y-%m-%d",
    "%d-%m-%y", "%m-%d-%y", "%Y%m%d", "%d%m%Y",
    "%m%d%Y", "%d%m%y", "%m%d%y", "%y%m%d",
)  # fmt: skip
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p", "T%H:%M:%S", ", %I:%M:%S %p")
_WHOLE = ("%a %b %d %H:%M:%S %z %Y", "%a, %d %b %Y %H:%M:%S %z", "%d/%b/%Y:%H:%M:%S %z", "%a %b %d %H:%M:%S %Y")
_PLAIN = tuple(
    f"%Y-%m-%d{clock}" for clock in ("", " %H:%M:%S%.f", "T%H:%M:%S%.f", "T%H:%M:%S%.fZ", " %H:%M:%S%.f+00:00")
)
"""Year first, all in UTC or none with a time zone."""

_YEAR_OF_FOUR = -3_000_000_000
"""Seconds of 1874: an earlier date has a year of two digits that was read as one of four."""

_PACKED = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


@dataclass(frozen=True)
class Cells:
    """Cells of one column that hold something, and where they are, for what is refused."""

    values: pl.Series
    rows: pl.Series
    """Their rows in the table."""
    where: object
    """The table."""

    def refused(self, wrong: pl.Series | np.ndarray, expected: str, *, bare: bool = False) -> ValueError:
        """The error about the first cell that is wrong, and how many are.

        Args:
            wrong: which are, at least one.
            expected: what they are not, after "is not".
            bare: leave out the general remedy, since ``expected`` ends in a better one.
        """
        mask = np.asarray(wrong)
        count, first = int(mask.sum()), int(mask.argmax())
        many = count > 1
        remedy = "" if bare else f"; correct or remove {'them' if many else 'it'}"
        return ValueError(
            f"{self.where}, row {self.rows[first]}, column {self.values.name!r}: {shown(self.values[first])} is not "
            f"{expected} ({count:,} such row{'s' if many else ''}){remedy}"
        )


def shown(value: object) -> str:
    """A cell for an error, cut to what fits into a line."""
    text = repr(value) if isinstance(value, str | int | float) else str(value)
    return text if len(text) <= 60 else text[:57] + "…" + text[0]


def iso_dates(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and nanoseconds after them, of dates with the year first; without a time zone they are UTC.

    Raises:
        ValueError: of another form, with the forms that fit; no day of the calendar; some with a time zone, some not.
    """
    import polars as pl

    text = cells.values
    for form in _PLAIN:  # what nearly all files have, and much faster
        read = _parsed(text, form) if _fits(text.head(1), form) else None
        if read is not None and not read[0].has_nulls():
            return read[0].to_numpy(), read[1].to_numpy()
    parts = text.str.extract_groups(ISO).struct.unnest()
    year, month, date, hour, minute, second, decimals, zone = parts.get_columns()
    if year.has_nulls():
        raise unknown_form(cells, year.is_null())
    if zone.has_nulls() and zone.null_count() < len(zone):
        raise cells.refused(
            zone.is_null(), f"clear: it has no time zone, {shown(text.filter(zone.is_not_null())[0])} has one"
        )
    frame = pl.DataFrame([year, month, date, hour, minute, second])
    plain = frame.select(
        pl.format("{}-{}-{} {}:{}:{}", *(pl.nth(n).fill_null("0" if n else "").str.zfill(2) for n in range(6)))
    ).to_series()
    moments = plain.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us")
    if moments.has_nulls():
        raise cells.refused(moments.is_null(), "a day and time of the calendar (year, month, day)")
    offset = zone.fill_null("Z").str.extract_groups(r"^([+-])(\d{2}):?(\d{2})?$").struct.unnest().get_columns()
    sign, hours, minutes = (column.to_numpy() for column in (
        offset[0].replace_strict({"+": 1, "-": -1}, default=0, return_dtype=pl.Int64),
        offset[1].cast(pl.Int64).fill_null(0), offset[2].cast(pl.Int64).fill_null(0),
    ))  # fmt: skip
    seconds = moments.dt.epoch("s").to_numpy() - sign * (hours * 3600 + minutes * 60)
    fraction = decimals.fill_null("").str.slice(0, 9).str.pad_end(9, "0").cast(pl.Int64).to_numpy()
    return seconds, fraction


def written_dates(cells: Cells, form: str) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and nanoseconds after them, of dates written in one form.

    Raises:
        ValueError: a cell is not written so.
    """
    found = _parsed(cells.values, form)
    if found is None:
        raise ValueError(
            f"{cells.where}, column {cells.values.name!r}: {form!r} is no form of dates; write it as in %d.%m.%Y %H:%M "
            f"(the first time is {shown(cells.values[0])}; `time_format`)"
        )
    second, fraction = found
    if second.has_nulls():
        others = formats_of(cells.values)
        hint = f"; {' and '.join(others)} would fit" if others else ""
        raise cells.refused(second.is_null(), f"a date written {form}{hint}")
    return second.to_numpy(), fraction.to_numpy()


def _parsed(text: pl.Series, form: str) -> tuple[pl.Series, pl.Series] | None:
    """Seconds, null where the text is of another form, and nanoseconds; None if the form is none."""
    import polars as pl

    form = form.replace(".%f", "%.f")
    if re.search(r"%f", form) or not re.search(r"%[YyDFcsG]", form):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            zone = "UTC" if "%z" in form else None
            wide = fine = text.str.to_datetime(form, strict=False, time_unit="us", time_zone=zone)
            if "%.f" in form and text.str.contains(r"\.\d{7}").any():  # ns, which hold years from 1677 to 2262 only
                fine = text.str.to_datetime(form, strict=False, time_unit="ns", time_zone=zone)
        except pl.exceptions.PolarsError:
            return None
    return wide.dt.epoch("s"), fine.dt.nanosecond().cast(pl.Int64)


def formats_of(text: pl.Series) -> list[str]:
    """The usual forms of dates in which every cell of a text column can be read."""
    few = text.head(50)
    found = []
    for form in (*(day + clock for day in _DAYS for clock in _CLOCKS), *_WHOLE):
        if _fits(few, form) and _fits(text, form):
            found.append(form.replace("%.f", ".%f"))
    return found


def _fits(text: pl.Series, form: str) -> bool:
    read = _parsed(text, form)
    if read is None or read[0].has_nulls():
        return False
    return int(read[0].min()) > _YEAR_OF_FOUR  # type: ignore[arg-type]


def packed_date(numbers: np.ndarray) -> str | None:
    """The form of numbers that are all dates without separators (20170805); None if one is not."""
    import polars as pl

    digits = len(str(int(numbers[0])))
    if digits not in _PACKED or len(str(int(numbers.min()))) != digits or len(str(int(numbers.max()))) != digits:
        return None
    form = _PACKED[digits]
    years = numbers // 10 ** (digits - 4)
    if years.min() < 1900 or years.max() > 2100:
        return None
    text = pl.Series(numbers).cast(pl.String) + ("00" if digits == 10 else "")  # no library reads hours alone
    read = _parsed(text, form + ("%M" if digits == 10 else ""))
    return form if read is not None and not read[0].has_nulls() else None


def unknown_form(cells: Cells, wrong: pl.Series) -> ValueError:
    """What to do about dates whose form is not known; the first of them is named."""
    fitting = formats_of(cells.values)
    if not fitting and not wrong.all():
        fitting = formats_of(cells.values.filter(wrong))
    dates = cells.values.filter(wrong).str.contains(r"\d").any()
    if not fitting and not dates:
        return cells.refused(wrong, "a time (a number, or a date such as 2021-03-01 10:00)")
    forms = fitting[:3] or ["%d.%m.%Y %H:%M"]
    fits = (
        f" ({'both' if len(fitting) == 2 else 'all'} fit)" if len(fitting) > 1 else "" if fitting else ", for example"
    )
    return cells.refused(
        wrong,
        "a date with the year first; which number is the day and which the month is not guessed. Say how they are "
        f"written: {' or '.join(f'`time_format={form!r}`' for form in forms)}{fits}",
        bare=True,
    )
