"""The leak shown and closed, on a corpus whose users are numbered by their smallest item."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from seqmm.data.corpus import Corpus
from seqmm.data.feature_sets import Features
from seqmm.data.interactions import Interactions
from seqmm.evaluation.evaluator import Evaluator
from seqmm.evaluation.leakage import index_order, positional_encoding, ties
from seqmm.models.collaborative.userec import USERec, USERecConfig


def item_sorted(index_order: str, num_users: int = 3000, num_items: int = 1500) -> Corpus:
    """Popularity-only interactions, a random 3:1:1 split, users numbered by smallest item or at random."""
    rng = np.random.default_rng(0)
    chance = np.arange(10, num_items + 10) ** -0.7
    chance = rng.permutation(chance / chance.sum())
    rows = np.stack([rng.choice(num_items, 5, replace=False, p=chance) for _ in range(num_users)])  # [U, 5]
    if index_order == "source":
        rows = rows[np.argsort(rows.min(1), kind="stable")]
    user = np.arange(num_users)
    splits = {}
    for name, columns in (("train", (0, 1, 2)), ("validation", (3,)), ("test", (4,))):
        splits[name] = Interactions(
            np.repeat(user, len(columns)), rows[:, columns].ravel(), np.tile(columns, num_users)
        )
    return Corpus("sorted", "given", num_users, num_items, splits, info={"index_order": index_order})


def recall(corpus: Corpus, scorer) -> float:
    return Evaluator(corpus, "test", ks=(20,), metrics=("recall",)).evaluate(scorer)["recall@20"]


def popularity(corpus: Corpus) -> float:
    counts = torch.from_numpy(np.bincount(corpus.splits["train"].item, minlength=corpus.num_items)).float()
    return recall(corpus, lambda batch: lambda items: counts[items].repeat(len(batch["user"]), 1))


def test_probes_read_the_source_order_and_nothing_else():
    source, permuted = item_sorted("source"), item_sorted("permuted")
    assert recall(source, index_order(source)) > 1.5 * popularity(source)
    assert recall(permuted, index_order(permuted)) < popularity(permuted)
    assert recall(source, positional_encoding(source)) > 1.2 * popularity(source)
    assert recall(permuted, positional_encoding(permuted)) < 0.6 * popularity(permuted)


def test_userec_scores_by_the_numbering():
    """Untrained, with next to no content: what USERec ranks by is its code of the user index."""
    found = {}
    noise = np.random.default_rng(0).normal(scale=1e-3, size=(1500, 16)).astype(np.float32)
    for order in ("source", "permuted"):
        corpus = replace(item_sorted(order), features={"noise": Features("dense", noise)})
        evaluator = Evaluator(corpus, "test", ks=(20,), metrics=("recall",))
        for pe in ("sincos", "random"):
            torch.manual_seed(0)
            model = USERec.for_corpus(USERecConfig(pe=pe, num_neighbors=5), corpus)
            found[pe, order] = evaluator(Accelerator(), model)["recall@20"]
    # measured: .150 and .106 (what permuted codes have in common counts an item's users: popularity, .106)
    assert found["sincos", "source"] > found["sincos", "permuted"] + 0.03
    assert found["sincos", "source"] > 1.3 * popularity(corpus)
    # measured: .041 and .044: as good to tell users apart, and nothing to read
    assert abs(found["random", "source"] - found["random", "permuted"]) < 0.01


def test_index_order_is_the_sum_of_the_neighbours_rows():
    corpus = item_sorted("source", num_users=60, num_items=50)
    dense = np.zeros((60, 50), dtype=np.float32)
    np.add.at(dense, (corpus.splits["train"].user, corpus.splits["train"].item), 1)
    users = np.array([0, 3, 59])
    got = index_order(corpus, window=4)({"user": torch.from_numpy(users)})(slice(10, 40))
    expected = [sum(dense[v] for v in range(max(0, u - 4), min(60, u + 5)) if v != u)[10:40] for u in users]
    np.testing.assert_array_equal(got.numpy(), np.stack(expected))


def tied(order: str) -> Corpus:
    """Every second user's last three interactions are on one day; written in ascending item id, or shuffled."""
    rng = np.random.default_rng(1)
    num_users, num_items = 400, 300
    rows = np.stack([rng.choice(num_items, 6, replace=False) for _ in range(num_users)])
    if order == "source":
        rows[:, 3:].sort(1)
    time = np.tile(np.arange(6) * 100, (num_users, 1))
    time[::2, 3:] = 300
    user, position = np.repeat(np.arange(num_users), 6), np.tile(np.arange(6), num_users)
    splits = {}
    for name, chosen in (("train", position < 4), ("validation", position == 4), ("test", position == 5)):
        columns = (user, rows.ravel(), position, time.ravel())
        splits[name] = Interactions(*(column[chosen] for column in columns))
    return Corpus("tied", "leave_one_out", num_users, num_items, splits, info={"index_order": "source"})


def test_ties():
    source, seeded = ties(tied("source")), ties(tied("seeded"))
    for found in (source, seeded):
        assert found.share == pytest.approx(2 * 200 / (5 * 400))
        assert found.users == 200
        assert found.chance == pytest.approx(1 / 3)
    assert (source.largest, source.score) == (1, 1)
    assert abs(seeded.score) < 0.15
    relabelled = tied("source")
    new = np.random.default_rng(2).permutation(300)
    moved = {name: replace(part, item=new[part.item]) for name, part in relabelled.splits.items()}
    permuted = replace(relabelled, splits=moved, info={"index_order": "permuted"})
    assert ties(permuted, np.argsort(new)).score == 1
    with pytest.raises(ValueError, match="source_index"):
        ties(permuted)


def test_rows_without_time_tie_with_nothing():
    corpus = tied("source")
    unknown = {name: replace(part, timestamp=np.full(len(part), -1)) for name, part in corpus.splits.items()}
    found = ties(replace(corpus, splits=unknown))
    assert (found.share, found.users, found.score) == (0, 0, 0)
    with pytest.raises(ValueError, match="no timestamps"):
        ties(replace(corpus, splits={name: replace(part, timestamp=None) for name, part in corpus.splits.items()}))
