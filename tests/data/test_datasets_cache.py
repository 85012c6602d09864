"""``datasets.load_dataset`` of a corpus' folder gives that folder's rows, whatever it cached before."""

from __future__ import annotations

import shutil

import datasets
import pytest

from seqmm.data.corpus import Corpus
from seqmm.data.synthetic import synthetic_corpus


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Rows of a folder's config, with a cache that no other test sees."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def rows(folder, config, **options):
        return list(datasets.load_dataset(str(folder), config, split="train", **options))

    return rows


def check(rows, corpus: Corpus, item_rows, feature_rows) -> None:
    train = corpus.splits["train"]
    assert [row["item"] for row in rows] == train.item.tolist()
    assert [row["id"] for row in item_rows] == list(corpus.item_ids)
    assert [row["values"] for row in feature_rows] == corpus.features["text_vector"].values.tolist()


@pytest.mark.parametrize("streaming", [False, True])
def test_two_corpora_of_one_folder_name_load_their_own_rows(tmp_path, load, streaming):
    folders = {tmp_path / "a" / "mine": synthetic_corpus(30, 20), tmp_path / "b" / "mine": synthetic_corpus(30, 25)}
    for folder, corpus in folders.items():
        corpus.save(folder)
    for _ in range(2):  # the second time out of the cache
        for folder, corpus in folders.items():
            parts = (load(folder, name, streaming=streaming) for name in ("leave_one_out", "items", "text_vector"))
            rows, item_rows, feature_rows = parts
            check(rows, corpus, item_rows, feature_rows)


def test_a_rebuilt_corpus_loads_its_new_rows(tmp_path, load):
    folder = tmp_path / "mine"
    for seed in (0, 1):  # as many users and items, other interactions and vectors
        shutil.rmtree(folder, ignore_errors=True)
        corpus = synthetic_corpus(30, 20, seed=seed)
        corpus.save(folder, item_columns={"made": [f"in build {seed}"] * 20})
        item_rows = load(folder, "items")
        check(load(folder, "leave_one_out"), corpus, item_rows, load(folder, "text_vector"))
        assert {row["made"] for row in item_rows} == {f"in build {seed}"}
