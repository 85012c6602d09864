"""The driver: shards, ranks, interruption, filling; with an extractor whose vectors can be told by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from seqmm.data.corpus import Corpus
from seqmm.data.interactions import Interactions
from seqmm.data.loading import load_corpus
from seqmm.data.store import read_record
from seqmm.data.synthetic import synthetic_corpus
from seqmm.features import extract as module
from seqmm.features.extract import extract
from seqmm.features.extractor import Extractor, Found
from seqmm.features.readers import items
from seqmm.features.readers.items import item_shards


@dataclass
class Letters(Extractor):
    """Counts of a, b, c in the item's text; nothing for an empty text."""

    kind: str = "dense"
    stop_after: int = 10**9
    dim: int = 3
    columns: tuple[str, ...] = ("words",)
    provenance: dict[str, str] = field(default_factory=lambda: {"encoder": "letters"})
    source: dict[str, str] = field(default_factory=dict)
    transform: object = None
    calls: int = 0

    def __call__(self, rows, advance):
        self.calls += 1
        if self.calls > self.stop_after:
            raise KeyboardInterrupt
        out = []
        for row in rows:
            lines = [line for line in row["words"].split("\n") if line]
            vectors = np.array([[line.count(letter) for letter in "abc"] for line in lines], np.float32).reshape(-1, 3)
            out.append(Found(vectors, "" if lines else f"no text: {row['id']}"))
            advance(1)
        return out


def texts(lines: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [
        ""
        if row % 7 == 3
        else "\n".join("".join(rng.choice(list("abcd"), 9)) for _ in range(rng.integers(1, lines + 1)))
        for row in range(60)
    ]


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """60 items in shards of 16, in a table whose row groups do not fit them."""
    for place in (module, items):
        monkeypatch.setattr(place, "SHARD", 16)
    made = synthetic_corpus(num_users=40, num_items=60, seed=0)
    made = replace(made, features={}, item_ids=tuple(f"i{row}" for row in range(60)))

    def save(name: str, lines: int = 1):
        folder = tmp_path / name
        made.save(folder, item_columns={"words": texts(lines)})
        return folder

    return save


def files(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*"))}


def test_dense_rows_missing_ones_filled_and_everything_counted(corpus):
    folder = corpus("a")
    report = extract(folder, "letters", Letters())
    loaded = Corpus.load(folder, protocol="leave_one_out", features=["letters"]).features["letters"]
    expected = np.array([[text.count(letter) for letter in "abc"] for text in texts(1)], np.float32)
    missing = np.array([not text for text in texts(1)])
    expected[missing] = expected[~missing].mean(0)
    np.testing.assert_allclose(loaded.values, expected, rtol=1e-6)
    assert loaded.missing is not None and (loaded.missing == missing).all()
    assert report.notes == {"no text": missing.sum()} and report.done == 60 and not report.skipped
    about = json.loads((folder / "letters" / "features.json").read_text())
    assert about["notes"] == report.notes and about["examples"]["no text"][0] == "i3: i3"
    assert not (folder / ".extract").exists()
    card = (folder / "README.md").read_text()
    assert "letters" in card and f"no text: {missing.sum()}" in card


def test_ragged_rows_keep_their_items(corpus):
    folder = corpus("a", lines=3)
    extract(folder, "letters", Letters("ragged"))
    loaded = Corpus.load(folder, protocol="leave_one_out", features=["letters"]).features["letters"]
    for row, text in enumerate(texts(3)):
        lines = [line for line in text.split("\n") if line]
        wanted = np.array([[line.count(letter) for letter in "abc"] for line in lines], np.float32).reshape(-1, 3)
        assert (loaded.values[loaded.offsets[row] : loaded.offsets[row + 1]] == wanted).all(), row


@pytest.mark.parametrize("kind", ["dense", "ragged"])
def test_three_ranks_and_an_interrupted_run_write_the_bytes_of_one(corpus, kind):
    whole, ranks, stopped = corpus("whole", 3), corpus("ranks", 3), corpus("stopped", 3)
    if kind == "dense":
        whole, ranks, stopped = corpus("w1"), corpus("r1"), corpus("s1")
    extract(whole, "letters", Letters(kind))
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(extract, ranks, "letters", Letters(kind), rank=rank, world=3) for rank in range(3)]
        assert [job.result().done for job in jobs] == [28, 16, 16]
    for shards in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            extract(stopped, "letters", Letters(kind, stop_after=shards))
        assert not (stopped / "letters").exists()
    last = Letters(kind)
    assert extract(stopped, "letters", last).done == 12 and last.calls == 1  # three shards of four were there
    assert files(whole / "letters") == files(ranks / "letters") == files(stopped / "letters")


def test_a_damaged_shard_is_made_again(corpus):
    folder, other = corpus("a"), corpus("b")
    with pytest.raises(KeyboardInterrupt):
        extract(folder, "letters", Letters(stop_after=2))
    shard = folder / ".extract" / "letters" / "000001.parquet"
    shard.write_bytes(shard.read_bytes()[:100])
    assert extract(folder, "letters", Letters()).done == 44
    extract(other, "letters", Letters())
    assert files(folder / "letters") == files(other / "letters")


def test_a_process_waits_for_the_first_one_however_late(corpus, monkeypatch):
    """The first one may be at work on another set, and may find nothing to wait for: all shards are there, or its own
    is the only one."""
    for place in (module, items):
        monkeypatch.setattr(place, "SHARD", 64)
    for number in range(5):
        folder = corpus(f"a{number}")
        with ThreadPoolExecutor(1) as pool:
            second = pool.submit(extract, folder, "letters", Letters(), rank=1, world=2, overwrite=bool(number % 2))
            time.sleep(0.05 * number)
            assert not second.done()
            extract(folder, "letters", Letters(), world=2)
            report = second.result(timeout=20)
        assert report.done == 0 and report.line()
        assert extract(folder, "letters", Letters(), rank=1, world=2, overwrite=True).skipped  # later than the end
        assert not (folder / ".extract").exists()


def test_a_damaged_shard_of_another_process_is_waited_for(corpus):
    folder, other = corpus("a"), corpus("b")
    with pytest.raises(KeyboardInterrupt):
        extract(folder, "letters", Letters(stop_after=3))
    shard = folder / ".extract" / "letters" / "000001.parquet"
    whole = shard.read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little")
    shard.write_bytes(whole[: -8 - footer] + b"\xff" * footer + whole[-8:])
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(extract, folder, "letters", Letters(), world=2)
        time.sleep(0.2)
        assert extract(folder, "letters", Letters(), rank=1, world=2).done == 16 + 12
        assert first.result(timeout=20).done == 0
    extract(other, "letters", Letters())
    assert files(folder / "letters") == files(other / "letters")


def test_processes_that_read_other_things_are_refused(corpus):
    folder = corpus("a")
    with pytest.raises(KeyboardInterrupt):
        extract(folder, "letters", Letters(stop_after=1), world=2)
    with pytest.raises(ValueError, match="other settings: source .was , is files: x."):
        extract(folder, "letters", Letters(source={"files": "x"}), rank=1, world=2)


def test_stopped_between_the_set_and_the_card(corpus, monkeypatch):
    folder = corpus("a")

    def stop(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_card", stop)
        with pytest.raises(KeyboardInterrupt):
            extract(folder, "letters", Letters())
    assert "letters" not in (folder / "README.md").read_text()
    (folder / ".letters.1.tmp").mkdir()  # what is left of a run that was killed while it wrote the set
    assert extract(folder, "letters", Letters()).skipped
    assert "letters" in (folder / "README.md").read_text() and not (folder / ".extract").exists()
    assert not (folder / ".letters.1.tmp").exists()


def test_stopped_while_the_shards_go(corpus, monkeypatch):
    """The plan goes last, so that the next run knows whose the rest is; and then the empty folders."""
    folder = corpus("a")
    work = folder / ".extract" / "letters"

    def stop(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("seqmm.features.shards.remove", stop)
        with pytest.raises(KeyboardInterrupt):
            extract(folder, "letters", Letters())
    assert (work / "plan.json").is_file() and any(work.glob("*.parquet"))
    assert extract(folder, "letters", Letters()).skipped
    assert not (folder / ".extract").exists()
    work.mkdir(parents=True)
    assert extract(folder, "letters", Letters()).skipped
    assert not (folder / ".extract").exists()


def test_a_set_that_was_moved_aside_is_there_again(corpus):
    folder = corpus("a")
    extract(folder, "letters", Letters())
    (folder / "letters").rename(folder / f".letters.{2**22 + 1}.old")
    assert "letters" in Corpus.load(folder, features=["letters"]).features
    folder.rename(folder.with_name(f".{folder.name}.{2**22 + 1}.old"))
    assert "letters" in load_corpus(folder, features=["letters"]).features


def test_what_is_finished_is_skipped_and_what_was_made_otherwise_is_refused(corpus):
    folder = corpus("a")
    extract(folder, "letters", Letters())
    again = Letters()
    assert extract(folder, "letters", again).skipped and not again.calls
    other = Letters(provenance={"encoder": "other"})
    with pytest.raises(ValueError, match="encoder: letters there, other now.*`overwrite=True`"):
        extract(folder, "letters", other)
    extract(folder, "letters", other, overwrite=True)
    assert "other" in (folder / "letters" / "features.json").read_text()
    with pytest.raises(KeyboardInterrupt):
        extract(folder, "second", Letters(stop_after=1))
    with pytest.raises(ValueError, match="interrupted run with other settings: source .was , is files: x."):
        extract(folder, "second", Letters(source={"files": "x"}))
    with pytest.raises(ValueError, match="cannot be called 'items'"):
        extract(folder, "items", Letters())
    with pytest.raises(ValueError, match="no column 'text'; it has: item, id, "):
        extract(folder, "third", Letters(columns=("text",)))


def test_half_precision_storage_is_read_as_float32(corpus):
    folder = corpus("a")
    extract(folder, "letters", Letters())
    extract(folder, "half", Letters(), dtype="float16")
    loaded = Corpus.load(folder, protocol="leave_one_out", features=["letters", "half"]).features
    assert loaded["half"].values.dtype == np.float32
    np.testing.assert_allclose(loaded["half"].values, loaded["letters"].values, rtol=1e-3)
    assert (folder / "half").stat().st_size and sum(
        f.stat().st_size for f in (folder / "half").glob("*.parquet")
    ) < sum(f.stat().st_size for f in (folder / "letters").glob("*.parquet"))


def test_what_half_precision_cannot_hold_is_refused_and_the_shards_stay(corpus):
    class Large(Letters):
        def __call__(self, rows, advance):
            return [replace(found, vectors=found.vectors * 30_000) for found in super().__call__(rows, advance)]

    folder = corpus("a")
    with pytest.raises(ValueError, match=r"items from 0: numbers from 0 to 1.* float16 holds .* as float32"):
        extract(folder, "letters", Large(), dtype="float16")
    assert not (folder / "letters").exists()
    again = Large()
    assert extract(folder, "letters", again).done == 0 and again.calls == 0
    assert Corpus.load(folder, features=["letters"]).features["letters"].values.max() > 65_504


def test_no_vector_at_all_and_not_finite_are_errors(corpus):
    class Nothing(Letters):
        def __call__(self, rows, advance):
            return [Found(np.zeros((0, 3), np.float32), "no file") for _ in rows]

    class Broken(Letters):
        def __call__(self, rows, advance):
            return [Found(np.full((1, 3), np.nan, np.float32)) for _ in rows]

    folder = corpus("a")
    with pytest.raises(ValueError, match="not one of 60 items has a vector: no file .i0, i1, i2"):
        extract(folder, "nothing", Nothing())
    with pytest.raises(ValueError, match="not one of 60 items has a vector: not finite .i0: 1 of 1 vectors"):
        extract(folder, "broken", Broken())

    class Once(Letters):
        def __call__(self, rows, advance):
            made = super().__call__(rows, advance)
            return [
                Found(np.full((1, 3), np.inf, np.float32)) if row["id"] == "i5" else x
                for row, x in zip(rows, made, strict=True)
            ]

    assert extract(folder, "once", Once()).notes == {"no text": 9, "not finite": 1}
    loaded = Corpus.load(folder, protocol="leave_one_out", features=["once"]).features["once"]
    assert loaded.missing is not None and loaded.missing[5] and not loaded.missing[4]


def test_a_vector_that_is_dropped_takes_its_words_along(corpus):
    class Counted(Letters):
        def __call__(self, rows, advance):
            made = super().__call__(rows, advance)
            for row, found in zip(rows, made, strict=True):
                found.words = [str(number) for number in range(len(found.vectors))]
                if row["id"] == "i5":
                    found.vectors[0, 1] = np.nan
            return made

    class Uneven(Letters):
        def __call__(self, rows, advance):
            return [replace(found, words=["one", "two"]) for found in super().__call__(rows, advance)]

    import pyarrow.parquet as pq

    folder = corpus("a", lines=4)
    extract(folder, "counted", Counted(kind="ragged"))
    rows = pq.read_table(min((folder / "counted").glob("*.parquet"))).to_pylist()
    assert all(len(row["words"]) == len(row["values"]) for row in rows)
    assert rows[5]["words"] == [str(number) for number in range(1, len(rows[5]["words"]) + 1)]
    assert "not finite: 1 of" in rows[5]["note"] and len(rows[5]["words"]) > 0
    with pytest.raises(ValueError, match="item 'i0': 2 words for . vectors"):
        extract(folder, "uneven", Uneven(kind="ragged"))


def test_shards_cut_across_row_groups(corpus, tmp_path):
    import pyarrow.parquet as pq

    folder = corpus("a")
    file = folder / "items" / "items.parquet"
    table = pq.read_table(file)
    pq.write_table(table, file, row_group_size=23)
    shards = list(item_shards(folder, ("words",)))
    assert [len(rows) for _, rows in shards] == [16, 16, 16, 12]
    assert [row["id"] for _, rows in shards for row in rows] == [f"i{row}" for row in range(60)]
    assert read_record(folder)["num_items"] == 60


MEMORY = """
import resource, sys
import numpy as np
from pathlib import Path
from seqmm.features.extractor import Extractor, Found
from seqmm.features.extract import extract

class Hashed(Extractor):
    dim, columns, provenance = 384, ("title",), {"encoder": "hash"}
    def __call__(self, rows, advance):
        base = np.arange(self.dim, dtype=np.float32)
        return [Found((base + len(row["title"]))[None]) for row in rows]

def peak():
    return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM")).split()[1])

extract(sys.argv[1], "hashed", Hashed())
small = peak()
extract(sys.argv[2], "hashed", Hashed())
print((peak() - small) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_is_flat_over_100_000_items(tmp_path):
    """100,000 vectors are 154 MB; four shards' worth of items in front of them have set the level."""
    for name, count in (("small", 4096), ("large", 100_000)):
        users = np.arange(0, 60).repeat(3)
        rows = Interactions(users, np.arange(180) % count, np.tile(np.arange(3), 60))
        parts = {split: rows_at(rows, place) for place, split in enumerate(("train", "validation", "test"))}
        titles = tuple("a title " * (1 + row % 50) for row in range(count))
        Corpus(name, "leave_one_out", 60, count, parts, titles=titles).save(tmp_path / name)
    folders = [str(tmp_path / name) for name in ("small", "large")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", MEMORY, *folders], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40, done.stdout


def rows_at(rows, place):
    keep = rows.position == place
    return Interactions(rows.user[keep], rows.item[keep], rows.position[keep])
