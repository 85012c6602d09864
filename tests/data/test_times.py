"""Times and order: read to the nanosecond, in the unit they have, or refused with what to say."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import seqmm
from seqmm.data.readers.amazon import read_reviews
from seqmm.data.readers.roles import Roles, looks_like_time, roles_of
from seqmm.data.readers.table import read_log
from seqmm.data.readers.times import Times, read_times

START = 1_600_000_000
USERS, ITEMS, LENGTH = 40, 20, 8


def moments(step: float = 60) -> list[tuple[str, str, float]]:
    """(user, item, seconds): user uN has eight of the items from iN on, so his last is i((N + 7) mod 20)."""
    return [
        (f"u{user}", f"i{(user + place) % ITEMS}", START + 100_000 * user + place * step)
        for user in range(USERS)
        for place in range(LENGTH)
    ]


def right(corpus: seqmm.Corpus) -> int:
    """Of how many users the test item is truly the last."""
    test = corpus.splits["test"]
    pairs = zip((corpus.user_ids[u] for u in test.user), (corpus.item_ids[i] for i in test.item), strict=True)
    return sum(item == f"i{(int(user[1:]) + LENGTH - 1) % ITEMS}" for user, item in pairs)


def prepared(times: list[Any] | pl.Series, **settings: Any) -> seqmm.Corpus:
    """Of all interactions, with a column of times, in another order than that of time."""
    rows = moments()
    frame = pl.DataFrame({"user_id": [row[0] for row in rows], "item_id": [row[1] for row in rows], "timestamp": times})
    return seqmm.prepare_corpus(frame.sample(fraction=1, shuffle=True, seed=5), k_core=0, **settings)


def read(*values: Any, dtype: Any = None, **how: Any) -> Times:
    column = pl.Series("at", list(values), dtype=dtype)
    return read_times(column, pl.Series(range(1, len(values) + 1)), "log.csv", **how)


def fine(times: Times) -> list[tuple[int, int]]:
    nanoseconds = np.zeros(len(times.seconds), int) if times.nanoseconds is None else times.nanoseconds
    return list(zip(times.seconds.tolist(), nanoseconds.tolist(), strict=True))


# -- full precision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("unit", "size", "step"), [("ms", 10**3, 0.1), ("us", 10**6, 0.0001), ("ns", 10**9, 1e-7)])
@pytest.mark.parametrize("written", ["integers", "text", "floats"])
@pytest.mark.parametrize("said", [True, False])
def test_clicks_within_a_second_are_in_order(unit: str, size: int, step: float, written: str, said: bool) -> None:
    """40 of 40, and what is stored are whole seconds."""
    times: list[Any] = [int(second) * size + round(second % 1 * size) for *_, second in moments(0)]
    times = [base + round(step * size) * (n % LENGTH) for n, base in enumerate(times)]
    if written == "floats" and unit == "ns":
        times = [base + n % LENGTH * 1000 for n, base in enumerate(times)]  # floats hold these to 256 ns
    times = {"integers": times, "text": list(map(str, times)), "floats": list(map(float, times))}[written]
    corpus = prepared(times, **({"time_unit": unit} if said else {}))
    assert right(corpus) == USERS and corpus.info["tie_share"] == 0.0
    assert corpus.splits["test"].timestamp.max() == START + 100_000 * (USERS - 1)
    known = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[unit]
    assert f"column timestamp, {known}{'' if said else ' (by their size)'}" in str(corpus.info["times"])
    assert ("exact to 256 of them" in str(corpus.info["times"])) == (written == "floats" and unit == "ns")


@pytest.mark.parametrize("written", ["1600000000.25", "iso", "iso zoned", "datetime", "datetime zoned", "1.60…e+09"])
def test_fractions_of_seconds_are_in_order(written: str) -> None:
    second = [START + 0.125 * (n % LENGTH) for n in range(USERS * LENGTH)]
    dates = [datetime.fromtimestamp(value, UTC) for value in second]
    column: Any = {
        "1600000000.25": [f"{value:.3f}" for value in second],
        "iso": [f"{date:%Y-%m-%dT%H:%M:%S}.{date.microsecond:06d}" for date in dates],
        "iso zoned": [(date + timedelta(hours=2)).strftime("%Y-%m-%d %H:%M:%S.%f+02:00") for date in dates],
        "datetime": pl.Series([date.replace(tzinfo=None) for date in dates], dtype=pl.Datetime("us")),
        "datetime zoned": pl.Series(dates, dtype=pl.Datetime("ns", "UTC")),
        "1.60…e+09": [f"{value:.12e}" for value in second],
    }[written]
    corpus = prepared(column)
    assert right(corpus) == USERS
    assert np.unique(np.concatenate([part.timestamp for part in corpus.splits.values()])).tolist() == [START]


def test_every_digit_counts() -> None:
    assert fine(read("1500000000.000000001", "1500000000.25", "1500000000")) == [
        (1_500_000_000, 1), (1_500_000_000, 250_000_000), (1_500_000_000, 0)]  # fmt: skip
    assert fine(read("1500000000123.456")) == [(1_500_000_000, 123_456_000)]
    assert fine(read(1_500_000_000_123_456_789)) == [(1_500_000_000, 123_456_789)]
    assert fine(read("2014-04-07T10:51:09.277Z", "2014-04-07T12:51:09.2770001+0200")) == [
        (1_396_867_869, 277_000_000), (1_396_867_869, 277_000_100)]  # fmt: skip
    assert fine(read(1_500_000_000.5, None, float("nan"))) == [(1_500_000_000, 500_000_000), (-1, 0), (-1, 0)]
    assert read(1_500_000_000, 1_600_000_000).nanoseconds is None


def test_whole_seconds_make_the_corpus_they_made() -> None:
    """In whatever unit they are written, and with the fingerprint of before."""
    seconds = [int(second) for *_, second in moments()]
    known = prepared(seconds).fingerprint()
    assert known == prepared([str(second) for second in seconds]).fingerprint()
    assert known == prepared([second * 1000 for second in seconds]).fingerprint()
    dates = [datetime.fromtimestamp(second, UTC) for second in seconds]
    assert known == prepared([f"{date:%Y-%m-%d %H:%M:%S}" for date in dates]).fingerprint()
    written = [f"{date:%d.%m.%Y %H:%M:%S}" for date in dates]
    assert known == prepared(written, time_format="%d.%m.%Y %H:%M:%S").fingerprint()
    assert known == "e2eb4d4eed793fbc5e3217e161c8dc59e35c86dab98d7f941472222de4c69d1c"


def test_reviews_of_2023_are_ordered_by_milliseconds(tmp_path: Path) -> None:
    lines = [f'{{"user_id": "U", "parent_asin": "P{n}", "timestamp": {START * 1000 + n}}}' for n in (2, 0, 1)]
    (tmp_path / "r.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "r.csv").write_text(
        "user_id,parent_asin,rating,timestamp\n" + "".join(f"U,P{n},5,{START * 1000 + n}\n" for n in (2, 0, 1))
    )
    for name in ("r.jsonl", "r.csv"):
        log = read_reviews(tmp_path / name, 2023)
        assert log.timestamp is not None and log.timestamp.tolist() == [START] * 3
        assert log.nanoseconds is not None and (log.nanoseconds // 10**6).tolist() == [2, 0, 1]
    (tmp_path / "old.jsonl").write_text(f'{{"user_id": "U", "parent_asin": "P", "timestamp": {START}}}\n')
    with pytest.raises(ValueError, match=r"old\.jsonl: as milliseconds every time is in 1970 .*another kind or year"):
        read_reviews(tmp_path / "old.jsonl", 2023)


def test_a_temporal_split_cuts_between_milliseconds() -> None:
    rows = [(user, item, START * 1000 + 10 * item + user) for user in range(10) for item in range(10)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    corpus = seqmm.prepare_corpus(frame, protocol="temporal", k_core=0)
    items = {name: {corpus.item_ids[item] for item in part.item} for name, part in corpus.splits.items()}
    assert items == {"train": set("01234567"), "validation": {"8"}, "test": {"9"}}


# -- ties --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("tie_order", ["seeded", "source"])
def test_an_order_column_breaks_ties(tie_order: str, by_name: bool) -> None:
    rows = moments()
    frame = pl.DataFrame({
        "user_id": [row[0] for row in rows], "item_id": [row[1] for row in rows],
        "timestamp": [f"2021-03-0{1 + n % LENGTH // 4}" for n in range(len(rows))],
        "position" if by_name else "step": [n % LENGTH for n in range(len(rows))],
    }).sample(fraction=1, shuffle=True, seed=1)  # fmt: skip
    names = {} if by_name else {"timestamp": "timestamp", "position": "step"}
    corpus = seqmm.prepare_corpus(frame, k_core=0, tie_order=tie_order, **names)  # type: ignore[arg-type]
    assert right(corpus) == USERS
    last = "by a seeded hash" if tie_order == "seeded" else "as in the source"
    assert corpus.info["order"] == f"timestamp, ties by column {'position' if by_name else 'step'}, then {last}"
    if by_name:
        assert "'position' as position (`position=none` leaves it out)" in str(corpus.info["taken_by_name"])
        off = seqmm.prepare_corpus(frame, k_core=0, position=None)
        assert right(off) < USERS and off.info["order"] == "timestamp, ties by a seeded hash"
        assert off.fingerprint() == seqmm.prepare_corpus(frame, k_core=0, position="none").fingerprint()
    else:
        assert "taken_by_name" not in corpus.info


def test_positions_alone_and_no_order_at_all() -> None:
    rows = moments()
    columns = {"user_id": [row[0] for row in rows], "item_id": [row[1] for row in rows]}
    ranked = seqmm.prepare_corpus(columns | {"position": [n % LENGTH for n in range(len(rows))]}, k_core=0)
    assert right(ranked) == USERS and ranked.info["order"] == "column position, ties by a seeded hash"
    unordered = seqmm.prepare_corpus(columns, k_core=0)
    assert unordered.protocol == "ratio" and str(unordered.info["order"]).startswith("none (no timestamp, no position)")


def test_rows_without_a_time_stand_where_their_position_says() -> None:
    frame = pl.DataFrame({"user_id": [0] * 4, "item_id": [0, 1, 2, 3], "position": [3, 2, 1, 0],
                          "timestamp": [START * 1000 + 900, None, START * 1000 + 100, None]})  # fmt: skip
    corpus = seqmm.prepare_corpus(frame, k_core=0)
    in_order = (*corpus.histories("test")[0], *corpus.targets("test")[0])
    assert [corpus.item_ids[item] for item in in_order] == list("3210")
    assert "a row without a timestamp has that of the row before it by position" in str(corpus.info["order"])


# -- which unit --------------------------------------------------------------------------------------------------------

SECONDS = [START, START + 60]


@pytest.mark.parametrize(
    ("values", "unit", "message"),
    [
        (SECONDS, "ms", r"column 'at': read as milliseconds, every time is in 1970 \(row 1: 1600000000 is 1970-01-19\)"
         r"; these are seconds \(`time_unit=s`\)"),
        (list(map(str, SECONDS)), "us", "read as microseconds, every time is in 1970 .*these are seconds"),
        ([s * 1000 for s in SECONDS], "ns", "every time is in 1970 .*these are milliseconds"),
        ([s * 1000 for s in SECONDS], "s", "row 1, column 'at': 1600000000000 .*the future; these are milliseconds"),
        ([s * 10**9 for s in SECONDS], "ms", "the future; these are nanoseconds"),
        ([18_000, 18_001], "s", "every time is in 1970"),
        ([18_000, 18_001], "ms", "every time is in 1970"),
        ([26_700_000, 26_700_001], "auto", "every time is in 1970 .*; no unit of s, ms, us, ns makes them times"),
        ([float(s) for s in SECONDS], "ms", "every time is in 1970"),
        ([START, START * 1000], "auto", r"row 1, column 'at': 1600000000 is not in milliseconds as the others are"),
        ([START * 1000, START], "ms", r"row 2, column 'at': 1600000000 is not in milliseconds as the others are"),
        ([START * 10**9, START * 1000], "auto", "row 2, .* is not in nanoseconds as the others are"),
        ([START, 9_999_999_999], "auto", r"row 2, column 'at': 9999999999 .*in the future"),
        ([START, int(time.time()) + 30 * 86400], "s", "row 2, .*in the future"),
        ([START, 10**25], "auto", "row 2, column 'at': 1e[+]25 is not a time"),
        ([str(START), "1" * 30], "auto", "row 2, .*is not a time of any unit"),
        ([START, -4], "auto", "row 2, column 'at': -4 is not a time after 1970"),
        ([str(START), "-0.5"], "auto", "row 2, column 'at': '-0.5' is not a time after 1970"),
        ([float(START), float("inf")], "auto", "row 2, column 'at': inf is not a time"),
        ([True, False], "auto", "column 'at' holds Boolean, which is no time"),
        ([timedelta(1)], "auto", "column 'at' holds Duration.*, which is no time"),
        ([[1], [2]], "auto", "column 'at' holds List.*, which is no time"),
    ],
)  # fmt: skip
def test_a_unit_that_cannot_be_is_refused(values: list[Any], unit: Any, message: str) -> None:
    if values[-1] == 10**25:  # no column holds it but as text or a float
        values = [float(value) for value in values]
    with pytest.raises(ValueError, match=message) as error:
        read(*values, unit=unit)
    assert str(error.value).startswith("log.csv") and "\n" not in str(error.value)


def test_what_is_implausible_of_dates_too() -> None:
    soon = datetime.now(UTC) + timedelta(days=30)
    for values, message in (
        (["2021-03-01", f"{soon:%Y-%m-%d}"], "row 2, .*in the future"),
        ([datetime(2021, 3, 1), soon.replace(tzinfo=None)], "row 2, .*in the future"),
        ([datetime(1938, 4, 24, 22, 13, 20), datetime(2021, 3, 1)], "row 1, column 'at': 1938-04-24 22:13:20 is not a"),
        (["1938-04-24 22:13:20", "2021-03-01"], "row 1, column 'at': '1938-04-24 22:13:20' is not a time after 1970"),
        ([datetime.fromtimestamp(START / 1e9, UTC)], "every time is in 1970 .*; if numbers were made dates, give"),
        (["1970-01-19 12:26:40", "1970-01-20"], "every time is in 1970"),
    ):
        with pytest.raises(ValueError, match=message):
            read(*values)
    assert read("2021-03-01", f"{datetime.now(UTC) + timedelta(hours=14):%Y-%m-%d %H:%M}").said.startswith("dates")


def test_a_count_is_an_order_without_days() -> None:
    """Small numbers of no unit; the card has no days of 1970."""
    times = read(1, 2, 3)
    assert times.seconds.tolist() == [1, 2, 3] and times.said == "a count from 1 to 3, no dates"
    assert read("44197.5", "44198").said == "a count from 44197 to 44198, no dates"  # a spreadsheet's days
    corpus = prepared([n % LENGTH for n in range(USERS * LENGTH)])
    assert right(corpus) == USERS and corpus.info["times"] == "column timestamp, a count from 0 to 7, no dates"
    assert read(0, START).said == "seconds (by their size), 1970-01-01 to 2020-09-13, 1 of them in 1970"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            ["1.6E+09", "1.6E+09"],
            "row 1, column 'at': '1.6E[+]09' is not a time to the second: its last digits",
        ),
        (["1.60003E+12", "1.60003E+12"], "its last digits were lost"),
        ([1_600_000_000.0 + 128 * n for n in (0, 3, 5, 8)], "multiples of 128, as 32-bit floats make them"),
        (["1600000128.0", "1600001024.0", "1600025472.0"], "multiples of 128"),
    ],
)
def test_times_that_lost_their_digits_are_refused(values: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(*values)


def test_whole_days_and_shortest_forms_lost_nothing() -> None:
    assert read("1.6094592e+18", "1.6095456e+18").seconds.tolist() == [1_609_459_200, 1_609_545_600]
    assert read("1.600005431e+09", "1.6e+09").seconds.tolist() == [1_600_005_431, START]
    assert len(read(*(1_609_459_200.0 + 86_400 * day for day in range(5))).seconds) == 5


# -- day and month -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "forms"),
    [
        (["1/6/2021", "2/1/2021"], ["%m/%d/%Y", "%d/%m/%Y"]),
        (["1/6/2021", "2/25/2021"], ["%m/%d/%Y"]),  # that one fits is no reason to read it in silence
        (["25.12.2020 10:05", "01.02.2021 09:30"], ["%d.%m.%Y %H:%M"]),
        (["1/6/21 3:05 PM", "2/7/21 11:59 AM"], ["%m/%d/%y %I:%M %p", "%d/%m/%y %I:%M %p"]),
        (["09 13, 2009", "10 1, 2009"], ["%m %d, %Y"]),
        (["Mon Apr 06 22:19:45 +0000 2009"], ["%a %b %d %H:%M:%S %z %Y"]),
        (["05 Jan 2021", "06 Feb 2021"], ["%d %b %Y"]),
        (["2021-03-01", "1/6/2021"], ["%m/%d/%Y", "%d/%m/%Y"]),  # only some
        (["01022021", "02032021"], ["%d%m%Y", "%m%d%Y"]),
        (["2021-03-01 10:00 PM", "2021-03-02 09:30 AM"], ["%Y-%m-%d %I:%M %p"]),
        (["21-03-01", "20-12-31"], ["%y-%m-%d"]),
        (["1/6/2021 10:00:00 MESZ"], ["%d.%m.%Y %H:%M"]),  # nothing fits: an example
    ],
)
def test_a_form_of_dates_is_asked_for(values: list[str], forms: list[str]) -> None:
    with pytest.raises(ValueError, match="which number is the day and which the month is not guessed") as error:
        read(*values)
    said = str(error.value)
    assert " or ".join(f"`time_format={form!r}`" for form in forms) in said and re.search(
        r"row \d, column 'at': '", said
    )


@pytest.mark.parametrize(
    ("values", "form"),
    [
        ([20_170_805, 20_100_105], "%Y%m%d"),
        (["20170805", "20100105"], "%Y%m%d"),
        ([201_708_051_015, 201_001_052_359], "%Y%m%d%H%M"),
        ([20_170_805_101_500, 20_100_105_235_959], "%Y%m%d%H%M%S"),
        ([2_017_080_510, 2_010_010_523], "%Y%m%d%H"),
    ],
)
@pytest.mark.parametrize("unit", ["auto", "s", "ms"])
def test_packed_dates_are_no_seconds(values: list[Any], form: str, unit: Any) -> None:
    with pytest.raises(ValueError, match=f"looks like a date: say so .`time_format={form}`"):
        read(*values, unit=unit)
    if form != "%Y%m%d%H":
        first, second = read(*values, form=form).seconds
        assert first - second == pytest.approx(2769 * 86_400, abs=86_400)  # days


def test_a_form_that_is_said() -> None:
    assert fine(read("1/6/2021", form="%m/%d/%Y")) == [(1_609_891_200, 0)]
    assert fine(read("1/6/2021", form="%d/%m/%Y")) == [(1_622_505_600, 0)]
    assert fine(read("6.1.2021 10:00:00.25", form="%d.%m.%Y %H:%M:%S.%f")) == [(1_609_927_200, 250_000_000)]
    assert fine(read("Wed Jan 06 12:00:00 +0200 2021", form="%a %b %d %H:%M:%S %z %Y")) == [(1_609_927_200, 0)]
    assert fine(read(20_210_106.0, None, form="%Y%m%d")) == [(1_609_891_200, 0), (-1, 0)]
    for values, form, message in (
        (
            ["1/6/2021", "2/25/2021"],
            "%d/%m/%Y",
            "row 2, column 'at': '2/25/2021' is not a date .*; %m/%d/%Y would fit",
        ),
        (["1/6/21"], "%m/%d/%Y", "'1/6/21' is not a time after 1970"),
        (["1/6/2021"], "m/d/y", "'m/d/y' is no form of dates"),
        (["1/6/2021 10"], "%m/%d/%Y", "row 1, .* is not a date written"),
        (["1/6/1970"], "%m/%d/%Y", "every time is in 1970"),
    ):
        with pytest.raises(ValueError, match=message):
            read(*values, form=form)
    with pytest.raises(ValueError, match="leave out `time_unit` or `time_format`"):
        read("1/6/2021", form="%m/%d/%Y", unit="s")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1600000000", "2021-03-01"], r"row 2, column 'at': '2021-03-01' is not a time: it stands beside numbers"),
        (
            ["2021-03-01", "1600000000", "1600000001"],
            "row 1, .*'2021-03-01' is not a time: it stands beside numbers",
        ),
        (["2021-03-01 10:00:00+02:00", "2021-03-01 10:00:00"], "row 2, .*clear: it has no time zone, .* has one"),
        (["2021-03-01 10:00Z", "2021-03-01"], "row 2, .*it has no time zone"),
        (["2021-02-30", "2021-03-01"], "row 1, .*'2021-02-30' is not a day and time of the calendar"),
        (["2021-03-01 25:00"], "not a day and time of the calendar"),
        (["2021-03-01 10:00 CET"], "row 1, column 'at'"),
        (["1,600,000,000"], "row 1, column 'at': '1,600,000,000'"),
        (["soon"], "row 1, column 'at': 'soon' is not a time"),
        (["2021-03-01", "yesterday"], "row 2, column 'at': 'yesterday' is not a time"),
        (["x" * 500], "row 1, column 'at': 'x{50,56}…' is not a time"),
    ],
)
def test_what_is_no_time(values: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(*values)


def test_time_zones_are_honoured() -> None:
    same = ["2021-03-01T10:00:00Z", "2021-03-01 12:00+02:00", "2021-03-01 02:00:00-0800", "2021-03-01 15:30:00 +05:30",
            "2021-03-01 10:00 UTC", "2021-03-01 10:00:00+00"]  # fmt: skip
    assert set(read(*same).seconds.tolist()) == {1_614_592_800}
    assert read("2021/3/1", "2021.03.01", " 2021-03-01 ").seconds.tolist() == [1_614_556_800] * 3


# -- which column ------------------------------------------------------------------------------------------------------


def test_columns_that_were_taken_by_name_or_left() -> None:
    have = ["user_id", "item_id", "Timestamp", "Position", "split"]
    roles = roles_of(have, "t")
    assert dict(roles) == {"user": "user_id", "item": "item_id", "timestamp": "Timestamp", "position": "Position",
                           "split": "split"}  # fmt: skip
    assert roles.by_name == ["timestamp", "position", "split"] and not roles.unread
    assert "'split' as split (`split=none` leaves it out)" in roles.said()["taken_by_name"]
    roles = roles_of(have, "t", timestamp="Timestamp", position=None, split="None")
    assert dict(roles) == {"user": "user_id", "item": "item_id", "timestamp": "Timestamp"} and not roles.said()
    both = roles_of(["user_id", "item_id", "Timestamp", "TIMESTAMP"], "t")
    assert "timestamp" not in both and both.unread == ["Timestamp", "TIMESTAMP"]
    assert roles_of([*have, "timestamp"], "t")["timestamp"] == "timestamp"
    with pytest.raises(ValueError, match="t has no column 'at'"):
        roles_of(have, "t", timestamp="at")
    assert roles_of(["item_id", "timestamp"], "t", user="timestamp", item="item_id").by_name == []
    assert isinstance(roles, Roles)


@pytest.mark.parametrize("header", ["time", "date", "unixReviewTime", "created_at", "time:float", "Event Time", "ts"])
def test_a_column_of_times_that_was_not_read_is_named(header: str, tmp_path: Path) -> None:
    rows = moments()
    lines = [f"{user},{item},{int(second)}" for user, item, second in rows]
    (tmp_path / "a.csv").write_text("\n".join([f"user_id,item_id,{header}", *lines]) + "\n")
    log = read_log(tmp_path / "a.csv")
    assert log.timestamp is None and log.said["not_read"].startswith(f"column {header!r} looks like times")
    corpus = seqmm.prepare_corpus(tmp_path / "a.csv", k_core=0)
    assert corpus.protocol == "ratio" and corpus.info["not_read"] == log.said["not_read"]
    with pytest.raises(ValueError, match=f"needs an order.*`timestamp=.?{header}.?` orders by it"):
        seqmm.prepare_corpus(tmp_path / "a.csv", k_core=0, protocol="leave_one_out")
    assert right(seqmm.prepare_corpus(tmp_path / "a.csv", k_core=0, timestamp=header)) == USERS
    assert "not_read" not in seqmm.prepare_corpus(tmp_path / "a.csv", k_core=0, timestamp=None).info


def test_names_that_are_no_times() -> None:
    assert not any(map(looks_like_time, ["user_id", "rating", "title", "update", "lifetime_id", "timer", "candidate"]))
