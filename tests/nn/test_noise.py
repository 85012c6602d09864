"""Dropout and noise from seeds: unbiased, repeatable, and the same for any split of the rows."""

import pytest
import torch

from seqmm.nn.noise import dropout_rows, dropout_table, moved, noisy_rows


def test_a_table_is_dropped_alike_for_one_seed_and_stream():
    x = torch.ones(300, 40)
    first = dropout_table(x, 0.3, torch.tensor(5), "a")
    assert torch.equal(first, dropout_table(x, 0.3, torch.tensor(5), "a"))
    assert not torch.equal(first, dropout_table(x, 0.3, torch.tensor(5), "b"))
    assert not torch.equal(first, dropout_table(x, 0.3, torch.tensor(6), "a"))
    assert first.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert float(first.mean()) == pytest.approx(1, abs=0.03)
    assert dropout_table(x, 0.0, torch.tensor(5), "a") is x


def test_a_row_is_dropped_by_its_own_seed():
    x, seeds = torch.ones(500, 40), torch.arange(500) * 7919
    whole = dropout_rows(x, 0.3, seeds, "a")
    assert torch.equal(whole[120:140], dropout_rows(x[120:140], 0.3, seeds[120:140], "a"))
    assert not torch.equal(whole, dropout_rows(x, 0.3, seeds, "b"))
    assert float(whole.mean()) == pytest.approx(1, abs=0.02)
    assert dropout_rows(x, 0.0, seeds, "a") is x


def test_a_vector_is_moved_by_a_length_within_its_orthant():
    x = torch.randn(50, 2, 8, requires_grad=True)
    step = moved(x, 0.1, torch.rand(50, 2, 8)) - x
    torch.testing.assert_close(step.norm(dim=-1), torch.full((50, 2), 0.1))
    assert torch.equal(step.sign(), x.sign())
    rows, seeds = torch.randn(50, 8), torch.arange(50) * 7919
    whole = noisy_rows(rows, 0.1, seeds, "a")
    assert torch.equal(whole[10:20], noisy_rows(rows[10:20], 0.1, seeds[10:20], "a"))
    assert not torch.equal(whole, noisy_rows(rows, 0.1, seeds, "b"))
    torch.testing.assert_close((whole - rows).norm(dim=1), torch.full((50,), 0.1))
