"""recipes/prepare.py end to end: what it writes, and what it refuses without writing anything."""

import json
import os
import re
import runpy
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import torch

from seqmm.data.corpus import Corpus
from seqmm.data.filtering import Log
from seqmm.data.preparation import Preparation
from seqmm.data.prepare import prepare
from seqmm.data.store import read_items


@pytest.fixture
def run(repository, monkeypatch, capsys):
    """Runs the recipe in this process and returns (exit code, stdout, stderr)."""

    def recipe(*arguments):
        monkeypatch.setattr(sys, "argv", ["prepare.py", *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(str(repository / "recipes" / "prepare.py"), run_name="__main__")
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return recipe


def table(path, rows, header="user_id,item_id,timestamp"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def taste_rows(num_users=30, num_items=12, length=8, seed=0):
    """(user, item, time): every user with ``length`` distinct items, dense enough for a 5-core."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(num_users):
        times = np.sort(rng.integers(0, 5, length)) + 1_000_000_000
        rows += [
            (user, item, t)
            for item, t in zip(rng.permutation(num_items)[:length].tolist(), times.tolist(), strict=True)
        ]
    return rows


def pairs_by_name(corpus):
    return {
        (corpus.user_ids[u], corpus.item_ids[i], split)
        for split, part in corpus.splits.items()
        for u, i in zip(part.user, part.item, strict=True)
    }


def test_help_is_quick_and_imports_no_torch(repository):
    code = (
        "import runpy, sys\nsys.argv = ['prepare.py', '--help']\n"
        "try:\n    runpy.run_path('recipes/prepare.py', run_name='__main__')\n"
        "except SystemExit:\n"
        "    print('heavy:', [m for m in ('torch', 'polars', 'pyarrow', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout
    assert "python recipes/prepare.py amazon --year 2023" in done.stdout


@pytest.mark.parametrize(
    "options, message",
    [
        (("--k-core", -3), "--k-core is -3; choose 0 or more"),
        (("--protocols", "temporal", "--validation", 1.5), "--validation is 1.5; choose above 0 and below 1"),
        (
            ("--protocols", "temporal", "--test", 0.95),
            "--validation is 0.1 and test 0.95; choose two shares whose sum is below 1",
        ),
    ],
)
def test_numbers_out_of_range(run, tmp_path, options, message):
    code, _, errors = run(
        "table", "--interactions", table(tmp_path / "a.csv", taste_rows()), *options, "--output", tmp_path / "o"
    )
    assert code == 2 and errors.startswith("error: ") and message in errors and not (tmp_path / "o").exists()


def test_movielens_to_corpus(run, tmp_path):
    """With genres as tags, which is what these files have."""
    source = tmp_path / "ml"
    source.mkdir()
    rows = [(user, movie, 4, 100 * movie + user) for user in range(8) for movie in range(9) if (user + movie) % 9]
    table(source / "ratings.csv", rows, "userId,movieId,rating,timestamp")
    movies = [f'{movie},"Toy {movie} (1995)",Red|Blue' for movie in range(9)]
    (source / "movies.csv").write_text("movieId,title,genres\n" + "\n".join(movies) + "\n")
    code, _, errors = run("movielens", "--source", source, "--output", tmp_path / "out")
    assert code == 0, errors
    corpus = Corpus.load(tmp_path / "out", features=("genres",))
    assert corpus.num_items == 9 and corpus.features["genres"].vocabulary == ("Blue", "Red")


def test_table_to_corpus(run, tmp_path):
    rows = taste_rows() + [(99, 3, 1_000_000_000)]  # the 5-core drops user 99
    inter = table(tmp_path / "inter.csv", rows)
    items = tmp_path / "items.tsv"
    items.write_text("item_id\tname\tkind\n" + "".join(f"{i}\tItem {i}\tk{i % 3}|all\n" for i in range(12)))
    features = np.arange(12 * 4, dtype=np.float16).reshape(12, 4)
    np.save(tmp_path / "v.npy", features)
    out = tmp_path / "out"
    code, printed, _ = run(
        *(
            "table",
            "--interactions",
            inter,
            "--items",
            items,
            "--rename",
            "title=name",
            "--lists",
            "kind=|",
            "--tags",
            "kind",
        ),
        *("--feature", f"image={tmp_path / 'v.npy'}", "--encoder", "image=toy", "--output", out),
    )
    assert code == 0
    assert "corpus       30 users, 12 items, 240 interactions, sparsity 33.33%" in printed
    assert "split        leave_one_out: train 180, validation 30, test 30" in printed
    assert "5-core, 0    241 interactions, 31 users, 12 items" in printed
    corpus = Corpus.load(out, features=("image", "kind"))
    assert corpus.fingerprint() in printed
    number = [int(i) for i in corpus.item_ids]
    assert number != sorted(number) and sorted(number) == list(range(12))
    assert corpus.titles == tuple(f"Item {i}" for i in number)
    assert np.array_equal(corpus.features["image"].values, features[number])
    assert corpus.features["image"].provenance == {"encoder": "toy"}
    tags = corpus.features["kind"]
    assert tags.vocabulary == ("all", "k0", "k1", "k2")
    assert [tags.vocabulary[t] for t in tags.values[:2]] == [f"k{number[0] % 3}", "all"]
    # every user's rows in the order of time
    time_of = {(str(u), str(i)): t for u, i, t in rows}
    for user in range(corpus.num_users):
        known = [*corpus.histories("test")[user], *corpus.targets("test")[user]]
        times = [time_of[corpus.user_ids[user], corpus.item_ids[i]] for i in known]
        assert times == sorted(times)
    table_of_items = read_items(out)
    assert table_of_items["source_index"].to_pylist() == number  # the permutation is recorded
    assert corpus.info["index_order"] == "permuted" and 0 < corpus.info["tie_share"] < 1


def test_numbering_does_not_change_the_rows(run, tmp_path):
    """Another seed renames users and items and reorders ties; source order keeps the file's numbers."""
    inter = table(tmp_path / "inter.csv", taste_rows())
    corpora = {}
    for name, options in {"a": (), "b": ("--seed", 1), "s": ("--index-order", "source")}.items():
        assert (
            run("table", "--interactions", inter, "--output", tmp_path / name, "--tie-order", "source", *options)[0]
            == 0
        )
        corpora[name] = Corpus.load(tmp_path / name)
    assert len({corpus.fingerprint() for corpus in corpora.values()}) == 3
    assert pairs_by_name(corpora["a"]) == pairs_by_name(corpora["b"]) == pairs_by_name(corpora["s"])
    assert corpora["s"].user_ids == tuple(map(str, range(30)))
    assert corpora["s"].item_ids == tuple(map(str, range(12)))


@pytest.mark.parametrize("protocol", ["ratio", "temporal", "cold"])
def test_protocols(run, tmp_path, protocol):
    late = [(99, item, 1_100_000_000) for item in range(12)]  # a user who comes after the cut: temporal drops him
    rows = [(u, i, 10**9 + 30 * (t - 10**9) + 2 * u) for u, i, t in taste_rows(60, 30, 12)]
    inter = table(tmp_path / "inter.csv", rows + late)
    code, printed, errors = run("table", "--interactions", inter, "--protocols", protocol, "--output", tmp_path / "out")
    assert code == 0, errors
    corpus = Corpus.load(tmp_path / "out", protocol=protocol)
    train, test = (corpus.splits[s] for s in ("train", "test"))
    if protocol == "temporal":
        assert train.timestamp.max() < test.timestamp.min()
        assert "1 users without a train interaction" in printed and "99" not in corpus.user_ids
    if protocol == "cold":
        assert not set(train.item.tolist()) & set(test.item.tolist())
    if protocol == "ratio":
        assert len(test) == 61 and len(corpus.splits["validation"]) == 61  # n = 12: 10, 1, 1
    positions = np.concatenate([part.position for part in corpus.splits.values()])
    assert np.bincount(positions)[0] == corpus.num_users


def test_given_labels_and_a_second_protocol_in_the_folder(run, tmp_path):
    rows = [(u, i, n) for u, i, n in ((u, (u + n) % 9, n) for u in range(9) for n in range(6))]
    labelled = [(u, i, n, "test" if n == 5 else "valid" if n == 0 else "train") for u, i, n in rows]
    inter = table(tmp_path / "inter.csv", labelled, "user_id,item_id,position,split")
    common = ("table", "--interactions", inter, "--output", tmp_path / "out")
    assert run(*common, "--protocols", "given")[0] == 0
    assert run(*common, "--protocols", "leave_one_out")[0] == 0
    given, last = (Corpus.load(tmp_path / "out", protocol=p) for p in ("given", "leave_one_out"))
    assert pairs_by_name(given) == {(str(u), str(i), {"valid": "validation"}.get(s, s)) for u, i, _, s in labelled}
    assert given.item_ids == last.item_ids and given.fingerprint() != last.fingerprint()
    code, _, errors = run(*common, "--seed", 1, "--protocols", "ratio")
    assert code == 2 and "holds another corpus" in errors
    assert not (tmp_path / "out" / "ratio").exists()


def test_amazon_2023(run, tmp_path):
    reviews = tmp_path / "r.jsonl"
    lines = [{"user_id": f"U{u}", "parent_asin": f"P{i}", "timestamp": t * 1000 + 7} for u, i, t in taste_rows()]
    reviews.write_text("".join(json.dumps(line) + "\n" for line in lines))
    about = [
        {"parent_asin": f"P{i}", "title": f"T{i}", "categories": ["Toys"], "details": {"Brand": f"B{i % 2}"}}
        for i in range(11)  # the last item has none
    ]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in about))
    out = tmp_path / "out"
    code, printed, errors = run(
        *("amazon", "--year", 2023, "--interactions", reviews, "--items", tmp_path / "m.jsonl", "--output", out)
    )
    assert code == 0, errors
    corpus = Corpus.load(out, features=("brand", "categories"))
    assert corpus.splits["train"].timestamp.max() < 2_000_000_000  # seconds
    for item in range(12):
        number = corpus.item_ids[item][1:]
        assert corpus.titles[item] == ("" if number == "11" else f"T{number}")
    assert np.diff(corpus.features["brand"].offsets).tolist() == [int(i != "P11") for i in corpus.item_ids]


# -- bad input: one line, exit code 2, nothing written ----------------------------------------------------------------

GOOD = taste_rows()


@pytest.mark.parametrize(
    ("rows", "header", "options", "message"),
    [
        (GOOD, "user,item_id,timestamp", (), "has no column 'user_id'; it has: user, item_id, timestamp"),
        ([*GOOD, (1, 2, "soon")], None, (), "row 241, column 'timestamp': 'soon' is not a time"),
        (GOOD, None, ("--k-core", "200"), "nothing is left of 240 interactions after the 200-core"),
        (
            [(u, i, 5) for u, i in ((0, 0), (0, 1), (1, 0), (1, 1))],
            None,
            ("--k-core", "2"),
            "validation split .* is empty",
        ),
        (GOOD, "user_id,item_id,weight", ("--protocols", "leave_one_out"), "'leave_one_out' needs an order"),
        (GOOD, "user_id,item_id,position", ("--protocols", "temporal"), "'temporal' needs a timestamp on every row"),
        (GOOD, None, ("--protocols", "given"), "'given' needs the source's split labels"),
        (
            [(0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 0, 1), (1, 1, 2)],
            "user_id,item_id,split",
            ("--protocols", "given"),
            "user '1' has validation or test rows but no train row .1 such users.*drop_untrained",
        ),
        (GOOD, None, ("--tags", "brand"), "tags 'brand': the items table has no such column"),
        (
            GOOD,
            None,
            ("--encoder", "text=minilm"),
            "--encoder text=…: no such feature set in --feature, which has: none",
        ),
        (GOOD, None, ("--feature", "image"), "--feature image: expected name=value"),
        (GOOD, None, ("--feature", "image=none.npy"), "no file none.npy for feature set 'image'"),
    ],
)
def test_refused(run, tmp_path, rows, header, options, message):
    inter = table(tmp_path / "inter.csv", rows, header or "user_id,item_id,timestamp")
    code, _, errors = run("table", "--interactions", inter, "--output", tmp_path / "out", *options)
    assert code == 2
    error = errors.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert re.search(message, error), error
    assert os.listdir(tmp_path) == ["inter.csv"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((11, 3)), "has 11 rows but the source has 12 items"),
        (np.where(np.arange(12)[:, None] == 7, np.nan, np.zeros((12, 3))), r"nan in row 7, column 0 \(item 7\)"),
        (np.zeros(12), r"shape \(12,\)"),
        (np.zeros((12, 3)).astype(str), "expected numbers"),
        (np.array([None] * 12, dtype=object), "is not a readable .npy file"),
    ],
)
def test_bad_feature_files(run, tmp_path, values, message):
    inter = table(tmp_path / "inter.csv", GOOD)
    np.save(tmp_path / "v.npy", values, allow_pickle=True)
    code, _, errors = run(
        "table", "--interactions", inter, "--feature", f"image={tmp_path / 'v.npy'}", "--output", tmp_path / "out"
    )
    assert code == 2 and re.search(message, errors) and "v.npy" in errors
    assert sorted(os.listdir(tmp_path)) == ["inter.csv", "v.npy"]


def test_named_items_need_the_items_table_for_features(tmp_path):
    user, item = np.repeat(np.arange(4), 4), np.tile(np.arange(4), 4)
    log = Log(user, item, list("abcd"), list("wxyz"), timestamp=np.arange(16), source="log")
    np.save(tmp_path / "v.npy", np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"which row is which item\?.*`items`"):
        prepare(log, Preparation(k_core=0), name="x", features={"image": (tmp_path / "v.npy", "e")})


@pytest.mark.parametrize("name", ["v.parquet", "v.pt", "v.csv"])
def test_features_by_id(run, tmp_path, name):
    """Any file of vectors; what is missing is filled, told, and marked."""
    inter = table(tmp_path / "inter.csv", taste_rows(), "user_id,sku,timestamp")
    vectors = {f"{n}": [n / 4, 1.0] for n in (*range(11), 77)}  # item 11 has none, 77 is no item
    if name == "v.pt":
        torch.save({key: torch.tensor(row) for key, row in vectors.items()}, tmp_path / name)
    elif name == "v.csv":
        table(tmp_path / name, [(key, *row) for key, row in vectors.items()], "sku,a,b")
    else:
        pl.DataFrame({"sku": list(vectors), "v": list(vectors.values())}).write_parquet(tmp_path / name)
    code, printed, errors = run(
        *(
            "table",
            "--interactions",
            inter,
            "--item",
            "sku",
            "--feature",
            f"image={tmp_path / name}",
            "--output",
            tmp_path / "out",
        )
    )
    assert code == 0, errors
    assert (
        "11 of 12 items have one; 1 without (mean vector): '11'; 1 in the file but no item of the corpus: '77'"
        in printed
    )
    image = Corpus.load(tmp_path / "out", features=("image",)).features["image"]
    for item, row, missing in zip(Corpus.load(tmp_path / "out").item_ids, image.values, image.missing, strict=True):
        assert missing == (item == "11")
        assert row.tolist() == ([1.25, 1.0] if item == "11" else vectors[item])
    assert image.provenance == {"encoder": name, "missing": "mean vector"}


def test_items_and_interactions_that_do_not_fit(run, tmp_path):
    inter = table(tmp_path / "inter.csv", [*taste_rows(), *((u, "x", 9) for u in range(6))])
    items = tmp_path / "items.csv"
    items.write_text("item_id,title\n" + "".join(f"{n},T{n}\n" for n in (*range(12), 3, 99)) + ",nameless\n")
    common = ("table", "--interactions", inter, "--items", items, "--output", tmp_path / "out")
    code, printed, _ = run(*common)
    assert code == 0
    assert "items        15 rows; more than one row: 1 ('3'); without an id: 1; never used: 1" in printed
    assert "unknown      items that are not in the items table: 1 ('x'); kept, without text" in printed
    corpus = Corpus.load(tmp_path / "out")
    assert corpus.titles[corpus.item_ids.index("x")] == "" and corpus.titles[corpus.item_ids.index("3")] == "T3"
    assert (corpus.info["items_rows"], corpus.info["items_duplicated"], corpus.info["items_unknown"]) == (
        15,
        "1 ('3')",
        "1 ('x')",
    )
    row_of = dict(zip(corpus.item_ids, read_items(tmp_path / "out")["source_row"].to_pylist(), strict=True))
    assert row_of == {str(n): n for n in range(12)} | {"x": -1} and corpus.info["source_rows"] == 15

    code, printed, _ = run(*common, "--unknown-items", "drop", "--overwrite", True)
    assert (
        code == 0 and "unknown      items that are not in the items table: 1 ('x'); 6 interactions dropped" in printed
    )
    corpus = Corpus.load(tmp_path / "out")
    assert "x" not in corpus.item_ids and corpus.info["rows_with_unknown_items_dropped"] == 6
    for option in ("unknown-items", "duplicate-items"):
        code, _, errors = run(*common, f"--{option}", "refuse", "--overwrite", True)
        assert code == 2 and f"--{option}" in errors
    items.write_text("item_id,source_row\n3,a\n")
    code, _, errors = run(*common, "--overwrite", True)
    assert code == 2 and "a column 'source_row', which is written by seqmm itself; rename yours" in errors
    items.write_text("item_id,title\nA,a\nB,b\n")
    code, _, errors = run(*common, "--overwrite", True)
    assert code == 2 and "no item of the interactions is in the items table" in errors and "2 ('A', 'B')" in errors


def test_ids_are_permuted_independently_of_the_source_order():
    """The leak of the public files: users numbered by their smallest item, over all splits."""
    rng = np.random.default_rng(0)
    item = np.sort(rng.integers(0, 300, 600))
    user = np.repeat(np.arange(600), 3)
    log = Log(
        user,
        np.stack([item, (item + 301) % 700, (item + 433) % 700], 1).reshape(-1),
        [str(u) for u in range(600)],
        [str(i) for i in range(700)],
        timestamp=np.tile(np.arange(3), 600),
    )

    def correlation(order):
        corpus = prepare(log, Preparation(k_core=0, index_order=order), name="x").corpus
        first = corpus.targets("train").values  # one train item a user
        return abs(np.corrcoef(np.arange(len(first)), first)[0, 1])

    assert correlation("source") > 0.9
    assert correlation("permuted") < 0.15
