"""A corpus: its checks, fingerprint, folder on disk, features with hashes, concatenation."""

import json
import os
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from seqmm.data import corpus as corpus_module
from seqmm.data import store
from seqmm.data.adding import write_features
from seqmm.data.corpus import Corpus
from seqmm.data.feature_sets import Features
from seqmm.data.feature_store import feature_names
from seqmm.data.interactions import Interactions
from seqmm.data.joining import concat_corpora
from seqmm.data.loading import load_corpus
from seqmm.data.synthetic import synthetic_corpus
from seqmm.names import PROTOCOLS

SETS = ("text", "image_vector", "genre")


@pytest.fixture(scope="module")
def corpus():
    whole = synthetic_corpus(40, 30, missing=0.2)
    return replace(whole, features={name: whole.features[name] for name in SETS})


def with_split(corpus, **columns):
    train = corpus.splits["train"]
    return replace(corpus, splits=corpus.splits | {"train": replace(train, **columns)})


def same(a, b):
    """Whether two feature sets are equal."""
    offsets = a.offsets is b.offsets or np.array_equal(a.offsets, b.offsets)
    return offsets and np.array_equal(a.values, b.values) and (a.kind, a.vocabulary) == (b.kind, b.vocabulary)


def test_a_corpus_in_a_line(corpus):
    sizes = ", ".join(f"{name} {len(part)}" for name, part in corpus.splits.items())
    line = f"synthetic (leave_one_out: {sizes}; 40 users, 30 items)"
    assert str(corpus) == line
    widths = ", ".join(f"{name} ({made.kind}, {made.dim})" for name, made in corpus.features.items())
    assert repr(corpus) == f"<Corpus {line}, features: {widths}>"
    assert repr(replace(corpus, features={})).endswith("features: none>")


# -- checks and fingerprint -------------------------------------------------------------------------------------------


def test_checks(corpus):
    train = corpus.splits["train"]
    with pytest.raises(ValueError, match="train row 3 has item 30, outside 0..29"):
        with_split(corpus, item=np.where(np.arange(len(train)) == 3, 30, train.item))
    with pytest.raises(ValueError, match=r"train row 1 \(user .*, position .*\) is not after"):
        with_split(corpus, position=np.zeros_like(train.position))
    with pytest.raises(ValueError, match="columns of train differ in length"):
        with_split(corpus, position=train.position[1:])
    with pytest.raises(ValueError, match="unknown protocol 'loo'"):
        replace(corpus, protocol="loo")
    with pytest.raises(ValueError, match="29 titles for 30"):
        replace(corpus, titles=corpus.titles[1:])
    with pytest.raises(ValueError, match=r"user 'user-7' \(index 7\) has validation rows but no train row"):
        keep = train.user != 7
        with_split(corpus, **{name: getattr(train, name)[keep] for name in ("user", "item", "position", "timestamp")})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: replace(f, values=f.values[1:]), "has 29 rows but the corpus has 30 items"),
        (
            lambda f: replace(f, values=np.where(np.arange(30)[:, None] == 4, np.nan, f.values)),
            "nan in row 4, column 0",
        ),
        (lambda f: replace(f, values=np.where(np.arange(30)[:, None] == 4, -np.inf, f.values)), "-inf in row 4"),
        (lambda f: replace(f, values=f.values[:, 0]), r"dense with values of shape \(30,\)"),
        (lambda f: replace(f, kind="ragged"), "offsets for ragged"),
    ],
)
def test_bad_features(corpus, change, message):
    with pytest.raises(ValueError, match=message):
        replace(corpus, features={"v": change(corpus.features["image_vector"])})


def test_bad_ragged_and_tags(corpus):
    text, genre = corpus.features["text"], corpus.features["genre"]
    values = text.values.copy()
    values[7, 2] = np.nan
    item = np.searchsorted(text.offsets, 7, side="right") - 1
    with pytest.raises(ValueError, match=rf"row 7, column 2 \(item {item}\)"):
        replace(corpus, features={"text": replace(text, values=values)})
    with pytest.raises(ValueError, match="must rise from 0"):
        replace(corpus, features={"text": replace(text, offsets=text.offsets[::-1])})
    with pytest.raises(ValueError, match="outside the vocabulary of 1"):
        replace(corpus, features={"genre": replace(genre, vocabulary=("one",))})


def test_fingerprint_is_interactions_ids_and_protocol(corpus):
    first = corpus.fingerprint()
    train = corpus.splits["train"]
    for same_data in (
        replace(corpus, name="other", titles=(), info={}, features={}),
        with_split(corpus, item=train.item.astype(np.int32)),
    ):
        assert same_data.fingerprint() == first
    swapped = train.item.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    others = (
        with_split(corpus, item=swapped),
        with_split(corpus, timestamp=train.timestamp + 1),
        with_split(corpus, timestamp=None),
        replace(corpus, item_ids=("new", *corpus.item_ids[1:])),
        replace(corpus, user_ids=("new", *corpus.user_ids[1:])),
        replace(corpus, protocol="given"),
    )
    assert len({first, *(other.fingerprint() for other in others)}) == 1 + len(others)


def test_an_unknown_protocol_names_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="unknown protocol 'leave_one_aut'; did you mean 'leave_one_out'"):
        Corpus.load(tmp_path, protocol="leave_one_aut")


def test_histories_and_targets(corpus):
    for user in (0, 11, 39):
        rows = [(p, i) for s in ("train", "validation") for u, i, p in triples(corpus.splits[s]) if u == user]
        assert corpus.histories("test")[user].tolist() == [item for _, item in sorted(rows)]
        assert corpus.histories("validation")[user].tolist() == corpus.targets("train")[user].tolist()


def triples(part):
    return zip(part.user.tolist(), part.item.tolist(), part.position.tolist(), strict=True)


# -- on disk ----------------------------------------------------------------------------------------------------------


def test_save_and_load(corpus, tmp_path):
    corpus.save(tmp_path / "c", item_columns={"brand": ["b"] * 30})
    loaded = Corpus.load(tmp_path / "c", features=SETS)
    assert loaded.fingerprint() == corpus.fingerprint()
    assert (loaded.name, loaded.titles, loaded.info) == (corpus.name, corpus.titles, corpus.info)
    for name in SETS:
        assert same(loaded.features[name], corpus.features[name])
        assert loaded.features[name].provenance == corpus.features[name].provenance
        assert loaded.features[name].values.flags.writeable
    assert list(Corpus.load(tmp_path / "c", features=("genre",)).features) == ["genre"]
    assert Corpus.load(tmp_path / "c").features == {}
    assert store.read_items(tmp_path / "c")["brand"].to_pylist() == ["b"] * 30
    assert sorted(os.listdir(tmp_path)) == ["c"]  # nothing temporary is left


def test_without_ids_titles_and_times(corpus, tmp_path):
    splits = {name: replace(part, timestamp=None) for name, part in corpus.splits.items()}
    bare = replace(corpus, user_ids=(), item_ids=(), titles=(), splits=splits)
    bare.save(tmp_path / "c")
    loaded = Corpus.load(tmp_path / "c")
    assert loaded.fingerprint() == bare.fingerprint()
    assert (loaded.user_ids, loaded.item_ids, loaded.titles) == ((), (), ())
    assert loaded.splits["test"].timestamp is None


def test_unknown_times_survive(corpus, tmp_path):
    time = corpus.splits["train"].timestamp.copy()
    time[5] = -1
    some = with_split(corpus, timestamp=time)
    some.save(tmp_path / "c")
    assert pq.read_table(tmp_path / "c" / "leave_one_out" / "train.parquet")["timestamp"].null_count == 1
    assert Corpus.load(tmp_path / "c").fingerprint() == some.fingerprint()


def test_several_protocols_in_one_folder(corpus, tmp_path):
    for protocol in PROTOCOLS:
        replace(synthetic_corpus(40, 30, protocol=protocol), features={}).save(tmp_path / "c")
    corpus.save(tmp_path / "c")  # again, now with features
    for protocol in PROTOCOLS:
        expected = synthetic_corpus(40, 30, protocol=protocol).fingerprint()
        assert Corpus.load(tmp_path / "c", protocol=protocol, features=("genre",)).fingerprint() == expected


def test_another_corpus_does_not_slip_into_a_folder(corpus, tmp_path):
    corpus.save(tmp_path / "c")
    other = synthetic_corpus(40, 31, protocol="ratio")
    with pytest.raises(ValueError, match="holds another corpus: its items are not those"):
        other.save(tmp_path / "c")
    assert Corpus.load(tmp_path / "c").fingerprint() == corpus.fingerprint()
    other.save(tmp_path / "c", overwrite=True)
    assert Corpus.load(tmp_path / "c", protocol="ratio").num_items == 31
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="is not a prepared corpus; it is not overwritten"):
        corpus.save(tmp_path / "mine", overwrite=True)


@pytest.mark.parametrize("existing", [False, True])
def test_a_failed_write_leaves_things_as_they_were(corpus, tmp_path, monkeypatch, existing):
    if existing:
        corpus.save(tmp_path / "c")
    written = []

    def full_disk(table, path, **options):
        written.append(path)
        if len(written) == 4:
            raise OSError(28, "No space left on device", str(path))
        real(table, path, **options)

    real = pq.write_table
    monkeypatch.setattr(pq, "write_table", full_disk)
    with pytest.raises(OSError, match="No space left"):
        synthetic_corpus(50, 30).save(tmp_path / "c", overwrite=True)
    assert len(written) == 4
    assert os.listdir(tmp_path) == (["c"] if existing else [])
    if existing:
        assert Corpus.load(tmp_path / "c", features=SETS).fingerprint() == corpus.fingerprint()


def test_rows_unlike_the_recorded_fingerprint_are_refused(corpus, tmp_path):
    corpus.save(tmp_path / "c")
    item = corpus.splits["train"].item.copy()
    item[[0, 1]] = item[[1, 0]]
    assert item[0] != item[1]
    store.write_splits(with_split(corpus, item=item), tmp_path / "c" / "leave_one_out")  # as many rows as before
    with pytest.raises(ValueError, match=r"c/leave_one_out: the interactions are not those .* prepare protocol"):
        Corpus.load(tmp_path / "c")


def test_splits_without_known_times_keep_their_fingerprint(corpus, tmp_path):
    unknown = with_split(corpus, timestamp=np.full(len(corpus.splits["train"]), -1))
    unknown.save(tmp_path / "c")
    assert Corpus.load(tmp_path / "c").fingerprint() == unknown.fingerprint() != corpus.fingerprint()


@pytest.mark.parametrize("protocol", ["leave_one_out", "ratio"])
@pytest.mark.parametrize("when", ["features", "rename", "record"])
def test_an_interrupted_protocol_is_harmless_or_detected(corpus, tmp_path, monkeypatch, protocol, when):
    corpus.save(tmp_path / "c")
    other = synthetic_corpus(40, 30, protocol=protocol, seed=1).features
    second = replace(synthetic_corpus(40, 30, protocol=protocol), features={name: other[name] for name in SETS})
    if protocol == "leave_one_out":  # replaced by other rows; beside another protocol they must be the same
        second = with_split(second, item=np.roll(second.splits["train"].item, 1))
    where = {"features": "write_feature_files", "rename": "write_splits", "record": "write_record"}[when]

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(corpus_module, where, stop)
        with pytest.raises(KeyboardInterrupt):
            second.save(tmp_path / "c")
    if when == "record" and protocol == "leave_one_out":
        with pytest.raises(ValueError, match="the interactions are not those|corpus.json says"):
            Corpus.load(tmp_path / "c")
    else:
        loaded = Corpus.load(tmp_path / "c", features=SETS)
        assert loaded.fingerprint() == corpus.fingerprint()
        if when != "record":
            assert all(same(loaded.features[name], corpus.features[name]) for name in SETS)
    if protocol == "ratio":
        with pytest.raises(ValueError, match="no protocol 'ratio'"):
            Corpus.load(tmp_path / "c", protocol="ratio")
    assert not list((tmp_path / "c").glob(".*"))
    second.save(tmp_path / "c")  # the remedy
    assert Corpus.load(tmp_path / "c", protocol=protocol, features=SETS).fingerprint() == second.fingerprint()


def test_datasets_reads_the_folder(corpus, tmp_path):
    from datasets import get_dataset_config_names, load_dataset

    corpus.save(tmp_path / "c")
    folder, cache = str(tmp_path / "c"), str(tmp_path / "cache")
    assert set(get_dataset_config_names(folder)) == {"items", "users", "leave_one_out", *SETS}
    items = load_dataset(folder, "items", split="train", cache_dir=cache)
    assert items["title"][:] == list(corpus.titles)
    splits = load_dataset(folder, "leave_one_out", cache_dir=cache)
    assert {name: len(part) for name, part in splits.items()} == {n: len(p) for n, p in corpus.splits.items()}
    vectors = load_dataset(folder, "image_vector", split="train", cache_dir=cache).with_format("numpy")["values"][:]
    assert np.array_equal(vectors, corpus.features["image_vector"].values)
    ragged = load_dataset(folder, "text", split="train", cache_dir=cache)["values"]
    assert [len(row) for row in ragged] == np.diff(corpus.features["text"].offsets).tolist()


def test_an_empty_split_does_not_break_datasets(corpus, tmp_path):
    from datasets import load_dataset

    nothing = Interactions(*(np.array([], np.int64) for _ in range(4)))
    replace(corpus, splits=corpus.splits | {"validation": nothing}, features={}).save(tmp_path / "c")
    assert len(Corpus.load(tmp_path / "c").splits["validation"]) == 0
    read = load_dataset(str(tmp_path / "c"), "leave_one_out", cache_dir=str(tmp_path / "cache"))
    assert sorted(read) == ["test", "train"]


def test_card_keeps_what_a_person_wrote(corpus, tmp_path):
    corpus.save(tmp_path / "c")
    card = tmp_path / "c" / "README.md"
    card.write_text(card.read_text() + "\nLicence: mine.\n")
    write_features(tmp_path / "c", "more", corpus.features["text"])
    text = card.read_text()
    assert "Licence: mine." in text and "- config_name: more" in text and "40 users, 30 items" in text


def test_missing_things_are_named(corpus, tmp_path):
    corpus.save(tmp_path / "c")
    with pytest.raises(ValueError, match="no protocol 'ratio'; it has: leave_one_out"):
        Corpus.load(tmp_path / "c", protocol="ratio")
    with pytest.raises(ValueError, match="no feature set 'audio'; it has: genre, image_vector, text"):
        Corpus.load(tmp_path / "c", features=("audio",))
    with pytest.raises(FileNotFoundError, match="holds no corpus.json: it is not a prepared corpus"):
        Corpus.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder .*/nowhere"):
        load_corpus(tmp_path / "nowhere")
    os.remove(tmp_path / "c" / "leave_one_out" / "test.parquet")
    with pytest.raises(FileNotFoundError, match=r"test\.parquet is missing"):
        Corpus.load(tmp_path / "c")


def test_hub_repository_out_of_reach(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no folder org/corpus, and no dataset repository"):
        load_corpus("org/corpus")


def test_hub_repository(corpus, tmp_path, monkeypatch):
    import huggingface_hub

    corpus.save(tmp_path / "c")
    asked = []

    def download(repo, **options):
        asked.append((repo, options["repo_type"], options["revision"]))
        return str(tmp_path / "c")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert load_corpus("org/corpus", revision="v1").fingerprint() == corpus.fingerprint()
    assert asked == [("org/corpus", "dataset", "v1")]


def test_damaged_files_are_refused(corpus, tmp_path):
    folder = tmp_path / "c"

    def damage(file, change, message, error=ValueError, **options):
        corpus.save(folder, overwrite=True)
        change(folder / file)
        with pytest.raises(error, match=message):
            load_corpus(folder, **options)

    def cut(file):
        file.write_bytes(file.read_bytes()[:-40])

    def edit(**keys):
        return lambda file: file.write_text(json.dumps(json.loads(file.read_text()) | keys))

    damage("leave_one_out/train.parquet", cut, r"train\.parquet cannot be read .* truncated or damaged")
    damage("text/features.parquet", cut, r"features\.parquet cannot be read", features=("text",))
    damage("corpus.json", cut, r"corpus\.json is not valid JSON")
    damage("corpus.json", edit(format=99), "format 99, expected 1")
    damage("corpus.json", edit(num_items=31), r"items\.parquet has 30 rows, corpus.json says 31")
    damage("corpus.json", edit(items="0" * 64), "the ids are not those")
    damage("text/features.json", edit(sha256="0" * 64), "values are not those", features=("text",))
    damage("text/features.json", edit(items="0" * 64), "made for other items", features=("text",))
    damage("image_vector/features.json", edit(dim=7), "vectors of width 20, .* says 7", features=("image_vector",))


def test_feature_rows_of_other_items_are_refused(corpus, tmp_path):
    corpus.save(tmp_path / "c")
    with pytest.raises(ValueError, match="has 29 rows but the corpus has 30 items"):
        write_features(tmp_path / "c", "v", Features("dense", np.zeros((29, 3), np.float32)))
    with pytest.raises(ValueError, match="cannot be called 'items'"):
        write_features(tmp_path / "c", "items", Features("dense", np.zeros((30, 3), np.float32)))
    assert feature_names(tmp_path / "c") == sorted(SETS)


# -- concatenation ----------------------------------------------------------------------------------------------------


def test_concat(corpus):
    second = synthetic_corpus(25, 35, seed=1)
    second = replace(
        second,
        name="second",
        features={name: second.features[name] for name in SETS}
        | {"genre": replace(second.features["genre"], vocabulary=(*second.features["genre"].vocabulary[:-1], "new"))},
    )
    both = concat_corpora([corpus, second])
    assert (both.num_users, both.num_items, both.name) == (65, 65, "synthetic+second")
    for split in ("validation", "test"):
        for user in (3, 24):
            ours = both.targets(split)[40 + user] - 30
            assert ours.tolist() == second.targets(split)[user].tolist()
            assert both.histories(split)[user].tolist() == corpus.histories(split)[user].tolist()
    assert both.item_ids[30] == "second/item-0" and both.user_ids[0] == "synthetic/user-0"
    assert both.titles[30:] == second.titles
    text, genre = both.features["text"], both.features["genre"]
    for item in (0, 34):
        rows = slice(text.offsets[30 + item], text.offsets[31 + item])
        own = second.features["text"]
        assert np.array_equal(text.values[rows], own.values[own.offsets[item] : own.offsets[item + 1]])
        tags = genre.values[genre.offsets[30 + item] : genre.offsets[31 + item]]
        own = second.features["genre"]
        words = [own.vocabulary[t] for t in own.values[own.offsets[item] : own.offsets[item + 1]]]
        assert [genre.vocabulary[t] for t in tags] == words
    assert np.array_equal(both.features["image_vector"].values[30:], second.features["image_vector"].values)


def test_concat_refuses_what_does_not_fit(corpus):
    other = replace(corpus, name="other")
    with pytest.raises(ValueError, match="equal name"):
        concat_corpora([corpus, corpus])
    with pytest.raises(ValueError, match="one protocol"):
        concat_corpora([corpus, replace(other, protocol="given")])
    with pytest.raises(ValueError, match="same features"):
        concat_corpora([corpus, replace(other, features={})])
    for change, message in (
        ({"values": np.zeros((30, 3), np.float32)}, "width"),
        ({"provenance": {"encoder": "another"}}, "provenance"),
    ):
        features = other.features | {"image_vector": replace(other.features["image_vector"], **change)}
        with pytest.raises(ValueError, match=rf"'image_vector': {message}"):
            concat_corpora([corpus, replace(other, features=features)])
