"""Counter-based draws: the same bits in numpy and torch, uniform, and independent of batching."""

import numpy as np
import torch

from seqmm.random import derive_seed, hash_ints, hash_uniform, torch_hash, torch_uniform


def test_numpy_and_torch_give_the_same_bits():
    rows = np.arange(-3, 1000)
    ours = hash_ints("stream", 7, rows[:, None], np.arange(5)).view(np.int64)
    theirs = torch_hash("stream", 7, torch.from_numpy(rows)[:, None], torch.arange(5))
    assert np.array_equal(ours, theirs.numpy())


def test_a_draw_depends_on_its_keys_alone():
    whole = hash_uniform("x", 1, np.arange(100))
    assert np.array_equal(whole[40:60], hash_uniform("x", 1, np.arange(40, 60)))
    assert not np.array_equal(whole, hash_uniform("y", 1, np.arange(100)))
    assert not np.array_equal(whole, hash_uniform("x", 2, np.arange(100)))


def test_uniform_by_chi_square():
    for draws in (hash_uniform(3, np.arange(200_000)), torch_uniform(3, torch.arange(200_000)).numpy()):
        assert draws.min() >= 0 and draws.max() < 1
        counts = np.bincount((draws * 100).astype(int), minlength=100)
        chi = ((counts - 2000) ** 2 / 2000).sum()
        assert 50 < chi < 160  # 99 degrees of freedom: mean 99, sd 14


def test_neighbouring_seeds_are_unrelated():
    a, b = (hash_uniform(seed, np.arange(20_000)) for seed in (0, 1))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03
    assert derive_seed("weights", 0) != derive_seed("weights", 1) and derive_seed("a") < 2**63
