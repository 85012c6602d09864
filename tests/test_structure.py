"""Every record is checked where it is parsed: whatever stands in it, the answer is a line that names it."""

from __future__ import annotations

import copy
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import seqmm
from seqmm.bench.records import read_cell, read_values
from seqmm.data.feature_store import read_about
from seqmm.features.shards import read_plan
from seqmm.files import LARGEST_YAML, read_text, read_yaml, write_json
from seqmm.models.checkpoint import load_config
from seqmm.parsing import DEEPEST, parse_json, parse_yaml
from seqmm.publishing.cards import license_of_card
from seqmm.publishing.run_files import read_metrics, read_settings
from seqmm.run.settings import load_run
from seqmm.schema import check_record

WRONG: tuple[Any, ...] = (None, [], {}, "", -1, 1.5, "\u00e9", True, [[[]]], {"a": {"b": None}}, 1 << 70, float("inf"))
"""What may stand in a value's place; where one of them is right (a title may be empty), reading it is no error."""
REFUSED = (ValueError, OSError)
"""What a recipe prints as its one line."""


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A corpus, a run on it, and the other records, each once."""
    folder = tmp_path_factory.mktemp("world")
    seqmm.synthetic_corpus(num_users=40, num_items=30).save(folder / "corpus")
    corpus = seqmm.load_corpus(folder / "corpus", features=("text_vector",))
    train = seqmm.TrainArguments(epochs=1, output_dir=str(folder / "run"))
    seqmm.Run.of("vbpr", corpus, train=train, hidden_size=4).fit()
    hex64, digest = "0" * 64, "0" * 16
    plan = {"items": hex64, "num_items": 3, "table": digest, "shard": 2, "source": {"a": "b"}, "provenance": {}}
    part = {"recall@5": 0.5}
    cell = {"label": "a", "seed": 0, "source": "b", "model_type": "bpr", "validation_users": None, "parameters": 3}
    (folder / "work").mkdir()
    write_json(folder / "work" / "plan.json", plan)
    write_json(folder / "cell.json", cell | {"validation": part, "test": part, "breakdown": {"cold": part}})
    return folder


RECORDS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "corpus": ("corpus/corpus.json", lambda w: seqmm.load_corpus(w / "corpus")),
    "features": (
        "corpus/text_vector/features.json",
        lambda w: seqmm.load_corpus(w / "corpus", features=["text_vector"]),
    ),
    "tags": ("corpus/genre/features.json", lambda w: seqmm.load_corpus(w / "corpus", features=["genre"])),
    "config": ("run/config.json", lambda w: load_config(w / "run")),
    "model": ("run/config.json", lambda w: seqmm.from_pretrained(str(w / "run"))),
    "metrics": ("run/metrics.json", lambda w: read_metrics(w / "run")),
    "plan": ("work/plan.json", lambda w: read_plan(w / "work")),
    "cell": ("cell.json", lambda w: read_cell(w / "cell.json")),
    "settings": ("run/run.yaml", lambda w: read_settings(w / "run")),
    "run": ("run/run.yaml", lambda w: load_run(["--config", str(w / "run" / "run.yaml")])),
}
NEEDED = {"corpus", "features", "tags", "metrics", "plan", "cell"}
"""Records in which every key that was written is needed; a config or a run leaves out what is at its default."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside another, the first two of a long list."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for number in range(min(len(value), 2)):
            yield from places(value[number], (*path, number))


def at(values: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        values = values[key]
    return values


def changed(values: Any, path: tuple[Any, ...], act: Callable[[Any, Any], None]) -> Any:
    """A copy in which ``act`` was done to the container of a path and its last key."""
    new = copy.deepcopy(values)
    act(at(new, path[:-1]), path[-1])
    return new


def remove(container: Any, key: Any) -> None:
    del container[key]


def mutants(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every key removed, every value replaced, an unknown key in every mapping."""
    for path in places(values):
        name = ".".join(map(str, path))
        if isinstance(path[-1], str):
            yield f"without {name}", changed(values, path, remove)
        for wrong in WRONG:
            if type(wrong) is not type(at(values, path)) or wrong != at(values, path):
                yield f"{name} = {wrong!r}", changed(values, path, lambda c, k, w=wrong: c.__setitem__(k, w))
        if isinstance(at(values, path), dict):
            yield f"{name} with more", changed(values, path, lambda c, k: c[k].__setitem__("hiden_size", 3))
    yield "with more", values | {"hiden_size": 3}


def refusal(read: Callable[[Path], Any], world: Path, file: Path, what: str) -> str | None:
    """The error's text, after its form was checked; None if it was read. Any other kind of error fails the test."""
    try:
        read(world)
    except REFUSED as error:
        text = str(error)
        assert file.name in text or (what in GONE and file.parent.name in text), (what, text)
        assert len(text.splitlines()) <= 3 and len(text) <= 700, (what, text)
        assert type(error) is not UnicodeDecodeError, (what, text)
        return text
    return None


@pytest.mark.parametrize("name", RECORDS)
def test_whatever_stands_in_a_record_is_answered_by_a_line(name, world, tmp_path):
    """Some hundred values a record; those that matter are refused (below), none ends in another error."""
    place, read = RECORDS[name]
    file = world / place
    right = file.read_bytes()
    values = json.loads(right) if file.suffix == ".json" else yaml.safe_load(right)
    tried = refused = 0
    try:
        for what, mutant in itertools.islice(mutants(values), 0, None, STEP.get(name, 1)):
            text = json.dumps(mutant) if file.suffix == ".json" else yaml.safe_dump(mutant, sort_keys=False)
            file.write_text(text, encoding="utf-8")
            said = refusal(read, world, file, what)
            tried, refused = tried + 1, refused + (said is not None)
            lost = what.removeprefix("without ")
            if name in NEEDED and lost != what and "." not in lost:
                assert said is not None, what
            if what.endswith("with more") and "." not in what and name not in ("plan",):
                assert said is not None or what.split()[0] in OPEN, what
    finally:
        file.write_bytes(right)
    assert refusal(read, world, file, "as it was") is None
    assert refused >= 0.5 * tried, (refused, tried)  # of a corpus, how it was prepared may be anything


GONE = ("not there", "a folder")
STEP = {"settings": 8, "run": 25, "model": 2}
"""Of a record whose reading takes long, every so manieth is tried."""
OPEN = {"provenance", "environment", "validation", "test", "breakdown", "source"}
"""Mappings of any names."""

BYTES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2].rstrip(b"\n -:abcdefghijklmnopqrstuvwxyz"),
    "binary": lambda content: bytes(range(256)) * 4,
    "latin-1": lambda content: b'{"name": "caf\xe9"}',
    "utf-16": lambda content: content.decode().encode("utf-16"),
    "nested lists": lambda content: b"[" * 100_000,
    "nested mappings": lambda content: b'{"a":' * 100_000,
    "deep and whole": lambda content: b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}",
    "a list": lambda content: b"[1, 2]",
    "a number": lambda content: b"3",
    "many digits": lambda content: b'{"format": ' + b"9" * 5000 + b"}",
    "twice": lambda content: b'{"format": 1, "format": 1, "model": {}, "model": {}}',
    "NaN": lambda content: b'{"format": NaN, "num_users": Infinity}',
    "null bytes": lambda content: b"\0" * 100,
}


@pytest.mark.parametrize("name", RECORDS)
def test_files_that_hold_no_record_are_refused(name, world):
    place, read = RECORDS[name]
    file = world / place
    right = file.read_bytes()
    try:
        for what, make in BYTES.items():
            file.write_bytes(make(right))
            said = refusal(read, world, file, what)
            if what not in ("empty", "truncated") or name not in ("settings", "run"):  # which may be a shorter YAML
                assert said is not None, what
        file.write_bytes(b"\xef\xbb\xbf" + right)
        if name not in ("config", "model"):  # which transformers reads, too
            assert refusal(read, world, file, "byte order mark") is None
        file.unlink()
        assert refusal(read, world, file, "not there") is not None or name == "plan"  # not begun
        file.mkdir()
        assert refusal(read, world, file, "a folder") is not None or name == "plan"
        file.rmdir()
    finally:
        file.write_bytes(right)


@pytest.mark.parametrize(
    ("name", "path", "value", "said"),
    [
        ("corpus", ("protocols", "leave_one_out", "rows", "train"), -1, r"rows\.train is -1; expected 0 or more"),
        ("corpus", ("protocols", "leave_one_out", "fingerprint"), "x", "fingerprint is 'x'; expected a sha256"),
        ("corpus", ("num_users",), "40", "num_users is '40'; expected a whole number"),
        ("corpus", ("num_users",), True, "num_users is True; expected a whole number"),
        ("corpus", ("name",), " ", "name is ' '; expected a name"),
        ("corpus", ("protocols",), {}, "protocols is {}; expected at least one"),
        ("corpus", ("protocols",), {"random": {}}, "protocols is 'random'; expected one of|protocols"),
        ("corpus", ("format",), 2, "format 2, expected 1"),
        ("features", ("dim",), 17, "vectors of width 16, features.json says 17"),
        ("features", ("rows",), 29, "has 29 rows but the corpus has 30 items"),
        ("features", ("kind",), "dens", "kind is 'dens'; expected one of dense, ragged, tags .did you mean 'dense'"),
        ("features", ("vocabulary",), ["a"], "only tags have a vocabulary"),
        ("features", ("provenance",), {"encoder": 3}, r"provenance\.encoder is 3; expected a text"),
        ("tags", ("dim",), 3, "dim is 3, but vocabulary has 12 words"),
        ("config", ("num_items",), None, "num_items is None; expected a whole number"),
        ("config", ("features", "text_vector", "dim"), "16", r"features\.text_vector\.dim is '16'"),
        ("config", ("feature_order",), ["text"], "expected the names of features"),
        ("config", ("hidden_size",), "4", "hidden_size is '4'; choose a whole number"),
        ("config", ("hidden_sise",), 4, "unknown key 'hidden_sise'; a vbpr has none such; did you mean 'hidden_size'"),
        ("config", ("corpus",), {"name": "x", "protocol": "y", "fingerprint": "0" * 64}, "protocol is 'y'"),
        ("config", ("model_type",), ["bpr"], "model_type .'bpr'. is not registered"),
        ("metrics", ("validation", "recall@5"), float("nan"), "recall@5 is nan; expected a finite number"),
        ("metrics", ("best_epoch",), 1.0, "best_epoch is 1.0; expected a whole number"),
        ("cell", ("breakdown", "cold", "recall@5"), "0.5", r"breakdown\.cold\.recall@5 is '0\.5'"),
        ("plan", ("shard",), 0, "shard is 0; expected 1 or more"),
        ("settings", ("train", "epochs"), "3", r"train\.epochs is '3'; choose a whole number"),
        ("settings", ("train", "learning_rate"), float("inf"), "choose a finite number"),
        ("settings", ("data",), ["x"], "section 'data' must be a mapping of keys"),
        ("run", ("train", "seed"), 1 << 63, "seed is 9223372036854775808; choose a whole number below"),
    ],
)  # fmt: skip
def test_the_line_names_the_key_and_what_is_right(name, path, value, said, world):
    place, read = RECORDS[name]
    file = world / place
    right = file.read_bytes()
    values = json.loads(right) if file.suffix == ".json" else yaml.safe_load(right)
    wrong = changed(values, path, lambda container, key: container.__setitem__(key, value))
    file.write_text(json.dumps(wrong) if file.suffix == ".json" else yaml.safe_dump(wrong), encoding="utf-8")
    try:
        with pytest.raises(ValueError, match=said):
            read(world)
    finally:
        file.write_bytes(right)


# -- tables of a corpus ------------------------------------------------------------------------------------------------


def column(name: str, values: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        made = values(table[name]) if callable(values) else values
        return table.set_column(table.column_names.index(name), name, made)

    return change


def first(value: Any, kind: pa.DataType | None = None) -> Callable[[pa.ChunkedArray], pa.Array]:
    """The same column with another first value."""
    return lambda old: pa.array([value, *old.to_pylist()[1:]], kind or old.type)


TRAIN, ITEMS = "leave_one_out/train.parquet", "items/items.parquet"
VECTORS, TAGS = "text_vector/features.parquet", "genre/features.parquet"


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        (TRAIN, column("user", first(40)), r"outside 0\.\.39|is not after"),
        (TRAIN, column("user", first(-1)), "has user -1, outside"),
        (TRAIN, column("item", first(30)), r"has item 30, outside 0\.\.29"),
        (TRAIN, column("item", first(None)), "column 'item' has 1 rows without a value"),
        (TRAIN, column("item", lambda old: old.cast(pa.float64())), "column 'item' holds double, expected int64"),
        (TRAIN, column("item", lambda old: old.cast(pa.string())), "column 'item' holds string, expected int64"),
        (TRAIN, column("position", first(7)), "is not after the row before it"),
        (TRAIN, lambda table: table.drop_columns("position"), "has no column 'position'"),
        (TRAIN, lambda table: table.append_column("user", table["user"]), "has no column 'user'|cannot be read"),
        (TRAIN, lambda table: table.slice(1), "rows, corpus.json says"),
        (ITEMS, column("item", first(3)), "row 0 is of item 3"),
        (ITEMS, column("id", first(None)), "column 'id' has 1 rows without a value"),
        (ITEMS, column("id", pa.array(range(30))), "column 'id' holds int64, expected string"),
        (ITEMS, column("id", first("item-0", pa.binary())), "column 'id' holds binary, expected string"),
        (ITEMS, column("title", pa.array(range(30))), "column 'title' holds int64, expected string"),
        (ITEMS, lambda table: pa.concat_tables([table, table]), "has 60 rows, corpus.json says 30"),
        (VECTORS, column("item", first(5)), "row 0 is of item 5"),
        (VECTORS, column("values", pa.array(range(30))), "holds int64, expected vectors"),
        (VECTORS, column("values", first(None)), "has 1 empty entries|empty entries"),
        (VECTORS, column("values", first([float("nan")] + [0.0] * 15)), "value nan in row 0, column 0"),
        (VECTORS, column("values", first([float("inf")] + [0.0] * 15)), "value inf in row 0, column 0"),
        (VECTORS, lambda table: table.slice(0, 0), "0 rows, features.json says 30"),
        (VECTORS, lambda table: table.drop_columns("values"), "has no column 'values'"),
        (TAGS, column("values", first([12], pa.list_(pa.int64()))), "outside the vocabulary of 12"),
        (TAGS, column("values", first([-1], pa.list_(pa.int64()))), "outside the vocabulary of 12"),
        (TAGS, column("values", first(None, pa.list_(pa.int64()))), "has 1 empty entries"),
        (TAGS, column("values", first([None], pa.list_(pa.int64()))), "has 1 empty entries"),
        (TAGS, column("values", pa.array([["a"]] * 30)), "expected lists of int64"),
    ],
)  # fmt: skip
def test_tables_that_their_record_does_not_fit_are_refused(file, change, said, world):
    place = world / "corpus" / file
    right = place.read_bytes()
    pq.write_table(change(pq.read_table(place)), place)
    try:
        with pytest.raises(ValueError, match=said) as caught:
            seqmm.load_corpus(world / "corpus", features=["text_vector", "genre"])
        text = str(caught.value)
        assert len(text) < 600 and "\n" not in text and (Path(file).name in text or "leave_one_out: " in text)
    finally:
        place.write_bytes(right)


def test_text_that_is_no_utf8_in_a_table_is_refused(world):
    place = world / "corpus" / ITEMS
    right, table = place.read_bytes(), pq.read_table(place)
    broken = pa.array([b"caf\xe9", *(name.encode() for name in table["id"].to_pylist()[1:])], pa.binary()).view(
        pa.string()
    )
    pq.write_table(table.set_column(table.column_names.index("id"), "id", broken), place)
    try:
        with pytest.raises(ValueError, match=r"items\.parquet cannot be read .*UTF"):
            seqmm.load_corpus(world / "corpus")
    finally:
        place.write_bytes(right)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: {"users": np.arange(3)}, "no number for each"),
        (lambda: {"users": np.arange(3), "recall@5": np.array(["a"] * 3)}, "no number for each"),
        (lambda: {"users": np.arange(3), "recall@5": np.ones(2)}, "no number for each"),
        (lambda: {"users": np.arange(3), "recall@5": np.array([1, np.nan, 1])}, "recall@5 is not finite"),
        (lambda: {"users": np.arange(3), "recall@5": np.array([{}] * 3, object)}, "cannot be read"),
    ],
)
def test_values_of_users_are_numbers(make, said, tmp_path):
    np.savez_compressed(tmp_path / "a.npz", **make())
    if said != "no number for each" or len(make()) > 1:
        with pytest.raises(ValueError, match=said):
            read_values(tmp_path / "a.npz")
    content = (tmp_path / "a.npz").read_bytes()
    for damaged in (b"", b"PK", content[:-30], content[:60], b"\x80\x04K\x01.", bytes(300)):
        (tmp_path / "a.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.npz cannot be read|a\.npz holds"):
            read_values(tmp_path / "a.npz")


# -- parsing -----------------------------------------------------------------------------------------------------------

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "unfolds to more than 100,000 values"),
        (
            "base: &b {" + ", ".join(f"k{n}: v" for n in range(300)) + "}\nx: {<<: [" + "*b, " * 300 + "]}",
            "unfolds to more than",
        ),
        ("a: &x [*x]", r"the alias \*x stands inside what it repeats"),
        ("a: &x {b: {c: *x}}", r"the alias \*x stands inside"),
        ("a: *none", "undefined alias"),
        ("a: 1\nb: 2\na: 3", "line 3, column 1: 'a' stands twice, in lines 1 and 3"),
        ("1: a\n'1': b", "'1' stands twice"),
        ("? [a]\n: b", "a key must be a text"),
        ("{[1]: 2}", "a key must be a text"),
        ("--- 1\n--- 2", "single document"),
        ("a:\n\t- b", r"line 2, column 1: .*'\\t'"),
        ("a: !!python/object/apply:os.system [id]", "tag .* is unknown"),
        ("a: !!set {b}", "tag .* is unknown"),
        ("a: !!binary aGk=", "tag .* is unknown"),
        ("a: !!int seven", "'seven' is no int"),
        ("a: " + "9" * 5000, "too large"),
        ("a: " + "9" * 30, "too large"),
        ("a: \x00", r"character 4 is U\+0000"),
        ("[" * 100_000, f"more than {DEEPEST} deep"),
        ("- " * 5_000, f"more than {DEEPEST} deep"),
        ("{a: " * 60 + "1" + "}" * 60, f"more than {DEEPEST} deep"),
    ],
)
def test_yaml_that_nobody_means_is_refused_in_a_line(text, said, tmp_path):
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=said) as caught:
        read_yaml(tmp_path / "a.yaml")
    assert "a.yaml" in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_key_of_yaml_is_the_text_that_stands_there():
    text = "1: a\nno: b\n~: c\n2020-01-01: d\n1.50: e\n"
    assert parse_yaml(text) == {"1": "a", "no": "b", "~": "c", "2020-01-01": "d", "1.50": "e"}


def test_plain_values_of_yaml_stay_what_they_are():
    text = "a: no\nb: 1e-3\nc: 0x1f\nd: 2020-01-01\ne: .5\nf:\ng: 'no'\nh: &x {i: 1}\nj: {<<: *x, k: 2}\nl: *x\n"
    assert parse_yaml(text) == {
        "a": False, "b": "1e-3", "c": 31, "d": "2020-01-01", "e": 0.5, "f": None, "g": "no", "h": {"i": 1},
        "j": {"i": 1, "k": 2}, "l": {"i": 1},
    }  # fmt: skip


@pytest.mark.parametrize("value", ["no", '"no"', "bf16", "null"])
def test_a_bare_no_is_still_a_precision(value, tmp_path):
    (tmp_path / "a.yaml").write_text(f"model: {{model_type: bpr}}\ntrain: {{mixed_precision: {value}}}\n")
    found = load_run(["--config", str(tmp_path / "a.yaml")]).train.mixed_precision
    assert found == {"null": None, '"no"': "no"}.get(value, value)


@pytest.mark.parametrize("written", ["2020-01-01", "yes", "1"])
def test_text_that_looks_like_something_else_is_text_or_says_so(written, tmp_path):
    (tmp_path / "a.yaml").write_text(f"model: {{model_type: bpr}}\ndata: {{path: {written}}}\n")
    if written == "2020-01-01":
        assert load_run(["--config", str(tmp_path / "a.yaml")]).data.path == "2020-01-01"
    else:
        with pytest.raises(ValueError, match=r"a\.yaml: data\.path is .*; choose a text"):
            load_run(["--config", str(tmp_path / "a.yaml")])


@pytest.mark.parametrize("empty", ["false", "0", "[]", "''", "x"])
def test_a_configuration_is_a_mapping(empty, tmp_path):
    (tmp_path / "a.yaml").write_text(empty)
    with pytest.raises(ValueError, match="must hold the sections"):
        read_yaml(tmp_path / "a.yaml")


def test_a_huge_file_is_no_configuration(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"#" * (LARGEST_YAML + 1))
    with pytest.raises(ValueError, match=r"a\.yaml has more than 1 MiB"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "deep"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "deep"),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', "the key 'b' is there twice"),
        ("9" * 5000, "has 5,000 digits"),
        ('{"a": 1', "line 1, column 8"),
        ("", "line 1, column 1"),
    ],
)
def test_json_that_nobody_means_is_refused_in_a_line(text, said):
    with pytest.raises(ValueError, match=said) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_json_as_deep_as_a_record_may_be_is_read():
    assert parse_json("[" * DEEPEST + "]" * DEEPEST)


def test_the_walk_over_any_values_finds_what_is_not_finite():
    with pytest.raises(ValueError, match=r"f: a\.1\.b is inf; expected a finite number"):
        check_record({"a": [0, {"b": float("inf")}]}, dict[str, Any], "f")


@pytest.mark.parametrize(
    ("front", "said"),
    [
        ("license: [mit]", "license is"),
        ("license: 3", "license is 3; expected a text"),
        ("- a", "a list, not a mapping"),
        ("license: mit\nlicense: mit", "stands twice"),
        (BOMB, "unfolds"),
        ("a: [", "line"),
    ],
)
def test_front_matter_is_checked(front, said, tmp_path):
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# A card\n", encoding="utf-8")
    with pytest.raises(ValueError, match=said) as caught:
        license_of_card(tmp_path)
    assert "README.md" in str(caught.value) and "\n" not in str(caught.value)


def test_a_card_in_another_encoding_is_named(tmp_path):
    (tmp_path / "README.md").write_bytes("---\nlicense: mit\n---\n# café\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"README\.md is not UTF-8 text \(byte 0xe9 at"):
        license_of_card(tmp_path)
    (tmp_path / "README.md").write_bytes(b"\xef\xbb\xbf---\r\nlicense: mit\r\n---\r\n")
    assert license_of_card(tmp_path) == {"license": "mit"}
    assert read_text(tmp_path / "README.md").startswith("---")


def test_what_a_record_says_of_another_folder_does_not_matter(world, tmp_path):
    shutil.copytree(world / "corpus", tmp_path / "copy")
    assert seqmm.load_corpus(tmp_path / "copy").fingerprint() == seqmm.load_corpus(world / "corpus").fingerprint()
    assert read_about(tmp_path / "copy", "genre")["kind"] == "tags"
