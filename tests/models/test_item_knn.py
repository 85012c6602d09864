import numpy as np
import pytest
import torch

from seqmm.data.synthetic import synthetic_corpus
from seqmm.evaluation.evaluator import scoring_batch
from seqmm.models.collaborative.item_knn import ItemKNN, ItemKNNConfig


@pytest.mark.parametrize(("recent", "decay", "shrink"), [(0, 1.0, 0.0), (3, 0.5, 2.0)])
def test_scores_match_the_loop(recent, decay, shrink):
    corpus = synthetic_corpus(num_users=40, num_items=30)
    model = ItemKNN.for_corpus(ItemKNNConfig(num_neighbors=4, recent=recent, decay=decay, shrink=shrink), corpus)
    train = corpus.splits["train"]
    owners = [set(train.user[train.item == item].tolist()) for item in range(30)]

    def cosine(a: int, b: int) -> float:
        both = len(owners[a] & owners[b])
        return both / ((len(owners[a]) * len(owners[b])) ** 0.5 + shrink) if both else 0.0

    near = {}
    for item in range(30):
        others = sorted(
            (other for other in range(30) if other != item), key=lambda o: (-np.float32(cosine(item, o)), o)
        )
        near[item] = others[:4]
    users = [0, 5, 9, 11]
    histories = [corpus.histories("test")[user][-recent:].tolist() for user in users]
    expected = np.zeros((4, 30))
    for row, history in enumerate(histories):
        for age, item in enumerate(reversed(history)):
            for candidate in range(30):
                if item in near[candidate]:
                    expected[row, candidate] += decay**age * cosine(item, candidate)
    history = torch.zeros(4, max(map(len, histories)) + 2, dtype=torch.int64)
    mask = torch.zeros_like(history, dtype=torch.bool)
    for row, items in enumerate(histories):
        history[row, : len(items)], mask[row, : len(items)] = torch.tensor(items), True
    batch = {"user": torch.tensor(users), "history": history, "mask": mask}
    assert np.allclose(model.score(batch, model.tables()), expected, atol=1e-6)
    assert np.allclose(model.score(batch, model.tables(), slice(3, 9)), expected[:, 3:9], atol=1e-6)
    assert model.history_length == (recent or None)


@pytest.mark.parametrize("options", [{}, {"recent": 3, "decay": 0.5}])
def test_blocks_of_items_are_scored_from_blocks_of_votes_to_the_same_bits(monkeypatch, options):
    corpus = synthetic_corpus(num_users=40, num_items=30)
    model = ItemKNN.for_corpus(ItemKNNConfig(**options), corpus)
    batch = scoring_batch(corpus.histories("test"), np.arange(40), model.history_length, torch.device("cpu"))
    tables, shapes, product = model.tables(), [], torch.sparse.mm
    assert tables["items"].is_sparse
    whole = model.score(batch, tables)

    def watched(history, votes):
        assert history.is_sparse and votes.is_sparse
        shapes.append(tuple(votes.shape))
        return product(history, votes)

    monkeypatch.setattr(torch.sparse, "mm", watched)
    for _ in range(2):  # of two batches
        parts = [model.score(batch, tables, slice(start, start + 8)) for start in range(0, 30, 8)]
        assert torch.equal(torch.cat(parts, 1), whole)
    assert shapes == [(30, 8), (30, 8), (30, 8), (30, 6)] * 2
    assert torch.equal(model.represent(batch, model.tables()), whole)
