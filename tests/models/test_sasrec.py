"""SASRec's losses against naive formulas; windows against prefixes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seqmm.data.synthetic import synthetic_corpus
from seqmm.models.sequential.sasrec import SASRec, SASRecConfig

SMALL = {"hidden_size": 16, "inner_size": 32, "num_layers": 1, "max_length": 20, "dropout": 0.0}


def make(corpus, **options) -> SASRec:
    torch.manual_seed(0)
    return SASRec.for_corpus(SASRecConfig(**(SMALL | options)), corpus)


def whole_epoch(model, corpus) -> dict[str, torch.Tensor]:
    collator = model.stages[0].collator(corpus, 0, **model.collator_options(0))
    return collator(0, np.arange(len(collator.user))) | {"step_seed": torch.tensor(0)}


@pytest.mark.parametrize("loss", ["softmax", "bce", "sampled_softmax"])
def test_loss_is_the_formula(loss):
    corpus = synthetic_corpus(30, 25)
    model = make(corpus, loss=loss, num_negatives=3)
    batch, items = whole_epoch(model, corpus), model.item.weight
    expected = []
    for b in range(len(batch["user"])):
        length = int(batch["mask"][b].sum())
        states = model.transformer(items[batch["history"][b, :length]][None])[0]
        for j in range(length):
            target = batch["target"][b, j]
            logits = items @ states[j]
            if loss == "softmax":
                expected.append(F.cross_entropy(logits[None], target[None]))
                continue
            negative = logits[batch["negative"][b, j]]
            if loss == "bce":
                expected.append(-F.logsigmoid(logits[target]) - F.logsigmoid(-negative).mean())
            else:
                expected.append(-torch.cat([logits[target, None], negative]).log_softmax(0)[0])
    torch.testing.assert_close(model(batch)["loss"], torch.stack(expected).mean())


def test_sampling_needs_a_negative():
    with pytest.raises(ValueError, match="num_negatives.*0"):
        make(synthetic_corpus(30, 25), loss="bce", num_negatives=0)


def test_every_position_is_the_sum_over_prefixes():
    """For users within a window the two give the same loss and the same gradients (specs: 1,424 targets, equal)."""
    corpus = synthetic_corpus(60, 40)
    assert corpus.histories("train").lengths.max() <= SMALL["max_length"] + 1
    models = [make(corpus, targets=targets) for targets in ("every", "prefix")]
    every, prefix = (whole_epoch(model, corpus) for model in models)
    assert len(every["user"]) < len(prefix["user"]) == int(every["target_mask"].sum())
    losses = [model(batch)["loss"] for model, batch in zip(models, (every, prefix), strict=True)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)
    for loss in losses:
        loss.backward()
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-6)


def test_scores_read_the_history_in_order_and_nothing_else():
    corpus = synthetic_corpus(30, 25)
    model = make(corpus).eval()
    history = torch.tensor([[3, 9, 4, 0, 0], [4, 9, 3, 0, 0], [3, 9, 4, 7, 1]])
    mask = torch.arange(5) < torch.tensor([[3], [3], [3]])
    scores = model.score({"history": history, "mask": mask}, model.tables())
    torch.testing.assert_close(scores[0], scores[2], msg="what is masked is not read")
    assert (scores[0] - scores[1]).abs().max() > 1e-3, "order matters"
    assert model.history_length == 20
