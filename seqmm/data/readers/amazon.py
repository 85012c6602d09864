"""Amazon reviews and metadata of 2014 (McAuley et al.), 2018 (Ni et al.) and 2023 (Hou et al.).

Reviews are JSON lines, or "ratings only" CSV: 2014 user,item,rating,time and 2018 item,user,rating,time, both without
a header, 2023 user_id,parent_asin,rating,timestamp with one. Every file may end in .gz. Star ratings are ignored.
"""

from __future__ import annotations

import ast
import json
import re
from array import array
from collections.abc import Collection
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from seqmm.data.filtering import Log
from seqmm.data.readers.cells import well_formed
from seqmm.data.readers.content import lines
from seqmm.data.readers.table import column_names, read_log
from seqmm.data.readers.times import NAMES, PER_SECOND, latest, of_integers
from seqmm.names import TimeUnit

if TYPE_CHECKING:
    import polars as pl

Year = Literal[2014, 2018, 2023]
_SIZES = ("large", "hi_res", "thumb")
_BY = re.compile(r"\s*by\s+")
"""Before a brand, on a line of its own on the page the file was made of; some lines hold both."""
_PRODUCT = r"^(?:B[0-9A-Z]{9}|[0-9]{9}[0-9X])$"
"""What Amazon calls a product: an ASIN, or a book's ISBN. No reviewer is called so."""


class _Names(NamedTuple):
    user: str
    item: str
    time: str
    unit: TimeUnit
    header: tuple[str, ...] | None


_OLD: tuple[str, str, str, TimeUnit] = ("reviewerID", "asin", "unixReviewTime", "s")
_NAMES = {
    2014: _Names(*_OLD, ("reviewerID", "asin", "overall", "unixReviewTime")),
    2018: _Names(*_OLD, ("asin", "reviewerID", "overall", "unixReviewTime")),
    2023: _Names("user_id", "parent_asin", "timestamp", "ms", None),
}


def read_reviews(file: Path, year: Year) -> Log:
    """Reads a reviews file. Rows with a null or empty user, item or time are left out and counted.

    Raises:
        FileNotFoundError: no such file.
        ValueError: broken JSON, a missing field, something that is no time; with file, row and value.
    """
    names = _NAMES[year]
    if ".csv" in file.suffixes:
        _check_header(file, year)
        log = read_log(
            file,
            user=names.user,
            item=names.item,
            timestamp=names.time,
            header=names.header,
        )
        _check_columns(file, year, log)
        return log
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    user, item, time, incomplete = array("i"), array("i"), array("q"), 0
    for number, line in lines(file, f"read {file.name}"):
        record = _parse(line, number, file)
        for name in (names.user, names.item, names.time):
            if name not in record:
                have = ", ".join(record)
                raise ValueError(f"{file}, row {number}: no field {name!r} (it has: {have}); is this of {year}?")
        if any(
            record[name] in (None, "") or record[name] != record[name] for name in (names.user, names.item, names.time)
        ):
            incomplete += 1
            continue
        moment = _time(record[names.time], names, f"{file}, row {number}, field {names.time!r}")
        user.append(users.setdefault(str(record[names.user]), len(users)))
        item.append(items.setdefault(str(record[names.item]), len(items)))
        time.append(moment)
    if not user:
        raise ValueError(f"{file} holds no review with user, item and time")
    times = of_integers(np.frombuffer(time, np.int64), names.unit, file)
    return Log(
        np.frombuffer(user, np.int32),
        np.frombuffer(item, np.int32),
        list(users),
        list(items),
        timestamp=times.seconds,
        nanoseconds=times.nanoseconds,
        source=file.name,
        incomplete=incomplete,
        said={"times": f"field {names.time}, {times.said}"},
    )


def _check_header(file: Path, year: Year) -> None:
    """Raises ValueError for ratings with a header given as a year without one, and the other way round."""
    have = column_names(file)
    if year == 2023 and len(have) == 4 and not set(have) & {"user_id", "parent_asin", "timestamp"}:
        order = 2018 if re.fullmatch(_PRODUCT, have[0]) else 2014
        raise ValueError(
            f"{file} begins with {','.join(have)!r}, without a header: ratings of 2014 or 2018, not of 2023; "
            f"give their year (--year {order})"
        )
    if year != 2023 and {"user_id", "parent_asin"} <= set(have):
        raise ValueError(
            f"{file} has the header {','.join(have)!r} of 2023, not of {year}; give its year (--year 2023)"
        )


def _check_columns(file: Path, year: Year, log: Log) -> None:
    """Raises ValueError if users are called as products are, and items are not: the year whose columns are swapped."""
    import polars as pl

    users, items = (
        pl.Series(ids, dtype=pl.String).str.contains(_PRODUCT).mean() or 0.0 for ids in (log.user_ids, log.item_ids)
    )
    if users > 0.5 > items:  # type: ignore[operator]
        there = "user, item" if year == 2014 else "item, user"
        remedy = f"give that year (--year {2018 if year == 2014 else 2014})" if year != 2023 else "swap their names"
        raise ValueError(
            f"{file}: users and items are swapped: its users are called {log.user_ids[0]!r}, as products are, "
            f"its items {log.item_ids[0]!r}. Ratings of {year} have columns {there}, those of "
            f"{2018 if year == 2014 else 2014} the other way round; {remedy}"
        )


def _time(value: Any, names: _Names, where: str) -> int:
    """A time in the unit of the year's files."""
    try:
        moment = int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{where}: {value!r} is not a time; correct or remove it") from error
    if moment > latest() * PER_SECOND[names.unit]:
        unit = NAMES[names.unit]
        raise ValueError(f"{where}: {value!r} is not a time in {unit}; correct it, or is the file of another year?")
    if moment < 0:
        raise ValueError(f"{where}: {value!r} is not a time after 1970; correct or remove it")
    return moment


def read_metadata(file: Path, year: Year, wanted: Collection[str]) -> pl.DataFrame:
    """Reads what is known of the items in ``wanted``.

    Returns:
        Columns id, title, features (bullet points), description, brand, categories, price, images (urls); features,
        categories and images are lists of strings. Categories are those of the first path (2014 lists several).
        All texts are as in the file, a list of paragraphs on lines of its own; preparing cleans the short ones. An item
        listed twice has two rows.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_reviews`.
    """
    import polars as pl

    keep, key = frozenset(wanted), "parent_asin" if year == 2023 else "asin"
    rows: list[dict[str, object]] = []
    for number, line in lines(file, f"read {file.name}"):
        record = _parse(line, number, file)
        if key not in record:
            have = ", ".join(record)
            raise ValueError(f"{file}, row {number}: no field {key!r} (it has: {have}); is this metadata of {year}?")
        if str(record[key]) in keep:
            details = record.get("details")
            if isinstance(details, str):  # as the Hub's copy of 2023 has them
                record["details"] = _parse(details, number, file, ", field 'details'") if details else {}
            rows.append({"id": str(record[key])} | _describe(record, year))
    strings = pl.List(pl.String)
    lists = ("features", "categories", "images")
    columns = ("id", "title", "features", "description", "brand", "categories", "price", "images")
    return pl.DataFrame(rows, [(name, strings if name in lists else pl.String) for name in columns])


def _describe(record: dict[str, Any], year: Year) -> dict[str, object]:
    if year == 2014:
        bullets, categories, images = None, (record.get("categories") or [[]])[0], record.get("imUrl")
    elif year == 2018:
        bullets, categories = record.get("feature"), record.get("category")
        images = record.get("imageURLHighRes") or record.get("imageURL") or record.get("image")
    else:
        bullets, categories, images = record.get("features"), record.get("categories"), record.get("images") or []
        if isinstance(images, dict):  # as the Hub's viewer has them: a list for each size
            sizes = [images.get(size) or [] for size in _SIZES]
            images = [next(filter(None, urls), None) for urls in zip_longest(*sizes)]
        else:
            images = [next(filter(None, map(image.get, _SIZES)), None) for image in images]
    brand = " ".join(_strings((record.get("details") or {}).get("Brand") if year == 2023 else record.get("brand")))
    price = record.get("price")
    return {
        "title": " ".join(_strings(record.get("title"))),
        "features": _strings(bullets),
        "description": "\n".join(_strings(record.get("description"))),
        "brand": _BY.sub("by\n", brand, count=1) if year != 2023 and _BY.match(brand) else brand,
        "categories": _strings(categories),
        "price": "" if price in (None, "None") or price != price else str(price),
        "images": _strings(images),
    }


def _strings(value: object) -> list[str]:
    """A string, a list of strings, or nothing, as a list."""
    if isinstance(value, list):
        return [text for part in value for text in _strings(part)]
    return [well_formed(str(value))] if value and value == value else []  # NaN is how pandas writes nothing


def _parse(line: str, number: int, file: Path, field: str = "") -> dict[str, Any]:
    try:
        # the 2014 metadata are Python literals, not JSON
        record = ast.literal_eval(line.strip()) if line.lstrip().startswith("{'") else json.loads(line)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:  # nested a thousand times, too
        raise ValueError(
            f"{file}, row {number}{field}: not a JSON object ({error}); the file is damaged or of another kind"
        ) from error
    if not isinstance(record, dict):
        raise ValueError(f"{file}, row {number}{field}: {line[:40]!r} is not a JSON object")
    return record
