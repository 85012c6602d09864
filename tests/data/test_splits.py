"""Each protocol against its definition, written as a plain loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmm.data import splits

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def rows(lengths):
    user = np.repeat(np.arange(len(lengths)), lengths)
    position = np.concatenate([np.arange(n) for n in lengths])
    return user, position


@given(LENGTHS)
@settings(max_examples=50, deadline=None)
def test_leave_one_out(lengths):
    labels = splits.leave_one_out(*rows(lengths))
    expected = [[0] * n if n < 3 else [0] * (n - 2) + [1, 2] for n in lengths]
    assert labels.tolist() == sum(expected, [])


@given(LENGTHS, st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_ratio_counts(lengths, seed):
    """The rule of the MMRec notebook, with its floating-point floor."""
    user, _ = rows(lengths)
    labels = splits.ratio(user, seed)
    for u, n in enumerate(lengths):
        counts = np.bincount(labels[user == u], minlength=3).tolist()
        if n < 3:
            assert counts == [n, 0, 0]
        elif n < 10:
            assert counts == [n - 2, 1, 1]
        else:
            held = int(np.floor(0.2 * n))
            assert counts == [n - held, held // 2, held - held // 2]


def test_ratio_is_random_and_seeded():
    user = np.repeat(np.arange(2000), 10)
    labels = splits.ratio(user, 0).reshape(2000, 10)
    share = (labels == 2).mean(0)  # every place in a history is held out equally often
    assert np.abs(share - 0.1).max() < 0.03
    assert (splits.ratio(user, 0) == labels.reshape(-1)).all()
    assert (splits.ratio(user, 1) != labels.reshape(-1)).any()


def test_temporal_has_no_row_before_an_earlier_split():
    time = np.random.default_rng(0).integers(0, 300, 1000)  # many ties
    labels = splits.temporal(time)
    assert time[labels == 0].max() < time[labels == 1].min() <= time[labels == 1].max() < time[labels == 2].min()
    shares = np.bincount(labels) / 1000
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


def test_cold_items_are_in_one_split_only():
    item = np.random.default_rng(0).integers(0, 50, 1000)
    labels = splits.cold(item, 50, seed=3)
    sets = [set(item[labels == label]) for label in range(3)]
    assert [len(s) for s in sets] == [40, 5, 5]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    assert (labels != splits.cold(item, 50, seed=4)).any()


def test_has_train():
    user = np.array([0, 0, 1, 1, 3])
    labels = np.array([0, 2, 1, 2, 0])
    assert splits.has_train(user, labels).tolist() == [True, True, False, False, True]
