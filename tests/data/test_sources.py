"""Sources of every kind and of one's own, and corpora out of tables in memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import seqmm
from seqmm.building.command import prepare_command
from seqmm.building.options import CorpusOptions
from seqmm.data.preparation import Preparation, PreparationValues
from seqmm.data.sources.papers import Papers, PapersOptions
from seqmm.options import OptionError, Options, about, hints, option, option_fields
from seqmm.registry import SOURCES
from tests.data.test_prepare import pairs_by_name, taste_rows
from tests.standin_hub import Client, StandinHub

ROWS = [(f"u{user}", f"i{item}", time) for user, item, time in taste_rows()]
COLUMNS = {"who": [row[0] for row in ROWS], "what": [row[1] for row in ROWS], "when": [row[2] for row in ROWS]}
NAMES = {"user": "who", "item": "what", "timestamp": "when"}
ITEMS = {"what": [f"i{n}" for n in range(12)], "name": [f"Item {n}" for n in range(12)], "brand": list("abc") * 4}


def a_table(kind: str, columns: dict, folder: Path) -> object:
    if kind == "pandas":
        return pytest.importorskip("pandas").DataFrame(columns)
    if kind == "polars":
        return pl.DataFrame(columns)
    if kind == "lazy":
        return pl.LazyFrame(columns)
    if kind == "pyarrow":
        return pa.table(columns)
    if kind == "rows":
        return pl.DataFrame(columns).to_dicts()
    if kind == "file":
        pl.DataFrame(columns).write_csv(folder / f"{len(columns['what'])}.csv")
        return folder / f"{len(columns['what'])}.csv"
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_dict(columns)
    splits = {"dict": datasets.DatasetDict({"train": whole}), "stream": whole.to_iterable_dataset(3)}
    return splits.get(kind, whole)


KINDS = ["pandas", "polars", "lazy", "pyarrow", "rows", "columns", "file", "dataset", "dict", "stream"]


@pytest.mark.parametrize("kind", KINDS)
def test_any_table_makes_the_same_corpus(kind: str, tmp_path: Path) -> None:
    known = seqmm.prepare_corpus(pl.DataFrame(COLUMNS), **NAMES)
    inter, items = (columns if kind == "columns" else a_table(kind, columns, tmp_path) for columns in (COLUMNS, ITEMS))
    corpus = seqmm.prepare_corpus(inter, items, **NAMES, rename={"title": "name"}, tags=["brand"])
    assert corpus.fingerprint() == known.fingerprint() and corpus.protocol == "leave_one_out"
    assert corpus.titles == tuple(f"Item {name[1:]}" for name in corpus.item_ids)
    assert corpus.features["brand"].vocabulary == ("a", "b", "c")


def test_what_is_usual_depends_on_the_columns(tmp_path: Path) -> None:
    unordered = seqmm.prepare_corpus({"user_id": COLUMNS["who"], "item_id": COLUMNS["what"]})
    assert unordered.protocol == "ratio" and unordered.info["k_core"] == 5
    last = {user: n for n, user in enumerate(COLUMNS["who"])}
    first = {user: n for n, user in reversed(list(enumerate(COLUMNS["who"])))}
    split = [
        "test" if last[u] == n else "validation" if first[u] == n else "train" for n, u in enumerate(COLUMNS["who"])
    ]
    given = seqmm.prepare_corpus(COLUMNS | {"split": split}, **NAMES)
    assert given.protocol == "given" and given.info["k_core"] == 0
    assert pairs_by_name(given) == set(zip(COLUMNS["who"], COLUMNS["what"], split, strict=True))
    written = seqmm.prepare_corpus(COLUMNS, ITEMS, **NAMES, output=tmp_path / "mine", seed=3)
    read = seqmm.Corpus.load(tmp_path / "mine")
    assert read.fingerprint() == written.fingerprint() != seqmm.prepare_corpus(COLUMNS, **NAMES).fingerprint()
    assert (read.name, written.name) == ("mine", "mine")


@pytest.mark.parametrize(
    ("table", "settings", "error", "message"),
    [
        (3, {}, TypeError, r"a int is no table; give a data frame of pandas or polars"),
        ("none.csv", {}, FileNotFoundError, "no file none.csv"),
        (COLUMNS, {"user": "whom"}, ValueError, r"\(a dict\) has no column 'whom'; .*\(user\); did you mean 'who'\?"),
        (COLUMNS, NAMES | {"k_core": -1}, OptionError, "k_core is -1; choose 0 or more"),
        (COLUMNS, NAMES | {"k_core": 99}, ValueError, "nothing is left of 240 interactions after the 99-core.*smaller"),
        (COLUMNS, NAMES | {"protocol": "last"}, OptionError, "protocol is 'last'; choose one of leave_one_out"),
        (COLUMNS, NAMES | {"duplicate": "first"}, OptionError, "no such option; did you mean 'duplicates'"),
        (COLUMNS, NAMES | {"features": {"image": "v.npy"}}, FileNotFoundError, "no file v.npy for feature set 'image'"),
        ({"user_id": [1, "x"], "item_id": [1, 2]}, {}, ValueError, "cannot be read .*values of one type"),
    ],
)  # fmt: skip
def test_what_is_no_table_or_no_setting(table: object, settings: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        seqmm.prepare_corpus(table, **settings)


def test_tables_of_datasets_that_are_not_whole() -> None:
    datasets = pytest.importorskip("datasets")
    part = datasets.Dataset.from_dict(COLUMNS)
    with pytest.raises(ValueError, match=r"a DatasetDict of the splits train, test: give one, dataset\['test'\]"):
        seqmm.prepare_corpus(datasets.DatasetDict({"train": part, "test": part}), **NAMES)
    pictures = {"what": ["i0"], "photo": [{"bytes": b"x", "path": "x.jpg"}]}
    with pytest.raises(ValueError, match=r"column 'photo' holds Struct.*leave it out"):
        seqmm.prepare_corpus(part, datasets.Dataset.from_dict(pictures), **NAMES)


def test_keyword_arguments_are_the_options() -> None:
    of_options = {each.name: hints(Preparation)[each.name] for each in option_fields(Preparation)}
    assert get_type_hints(PreparationValues) == of_options


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """prepare.py in this process, in an empty folder."""

    def command(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["prepare.py", *map(str, arguments)])
        monkeypatch.chdir(tmp_path)
        prepare_command()
        return capsys.readouterr().out

    return command


def test_every_source_says_what_it_is_and_every_option_has_a_sentence() -> None:
    assert set(SOURCES.names()) >= {"table", "amazon", "movielens", "papers", "folder", "datasets"}
    for name in SOURCES.names():
        (cls,) = SOURCES.classes(name)
        assert re.fullmatch(r"Reads .+\.", (cls.__doc__ or "").split("\n")[0]), name
        for each in [*option_fields(cls.options_class), *option_fields(CorpusOptions)]:
            assert re.match(r'["A-Z]', about(each).help) and about(each).help.endswith("."), (name, each.name)


def test_an_option_that_every_corpus_has_is_refused(run, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Seeded(Options):
        seed: int = option(0, "Seed.")

    class Clash(seqmm.Source):
        """Reads nothing."""

        name = "clash"
        options_class = Seeded

        def read(self) -> seqmm.SourceData:
            raise AssertionError

    monkeypatch.setattr(SOURCES, "_classes", dict(SOURCES._classes))
    seqmm.register(Clash)
    with pytest.raises(ValueError, match="every corpus has an option 'seed'"):
        run("clash")
    with pytest.raises(ValueError, match="unknown source 'tabel'; did you mean 'table'?"):
        run("tabel")


def test_a_source_of_ones_own(tmp_path: Path, repository: Path) -> None:
    """The example of CONTRIBUTING.md from outside the repository, through the recipe."""
    example = (repository / "tests/examples/my_source.py").read_text()
    code = re.sub(r'""".*?"""', "", example, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    (tmp_path / "my_source.py").write_text(example)
    plays = [{"listener": u, "track": i, "title": f"Song {i}", "at": 1000 * t} for u, i, t in ROWS]
    (tmp_path / "plays.jsonl").write_text("".join(json.dumps(play) + "\n" for play in plays))

    def prepare(*flags: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(repository / "recipes/prepare.py"), "my_source:Plays", *flags]
        environment = os.environ | {"PYTHONPATH": str(repository)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    helped = prepare("--help")
    assert helped.returncode == 0 and "Reads the play log" in helped.stdout and "--log" in helped.stdout
    done = prepare("--log", "plays.jsonl", "--protocols", "leave_one_out")
    assert done.returncode == 0, done.stderr
    corpus = seqmm.Corpus.load(tmp_path / "corpora" / "plays")
    assert corpus.fingerprint() == seqmm.prepare_corpus(COLUMNS, **NAMES).fingerprint()
    assert corpus.titles[0] == f"Song {corpus.item_ids[0]}" and corpus.info["licence"] == "CC0-1.0"
    assert prepare("--log", "none.jsonl").stderr.startswith("error: ")


# -- datasets ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Path]:
    """A folder as datasets reads it: two configurations, and three splits of the interactions."""
    folder = tmp_path / "shop"
    frame = pl.DataFrame(COLUMNS).with_row_index()
    splits = {"train": frame.filter(pl.col("index") % 8 < 6), "validation": frame.filter(pl.col("index") % 8 == 6),
              "test": frame.filter(pl.col("index") % 8 == 7)}  # fmt: skip
    for name, part in splits.items():
        (folder / "plays").mkdir(parents=True, exist_ok=True)
        part.write_parquet(folder / "plays" / f"{name}.parquet")
    (folder / "things").mkdir()
    pl.DataFrame(ITEMS).with_columns(photo=pl.lit(b"x")).write_parquet(folder / "things" / "train.parquet")
    files = "".join(f"  - split: {name}\n    path: plays/{name}.parquet\n" for name in splits)
    card = (
        f"configs:\n- config_name: plays\n  data_files:\n{files}- config_name: things\n  data_files: things/*.parquet\n"
    )
    (folder / "README.md").write_text(f"---\nlicense: mit\n{card}---\n")
    yield folder


FLAGS = ["--interactions-config", "plays", "--user", "who", "--item", "what", "--timestamp", "when"]
FLAGS += ["--items-config", "things", "--items-columns", "what", "name", "--rename", "title=name"]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_folder_of_datasets(run, published: Path, tmp_path: Path, streaming: bool) -> None:
    common = ("datasets", "--interactions", published, *FLAGS, "--streaming", streaming)
    said = run(*common, "--interactions-split", "train", "validation", "test", "--output", "given")
    given = seqmm.Corpus.load(tmp_path / "given", protocol="given")
    assert "180" in said and {name: len(part) for name, part in given.splits.items()} == {
        "train": 180, "validation": 30, "test": 30,
    }  # fmt: skip
    assert given.titles[0] == f"Item {given.item_ids[0][1:]}"
    assert given.info["dataset"] == str(published) and given.info["splits"] == "train validation test"
    run(*common)
    train = seqmm.Corpus.load(tmp_path / "corpora" / "shop")
    part = pl.read_parquet(published / "plays" / "train.parquet")
    assert train.fingerprint() == seqmm.prepare_corpus(part, **NAMES).fingerprint()
    part.head(150).write_parquet(published / "plays" / "train.parquet")  # same folder, same card, other rows
    run(*common, "--overwrite", True)
    assert seqmm.Corpus.load(tmp_path / "corpora" / "shop").info["rows_read"] == 150
    with pytest.raises(ValueError, match="cannot be read as a dataset.*'nosuch'"):
        run("datasets", "--interactions", published, "--interactions-config", "nosuch")


def test_a_prepared_corpus_is_such_a_folder(run, tmp_path: Path) -> None:
    """What was published here can be read from elsewhere, as rows."""
    seqmm.prepare_corpus(COLUMNS, ITEMS, **NAMES, output=tmp_path / "first", index_order="source")
    flags = ("--user", "user", "--item", "item", "--timestamp", "timestamp", "--position", "position")
    splits = ("--interactions-split", "train", "validation", "test", "--index-order", "source", "--tie-order", "source")
    run("datasets", "--interactions", "first", "--interactions-config", "leave_one_out", *flags, *splits, "--output=b")
    first, again = seqmm.Corpus.load(tmp_path / "first"), seqmm.Corpus.load(tmp_path / "b", protocol="given")
    for name, part in first.splits.items():
        assert np.array_equal(part.user, again.splits[name].user) and np.array_equal(part.item, again.splits[name].item)


def push(folder: str, repo: str) -> str:
    from huggingface_hub import HfApi

    HfApi().create_repo(repo, repo_type="dataset")
    return HfApi().upload_folder(repo_id=repo, repo_type="dataset", folder_path=folder).oid


@pytest.mark.slow
def test_a_dataset_of_the_hub(hub: StandinHub, published: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    common = ("datasets", "--interactions", "org/shop", *FLAGS, "--output")
    with Client(hub, tmp_path / "home") as client:
        commit = client.call(push, str(published), "org/shop")
        for streaming in (False, True):
            out = tmp_path / f"streaming {streaming}"
            said = client.recipe("prepare", *common, out, "--streaming", streaming)
            assert "fingerprint" in said, said
            corpus = seqmm.Corpus.load(out)
            part = pl.read_parquet(published / "plays" / "train.parquet")
            assert corpus.fingerprint() == seqmm.prepare_corpus(part, **NAMES).fingerprint()
            assert corpus.info["revision"] == commit
        said = client.recipe("prepare", "datasets", "--interactions", "org/none", "--output", tmp_path / "none")
        assert said.startswith("error: no folder org/none, and there is no dataset org/none"), said


def test_only_tiktok_is_described_as_tiktok(tmp_path):
    said = {name: Papers(PapersOptions(source=tmp_path / name)).about() for name in ("tiktok", "baby")}
    assert "9,308 users" in said["tiktok"] and "Sources" in said["tiktok"]
    assert said["baby"].startswith("## What is in it\n") and "published vectors" in said["baby"]
    assert "tiktok" not in said["baby"].lower() and said["tiktok"].startswith(said["baby"].rstrip())
