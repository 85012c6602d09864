"""Dropout from seeds: unbiased, repeatable, and the same for any split of the rows."""

import pytest
import torch

from seqmm.nn.noise import dropout_rows, dropout_table


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
