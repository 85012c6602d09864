import numpy as np
import torch

from seqmm.data.synthetic import synthetic_corpus
from seqmm.models.collaborative.popularity import Popularity, PopularityConfig


def test_scores_are_train_counts_for_everyone():
    corpus = synthetic_corpus(num_users=40, num_items=30)
    model = Popularity.for_corpus(PopularityConfig(), corpus)
    scores = model.score({"user": torch.tensor([3, 3, 17])}, model.tables())
    train = corpus.splits["train"].item.tolist()
    assert np.array_equal(scores.numpy(), [[train.count(item) for item in range(30)]] * 3)
