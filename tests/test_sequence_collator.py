"""Windows of train sequences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seqmm.data.collators import SequenceCollator
from seqmm.data.corpus import Corpus
from seqmm.data.interactions import Interactions
from seqmm.data.synthetic import synthetic_corpus


def corpus_of(*lengths: int) -> Corpus:
    """User ``u`` has items ``100 u, 100 u + 1, …`` in train; one user has validation and test items, too."""
    user = np.repeat(np.arange(len(lengths)), lengths)
    position = np.concatenate([np.arange(n) for n in lengths])
    train = Interactions(user, 100 * user + position, position)
    later = [Interactions(np.array([0]), np.array([90 + k]), np.array([lengths[0] + k])) for k in range(2)]
    return Corpus(
        "windows", "leave_one_out", len(lengths), 100 * len(lengths),
        {"train": train, "validation": later[0], "test": later[1]},
    )  # fmt: skip


def examples(collator: SequenceCollator, epoch: int = 0, size: int = 3) -> list[tuple[int, tuple[int, ...], int]]:
    """``(user, prefix, target)`` of everything that is trained in an epoch."""
    found = []
    for rows in collator.batches(epoch, size):
        batch = collator(epoch, rows)
        for b, j in batch["target_mask"].nonzero().tolist():
            assert batch["mask"][b, : j + 1].all()
            prefix = tuple(batch["history"][b, : j + 1].tolist())
            found.append((int(batch["user"][b]), prefix, int(batch["target"][b, j])))
    return found


LENGTHS = (7, 1, 2, 23, 6, 5, 0, 11)


def test_every_target_once_with_its_latest_window_full():
    found = examples(SequenceCollator(corpus_of(*LENGTHS), 0, max_length=5))
    expected = sorted((u, 100 * u + t) for u, n in enumerate(LENGTHS) for t in range(1, n))
    assert sorted((user, target) for user, _, target in found) == expected
    for user, prefix, target in found:
        assert prefix == tuple(range(target - len(prefix), target)), "a prefix is what came right before the target"
        after = 100 * user + LENGTHS[user] - 1 - target
        inputs = target - 100 * user  # known items
        assert len(prefix) == min(inputs, 5 - after % 5), "windows of 5 inputs, counted from the end"


def test_prefix_has_a_row_for_every_target():
    found = examples(SequenceCollator(corpus_of(*LENGTHS), 0, max_length=5, targets="prefix"))
    expected = [
        (u, tuple(range(100 * u + max(0, t - 5), 100 * u + t)), 100 * u + t)
        for u, n in enumerate(LENGTHS)
        for t in range(1, n)
    ]
    assert sorted(found) == sorted(expected)


def test_batches_are_seeded_and_of_similar_length():
    corpus = synthetic_corpus(800, 60, mean_length=14)
    collator = SequenceCollator(corpus, 3, max_length=30)
    batches = collator.batches(0, 16)
    assert sorted(np.concatenate(batches)) == list(range(len(collator.user)))
    again = SequenceCollator(corpus, 3, max_length=30).batches(0, 16)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))
    assert not np.array_equal(batches[0], collator.batches(1, 16)[0])
    real, size = (sum(f(collator(0, rows)["mask"]) for rows in batches) for f in (torch.Tensor.sum, torch.Tensor.numel))
    assert real / size > 0.9, f"{1 - real / size:.0%} of the positions are padding"


def test_a_batch_is_a_pure_function_of_its_rows():
    collator = SequenceCollator(synthetic_corpus(60, 40), 0, max_length=9, negatives=3)
    whole, part = collator(4, np.arange(20)), collator(4, np.array([5, 11]))
    for name, value in part.items():
        expected = whole[name][[5, 11]]
        assert torch.equal(value, expected[:, : value.shape[1]] if value.ndim > 1 else expected), name
    empty = collator(4, np.zeros(0, np.int64))
    assert {name: value.dtype for name, value in empty.items()} == {name: value.dtype for name, value in whole.items()}
    assert all(len(value) == 0 for value in empty.values()) and empty["history"].ndim == 2


def test_negatives_are_not_the_users_items_and_differ():
    corpus = synthetic_corpus(60, 40)
    collator = SequenceCollator(corpus, 0, max_length=9, negatives=3)
    batch = collator(0, np.arange(40))
    assert batch["negative"].shape == (*batch["history"].shape, 3)
    for user, negative in zip(batch["user"].tolist(), batch["negative"], strict=True):
        assert not np.isin(negative.numpy(), corpus.histories("train")[user]).any()
    assert not torch.equal(batch["negative"][:, 0], batch["negative"][:, 1])
    assert not torch.equal(batch["negative"], collator(1, np.arange(40))["negative"])


def test_bad_options_and_corpora_are_refused():
    with pytest.raises(ValueError, match="max_length"):
        SequenceCollator(corpus_of(9), 0, max_length=0)
    with pytest.raises(ValueError, match="'windows' has two train items"):
        SequenceCollator(corpus_of(1, 1), 0)
