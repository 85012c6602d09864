"""Negative sampling and the pair collator."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from seqmm.data import sampling
from seqmm.data.collators import PairCollator
from seqmm.data.corpus import Corpus
from seqmm.data.interactions import Interactions
from seqmm.data.sampling import NegativeSampler
from seqmm.data.synthetic import synthetic_corpus


@pytest.fixture(params=["bitmap", "keys"])
def corpus(request, monkeypatch) -> Corpus:
    if request.param == "keys":
        monkeypatch.setattr(sampling, "BITMAP_BYTES", 0)
    return synthetic_corpus(num_users=50, num_items=40)


def draw(corpus: Corpus, epoch: int = 0, seed: int = 0) -> np.ndarray:
    train = corpus.splits["train"]
    return NegativeSampler(corpus, seed)(epoch, np.arange(len(train)), train.user)


def test_negatives_are_train_items_the_user_does_not_have(corpus):
    train = corpus.splits["train"]
    owned = set(zip(train.user.tolist(), train.item.tolist(), strict=True))
    pool = set(train.item.tolist())
    for epoch in range(20):
        negative = draw(corpus, epoch).tolist()
        assert not owned & set(zip(train.user.tolist(), negative, strict=True))
        assert set(negative) <= pool
    assert set(np.concatenate([draw(corpus, epoch) for epoch in range(20)]).tolist()) == pool


def test_an_item_outside_train_is_never_drawn():
    corpus = synthetic_corpus(num_users=50, num_items=40)
    train = corpus.splits["train"]
    keep = train.item != 7
    part = Interactions(train.user[keep], train.item[keep], train.position[keep])
    corpus = replace(corpus, splits=corpus.splits | {"train": part})
    assert not any((draw(corpus, epoch) == 7).any() for epoch in range(20))


def test_draws_are_uniform_over_what_is_allowed(corpus):
    """Chi-square for one user over many rows, and for the same row over epochs."""
    train = corpus.splits["train"]
    sampler = NegativeSampler(corpus, 3)
    allowed = np.setdiff1d(np.unique(train.item), train.item[train.user == 5])
    rows = np.arange(40000)
    over_rows = sampler(0, rows, np.full(len(rows), 5))
    over_epochs = np.concatenate([sampler(epoch, rows[:40], np.full(40, 5)) for epoch in range(1000)])
    for sample in (over_rows, over_epochs):
        counts = np.bincount(sample, minlength=corpus.num_items)[allowed]
        expected = len(sample) / len(allowed)
        freedom = len(allowed) - 1
        assert ((counts - expected) ** 2 / expected).sum() < freedom + 4 * (2 * freedom) ** 0.5


def test_a_draw_depends_on_seed_epoch_and_row_only(corpus):
    train = corpus.splits["train"]
    whole = draw(corpus, epoch=2)
    sampler = NegativeSampler(corpus, 0)
    rows = np.random.default_rng(0).permutation(len(train))
    for part in np.array_split(rows, 7):
        assert np.array_equal(sampler(2, part, train.user[part]), whole[part])
    assert (whole != draw(corpus, epoch=3)).mean() > 0.8 and (whole != draw(corpus, epoch=2, seed=1)).mean() > 0.8


def test_both_kinds_of_membership_draw_the_same(monkeypatch):
    corpus = synthetic_corpus(num_users=50, num_items=40)
    with_bitmap = draw(corpus)
    monkeypatch.setattr(sampling, "BITMAP_BYTES", 0)
    assert NegativeSampler(corpus, 0)._bits is None
    assert np.array_equal(draw(corpus), with_bitmap)


def test_a_user_with_every_item_is_an_error():
    user, item = np.array([0, 1, 1]), np.array([0, 0, 1])
    train, empty = Interactions(user, item, np.array([0, 0, 1])), Interactions(*[np.zeros(0, np.int64)] * 3)
    splits = {"train": train, "validation": empty, "test": empty}
    corpus = Corpus("tiny", "given", 2, 3, splits, user_ids=("ann", "bob"))
    with pytest.raises(ValueError, match="'bob'.*all 2 items"):
        NegativeSampler(corpus, 0)


def test_pair_collator_covers_every_row_once_an_epoch(corpus):
    collator = PairCollator(corpus, 0)
    train = corpus.splits["train"]
    batches = collator.batches(4, 64)
    assert [len(rows) for rows in batches[:-1]] == [64] * (len(batches) - 1)
    made = [collator(4, rows) for rows in batches]
    pairs = [torch.stack([batch["user"], batch["positive"]], 1) for batch in made]
    assert sorted(torch.cat(pairs).tolist()) == sorted(np.stack([train.user, train.item], 1).tolist())
    assert not np.array_equal(np.concatenate(batches), np.concatenate(collator.batches(5, 64)))
    assert all(value.shape == (0,) and value.dtype == torch.int64 for value in collator(4, batches[0][:0]).values())
