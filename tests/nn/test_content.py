"""Feature tables, attention pooling, the mixture of experts."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seqmm.data.feature_sets import Features
from seqmm.nn.features import FeatureTable
from seqmm.nn.moe import MoEAdaptor
from seqmm.nn.pooling import AttentionPooling

LENGTHS = [2, 0, 3, 1, 0]


@pytest.fixture
def table():
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    values = np.random.default_rng(0).normal(size=(6, 7)).astype(np.float32)
    values.flags.writeable = False  # as parquet and memory maps are
    return FeatureTable(Features("ragged", values, offsets))


def test_rows_of_items(table):
    rows, offsets = table.rows(torch.tensor([2, 1, 0, 2]))
    assert rows.tolist() == [2, 3, 4, 0, 1, 2, 3, 4] and offsets.tolist() == [0, 3, 3, 5, 8]
    rows, offsets = table.rows(torch.tensor([], dtype=torch.int64))
    assert rows.tolist() == [] and offsets.tolist() == [0]


def test_means(table):
    values = table.on(torch.device("cpu"))[0]
    means = table.means(torch.device("cpu"))
    torch.testing.assert_close(means[2], values[2:5].mean(0))
    assert not means[1].any() and not means[4].any()
    with pytest.raises(ValueError, match="tags"):
        FeatureTable(Features("tags", np.array([1]), np.array([0, 1]), ("a", "b"))).means(torch.device("cpu"))


def test_attention_pooling_is_the_loop(table):
    """Two linear maps (their biases cancel in the softmax), a softmax, a weighted sum; gradients reach both maps."""
    torch.manual_seed(0)
    pool = AttentionPooling(7, 4)
    values = table.on(torch.device("cpu"))[0]
    pooled = pool(table)
    b1, b2, start = torch.randn(4), torch.randn(1), 0
    for item, length in enumerate(LENGTHS):
        x = values[start : start + length]
        weight = torch.softmax((x @ pool.inner.T + b1) @ pool.outer + b2, 0)
        torch.testing.assert_close(pooled[item], (weight[:, None] * x).sum(0))
        start += length
    asked = torch.tensor([3, 0, 0, 4])
    torch.testing.assert_close(pool(table, asked), pooled[asked])
    pool(table, asked).square().sum().backward()
    assert pool.inner.grad.abs().max() > 1e-4 and pool.outer.grad.abs().max() > 1e-4


def test_pooling_computes_only_what_is_asked(table):
    """Rows of other items may be anything, even NaN."""
    torch.manual_seed(0)
    pool, asked = AttentionPooling(7, 4), torch.tensor([2, 1])
    expected = pool(table, asked)
    table.on(torch.device("cpu"))[0][:2] = torch.nan
    torch.testing.assert_close(pool(table, asked), expected)
    assert pool(table, asked[:0]).shape == (0, 7)


def test_mixture_of_experts_is_the_loop():
    torch.manual_seed(0)
    moe, x = MoEAdaptor(7, 4, num_experts=3, dropout=0.0), torch.randn(5, 7)
    torch.testing.assert_close(F.linear(x, moe.gate).softmax(-1), torch.full((5, 3), 1 / 3), msg="the gate starts even")
    with torch.no_grad():
        moe.gate.normal_()
        moe.norm_weight.normal_()
        moe.norm_bias.normal_()
    z = moe(x)
    for row in range(5):
        gate, expected = torch.softmax(moe.gate @ x[row], 0), torch.zeros(4)
        for k in range(3):
            own = slice(4 * k, 4 * k + 4)
            expert = moe.weight[own] @ x[row] + moe.bias[own]
            expected += gate[k] * F.layer_norm(expert, (4,), moe.norm_weight[k], moe.norm_bias[k], 1e-12)
        torch.testing.assert_close(z[row], expected, rtol=1e-4, atol=1e-5)
