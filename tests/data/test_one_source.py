"""One corpus, one source: what may share a folder, what is refused, and what --overwrite replaces."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import seqmm
from seqmm.building.command import prepare_command
from seqmm.data.filtering import Log, digest_of
from seqmm.data.synthetic import synthetic_corpus
from seqmm.flags import in_flags

START = 1_600_000_000
Row = tuple[str, str, int]


def rows(extra: int = 0, shift: int = 0) -> list[Row]:
    """Eight of 20 items for each of 40 users; ``extra`` users have one more, later."""
    known = [(f"u{u}", f"i{(u + n) % 20}", START + 1000 * u + 60 * n + shift) for u in range(40) for n in range(8)]
    return known + [(f"u{u}", f"i{(u + 9) % 20}", START + 100_000 + u) for u in range(extra)]


def write(path: Path, lines: list[Row], separator: str = ",") -> Path:
    text = "\n".join(separator.join(map(str, row)) for row in [("user_id", "item_id", "timestamp"), *lines])
    path.write_text(text + "\n")
    return path


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command in this process, into the folder c: (what it printed, or the error as a flag user reads it)."""

    def command(file: Path, *flags: object) -> str:
        words = ["table", "--interactions", file, "--k-core", 0, "--output", tmp_path / "c", *flags]
        monkeypatch.setattr(sys, "argv", ["prepare.py", *map(str, words)])
        try:
            prepare_command()
        except ValueError as error:
            return f"error: {in_flags(str(error))}"
        return capsys.readouterr().out

    return command


def protocols(tmp_path: Path) -> dict[str, dict]:
    return json.loads((tmp_path / "c" / "corpus.json").read_text())["protocols"]


def test_the_same_rows_take_another_protocol_whatever_the_file_is(tmp_path: Path, prepare) -> None:
    prepare(write(tmp_path / "old.csv", rows()), "--protocols", "leave_one_out")
    said = prepare(write(tmp_path / "copy.tsv", rows(), "\t"), "--protocols", "ratio")
    assert not said.startswith("error") and set(protocols(tmp_path)) == {"leave_one_out", "ratio"}
    frame = pl.DataFrame(rows(), schema=["user_id", "item_id", "timestamp"], orient="row")
    log = seqmm.SourceData.of(frame).log
    digests = {about["info"]["source_digest"] for about in protocols(tmp_path).values()}
    assert digests == {digest_of(log)}
    milliseconds = frame.with_columns(pl.col("timestamp") * 1000)  # the same moments
    assert digest_of(seqmm.SourceData.of(milliseconds).log) == digest_of(log)


@pytest.mark.parametrize(
    ("newer", "why"),
    [
        (rows(extra=40), "320 of old.csv"),  # more rows of the same users and items
        (rows(shift=1), "ids, times and order of the rows"),  # other times in the same order
        (rows()[1:] + rows()[:1], "320 of new.csv"),  # another order in the file: other ties, other numbers
        ([*rows()[:-1], (*rows()[-1][:2], START + 10**6)], "320 of new.csv"),  # one time
        ([*rows(), ("u99", "i0", START)], "321 of new.csv"),  # a user whom a k-core would drop
    ],
)
@pytest.mark.parametrize("protocol", ["ratio", "leave_one_out", "temporal"])
def test_another_log_is_refused_and_nothing_is_changed(tmp_path: Path, prepare, newer, why: str, protocol: str) -> None:
    prepare(write(tmp_path / "old.csv", rows()), "--protocols", "leave_one_out")
    before = {file: file.read_bytes() for file in sorted((tmp_path / "c").rglob("*")) if file.is_file()}
    new = write(tmp_path / "new.csv", newer)
    said = prepare(new, "--protocols", protocol)
    assert said.startswith("error: ") and "holds another corpus: its protocol 'leave_one_out' was prepared from" in said
    assert why in said and "--overwrite True" in said and "\n" not in said
    assert before == {file: file.read_bytes() for file in sorted((tmp_path / "c").rglob("*")) if file.is_file()}
    if protocol == "temporal":
        return  # whose splits are empty without a k-core
    with pytest.raises(ValueError, match="holds another corpus.*`overwrite=True`"):
        seqmm.prepare_corpus(new, k_core=0, protocol=protocol, output=tmp_path / "c")  # type: ignore[arg-type]


def test_a_log_that_the_k_core_makes_equal_is_another_log(tmp_path: Path, prepare) -> None:
    prepare(write(tmp_path / "old.csv", rows()), "--protocols", "leave_one_out", "--k-core", 5)
    more = write(tmp_path / "new.csv", [*rows(), ("u99", "i0", START)])
    assert "was prepared from other interactions" in prepare(more, "--protocols", "ratio", "--k-core", 5)


@pytest.mark.parametrize("python", [True, False])
def test_overwriting_replaces_the_folder_as_a_whole(tmp_path: Path, prepare, python: bool) -> None:
    np.save(tmp_path / "v.npy", np.ones((20, 3)))
    items = tmp_path / "items.csv"
    items.write_text("item_id,title,brand\n" + "".join(f"i{n},Thing {n},B{n % 3}\n" for n in range(20)))
    flags = ("--items", items, "--tags", "brand", "--feature", f"image={tmp_path / 'v.npy'}")
    prepare(write(tmp_path / "old.csv", rows()), *flags)
    assert set(protocols(tmp_path)) == {"leave_one_out", "ratio"} and (tmp_path / "c" / "image").is_dir()
    new = write(tmp_path / "new.csv", rows(extra=40))
    if python:
        seqmm.prepare_corpus(new, k_core=0, protocol="ratio", output=tmp_path / "c", overwrite=True)
    else:
        prepare(new, "--protocols", "ratio", "--overwrite", True)
    assert set(protocols(tmp_path)) == {"ratio"}
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        "README.md", "corpus.json", "items", "ratio", "users"]  # fmt: skip
    whole = seqmm.Corpus.load(tmp_path / "c", protocol="ratio")
    assert sum(map(len, whole.splits.values())) == 360 and not whole.titles
    assert "leave_one_out" not in (tmp_path / "c" / "README.md").read_text()


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--seed", 1), "seed is 1, was 0"),
        (("--index-order", "source"), "index_order is 'source', was 'permuted'"),
        (("--tie-order", "source"), "tie_order is 'source', was 'seeded'"),
        (("--duplicates", "last"), "duplicates is 'last', was 'first'"),
        (("--duplicates", "keep"), "duplicates is 'keep', was 'first'"),
        (("--timestamp", "none"), "was prepared from other interactions"),
        (("--k-core", 2), "k_core is 2, was 0"),
    ],
)
def test_another_treatment_of_the_same_rows_is_refused(tmp_path: Path, prepare, flags, why: str) -> None:
    known = [(user, item, second // 600 * 600) for user, item, second in rows()]  # ties
    again = [("u0", "i0", START + 10**6 + n) for n in range(3)]
    file = write(tmp_path / "log.csv", [*known, *again, ("u1", "i9", START), ("u99", "i0", START)])
    prepare(file, "--protocols", "leave_one_out")
    said = prepare(file, "--protocols", "ratio", *flags)
    assert said.startswith("error: ") and "holds another corpus" in said and why in said
    assert set(protocols(tmp_path)) == {"leave_one_out"}
    assert not prepare(file, "--protocols", "ratio", "--validation", 0.2).startswith("error")  # of temporal and cold


def test_a_treatment_without_effect_may_differ(tmp_path: Path, prepare) -> None:
    file = write(tmp_path / "log.csv", rows())
    prepare(file, "--protocols", "leave_one_out")
    assert not prepare(file, "--protocols", "ratio", "--k-core", 5, "--tie-order", "source").startswith("error")


ITEMS = [{"item_id": f"i{n}", "title": f"Thing {n}", "brand": f"B{n % 3}"} for n in range(20)]


@pytest.mark.parametrize(
    ("items", "flags", "why"),
    [
        ([item | {"title": item["title"].upper()} for item in ITEMS], (), "column 'title' of item"),
        ([item | {"colour": "red"} for item in ITEMS], (), "has no column 'colour'"),
        (ITEMS[:-1], (), "column 'title' of item"),
        ([item | {"brand": "B9"} for item in ITEMS], ("--tags", "brand"), "column 'brand' of item"),
        (ITEMS, ("--feature", "image=other.npy"), "feature set 'image' of other values"),
        (ITEMS, ("--feature", "image=wide.npy"), "feature set 'image' of other values"),
    ],
)
def test_another_items_table_or_other_features_are_refused(
    tmp_path: Path, prepare, monkeypatch: pytest.MonkeyPatch, items, flags, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, shape in (("v", (20, 3)), ("other", (20, 3)), ("wide", (20, 4))):
        np.save(f"{name}.npy", np.full(shape, len(name), np.float32))
    for name, table in (("items", ITEMS), ("new", items)):
        pl.DataFrame(table).write_csv(f"{name}.csv")
    file = write(tmp_path / "log.csv", rows())
    prepare(file, "--protocols", "leave_one_out", "--items", "items.csv", "--tags", "brand", "--feature", "image=v.npy")
    said = prepare(file, "--protocols", "ratio", "--items", "new.csv", *flags)
    assert said.startswith("error: ") and why in said and "--overwrite True" in said
    assert set(protocols(tmp_path)) == {"leave_one_out"}
    same = ("--protocols", "ratio", "--items", "items.csv", "--tags", "brand", "--feature", "image=v.npy")
    assert not prepare(file, *same).startswith("error")


def test_interactions_alone_take_another_protocol_and_titles_stay(tmp_path: Path, prepare) -> None:
    pl.DataFrame(ITEMS).write_csv(tmp_path / "items.csv")
    file = write(tmp_path / "log.csv", rows())
    prepare(file, "--protocols", "leave_one_out", "--items", tmp_path / "items.csv")
    assert not prepare(file, "--protocols", "ratio").startswith("error")
    assert seqmm.Corpus.load(tmp_path / "c", protocol="ratio").titles[0].startswith("Thing ")


def test_an_items_table_cannot_come_later(tmp_path: Path, prepare) -> None:
    pl.DataFrame(ITEMS).write_csv(tmp_path / "items.csv")
    file = write(tmp_path / "log.csv", rows())
    prepare(file, "--protocols", "leave_one_out")
    said = prepare(file, "--protocols", "ratio", "--items", tmp_path / "items.csv")
    assert "items.parquet has no column 'title'" in said and "--overwrite True" in said


def test_corpora_in_memory_obey_too(tmp_path: Path) -> None:
    synthetic_corpus(40, 30).save(tmp_path / "c")
    with pytest.raises(ValueError, match="interactions of its protocol 'leave_one_out', or their order, are not those"):
        other = synthetic_corpus(40, 30, protocol="ratio", seed=1)
        replace(other, titles=()).save(tmp_path / "c")
    train = synthetic_corpus(40, 30, protocol="ratio")
    late = {name: replace(part, timestamp=part.timestamp + 1) for name, part in train.splits.items()}  # type: ignore[operator]
    with pytest.raises(ValueError, match="or their order, are not those"):
        replace(train, splits=late).save(tmp_path / "c")
    with pytest.raises(ValueError, match="column 'made' of item 0|has no column 'made'"):
        train.save(tmp_path / "c", item_columns={"made": ["x"] * 30})
    train.save(tmp_path / "c")
    assert seqmm.Corpus.load(tmp_path / "c", protocol="ratio").fingerprint() == train.fingerprint()


def test_what_the_digest_covers() -> None:
    def log(**changes) -> str:
        whole = {"user": np.array([0, 0, 1]), "item": np.array([0, 1, 1]), "user_ids": ["a", "b"],
                 "item_ids": ["x", "y"], "timestamp": np.array([5, 6, 7])} | changes  # fmt: skip
        return digest_of(Log(**whole))  # type: ignore[arg-type]

    others = [
        log(user=np.array([0, 1, 1])),
        log(item=np.array([1, 1, 1])),
        log(user_ids=["a", "c"]),
        log(item_ids=["x", "z"]),
        log(user_ids=["a", "bx"], item_ids=["", "y"]),
        log(timestamp=np.array([5, 6, 8])),
        log(timestamp=None),
        log(nanoseconds=np.array([0, 0, 1])),
        log(position=np.array([0, 1, 0])),
    ]
    assert len({log(), *others}) == 1 + len(others)
    assert log() == log(
        label=np.array([0, 1, 2]), source="b.csv", nanoseconds=np.zeros(3, int), user=np.array([0, 0, 1], np.int32)
    )
