"""The evaluator against a per-user loop, its masks, blocks, processes and errors."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator, debug_launcher
from accelerate.state import AcceleratorState
from torch import nn

from seqmm.data.corpus import Corpus
from seqmm.data.interactions import Interactions
from seqmm.data.synthetic import synthetic_corpus
from seqmm.evaluation import evaluator as module
from seqmm.evaluation.evaluator import Evaluator, evaluate, scoring_batch
from seqmm.models.base import Recommender, RecommenderConfig
from seqmm.models.making import make_model


class Factors(Recommender):
    """Random user and item vectors; reads the history too, so that a wrong batch shows."""

    def __init__(self, config):
        super().__init__(config)
        generator = torch.Generator().manual_seed(0)
        self.user = nn.Parameter(torch.randn(config.num_users, 8, generator=generator))
        self.item = nn.Parameter(torch.randn(config.num_items, 8, generator=generator))
        self.post_init()

    history_length = 4

    def tables(self):
        assert not self.training
        assert not torch.is_grad_enabled()
        return {"items": self.item}

    def represent(self, batch, tables):
        recent = (tables["items"][batch["history"]] * batch["mask"][..., None]).sum(1)
        return self.user[batch["user"]] + 0.1 * recent


@pytest.fixture(scope="module", params=["leave_one_out", "given"])
def corpus(request) -> Corpus:
    return synthetic_corpus(num_users=90, num_items=60, protocol=request.param)


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def plain(corpus: Corpus, model: Factors, k: int, seen_splits: list[str]) -> dict[int, tuple[float, float]]:
    """recall@k and ndcg@k by user, one at a time."""
    values = {}
    for user in range(corpus.num_users):
        mine = {name: part.item[part.user == user] for name, part in corpus.splits.items()}
        targets = set(mine["test"].tolist())
        if not targets:
            continue
        known = [corpus.splits[name] for name in ("train", "validation")]
        rows = [
            row for part in known for row in zip(part.position, part.item, part.user, strict=True) if row[2] == user
        ]
        history = [item for _, item, _ in sorted(rows)]
        with torch.no_grad():
            scores = (model.user[user] + 0.1 * model.item[history[-4:]].sum(0)) @ model.item.T
        for name in seen_splits:
            scores[mine[name]] = -math.inf
        top = scores.argsort(descending=True)[:k].tolist()
        dcg = sum(1 / math.log2(p + 2) for p, item in enumerate(top) if item in targets)
        ideal = sum(1 / math.log2(p + 2) for p in range(min(k, len(targets))))
        values[user] = (len(targets & set(top)) / len(targets), dcg / ideal)
    return values


@pytest.mark.parametrize(
    ("mask", "seen"), [("auto", None), ("train", ["train"]), ("history", ["train", "validation"]), ("none", [])]
)
def test_equals_a_loop_over_users(corpus, accelerator, mask, seen):
    model = Factors.for_corpus(RecommenderConfig(), corpus).train()
    evaluator = Evaluator(corpus, "test", ks=(7, 3), mask=mask, batch_size=32)
    result = evaluator(accelerator, model)
    assert model.training
    assert evaluator.mask == {"auto": "history" if corpus.protocol == "leave_one_out" else "train"}.get(mask, mask)
    seen = {"history": ["train", "validation"], "train": ["train"]}[evaluator.mask] if seen is None else seen
    expected = plain(corpus, model, 7, seen)
    assert evaluator.users.tolist() == sorted(expected)
    np.testing.assert_allclose(evaluator.per_user["recall@7"], [expected[u][0] for u in evaluator.users])
    np.testing.assert_allclose(evaluator.per_user["ndcg@7"], [expected[u][1] for u in evaluator.users])
    assert list(result) == ["recall@3", "recall@7", "ndcg@3", "ndcg@7"]
    assert result["ndcg@7"] == pytest.approx(np.mean([value for _, value in expected.values()]))
    assert f"mask = {evaluator.mask}" in evaluator.describe()


@pytest.mark.parametrize(
    ("protocol", "mask"),
    [
        ("leave_one_out", "history"),
        ("temporal", "history"),
        ("cold", "history"),
        ("ratio", "train"),
        ("given", "train"),
    ],
)
def test_what_is_known_of_a_user_is_masked_by_protocol(protocol, mask):
    corpus = synthetic_corpus(num_users=90, num_items=60, protocol=protocol)
    ranked: dict[str, set[tuple[int, int]]] = {}
    for split in ("validation", "test"):
        evaluator = Evaluator(corpus, split, ks=(60,), metrics=("recall",))
        assert evaluator.mask == mask
        said = {"validation": "history (train)", "test": "history (train + validation)"}[split]
        assert f"mask = {said if mask == 'history' else 'train'}, " in evaluator.describe()
        masked = ranked[split] = set()
        for start in range(0, len(evaluator.users), 32):
            users = evaluator.users[start : start + 32]
            row, item = evaluator._masked(start, start + len(users), torch.device("cpu"))
            masked.update(zip(users[row].tolist(), item.tolist(), strict=True))
    known = {
        name: {(u, i) for u, i in zip(part.user.tolist(), part.item.tolist(), strict=True)}
        for name, part in corpus.splits.items()
    }
    tested = set(corpus.splits["test"].user.tolist())
    assert ranked["validation"] <= known["train"]
    validation = {pair for pair in known["validation"] if pair[0] in tested}
    assert validation, "nothing would be shown"
    assert (validation <= ranked["test"]) == (mask == "history")
    assert ranked["test"] == {
        p for p in known["train"] | (validation if mask == "history" else set()) if p[0] in tested
    }


def test_no_item_that_was_input_is_in_a_temporal_top_ten(accelerator):
    corpus = synthetic_corpus(num_users=120, num_items=50, protocol="temporal")
    model = make_model("item_knn", corpus)
    shown = {}
    for mask in ("auto", "train"):
        evaluator = Evaluator(corpus, "test", ks=(10,), metrics=("popularity",), mask=mask)
        lists = []
        rank = evaluator._rank
        evaluator._rank = lambda *a, rank=rank, lists=lists, **o: (lambda r: (lists.append(r[1]), r)[1])(rank(*a, **o))
        evaluator(accelerator, model)
        listed = torch.cat(lists).numpy()
        histories = corpus.histories("test")
        shown[mask] = sum(
            len(set(row.tolist()) & set(histories[user].tolist()))
            for user, row in zip(evaluator.users, listed, strict=True)
        )
    assert shown["auto"] == 0 < shown["train"]


def test_validation_can_rank_a_sample_of_users(corpus, accelerator):
    model = Factors.for_corpus(RecommenderConfig(), corpus)
    whole = Evaluator(corpus, "validation", metrics=("recall", "ndcg"))
    assert whole.sample is None and whole.rules["users"] == "all"
    whole(accelerator, model)
    all_users, before = len(whole.users), set()
    for most in (7, 30):
        some = Evaluator(corpus, "validation", metrics=("recall", "ndcg"), max_users=most)
        assert some.sample == some.rules["users"] == f"validation on {most} of {all_users} users"
        assert f"validation on {most} of {all_users} users with " in some.describe()
        assert np.array_equal(some.users, Evaluator(corpus, "validation", max_users=most).users)
        assert len(some.users) == most and before < set(some.users.tolist())
        before = set(some.users.tolist())
        # a user's values are those that ranking everyone gives
        result = some(accelerator, model)
        place = np.searchsorted(whole.users, some.users)
        for name, values in some.per_user.items():
            np.testing.assert_array_equal(values, whole.per_user[name][place])
            assert result[name] == pytest.approx(values.mean())
    assert np.array_equal(Evaluator(corpus, "validation", max_users=10**6).users, whole.users)
    for split, most in (("test", 5), ("validation", -1)):
        with pytest.raises(ValueError, match=f"max_users = {most} of {split}: choose"):
            Evaluator(corpus, split, max_users=most)


def test_blocks_of_items_change_nothing(corpus, accelerator, monkeypatch):
    model = Factors.for_corpus(RecommenderConfig(), corpus)
    options = {"ks": (5, 10), "metrics": (*module.METRICS, "coverage", "popularity"), "batch_size": 16}
    whole = Evaluator(corpus, "validation", **options)(accelerator, model)
    monkeypatch.setattr(module, "BLOCK", 16 * 7)
    assert Evaluator(corpus, "validation", **options)(accelerator, model) == pytest.approx(whole)
    counted = Evaluator(corpus, "validation", ks=(5, 10), metrics=tuple(module.METRICS))(accelerator, model)
    assert counted == pytest.approx({name: whole[name] for name in counted})


def test_breakdown_counts_each_target_once(accelerator):
    corpus = synthetic_corpus(num_users=120, num_items=80, protocol="cold")
    evaluator = Evaluator(corpus, "test", ks=(10,), metrics=("recall",))
    evaluator(accelerator, Factors.for_corpus(RecommenderConfig(), corpus))
    table = evaluator.breakdown()
    assert table["cold"]["targets"] == len(evaluator.targets)
    assert "warm" not in table
    corpus = synthetic_corpus(num_users=120, num_items=80, protocol="given")
    evaluator = Evaluator(corpus, "test", ks=(10,), metrics=("recall", "ndcg"))
    evaluator(accelerator, Factors.for_corpus(RecommenderConfig(), corpus))
    table = evaluator.breakdown()
    buckets = [name for name in table if name.startswith("train ")]
    assert len(buckets) == 3
    assert sum(table[name]["targets"] for name in buckets) == table["warm"]["targets"]
    assert max(table[name]["targets"] for name in buckets) < 0.6 * table["warm"]["targets"]
    # hits of the parts add up to the hits of the whole
    whole = evaluator.per_user["recall@10"] * np.diff(
        np.searchsorted(evaluator._row, np.arange(len(evaluator.users) + 1))
    )
    parts = 0.0
    for name in [*buckets, *(["cold"] if "cold" in table else [])]:
        count = evaluator.train_counts[evaluator.targets]
        low, high = (0, 0) if name == "cold" else map(int, name.removeprefix("train ").split("-"))
        chosen = np.flatnonzero((count >= low) & (count <= high))
        values = evaluator._measure(chosen)["recall@10"]
        parts += float((values * np.unique(evaluator._row[chosen], return_counts=True)[1]).sum())
    assert parts == pytest.approx(whole.sum())


def test_constant_model_gets_a_random_list(accelerator):
    corpus = synthetic_corpus(num_users=50, num_items=40)
    evaluator = Evaluator(corpus, "test", ks=(10,), metrics=("hit",))
    result = evaluator.evaluate(lambda batch: lambda items: torch.zeros(len(batch["user"]), 40)[:, items])
    open_items = 40 - corpus.histories("test").lengths
    assert result["hit@10"] == pytest.approx(np.minimum(10 / open_items, 1).mean())


def test_scoring_batch_holds_the_latest_items():
    corpus = synthetic_corpus(num_users=30, num_items=40)
    histories = corpus.histories("test")
    users = np.array([3, 17, 4])
    batch = scoring_batch(histories, users, 5, torch.device("cpu"))
    for row, user in enumerate(users):
        kept = batch["history"][row][batch["mask"][row]].tolist()
        assert kept == histories[user][-5:].tolist()
        assert batch["mask"][row].tolist() == sorted(batch["mask"][row].tolist(), reverse=True)
    assert scoring_batch(histories, users, 0, torch.device("cpu"))["history"].shape == (3, 0)
    longest = max(len(histories[user]) for user in users)
    assert scoring_batch(histories, users, None, torch.device("cpu"))["history"].shape == (3, longest)


def two_ranks(path):
    AcceleratorState._reset_state(reset_partial_state=True)  # the forked parent's
    corpus = synthetic_corpus(num_users=90, num_items=60)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    model = accelerator.prepare(Factors.for_corpus(RecommenderConfig(), corpus))
    evaluator = Evaluator(corpus, "test", ks=(5,), metrics=("recall", "ndcg", "coverage", "popularity"), batch_size=16)
    result = evaluator(accelerator, model)
    torch.save((result, evaluator.per_user, evaluator.breakdown()), f"{path}/{accelerator.process_index}.pt")


def test_two_processes_give_the_same_bits(tmp_path, accelerator):
    debug_launcher(two_ranks, args=(str(tmp_path),), num_processes=2)
    corpus = synthetic_corpus(num_users=90, num_items=60)
    evaluator = Evaluator(corpus, "test", ks=(5,), metrics=("recall", "ndcg", "coverage", "popularity"), batch_size=16)
    result = evaluator(accelerator, Factors.for_corpus(RecommenderConfig(), corpus))
    for rank in (0, 1):
        other, per_user, parts = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert other == result
        assert parts == evaluator.breakdown()
        assert all(np.array_equal(per_user[name], value) for name, value in evaluator.per_user.items())


def test_masked_targets_are_missed_and_told(accelerator):
    corpus = synthetic_corpus(num_users=30, num_items=40)
    test = corpus.splits["test"]
    first = np.array([corpus.histories("train")[user][0] for user in test.user])
    repeat = replace(corpus, splits=corpus.splits | {"test": Interactions(test.user, first, test.position)})
    with pytest.warns(UserWarning, match="30 of 30 test targets .* mask = none"):
        evaluator = Evaluator(repeat, "test", ks=(40,), metrics=("hit",))
    assert evaluator(accelerator, Factors.for_corpus(RecommenderConfig(), repeat)) == {"hit@40": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluator = Evaluator(repeat, "test", ks=(40,), metrics=("hit",), mask="none")
    assert evaluator(accelerator, Factors.for_corpus(RecommenderConfig(), repeat)) == {"hit@40": 1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ks": (5, 61)}, "K = 61 is larger than the catalogue of corpus 'synthetic' .* 60 items"),
        ({"ks": (0,)}, "positive"),
        ({"metrics": ("recal",)}, "unknown metric 'recal'; did you mean 'recall'"),
        ({"mask": "seen"}, "unknown mask 'seen'"),
        ({"ideal": "best"}, "unknown ideal"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Evaluator(synthetic_corpus(num_users=20, num_items=60), "test", **options)


def test_evaluate_needs_no_accelerator(accelerator):
    corpus = synthetic_corpus(num_users=40, num_items=60)
    model = Factors.for_corpus(RecommenderConfig(), corpus).train()
    options = {"ks": (5, 20), "metrics": ("recall", "mrr", "coverage")}
    assert evaluate(model, corpus, **options) == Evaluator(corpus, "test", **options)(accelerator, model)
    assert evaluate(model, corpus, "validation") == Evaluator(corpus, "validation")(accelerator, model)
    assert model.training, "the model is left as it was"
    with pytest.raises(ValueError, match="bound to another corpus"):
        evaluate(model, synthetic_corpus(num_users=40, num_items=60, seed=1))


def test_bad_splits():
    corpus = synthetic_corpus(num_users=20, num_items=60)
    with pytest.raises(ValueError, match="split to evaluate 'train'; known: validation, test"):
        Evaluator(corpus, "train")
    nothing = Interactions(*(np.zeros(0, dtype=np.int64) for _ in range(3)))
    with pytest.raises(ValueError, match="test split .* has no rows"):
        Evaluator(replace(corpus, splits=corpus.splits | {"test": nothing}), "test")


def test_nan_scores_are_an_error(accelerator):
    corpus = synthetic_corpus(num_users=20, num_items=60)
    model = Factors.for_corpus(RecommenderConfig(), corpus)
    with torch.no_grad():
        model.user[3] = math.nan
    with pytest.raises(ValueError, match="NaN for user 3"):
        Evaluator(corpus, "test")(accelerator, model)
