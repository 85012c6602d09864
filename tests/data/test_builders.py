"""The builders under tokenized/: raw files to corpora, and what they say of what does not fit."""

import gzip
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seqmm import Corpus
from seqmm.building.build import build
from seqmm.data.card import KEPT
from seqmm.data.filtering import Log
from seqmm.data.sources.base import SourceData
from seqmm.data.store import read_items
from tests.messy_shop import Shop, write_shop


@pytest.fixture
def run(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a builder in this process and returns (exit code, stdout, last line of stderr)."""

    def builder(name: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["build.py", *map(str, arguments)])
        monkeypatch.chdir(tmp_path)
        code = 0
        try:
            runpy.run_path(str(repository / "tokenized" / name / "build.py"), run_name="__main__")
        except SystemExit as stop:
            code = int(stop.code or 0)
        said, errors = capsys.readouterr()
        return code, said, (errors.strip().splitlines() or [""])[-1]

    return builder


@pytest.mark.parametrize("name", ["amazon", "tiktok", "folder"])
def test_help_is_quick_and_ships_in_the_wheel(repository: Path, name: str) -> None:
    build = repository / "tokenized" / name / "build.py"
    code = (
        "import runpy, sys; sys.argv = ['build.py', '--help']\n"
        f"try: runpy.run_path({str(build)!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'polars', 'pyarrow', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    settings = (repository / "pyproject.toml").read_text()
    for file in ("build.py", "README.md"):
        assert f'"tokenized/{name}/{file}" = "seqmm/_tokenized/{name}/{file}"' in settings


# -- amazon -----------------------------------------------------------------------------------------------------------


def amazon_files(folder: Path, year: int) -> tuple[Path, Path]:
    """30 users, 12 items; item 11 has no metadata, item 3 two rows of it."""
    rng = np.random.default_rng(0)
    user, item, time = (
        ("user_id", "parent_asin", "timestamp") if year == 2023 else ("reviewerID", "asin", "unixReviewTime")
    )
    scale = 1000 if year == 2023 else 1
    rows = [
        {user: f"U{u}", item: f"B{i:02}", time: (1_400_000_000 + 86_400 * int(t)) * scale}
        for u in range(30)
        for t, i in zip(rng.integers(0, 200, 8), rng.permutation(12)[:8], strict=True)
    ]
    reviews, meta = folder / "Toys.json.gz", folder / "meta_Toys.json.gz"
    reviews.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    lines = []
    for n in [*range(11), 3]:
        url = f"http://127.0.0.1:9/{n}.jpg"
        record: dict[str, object] = {"title": f"T{n} &amp; co", "price": "1.5"}
        if year == 2014:
            record |= {"asin": f"B{n:02}", "brand": "X", "categories": [["Toys", "Balls"], ["Sport"]], "imUrl": url,
                       "description": "<p>One.</p><p>Two.</p>"}  # fmt: skip
            lines.append(str(record))
            continue
        record |= {"brand": "X", "description": ["<p>One.</p>", "Two."]}
        if year == 2018:
            record |= {"asin": f"B{n:02}", "category": ["Toys", "Balls"], "imageURLHighRes": [url], "feature": ["soft"]}
        else:
            record |= {"parent_asin": f"B{n:02}", "categories": ["Toys", "Balls"], "features": ["soft"],
                       "images": [{"large": None, "hi_res": url}], "details": {"Brand": "X"}}  # fmt: skip
        lines.append(json.dumps(record))
    meta.write_bytes(gzip.compress("".join(line + "\n" for line in lines).encode()))
    return reviews, meta


def test_what_was_stopped_in_its_last_steps_is_put_right_though_it_is_refused(tmp_path: Path) -> None:
    """Between the record and the card, and before what a killed process left is gone: all is there, but untidy."""
    user, item = np.divmod(np.arange(90), 9)
    log = Log(user, item, [f"u{n}" for n in range(10)], [f"i{n}" for n in range(9)], position=item, source="memory")
    folder, data = tmp_path / "shop", SourceData(log)
    build(data, folder, protocols=("leave_one_out",), k_core=0)
    card = (folder / "README.md").read_text(encoding="utf-8")
    build(data, folder, protocols=("ratio",), k_core=0)
    whole = (folder / "README.md").read_text(encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")
    dead = 2**22 + 1  # above the largest process id
    for place in (tmp_path / f".shop.{dead}.tmp", folder / f".ratio.{dead}.tmp"):
        place.mkdir()
    (tmp_path / f".shop.{dead}.lock").touch()
    with pytest.raises(ValueError, match="is not empty: it holds ratio"):
        build(data, folder, protocols=("ratio",), k_core=0)
    assert (folder / "README.md").read_text(encoding="utf-8") == whole != card
    assert [path.name for path in tmp_path.iterdir()] == ["shop"] and not list(folder.glob(".*"))


@pytest.mark.parametrize("year", [2014, 2018, 2023])
def test_amazon(run, tmp_path: Path, year: int) -> None:
    reviews, meta = amazon_files(tmp_path, year)
    code, said, error = run("amazon", "--year", year, "--interactions", reviews, "--items", meta)
    assert code == 0, error
    folder = tmp_path / "tokenized" / "amazon" / f"Toys-{year}"
    corpora = [
        Corpus.load(folder, protocol=name, features=("brand", "categories")) for name in ("leave_one_out", "ratio")
    ]
    assert corpora[0].item_ids == corpora[1].item_ids and corpora[0].num_items == 12
    assert corpora[0].features["categories"].vocabulary == ("Balls", "Toys")
    row = read_items(folder).to_pylist()[corpora[0].item_ids.index("B05")]
    assert (row["title"], row["brand"], row["categories"], row["price"]) == ("T5 & co", "X", ["Toys", "Balls"], "1.5")
    assert row["images"] == ["http://127.0.0.1:9/5.jpg"]
    assert row["description"] == ("<p>One.</p><p>Two.</p>" if year == 2014 else "<p>One.</p>\nTwo.")
    info = corpora[0].info
    assert (info["items_rows"], info["items_duplicated"], info["items_unknown"]) == (12, "1 ('B03')", "1 ('B11')")
    card = (folder / "README.md").read_text()
    assert card.index("## What is in it") > card.index(KEPT) and "Julian McAuley" in card
    assert f"| all | collection | {year} |" in card and "| all | licence | none stated" in card
    assert f"next: accelerate launch recipes/extract.py --corpus {folder.relative_to(tmp_path)} --features text" in said
    assert "images: their URLs are in the column 'images'; add --download-images DIR" in said

    code, _, error = run("amazon", "--year", year, "--interactions", reviews)
    assert code == 2 and "is not empty: it holds leave_one_out, ratio; set --overwrite True" in error
    common = ("--year", year, "--interactions", reviews, "--items", meta, "--overwrite", True)
    options = ("--unknown-items", "drop", "--protocols", "leave_one_out", "temporal", "--k-core", 3)
    code, said, error = run("amazon", *common, *options)
    assert code == 0, error
    one, other = (Corpus.load(folder.with_name(folder.name + end), protocol=protocol)
                  for end, protocol in (("", "leave_one_out"), ("-temporal", "temporal")))  # fmt: skip
    assert one.num_items == 11 and "B11" not in one.item_ids and one.info["rows_with_unknown_items_dropped"] > 0
    assert other.splits["train"].timestamp.max() < other.splits["test"].timestamp.min()
    assert other.name == folder.name + "-temporal" and not (folder / "temporal").exists()


def test_amazon_photos_of_the_own_network_are_refused(run, tmp_path: Path) -> None:
    """There is no flag that would allow it."""
    reviews, meta = amazon_files(tmp_path, 2014)
    code, said, error = run(
        "amazon", "--year", 2014, "--interactions", reviews, "--items", meta, "--download-images", "photos"
    )
    assert code == 0, error
    assert "0 saved, 0 were there, 11 failed; 1 of 12 items have no URL" in said and "failed       address: 11" in said
    assert "--images photos" in said
    assert (
        'address,"127.0.0.1 is 127.0.0.1, which is not a public address'
        in (tmp_path / "photos" / "failures.csv").read_text()
    )
    code, _, error = run("amazon", "--year", 2014, "--interactions", reviews, "--download-images", "photos")
    assert (
        code == 2
        and "--download-images needs a column 'images' of URLs in the items table; there is no items table" in error
    )


# -- tiktok -----------------------------------------------------------------------------------------------------------


def published_rows() -> list[tuple[int, int, int]]:
    rng = np.random.default_rng(0)
    rows = [(u, int(i), max(0, n - 4)) for u in range(12) for n, i in enumerate(rng.permutation(9)[:7])]
    return [*rows, (12, 0, 2)]  # who has a test row only


@pytest.mark.parametrize("kind", ["tsv", "inter", "json"])
def test_published_vectors(run, tmp_path: Path, kind: str) -> None:
    source, rows = tmp_path / "tiktok", published_rows()
    source.mkdir()
    if kind == "json":
        for label, name in enumerate(("train", "val", "test")):
            lists: dict[str, list[int]] = {}
            for user, item, which in rows:
                if which == label:
                    lists.setdefault(str(user), []).append(item)
            (source / f"{name}.json").write_text(json.dumps(lists))
    else:
        header = "user_id\titem_id\tsplit" if kind == "tsv" else "userID\titemID\trating\tx_label"
        lines = [f"{u}\t{i}\t{s}" if kind == "tsv" else f"{u}\t{i}\t1\t{s}" for u, i, s in rows]
        (source / f"{'inter' if kind == 'tsv' else 'tiktok'}.{kind}").write_text("\n".join([header, *lines]) + "\n")
    vectors = np.random.default_rng(1).normal(size=(9, 5)).astype(np.float32)
    np.save(source / "audio_feat.npy", vectors)
    np.save(source / "image_feat.npy", vectors[:, :2])
    code, said, error = run("tiktok", "--source", source)
    assert code == 0, error
    corpus = Corpus.load(tmp_path / "tokenized/tiktok/tiktok", protocol="given", features=("audio", "image"))
    named = {(corpus.user_ids[u], corpus.item_ids[i], label) for label, split in enumerate(corpus.splits)
             for u, i in zip(corpus.splits[split].user, corpus.splits[split].item, strict=True)}  # fmt: skip
    assert named == {(str(u), str(i), s) for u, i, s in rows if u != 12}
    assert np.array_equal(corpus.features["audio"].values, vectors[[int(item) for item in corpus.item_ids]])
    assert corpus.info["users_without_train_dropped"] == 1 and "next: accelerate launch recipes/train.py" in said
    code, _, error = run("tiktok", "--source", source, "--output", "o", "--modalities", "text")
    assert code == 2 and "no vectors of 'text' (text_feat.npy); it has: audio, image" in error
    code, _, error = run("tiktok", "--source", source, "--output", "o", "--drop-untrained", False)
    assert code == 2 and "user '12' has validation or test rows but no train row" in error
    np.save(source / "audio_feat.npy", vectors[:8])
    code, _, error = run("tiktok", "--source", source, "--output", "o")
    assert code == 2 and "has 8 rows but the source has 9 items" in error and not (tmp_path / "o").exists()


def test_published_folders_that_cannot_be_read(run, tmp_path: Path) -> None:
    source = tmp_path / "x"
    code, _, error = run("tiktok", "--source", source)
    assert code == 2 and "no folder" in error
    source.mkdir()
    (source / "train_mat").write_bytes(b"\x80\x04.")
    code, _, error = run("tiktok", "--source", source)
    assert code == 2 and "it has train_mat; train_mat and the like are pickles, which are not read" in error
    (source / "train.json").write_text("{}")
    code, _, error = run("tiktok", "--source", source)
    assert code == 2 and "has no val.json beside train.json" in error
    (source / "val.json").write_text("[1]")
    code, _, error = run("tiktok", "--source", source)
    assert code == 2 and "val.json is not {user: [items]} in JSON" in error
    (source / "y.inter").write_text("userID\titemID\n1\t2\n")
    code, _, error = run("tiktok", "--source", source)
    assert code == 2 and "y.inter has no column split or x_label; it has: userID, itemID" in error


# -- a folder of one's own --------------------------------------------------------------------------------------------

COLUMNS = ("--user", "customer", "--item", "sku", "--timestamp", "when", "--rename", "title=name", "description=about")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return write_shop(tmp_path / "shop")


def test_messy_folder(run, tmp_path: Path, shop: Shop) -> None:
    code, said, error = run("folder", "--source", tmp_path / "shop", *COLUMNS, "--tags", "brand")
    assert code == 0, error
    folder = tmp_path / "tokenized" / "folder" / "shop"
    corpus = Corpus.load(folder, features=("brand",))
    assert set(corpus.item_ids) == {*shop.items, shop.unknown}  # as they were, to the blank
    assert set(corpus.user_ids) == {user for user, _, _ in shop.rows}
    last = {user: item for user, item, _ in sorted(shop.rows, key=lambda row: row[2])}
    for user, name in enumerate(corpus.user_ids):
        assert corpus.item_ids[corpus.targets("test")[user][0]] == last[name]
    info = corpus.info
    assert info["rows_read"] == len(shop.rows) and info["rows_incomplete"] == shop.incomplete
    assert info["items_rows"] == len(shop.items) + len(shop.unused) + 3  # the second row, one without id, an empty line
    assert info["items_rows_without_id"] == 2
    assert info["items_duplicated"] == f"1 ({shop.twice!r})" and info["items_unknown"] == f"1 ({shop.unknown!r})"
    assert info["items_never_used"] == len(shop.unused)
    sold = len(shop.items) + len(shop.unused) + 1
    assert info["items_with_image"] == f"{len(shop.items) - len(shop.without_image)} of the source's {sold}"
    assert info["images_of_no_item"] == 1
    for key in ("rows_incomplete", "items_duplicated", "items_unknown", "items_never_used", "images_of_no_item"):
        assert f"| all | {key} |" in (folder / "README.md").read_text()
    table = {row["id"]: row for row in read_items(folder).to_pylist()}
    assert table["007"]["title"] == "Toy 0 no. 0" and table[shop.twice]["title"] == "Toy 2 no. 2"  # the first row
    assert table["007"]["description"].startswith("<p>A <b>red</b>") and len(table["A/B 1"]["description"]) > 100_000
    assert table[" padded "]["description"] == 'He said: "what; a toy, really"\nSecond line.'
    assert table[shop.unknown]["title"] == "" and "1 ('not in the table'); kept, without text" in said
    assert f"--features text text_sentences image image_keywords --images {tmp_path / 'shop' / 'images'}" in said
    # the same rows, otherwise written, are the same corpus
    again = tmp_path / "clean"
    again.mkdir()
    (again / "interactions.tsv").write_text(
        "sku\tcustomer\twhen\n" + "".join(f"{item}\t{user}\t{time}\n" for user, item, time in shop.rows),
        encoding="utf-8",
    )
    code, _, error = run("folder", "--source", again, *COLUMNS[:6])
    assert code == 0, error
    assert Corpus.load(tmp_path / "tokenized/folder/clean").fingerprint() == corpus.fingerprint()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((*COLUMNS, "--duplicate-items", "refuse"), r"more than one row of 1 \('猫-3'\); remove all but one"),
        ((*COLUMNS, "--unknown-items", "refuse"), r"no row of 1 \('not in the table'\), which have interactions"),
        ((*COLUMNS[:4], "--timestamp", "date"), "no column 'date'; it has: customer, sku, rating, when"),
        (("--user", "custmer"), r"'custmer'; it has: .*\. Name the right one \(user\); did you mean 'customer'\?"),
        (("--user", "customer"), "interactions.csv has no column 'item_id'; it has: customer, sku, rating, when"),
        ((*COLUMNS, "--rename", "title=nmae"), r"items.csv has no column 'nmae'.*\(rename\); did you mean 'name'\?"),
        ((*COLUMNS, "--tags", "colour"), "tags 'colour': the items table has no such column; it has: title, brand"),
        ((*COLUMNS, "--download-images", "photos"), r"a column 'images' of URLs.* it has the columns id, title, brand"),
        ((*COLUMNS, "--images", "nowhere"), "no folder or tar file nowhere"),
        ((*COLUMNS, "--feature", "clip=none.pt"), "no file none.pt for feature set 'clip'"),
        ((*COLUMNS, "--protocols", "given"), "'given' needs the source's split labels"),
        ((*COLUMNS, "--k-core", "50"), "nothing is left of 320 interactions after the 50-core"),
    ],
)  # fmt: skip
def test_refused(run, tmp_path: Path, shop: Shop, options: tuple[str, ...], message: str) -> None:
    code, _, error = run("folder", "--source", tmp_path / "shop", *options)
    assert code == 2 and error.startswith("error: ") and re.search(message, error), error
    assert [path.name for path in tmp_path.iterdir()] == ["shop"] or not list((tmp_path / "tokenized").rglob("*.json"))


def test_tables_that_are_not_there(run, tmp_path: Path, shop: Shop) -> None:
    source = tmp_path / "shop"
    (source / "interactions.csv").rename(source / "sales.csv")
    code, _, error = run("folder", "--source", source, *COLUMNS)
    assert code == 2 and "has no interactions.csv (or .tsv" in error and "it has: items.csv, sales.csv" in error
    code, _, error = run("folder", "--source", source, *COLUMNS, "--interactions", source / "sales.csv")
    assert code == 0, error
    (source / "items.jsonl").write_text("")
    code, _, error = run(
        "folder", "--source", source, *COLUMNS, "--interactions", source / "sales.csv", "--output", "o"
    )
    assert code == 2 and "has items.csv and items.jsonl; say which (items)" in error
    code, _, error = run("folder", "--source", tmp_path / "none")
    assert code == 2 and "no folder" in error


def test_ids_that_do_not_match(run, tmp_path: Path, shop: Shop) -> None:
    """Numbers in one table and text in the other: an error that shows both, not a corpus without texts."""
    source = tmp_path / "shop"
    lines = (source / "items.csv").read_text(encoding="utf-8-sig").splitlines()
    (source / "items.csv").write_text("\n".join([lines[0], "1,a,b,c,", "2,a,b,c,"]) + "\n")
    code, _, error = run("folder", "--source", source, *COLUMNS)
    assert code == 2
    assert re.search(
        r"no item of the interactions is in the items table; their ids are 21 \(.*the table 2 \('1', '2'\)", error
    )


def test_vectors_by_id(run, tmp_path: Path, shop: Shop) -> None:
    import polars as pl

    rng = np.random.default_rng(0)
    vectors = {item: rng.normal(size=3).astype(np.float32) for item in [*shop.items[1:], *shop.unused]}
    pl.DataFrame({"sku": list(vectors), "vector": [row.tolist() for row in vectors.values()]}).write_parquet(
        tmp_path / "clip.parquet"
    )
    code, said, error = run(
        "folder", "--source", tmp_path / "shop", *COLUMNS, "--feature", f"clip={tmp_path / 'clip.parquet'}"
    )
    assert code == 0, error
    corpus = Corpus.load(tmp_path / "tokenized" / "folder" / "shop", features=("clip",))
    clip = corpus.features["clip"]
    assert clip.missing is not None
    for item, row, missing in zip(corpus.item_ids, clip.values, clip.missing, strict=True):
        assert missing == (item in (shop.items[0], shop.unknown))
        np.testing.assert_array_equal(row, vectors.get(item, clip.values[clip.missing][0]))
    assert "19 of 21 items have one; 2 without (mean vector)" in corpus.info["clip_vectors"]
    assert "2 in the file but no item of the corpus: 'sku-900', 'sku-901'" in said
