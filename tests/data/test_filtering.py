"""Order, duplicates, k-core and ids against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmm.data import filtering
from seqmm.data.filtering import Log


def log(rows, **columns):
    user, item = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    ids = [str(n) for n in range(int(max(user.max(), item.max())) + 1)]
    return Log(user, item, ids, ids, **{name: np.array(column) for name, column in columns.items()})


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=60), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_k_core_is_the_fixed_point(pairs, k):
    user, item = (np.array(column) for column in zip(*pairs, strict=True))
    keep, steps = filtering.k_core(user, item, k)
    left = list(pairs)
    while True:
        users, items = [p[0] for p in left], [p[1] for p in left]
        fewer = [p for p in left if users.count(p[0]) >= k and items.count(p[1]) >= k]
        if fewer == left:
            break
        left = fewer
    assert [p for p, stays in zip(pairs, keep, strict=True) if stays] == left
    assert steps[0][0] == len(pairs) and steps[-1] == (len(left), len({p[0] for p in left}), len({p[1] for p in left}))


def test_order_by_user_then_time():
    rows = log([(1, 0), (0, 1), (0, 2), (1, 3)], timestamp=[50, 20, 10, 40])
    assert filtering.chronological(rows, "seeded", 0).tolist() == [2, 1, 3, 0]


def test_ties_source_order_or_seeded_hash():
    rows = log([(0, item) for item in range(40)], timestamp=[7] * 40)
    assert filtering.chronological(rows, "source", 0).tolist() == list(range(40))
    seeded = filtering.chronological(rows, "seeded", 0).tolist()
    assert sorted(seeded) == list(range(40)) and seeded != list(range(40))
    assert filtering.chronological(rows, "seeded", 0).tolist() == seeded
    assert filtering.chronological(rows, "seeded", 1).tolist() != seeded


def test_seeded_ties_do_not_follow_the_item_number():
    """In the public files the last item of a tie group is its largest; after shuffling that is chance."""
    groups = 3000
    rows = log([(user, item) for user in range(groups) for item in range(4)], timestamp=[7] * (4 * groups))
    last = filtering.chronological(rows, "seeded", 0).reshape(groups, 4)[:, -1] % 4
    assert np.bincount(last) / groups == pytest.approx([0.25] * 4, abs=0.03)


def test_source_ties_follow_positions():
    rows = log([(0, 0), (0, 1), (0, 2)], timestamp=[7, 7, 7], position=[2, 0, 1])
    assert filtering.chronological(rows, "source", 0).tolist() == [1, 2, 0]


def test_unknown_times_are_taken_from_neighbours():
    """Row 1 has no time and stands between times 5 and 9; user 1 has no time at all, so positions decide."""
    rows = log(
        [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)], timestamp=[-1, 5, -1, 9, -1, -1], position=[0, 1, 2, 3, 1, 0]
    )
    for seed in range(5):
        order = filtering.chronological(rows, "seeded", seed).tolist()
        assert order[3] == 3 and order[4:] == [5, 4]
        assert set(order[:3]) == {0, 1, 2}
    assert filtering.chronological(rows, "source", 0).tolist() == [0, 1, 2, 3, 5, 4]


def test_tie_share():
    rows = log([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)], timestamp=[3, 3, 4, 4, -1])
    assert filtering.tie_share(rows) == 0.5  # (3, 3) yes, (3, 4) no; other users and unknown times do not count
    assert filtering.tie_share(log([(0, 0), (0, 1)], position=[0, 1])) is None


@pytest.mark.parametrize(("keep", "expected"), [("first", [0, 1, 3]), ("last", [1, 2, 3]), ("keep", [0, 1, 2, 3])])
def test_duplicates(keep, expected):
    rows = log([(0, 5), (0, 6), (0, 5), (1, 5)], timestamp=[1, 2, 3, 4])
    assert np.flatnonzero(filtering.without_duplicates(rows, keep)).tolist() == expected


def test_dense_ids():
    codes = np.array([7, 3, 7, 9, 3])
    number, code = filtering.dense(codes, "source", 0, "users")
    assert number.tolist() == [1, 0, 1, 2, 0] and code.tolist() == [3, 7, 9]
    many = np.random.default_rng(0).integers(0, 1000, 5000)
    number, code = filtering.dense(many, "permuted", 0, "users")
    assert (code[number] == many).all() and len(set(code)) == len(code)
    assert abs(np.corrcoef(np.arange(len(code)), code)[0, 1]) < 0.1  # the new number says nothing of the old
    other = filtering.dense(many, "permuted", 1, "users")[1]
    assert (other != code).any()
