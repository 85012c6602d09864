"""Users, positives and negatives of MMSSL's batches."""

from dataclasses import replace

import numpy as np
import pytest

from seqmm.data.collators import UserCollator
from seqmm.data.interactions import Interactions
from seqmm.data.synthetic import synthetic_corpus

CORPUS = synthetic_corpus(num_users=50, num_items=40)
TRAIN = CORPUS.splits["train"]
OWN = {user: set(TRAIN.item[TRAIN.user == user].tolist()) for user in range(50)}


def drawn(epochs: range, size: int = 16) -> dict[str, np.ndarray]:
    collator = UserCollator(CORPUS, 3)
    batches = [collator(epoch, rows) for epoch in epochs for rows in collator.batches(epoch, size)]
    return {name: np.concatenate([batch[name].numpy() for batch in batches]) for name in batches[0]}


def assert_uniform(sample: np.ndarray, allowed: np.ndarray) -> None:
    values, counts = np.unique(sample, return_counts=True)
    assert set(values) <= set(allowed)
    expected = len(sample) / len(allowed)
    missing = len(allowed) - len(values)
    chi2 = ((counts - expected) ** 2 / expected).sum() + missing * expected
    assert chi2 < (len(allowed) - 1) + 4 * (2 * (len(allowed) - 1)) ** 0.5


@pytest.mark.parametrize("size", [1, 7, 16, 50])
def test_an_epoch_is_full_batches_of_different_users(size):
    collator = UserCollator(CORPUS, 0)
    batches = collator.batches(2, size)
    assert len(batches) == len(TRAIN) // size + 1 and all(len(rows) == size for rows in batches)
    users = [collator(2, rows)["user"].tolist() for rows in batches]
    assert all(len(set(batch)) == size for batch in users)
    counts = np.bincount(np.concatenate(users), minlength=50)
    assert counts.max() - counts.min() <= 1
    other = collator(3, batches[0])["user"].tolist()
    assert other != users[0] or size == 1


def test_a_batch_larger_than_the_users_repeats_them():
    collator = UserCollator(CORPUS, 0)
    user = collator(0, collator.batches(0, 120)[0])["user"].numpy()
    assert set(np.bincount(user, minlength=50)) == {2, 3}


def test_positives_are_owned_and_negatives_are_not():
    batch = drawn(range(10))
    for user, positive, negative in zip(batch["user"], batch["positive"], batch["negative"], strict=True):
        assert positive in OWN[user] and negative not in OWN[user]
    assert len(set(batch["row_seed"])) == len(batch["row_seed"])


def test_draws_are_uniform():
    """Of a user's positives, of its negatives over ALL items it lacks, and of the users of a place over epochs."""
    collator = UserCollator(CORPUS, 3)
    batch = collator(0, np.arange(50 * 4000))
    for user in (7, 31):
        mine = (batch["user"] == user).numpy()
        assert mine.sum() == 4000
        assert_uniform(batch["positive"].numpy()[mine], np.array(sorted(OWN[user])))
        assert_uniform(batch["negative"].numpy()[mine], np.array(sorted(set(range(40)) - OWN[user])))
    places = np.stack([collator(epoch, np.array([5, 61]))["user"].numpy() for epoch in range(3000)])
    for place in places.T:
        assert_uniform(place, np.arange(50))
    assert_uniform((places[:, 0] - places[:, 1]) % 50, np.arange(1, 50))  # two places of one batch never agree


def test_users_without_train_items_are_left_out_and_items_without_are_drawn():
    keep = (TRAIN.user != 4) & (TRAIN.item != 7)
    part = Interactions(TRAIN.user[keep], TRAIN.item[keep], TRAIN.position[keep])
    nothing = Interactions(*[np.zeros(0, np.int64)] * 3)
    corpus = replace(CORPUS, splits={"train": part, "validation": nothing, "test": nothing})
    collator = UserCollator(corpus, 0)
    batches = [collator(epoch, rows) for epoch in range(20) for rows in collator.batches(epoch, 16)]
    assert not any((batch["user"] == 4).any() for batch in batches)
    assert any((batch["negative"] == 7).any() for batch in batches)
    empty = replace(CORPUS, splits={"train": nothing, "validation": nothing, "test": nothing})
    assert UserCollator(empty, 0).batches(0, 16) == []
