"""Is one model better than another? Paired tests over users, each user's value being its mean over seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Comparison:
    """Model minus baseline."""

    difference: float
    """Mean over users."""
    low: float
    """Lower end of the 95 % bootstrap interval."""
    high: float
    """Upper end."""
    p_t: float
    """Two-sided paired t test."""
    p_bootstrap: float
    """Two-sided paired bootstrap: twice the share of resamples on the other side of 0, at least 1 / resamples."""


def compare(model: np.ndarray, baseline: np.ndarray, resamples: int = 2000, seed: int = 0) -> Comparison:
    """Paired comparison of per-user values.

    The tests say how sure the difference is for THESE trained models on other users like these; how much a retrained
    model would differ is the spread over seeds, which :func:`over_seeds` gives.

    Args:
        model, baseline: ``[users]`` or ``[seeds, users]`` (averaged over seeds first), in the same order of users.
        resamples: bootstrap resamples of users.
        seed: of the resampling.

    Raises:
        ValueError: for other users.
    """
    mine, theirs = (x.mean(0) if x.ndim == 2 else x for x in (model, baseline))
    if mine.shape != theirs.shape:
        raise ValueError(f"a paired test needs the same users: {len(mine)} and {len(theirs)} values")
    gap = mine - theirs  # [users]
    if not gap.any():
        return Comparison(0.0, 0.0, 0.0, 1.0, 1.0)
    # a resample's mean needs only how often each distinct gap is drawn
    value, count = np.unique(gap, return_counts=True)
    generator, chance = np.random.default_rng(seed), count / len(gap)
    means = np.array([generator.multinomial(len(gap), chance) @ value for _ in range(resamples)]) / len(gap)
    p = 2 * min((means <= 0).mean(), (means >= 0).mean())
    low, high = np.quantile(means, [0.025, 0.975])
    p_t = stats.ttest_rel(mine, theirs).pvalue
    return Comparison(float(gap.mean()), float(low), float(high), float(p_t), float(min(1.0, max(p, 1 / resamples))))


def over_seeds(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (nan for one seed) of a metric over runs."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def standard_error(values: np.ndarray) -> float:
    """Of the mean of ``[users]`` values (nan for one user)."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
