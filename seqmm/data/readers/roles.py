"""Which column of a table of interactions is what, and what is said of those that were taken or left by their name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypedDict, Unpack

from seqmm.names import nearest

USUAL = ("timestamp", "position", "split")
"""Roles whose column is taken by its name where none is given, in any case of letters."""

AUTO, NONE = "auto", "none"
"""Instead of a column's name: the usual one if it is there; none, even if it is there."""

_TIME_WORDS = frozenset(("time", "timestamp", "date", "datetime", "ts", "day", "epoch"))
_TIME_NAMES = frozenset(("reviewtime", "unixtime", "eventtime", "unixtimestamp", "createdat", "updatedat", "tstamp"))


class ColumnNames(TypedDict, total=False):
    """Which column of a table of interactions is what."""

    user: str
    """Of the user ids; user_id if not given."""
    item: str
    """Of the item ids; item_id if not given."""
    timestamp: str | None
    """Of the times: numbers, dates with the year first, or a date type. :data:`AUTO` = that of :data:`USUAL`, if it is
    there; None or :data:`NONE` = no times."""
    position: str | None
    """Of the place in the user's history, already chronological; breaks ties in time. :data:`AUTO` as for the times."""
    split: str | None
    """Of split labels: 0, 1, 2 or train, validation, test; :data:`AUTO` as for the times."""


class Roles(dict[str, str]):
    """Role -> column, of the optional roles only those that the table has.

    >>> Roles({"user": "user_id", "item": "item_id"}, unread=["reviewTime"]).unread
    ['reviewTime']
    """

    def __init__(self, columns: dict[str, str], by_name: Sequence[str] = (), unread: Sequence[str] = ()):
        super().__init__(columns)
        self.by_name = list(by_name)
        """Roles whose column nobody named."""
        self.unread = list(unread)
        """Columns that look like times, where none was read as times."""

    def said(self) -> dict[str, str]:
        """For the card: columns that were taken because of their name, and columns of times that were not read."""
        said = {}
        if self.by_name:
            taken = ", ".join(
                f"column {self[role]!r} as {role} (`{role}={NONE}` leaves it out)" for role in self.by_name
            )
            said["taken_by_name"] = f"{taken}; nobody named {'it' if len(self.by_name) == 1 else 'them'}"
        if self.unread:
            named = ", ".join(map(repr, self.unread))
            name = self.unread[0] if self.unread[0].isidentifier() else repr(self.unread[0])
            said["not_read"] = f"column {named} looks like times; `timestamp={name}` orders by it"
        return said


def roles_of(have: Sequence[str], where: object, **columns: Unpack[ColumnNames]) -> Roles:
    """Role -> column of a table of interactions.

    Args:
        have: the table's columns.
        where: the table, for errors.
        columns: names of the columns.

    Raises:
        ValueError: a column that is named is not there.
    """
    roles = {"user": columns.get("user", "user_id"), "item": columns.get("item", "item_id")}
    by_name = []
    for role in USUAL:
        named: str | None = columns.get(role, AUTO)  # type: ignore[assignment]
        if named == AUTO:
            named = _usual(role, [column for column in have if column not in roles.values()])
            by_name += [role] if named else []
        if named is not None and named.lower() != NONE:
            roles[role] = named
    for role, column in roles.items():
        require(column, have, where, role)
    asked = columns.get("timestamp", AUTO) == AUTO
    unread = [column for column in have if column not in roles.values() and looks_like_time(column)]
    return Roles(roles, by_name, unread if asked and "timestamp" not in roles else ())


def _usual(role: str, have: Sequence[str]) -> str | None:
    """The column of that name, else the only one that differs from it in case alone."""
    if role in have:
        return role
    alike = [column for column in have if column.strip().lower() == role]
    return alike[0] if len(alike) == 1 else None


def looks_like_time(column: str) -> bool:
    """Whether a column's name says that it holds times: Timestamp, unixReviewTime, created_at, t_date, time:float."""
    name = column.partition(":")[0]  # RecBole writes types into the header
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    whole = re.sub(r"[^a-z]", "", name.lower())
    return any(word.lower() in _TIME_WORDS for word in words) or whole in _TIME_NAMES | _TIME_WORDS


_TEXT_TABLES = (".csv", ".tsv", ".txt", ".dat", ".data", ".tab", ".psv")


def require(column: str, have: Sequence[str], where: object, role: str) -> None:
    """Raises ValueError, with the nearest name, for a column that a table does not have."""
    if column not in have:
        near = nearest(column, have)
        hint = near if "did you mean" in near else ""
        numbers = [name for name in have if re.fullmatch(r"[-+]?\d+([.:-]\d+)*(e[-+]?\d+)?", name)]
        if numbers and numbers != [str(n) for n in range(len(numbers))]:
            raise ValueError(
                f"{where} has no column {column!r}, and its first line looks like data, not names: "
                f"{', '.join(have)[:80]!r}; write a line with the columns' names before it ({role}: {column})"
            )
        if role in ("user", "item") and not hint and str(where).lower().removesuffix(".gz").endswith(_TEXT_TABLES):
            hint = ", or write a line with the columns' names before the first if these are none"
            hint += (
                ". Is it separated by something else than commas, semicolons, tabs, | or ::?" if len(have) == 1 else ""
            )
        raise ValueError(
            f"{where} has no column {column!r}; it has: {', '.join(have) or 'none'}. Name the right one ({role}){hint}"
        )
