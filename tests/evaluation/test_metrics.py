"""Metrics against hand-computed tables, all orders of tied items, torchmetrics, and the official evaluator's values."""

import itertools
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmm.evaluation.metrics import METRICS, TopK, count_ranks, coverage, mean_popularity, ndcg, place, place_lists

GOLDENS = Path(os.environ.get("SEQMM_GOLDENS", Path(__file__).parents[1] / "goldens"))


def hits_of(scores: torch.Tensor, targets: list[list[int]], k: int, how: str = "count"):
    """Hits of ``[B, n]`` scores, through either way of ranking; "blocks" = top-k over blocks of three items."""
    row = torch.tensor([r for r, mine in enumerate(targets) for _ in mine])
    item = torch.tensor([i for mine in targets for i in mine])
    wanted = scores[row, item]
    if how == "count":
        greater, equal = count_ranks(scores, row, wanted)
    else:
        width = scores.shape[1] if how == "top" else 3
        top = TopK(k)
        for start in range(0, scores.shape[1], width):
            top.update(scores[:, start : start + width], start)
        greater, equal = top.ranks(row, wanted)
    return place(row, greater, equal, len(scores), k)


def naive(ranking: list[int], targets: set[int], k: int, length: int) -> dict[str, float]:
    """The definitions, for one user's full ranking; ``length`` = length of the retrieved list."""
    flags = [item in targets for item in ranking]
    dcg = sum(1 / math.log2(p + 2) for p in range(k) if flags[p])

    def ideal(count: int) -> float:
        return sum(1 / math.log2(p + 2) for p in range(min(count, k)))

    retrieved = sum(flags[:length])
    first = next((p for p in range(k) if flags[p]), None)
    return {
        "recall": sum(flags[:k]) / len(targets),
        "precision": sum(flags[:k]) / k,
        "ndcg": dcg / ideal(len(targets)),
        "retrieved": dcg / ideal(retrieved) if retrieved else 0.0,
        "map": sum(sum(flags[: p + 1]) / (p + 1) for p in range(k) if flags[p]) / min(k, len(targets)),
        "mrr": 0.0 if first is None else 1 / (first + 1),
        "hit": float(any(flags[:k])),
    }


def values(hits, k: int) -> dict[str, torch.Tensor]:
    return {name: metric(hits, k) for name, metric in METRICS.items()} | {"retrieved": ndcg(hits, k, "retrieved")}


def test_hand_computed():
    scores = torch.tensor([[9.0, 8, 7, 6, 5, 4], [4, 5, 6, 7, 8, 9]])
    got = values(hits_of(scores, [[0, 3], [2]], 5), 5)
    log3, log5 = math.log2(3), math.log2(5)
    assert got["recall"].tolist() == [1, 1]
    assert got["precision"].tolist() == pytest.approx([0.4, 0.2])
    assert got["ndcg"].tolist() == pytest.approx([(1 + 1 / log5) / (1 + 1 / log3), 1 / log5])
    assert got["map"].tolist() == pytest.approx([(1 + 2 / 4) / 2, 1 / 4])
    assert got["mrr"].tolist() == pytest.approx([1, 1 / 4])
    assert values(hits_of(scores, [[0, 3], [2]], 5), 3)["hit"].tolist() == [1, 0]


def test_retrieved_ideal_counts_the_hits_of_the_whole_list():
    scores = torch.tensor([[9.0, 8, 7, 6, 5, 4, 3, 2]])
    hits = hits_of(scores, [[1, 3, 7]], 5)  # hits at 2 and 4, one missed
    dcg = 1 / math.log2(3) + 1 / math.log2(5)
    assert ndcg(hits, 5).item() == pytest.approx(dcg / (1 + 1 / math.log2(3) + 0.5))
    assert ndcg(hits, 5, "retrieved").item() == pytest.approx(dcg / (1 + 1 / math.log2(3)))
    assert ndcg(hits, 2, "retrieved").item() == pytest.approx(1 / math.log2(3) / (1 + 1 / math.log2(3)))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_ties_give_the_mean_over_all_orders(data):
    """The definition of an expected metric: average over every order of the items that respects the scores."""
    n = data.draw(st.integers(2, 6))
    scores = data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=n, max_size=n))
    targets = data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=n))
    length = data.draw(st.integers(1, n))
    k = data.draw(st.integers(1, length))
    orders = [
        o for o in itertools.permutations(range(n)) if all(scores[a] >= scores[b] for a, b in itertools.pairwise(o))
    ]
    tables = [naive(list(order), targets, k, length) for order in orders]
    for how in ("count", "top", "blocks"):
        got = values(hits_of(torch.tensor([scores]), [sorted(targets)], length, how), k)
        for name, value in got.items():
            assert value.item() == pytest.approx(np.mean([table[name] for table in tables]), abs=1e-9), (how, name)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12))
def test_relabelling_items_changes_nothing(seed, k):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 4, (5, 12), generator=generator).float()
    targets = [sorted(torch.randperm(12, generator=generator)[: r + 1].tolist()) for r in range(5)]
    new_id = torch.randperm(12, generator=generator)
    moved = torch.empty_like(scores)
    moved[:, new_id] = scores
    relabelled = [sorted(new_id[mine].tolist()) for mine in targets]
    for how in ("count", "top", "blocks"):
        before, after = values(hits_of(scores, targets, k, how), k), values(hits_of(moved, relabelled, k, how), k)
        for name in before:
            torch.testing.assert_close(before[name], after[name])


def test_constant_scores_are_worth_a_random_list():
    n, k = 50, 10
    got = values(hits_of(torch.zeros(1, n), [[7]], k, "top"), k)
    assert got["recall"].item() == pytest.approx(k / n)
    assert got["hit"].item() == pytest.approx(k / n)
    assert got["mrr"].item() == pytest.approx(sum(1 / p for p in range(1, k + 1)) / n)
    several = values(hits_of(torch.zeros(1, n), [[7, 8, 9]], k, "top"), k)
    assert several["hit"].item() == pytest.approx(1 - math.comb(n - 3, k) / math.comb(n, k))


def test_unranked_items_are_no_competitors_and_no_hits():
    scores = torch.tensor([[-math.inf, -math.inf, -math.inf, 1.0, 0.0]])
    for how in ("count", "top", "blocks"):
        hits = hits_of(scores, [[0, 4]], 4, how)  # item 0 is masked: missed for sure
        assert METRICS["recall"](hits, 4).item() == 0.5
        assert METRICS["mrr"](hits, 4).item() == 0.5


def test_against_torchmetrics():
    from torchmetrics.functional.retrieval import (
        retrieval_average_precision,
        retrieval_hit_rate,
        retrieval_normalized_dcg,
        retrieval_precision,
        retrieval_recall,
        retrieval_reciprocal_rank,
    )

    references = {
        "recall": retrieval_recall,
        "precision": retrieval_precision,
        "ndcg": retrieval_normalized_dcg,
        "mrr": retrieval_reciprocal_rank,
        "hit": retrieval_hit_rate,
    }
    scores = torch.rand(20, 40, generator=torch.Generator().manual_seed(0))
    targets = [list(range(r % 5 + 1)) for r in range(20)]
    for k in (1, 5, 20, 40):
        got = values(hits_of(scores, targets, 40, "top"), k)
        for r in range(20):
            truth = torch.zeros(40, dtype=torch.bool)
            truth[targets[r]] = True
            for name, reference in references.items():
                assert got[name][r].item() == pytest.approx(reference(scores[r], truth, top_k=k).item(), abs=1e-6), name
    whole = values(hits_of(scores, targets, 40), 40)["map"]  # torchmetrics divides by the hits found
    for r in range(20):
        truth = torch.zeros(40, dtype=torch.bool)
        truth[targets[r]] = True
        assert whole[r].item() == pytest.approx(retrieval_average_precision(scores[r], truth).item(), abs=1e-6)


def masked_scores(golden) -> tuple[torch.Tensor, list[list[int]]]:
    """Scores of the users with test items (in order), train items masked, and those items."""
    scores = torch.from_numpy(golden["scores_all"]).clone()
    scores[golden["train_u"], golden["train_i"]] = -math.inf
    users = np.unique(golden["test"][:, 0])
    return scores[users], [sorted(golden["test"][golden["test"][:, 0] == user, 1].tolist()) for user in users]


OFFICIAL = {  # whose program -> its names of our metrics
    "lightgcn_detail": {"recall": "recall", "precision": "precision", "ndcg": "ndcg", "map": "map"},
    "mmssl": {"recall": "recall", "precision": "precision", "retrieved": "ndcg_retrieved"},
}


@pytest.mark.parametrize(
    ("program", "file"),
    [(program, file) for program in OFFICIAL for file in sorted(GOLDENS.glob(f"{program}_*.npz"))],
    ids=lambda value: getattr(value, "stem", value),
)
def test_official_evaluators(program, file):
    golden = np.load(file)
    scores, targets = masked_scores(golden)
    for how in ("count", "top", "blocks"):
        hits = hits_of(scores, targets, 20, how)
        for k in (5, 10, 20):
            found = values(hits, k)
            for ours, theirs in OFFICIAL[program].items():
                assert found[ours].mean().item() == pytest.approx(golden[f"eval.{theirs}@{k}"].item(), rel=1e-5), ours


@pytest.mark.parametrize("program", OFFICIAL)
def test_goldens_are_there(program):
    assert list(GOLDENS.glob(f"{program}_*.npz"))


def test_lists_equal_scores():
    scores = torch.rand(6, 30, generator=torch.Generator().manual_seed(1))
    targets = [list(range(r + 1)) for r in range(6)]
    row = torch.tensor([r for r, mine in enumerate(targets) for _ in mine])
    item = torch.tensor([i for mine in targets for i in mine])
    lists = scores.topk(10).indices
    by_list, by_score = values(place_lists(lists, row, item), 7), values(hits_of(scores, targets, 10), 7)
    for name in by_list:
        torch.testing.assert_close(by_list[name], by_score[name])


def test_coverage_and_popularity():
    lists = torch.tensor([[0, 1, 2], [0, 3, -1]])
    assert coverage(lists, 1, 10) == 0.1
    assert coverage(lists, 3, 10) == 0.4
    counts = torch.tensor([10, 4, 1, 2])
    assert mean_popularity(lists, 3, counts).tolist() == [5, 6]
    assert mean_popularity(lists, 1, counts).tolist() == [10, 10]


def test_a_user_without_target_is_an_error():
    with pytest.raises(ValueError, match="user row 1 has no target"):
        place(torch.tensor([0, 2]), torch.tensor([0, 0]), torch.tensor([1, 1]), 3, 5)
