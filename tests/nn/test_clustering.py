import pytest
import torch

from seqmm.nn import clustering
from seqmm.nn.clustering import kmeans


def blobs(k=5, each=20):
    torch.manual_seed(0)
    label = torch.arange(k).repeat_interleave(each)
    return 10 * torch.eye(k)[label] + 0.1 * torch.randn(k * each, k), label


def test_finds_separated_clusters_in_any_number_of_blocks(monkeypatch):
    x, label = blobs()
    centroids, nearest = kmeans(x, 5, torch.Generator().manual_seed(3))
    for own in range(5):
        assert (nearest[label == own] == nearest[label == own][0]).all()
    for cluster in range(5):  # empty clusters were seeded anew: each blob has one
        torch.testing.assert_close(centroids[cluster], x[nearest == cluster].mean(0))
    monkeypatch.setattr(clustering, "BLOCK_ELEMENTS", 15)
    again = kmeans(x, 5, torch.Generator().manual_seed(3))
    assert torch.equal(again[1], nearest)
    torch.testing.assert_close(again[0], centroids)


def test_every_row_has_its_nearest_centroid():
    torch.manual_seed(0)
    x = torch.randn(70, 4)
    centroids, nearest = kmeans(x, 7, torch.Generator().manual_seed(0))
    assert torch.equal(torch.cdist(x, centroids).argmin(1), nearest)
    inertia = (x - centroids[nearest]).square().sum()
    assert inertia < 0.8 * (x - x.mean(0)).square().sum()


def test_repeats_and_copes_with_as_many_clusters_as_rows_or_equal_rows():
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(1))
    assert sorted(kmeans(x, 9, torch.Generator().manual_seed(0))[1].tolist()) == list(range(9))
    one, other = (kmeans(x, 4, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(one[0], other[0])
    centroids, nearest = kmeans(torch.ones(6, 2), 3, torch.Generator())
    assert torch.equal(centroids[nearest], torch.ones(6, 2))
    for k in (0, 10):
        with pytest.raises(ValueError, match=f"{k} clusters of 9"):
            kmeans(x, k, torch.Generator())
