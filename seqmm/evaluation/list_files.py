"""Files of recommendation lists and of held-out pairs: tables (CSV, TSV, parquet) and JSON; ids are text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seqmm.data.readers.cells import text_ids
from seqmm.data.readers.json_records import is_json, json_values
from seqmm.data.readers.table import column_names, read_table
from seqmm.names import nearest

if TYPE_CHECKING:
    import polars as pl

USER_COLUMNS = ("user_id", "user", "user_id:token")
ITEM_COLUMNS = ("item_id", "item", "item_id:token")


def read_lists(
    file: str | Path,
    *,
    user: str | None = None,
    item: str | None = None,
    rank: str | None = None,
    score: str | None = None,
) -> dict[str, list[str]] | dict[str, dict[str, float]]:
    """Reads recommendation lists.

    Args:
        file: a table (.csv, .tsv, .txt, .inter, .parquet) with a row for each recommended item; or .json, an object of
            lists by user; or .jsonl, in each line such an object, or ``{"user": …, "items": […]}``. Text files may end
            in .gz.
        user: column of a table; None = user_id or user.
        item: column of a table; None = item_id or item.
        rank: column of a table, best = smallest; None = rank, if there is one and no ``score`` is given.
        score: column of a table, best = largest; None = score, if there is one and no rank.

    Returns:
        User -> items, best first; where scores were read, user -> {item: score}.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a missing column, an item or a rank twice in a list, a value that is no number.
    """
    import polars as pl

    file = Path(file)
    if is_json(file):
        return _json_lists(file)
    have = column_names(file)
    if rank is None and score is None:
        rank = "rank" if "rank" in have else None
        score = "score" if rank is None and "score" in have else None
        if rank is None and score is None:
            raise ValueError(
                f"{file} has no column 'rank' and none 'score'; it has: {', '.join(have)}. Name the one that orders a "
                "list (rank, or score)"
            )
    order = str(rank or score)
    frame = _read(file, have, user, item, (order,))
    values = frame[order].cast(pl.Float64, strict=False)
    wrong = values.is_null() | ~values.is_finite().fill_null(False)
    if wrong.any():
        row = wrong.arg_max() or 0
        raise ValueError(
            f"{file}, row {row + 1}, column {order!r}: {frame[order][row]!r} is not a finite number "
            f"({int(wrong.sum())} such rows); correct or remove them"
        )
    found: dict[str, dict[str, float]] = {}
    for name, thing, value in zip(frame["user"], frame["item"], values, strict=True):
        mine = found.setdefault(name, {})
        if thing in mine:
            raise ValueError(f"{file}: item {thing!r} is twice in the list of user {name!r}; a list names an item once")
        mine[thing] = value
    return found if rank is None else {name: _by_rank(file, name, mine) for name, mine in found.items()}


def read_pairs(file: str | Path, *, user: str | None = None, item: str | None = None) -> dict[str, list[str]]:
    """Reads users and their items: held-out interactions, or those that were trained on.

    Args:
        file: as of :func:`read_lists`; other columns are ignored.
        user: column of a table; None = user_id or user.
        item: column of a table; None = item_id or item.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a missing column, a row without user or item.
    """
    file = Path(file)
    if is_json(file):
        return _json_lists(file)
    found: dict[str, list[str]] = {}
    frame = _read(file, column_names(file), user, item, ())
    for name, thing in zip(frame["user"], frame["item"], strict=True):
        found.setdefault(name, []).append(thing)
    return found


def _read(file: Path, have: Sequence[str], user: str | None, item: str | None, more: Sequence[str]) -> pl.DataFrame:
    """The columns "user" and "item", as text, and more."""
    import polars as pl

    names = {"user": _column(file, have, user, USER_COLUMNS), "item": _column(file, have, item, ITEM_COLUMNS)}
    for name in more:
        _column(file, have, name, ())
    frame = read_table(file, [*names.values(), *more])
    ids = [text_ids(frame[column], file).alias(role) for role, column in names.items()]
    frame = frame.select(*more).with_columns(*ids) if more else pl.DataFrame(ids)
    for role, column in names.items():
        if frame[role].has_nulls():
            row = int(frame[role].is_null().arg_max() or 0) + 1
            raise ValueError(
                f"{file}, row {row}: the {role} (column {column!r}) is missing; complete or remove the row"
            )
    return frame


def _column(file: Path, have: Sequence[str], given: str | None, usual: Sequence[str]) -> str:
    for name in (given,) if given is not None else usual:
        if name in have:
            return name
    wanted = given if given is not None else usual[0]
    raise ValueError(f"{file} has no column {wanted!r}{nearest(wanted, have)} (it has: {', '.join(have)})")


def _by_rank(file: Path, user: str, ranks: dict[str, float]) -> list[str]:
    items = sorted(ranks, key=ranks.__getitem__)
    for one, other in zip(items, items[1:], strict=False):
        if ranks[one] == ranks[other]:
            raise ValueError(f"{file}: items {one!r} and {other!r} of user {user!r} both have the rank {ranks[one]:g}")
    return items


def _json_lists(file: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for where, value in json_values(file):
        if isinstance(value, dict) and {"user", "items"} == value.keys():
            value = {str(value["user"]): value["items"]}
        if not isinstance(value, dict) or not all(isinstance(items, list) for items in value.values()):
            raise ValueError(f'{where}: expected {{"user": …, "items": […]}}, or lists of items by user')
        for user, items in value.items():
            if user in found:
                raise ValueError(f"{where}: user {user!r} has a list already; give one list a user")
            wrong = next((item for item in items if not isinstance(item, str | int) or isinstance(item, bool)), None)
            if wrong is not None or None in items:
                raise ValueError(
                    f"{where}: {wrong!r} in the list of user {user!r} is no item; an id is text or a whole number"
                )
            found[user] = [str(item) for item in items]
    return found
