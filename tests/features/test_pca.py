import numpy as np
import pytest

from seqmm.features.pca import StreamingPca, project


def rows(count: int = 60) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(count, 12)) @ np.diag(np.linspace(3, 0.5, 12)) + 5
    return x.astype(np.float32)


def pca(x: np.ndarray, dim: int) -> tuple[np.ndarray, str]:
    """All rows at once."""
    stream = StreamingPca(dim)
    stream.update(x)
    mean, components, digest = stream.finish()
    return project(x, mean, components), digest


def test_pca_equals_sklearn_up_to_sign() -> None:
    from sklearn.decomposition import PCA

    x = rows(40)
    (ours, digest), theirs = pca(x, 5), PCA(5, svd_solver="full").fit_transform(x)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-4)
    again, same = pca(x, 5)
    assert np.array_equal(ours, again) and digest == same
    assert pca(x[::-1].copy(), 5)[1] == digest  # the basis is not a matter of the order
    assert len({digest, pca(x[1:], 5)[1], pca(x, 4)[1]}) == 3
    assert pca(x[:3], 5)[0].shape == (3, 3)


@pytest.mark.parametrize("sizes", [[60], [7, 0, 1, 30, 22], [1] * 60])
def test_blocks_give_what_all_rows_give(sizes: list[int]) -> None:
    x = rows()
    stream = StreamingPca(5)
    for block in np.split(x, np.cumsum(sizes)[:-1]):
        stream.update(block)
    mean, components, digest = stream.finish()
    whole, same = pca(x, 5)
    np.testing.assert_allclose(project(x, mean, components), whole, atol=1e-6)
    assert digest == same and components.shape == (12, 5)
    np.testing.assert_allclose(components.T @ components, np.eye(5), atol=1e-12)
    assert (components[np.abs(components).argmax(0), range(5)] > 0).all()


def test_a_large_mean_costs_no_digits() -> None:
    x = rows().astype(np.float64)
    near, far = StreamingPca(3), StreamingPca(3)
    for block in np.split(x, 6):
        near.update(block)
        far.update(block + 1e6)
    np.testing.assert_allclose(far.finish()[1], near.finish()[1], atol=1e-7)


def test_blocks_must_fit() -> None:
    stream = StreamingPca(3)
    with pytest.raises(ValueError, match="principal components of no row"):
        stream.finish()
    stream.update(rows())
    with pytest.raises(ValueError, match="a block has width 4, the ones before 12"):
        stream.update(np.ones((2, 4)))
