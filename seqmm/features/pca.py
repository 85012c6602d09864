"""Principal components over all items, exact, in one pass."""

from __future__ import annotations

import hashlib

import numpy as np


class Pca:
    """Principal components over all items (exact, in one pass)."""

    passes = 1

    def __init__(self, dim: int):
        self.dim, self.settings = dim, {"pca": str(dim)}
        self.provenance: dict[str, str] = {}
        self._statistics = StreamingPca(dim)

    def update(self, number: int, vectors: np.ndarray) -> None:
        """See :class:`seqmm.features.extractor.Transform`."""
        self._statistics.update(vectors)

    def end_pass(self, number: int) -> None:
        """See :class:`seqmm.features.extractor.Transform`."""
        self._mean, self._components, digest = self._statistics.finish()
        self.dim = self._components.shape[1]
        # two corpora's bases are unrelated; with the digest they are not taken for one another
        self.provenance = {"pca": f"{self.dim}, fitted on these items, basis {digest}"}

    def __call__(self, vectors: np.ndarray) -> tuple[np.ndarray, list[str] | None]:
        """``[N, d] -> [N, dim]``."""
        return project(vectors, self._mean, self._components), None


class StreamingPca:
    """Principal components by blocks of rows: mean and scatter matrix in float64, whatever the number of rows.

    Blocks are merged by their means (Chan, Golub and LeVeque, 1979), so a large mean costs no digits.

    Args:
        dim: components wanted; fewer if the rows or their width are.
    """

    def __init__(self, dim: int):
        self.dim, self.rows = dim, 0
        self._mean: np.ndarray = np.zeros(0)
        self._scatter: np.ndarray = np.zeros((0, 0))

    def update(self, block: np.ndarray) -> None:
        """Takes in a block ``[n, d]``.

        Raises:
            ValueError: another width than before.
        """
        if not len(block):
            return
        mean = block.mean(0, dtype=np.float64)
        centred = block.astype(np.float64) - mean
        if not self.rows:
            self._mean, self._scatter, self.rows = mean, centred.T @ centred, len(block)
            return
        if len(mean) != len(self._mean):
            raise ValueError(f"a block has width {len(mean)}, the ones before {len(self._mean)}")
        shift, total = mean - self._mean, self.rows + len(block)
        self._scatter += centred.T @ centred + np.outer(shift, shift) * (self.rows * len(block) / total)
        self._mean = self._mean + shift * (len(block) / total)
        self.rows = total

    def finish(self) -> tuple[np.ndarray, np.ndarray, str]:
        """Mean ``[d]``, components ``[d, k]`` (k = min(dim, rows, d), largest variance first), and their digest.

        The largest entry of every component is positive, so that the result has one sign. The digest is 16 hex digits
        of sha256 over the mean and the components, rounded to 4 decimals. Vectors are comparable only if it is the
        same.

        Raises:
            ValueError: no row was given.
        """
        if not self.rows:
            raise ValueError("principal components of no row")
        _, vectors = np.linalg.eigh(self._scatter)
        components = vectors[:, ::-1][:, : min(self.dim, self.rows, len(self._mean))]
        components = components * np.sign(components[np.abs(components).argmax(0), np.arange(components.shape[1])])
        # rounded: threads change last bits; + 0.0: no -0
        basis = np.concatenate([self._mean[None], components.T]).round(4) + 0.0
        digest = hashlib.sha256(str(basis.shape).encode() + np.ascontiguousarray(basis, dtype="<f8").tobytes())
        return self._mean, components, digest.hexdigest()[:16]


def project(x: np.ndarray, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Rows in the basis of :meth:`StreamingPca.finish`: ``[n, d] -> [n, k]`` float32."""
    return ((x.astype(np.float64) - mean) @ components).astype(np.float32)
