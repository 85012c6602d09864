"""Toy: matrix factorisation trained by Bayesian personalised ranking, a model of one's own in twenty lines."""

import seqmm
from seqmm.losses import bpr_of_rows, embedding_norm, weighted_sum
from seqmm.models.collaborative.base import PairRecommender


class ToyConfig(seqmm.RecommenderConfig):
    """Toy's options."""

    model_type = "toy"

    regularization: float = seqmm.option(1e-4, "Weight of the embedding norm.", least=0)


@seqmm.register
class Toy(PairRecommender):
    """Scores a user and an item by the dot product of their vectors. Needs no content."""

    config_class = ToyConfig

    def __init__(self, config):
        super().__init__(config)
        self.make_ids()  # self.user [U, d] and self.item [I, d]
        self.post_init()

    def encode(self):  # what all users and all items are scored by
        return self.user.weight, self.item.weight

    def forward(self, batch, phase="main"):
        rows = self.rows(batch, *self.encode())  # [B, d] each: users, positives, negatives
        bpr, norm = (lambda: bpr_of_rows(*rows)), (lambda: embedding_norm(*rows))
        return weighted_sum({"bpr": (1.0, bpr), "norm": (self.config.regularization, norm)})
