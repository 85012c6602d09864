"""Paired tests against scipy's and against what they promise."""

import numpy as np
import pytest
from scipy import stats

from seqmm.evaluation.significance import compare, over_seeds


def test_agrees_with_scipy():
    rng = np.random.default_rng(0)
    baseline = rng.random(400)
    model = baseline + rng.normal(0.02, 0.2, 400)
    got = compare(model, baseline, resamples=4000)
    assert got.difference == pytest.approx((model - baseline).mean())
    assert got.p_t == pytest.approx(stats.ttest_rel(model, baseline).pvalue)
    assert got.p_bootstrap == pytest.approx(got.p_t, abs=0.02)
    reference = stats.bootstrap((model - baseline,), np.mean, method="percentile", n_resamples=4000, rng=1)
    assert (got.low, got.high) == pytest.approx(tuple(reference.confidence_interval), abs=0.003)


def test_seeds_are_averaged_first():
    rng = np.random.default_rng(1)
    model, baseline = rng.random((3, 50)), rng.random((2, 50))
    assert compare(model, baseline) == compare(model.mean(0), baseline.mean(0))


def test_the_null_is_rejected_as_often_as_promised():
    rng = np.random.default_rng(2)
    low = sum(compare(rng.random(60), rng.random(60), resamples=200, seed=i).p_bootstrap < 0.1 for i in range(200))
    assert 8 <= low <= 36  # 20 expected


def test_equal_models_and_other_users():
    values = np.random.default_rng(3).random(30)
    same = compare(values, values)
    assert (same.difference, same.p_t, same.p_bootstrap) == (0, 1, 1)
    with pytest.raises(ValueError, match="same users: 30 and 29"):
        compare(values, values[1:])


def test_over_seeds():
    assert over_seeds([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert np.isnan(over_seeds([1.0])[1])
