"""Anybody's recommendation lists: hand-computed values, the evaluator's numbers, files, and what is refused."""

import gzip
import json
import logging
import runpy
import sys
from math import log2

import polars as pl
import pytest
import torch

from seqmm.data.synthetic import synthetic_corpus
from seqmm.evaluation.evaluator import Evaluator
from seqmm.evaluation.list_files import read_lists, read_pairs
from seqmm.evaluation.lists import measure_lists, pairs_of, score_lists

LISTS = {"ann": ["tea", "jam", "rye"], "bob": ["jam", "oil", "tea"], "eve": ["tea"]}
TRUTH = {"ann": ["tea", "rye"], "bob": ["tea"], "cem": ["jam"]}
TRAIN = {"ann": ["jam", "oil"], "bob": ["jam"], "dan": ["tea"]}
EVERY = ("recall", "precision", "ndcg", "map", "mrr", "hit", "coverage", "popularity")


def test_values_computed_by_hand():
    found = score_lists(LISTS, TRUTH, train=TRAIN, ks=(1, 3), metrics=EVERY)
    ideal = 1 + 1 / log2(3)  # ann has two items
    assert found == pytest.approx(
        {
            "recall@1": (1 / 2 + 0 + 0) / 3,
            "recall@3": (1 + 1 + 0) / 3,
            "precision@1": 1 / 3,
            "precision@3": (2 / 3 + 1 / 3) / 3,
            "ndcg@1": 1 / 3,
            "ndcg@3": ((1 + 1 / log2(4)) / ideal + 1 / log2(4)) / 3,
            "map@1": 1 / 3,
            "map@3": ((1 + 2 / 3) / 2 + 1 / 3) / 3,
            "mrr@1": 1 / 3,
            "mrr@3": (1 + 1 / 3) / 3,
            "hit@1": 1 / 3,
            "hit@3": 2 / 3,
            "coverage@1": 2 / 4,  # tea, jam of tea, jam, rye, oil
            "coverage@3": 4 / 4,
            "popularity@1": (1 + 2) / 2,  # tea 1, jam 2; cem has no list
            "popularity@3": ((1 + 2 + 0) / 3 + (2 + 1 + 1) / 3) / 2,
        }
    )
    assert score_lists(LISTS, TRUTH, ks=[3], ideal="retrieved")["ndcg@3"] == pytest.approx(
        ((1 + 1 / log2(4)) / ideal + 1 / log2(4)) / 3
    )
    one = {"u": ["x", "a"]}  # retrieved: the ideal has the one hit, test: both targets
    assert score_lists(one, {"u": ["a", "b"]}, ks=[2], metrics=["ndcg"], ideal="retrieved")["ndcg@2"] == pytest.approx(
        1 / log2(3)
    )


def test_equal_scores_share_their_places():
    lists = {"u": {"a": 0.5, "b": 0.5, "c": 0.1}}
    found = score_lists(lists, {"u": ["b"]}, ks=[1, 2], metrics=["recall", "mrr"])
    assert found == pytest.approx({"recall@1": 0.5, "recall@2": 1, "mrr@1": 0.5, "mrr@2": 0.75})


def test_who_is_counted_is_said(caplog):
    found = measure_lists(LISTS, TRUTH, train=TRAIN, ks=(2,))
    assert (found.without_list, found.without_truth) == (("cem",), ("eve",))
    assert found.seen == 2, "ann's and bob's jam"
    assert found.users == ("ann", "bob", "cem") and found.per_user["recall@2"].tolist() == [0.5, 0, 0]
    with caplog.at_level(logging.WARNING):
        score_lists(LISTS, TRUTH, ks=(2,))
    assert "counted as missed: 1 ('cem')" in caplog.text and "left out: 1 ('eve')" in caplog.text
    filtered = score_lists(LISTS, TRUTH, train=TRAIN, ks=(2,), metrics=["recall"], filter_seen=True)
    assert filtered == pytest.approx({"recall@2": (1 + 1 + 0) / 3}), "jam is gone, and what follows moves up"


@pytest.mark.parametrize("ties", [False, True])
def test_the_evaluators_numbers(ties):
    corpus = synthetic_corpus(num_users=70, num_items=50, protocol="ratio")
    scores = torch.rand(70, 50, generator=torch.Generator().manual_seed(0))
    if ties:
        scores = (scores * 8).floor()
    evaluator = Evaluator(corpus, "test", ks=(5, 20), metrics=EVERY, mask="train")
    expected = evaluator.evaluate(lambda batch: lambda items: scores[batch["user"]][:, items].clone())
    users, items = corpus.user_ids, corpus.item_ids
    lists = {users[u]: {items[i]: float(scores[u, i]) for i in range(50)} for u in range(70)}
    truth, train = (
        {users[u]: [items[i] for i in corpus.targets(split)[u]] for u in range(70)} for split in ("test", "train")
    )
    found = measure_lists(
        lists, truth, train=train, ks=(5, 20), metrics=EVERY, filter_seen=True, num_items=corpus.num_items
    )
    names = [name for name in expected if not (ties and name.split("@")[0] in ("coverage", "popularity"))]
    assert {name: found.values[name] for name in names} == pytest.approx({name: expected[name] for name in names})
    assert set(found.values) == set(expected)


def write(file, frame):
    if file.suffix == ".parquet":
        frame.write_parquet(file)
    elif file.suffix == ".gz":
        file.write_bytes(gzip.compress(frame.write_csv().encode()))
    else:
        frame.write_csv(file, separator="\t" if file.suffix == ".tsv" else ",")
    return file


@pytest.mark.parametrize("name", ["lists.csv", "lists.tsv", "lists.parquet", "lists.csv.gz"])
def test_tables(tmp_path, name):
    rows = [(user, item, place) for user, items in LISTS.items() for place, item in enumerate(items, 1)]
    frame = pl.DataFrame(rows[::-1], schema=["user", "item", "rank"], orient="row")
    assert read_lists(write(tmp_path / name, frame)) == dict(reversed(LISTS.items()))
    scored = frame.rename({"rank": "score", "user": "user_id"}).with_columns(score=pl.col("score") * -0.5)
    file = write(tmp_path / f"scored-{name}", scored)
    assert read_lists(file)["bob"] == {"tea": -1.5, "oil": -1.0, "jam": -0.5}
    assert read_pairs(file)["ann"] == ["rye", "jam", "tea"]
    assert score_lists(file, TRUTH) == score_lists(LISTS, TRUTH)


def test_ids_are_text(tmp_path):
    (tmp_path / "lists.csv").write_text("user,item,rank\n007,01,1\n007,1,2\n")
    assert read_lists(tmp_path / "lists.csv") == {"007": ["01", "1"]}
    numbers = {7: [1, 2]}
    assert score_lists(numbers, {"7": ["2"]}, ks=[2], metrics=["hit"]) == {"hit@2": 1.0}


def test_json(tmp_path):
    (tmp_path / "whole.json").write_text(json.dumps(LISTS))
    lines = [json.dumps({"user": user, "items": items}) for user, items in LISTS.items()]
    (tmp_path / "lines.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "users.jsonl").write_text("\n".join(json.dumps({user: items}) for user, items in LISTS.items()))
    assert all(read_lists(tmp_path / name) == LISTS for name in ("whole.json", "lines.jsonl", "users.jsonl"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,item,rank\na,x,1\na,x,2\n", "item 'x' is twice in the list of user 'a'"),
        ("user,item,rank\na,x,1\na,y,1\n", "items 'x' and 'y' of user 'a' both have the rank 1"),
        ("user,item,rank\na,x,1\na,y,\n", r"row 2, column 'rank': None is not a finite number \(1 such"),
        ("user,item,score\na,x,nan\n", "row 1, column 'score': 'nan' is not a finite number"),
        ("user,item,rank\na,,1\n", r"row 1: the item \(column 'item'\) is missing"),
        ("user,items,rank\na,x,1\n", "no column 'item_id'; did you mean 'items'"),
        ("user,item,place\na,x,1\n", "no column 'rank' and none 'score'; it has: user, item, place"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    (tmp_path / "lists.csv").write_text(text)
    with pytest.raises(ValueError, match=f"lists.csv.*{message}"):
        read_lists(tmp_path / "lists.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["recal"]}, "unknown metric 'recal'; did you mean 'recall'"),
        ({"ks": [0, 5]}, "cut-offs must be positive"),
        ({"ideal": "best"}, "unknown ideal 'best'"),
        ({"metrics": ["popularity"]}, "popularity needs train"),
        ({"filter_seen": True}, "filter_seen needs train"),
        ({"num_items": 2}, "name 4 items"),
        ({"truth": {"zoe": ["tea"]}}, r"no user of the lists is in the truth.*'ann'.*'zoe'"),
        ({"truth": {"ann": []}}, "the truth holds no item"),
        ({"lists": {"ann": ["tea", "tea"]}}, "item 'tea' is twice in the list of user 'ann'"),
        ({"lists": {"ann": {"tea": float("nan")}}}, "score of user 'ann' for item 'tea' is NaN"),
        ({"lists": {"ann": "tea"}}, "is the text 'tea'"),
    ],
)
def test_what_cannot_be_measured(options, message):
    with pytest.raises(ValueError, match=message):
        score_lists(**{"lists": LISTS, "truth": TRUTH} | options)


def recipe(monkeypatch, capsys, repository, *arguments) -> str:
    monkeypatch.setattr(sys, "argv", ["score.py", *map(str, arguments)])
    runpy.run_path(str(repository / "recipes" / "score.py"), run_name="__main__")
    return capsys.readouterr().out


def test_the_recipe(tmp_path, monkeypatch, capsys, repository):
    rows = [(user, item, place) for user, items in LISTS.items() for place, item in enumerate(items, 1)]
    lists = write(tmp_path / "lists.csv", pl.DataFrame(rows, schema=["user", "item", "rank"], orient="row"))
    pairs = [(user, item) for user, items in TRUTH.items() for item in items]
    truth = write(tmp_path / "test.tsv", pl.DataFrame(pairs, schema=["user", "item"], orient="row"))
    shown = recipe(monkeypatch, capsys, repository, lists, "--truth", truth, "--ks", 3, 1, "--metrics", "recall", "hit")
    assert "3 users with held-out items" in shown and "counted as missed: 1 ('cem')" in shown
    assert [line.split() for line in shown.splitlines()[-3:]] == [
        ["@1", "@3"],
        ["recall", "0.1667", "0.6667"],
        ["hit", "0.3333", "0.6667"],
    ]


def test_against_a_corpus(tmp_path, monkeypatch, capsys, repository):
    corpus = synthetic_corpus(num_users=30, num_items=20)
    corpus.save(tmp_path / "corpus")
    target = {corpus.user_ids[u]: corpus.item_ids[corpus.targets("test")[u][0]] for u in range(30)}
    (tmp_path / "lists.jsonl").write_text("".join(json.dumps({u: [i]}) + "\n" for u, i in target.items()))
    options = ("--truth", tmp_path / "corpus", "--ks", 1, "--metrics", "mrr")
    shown = recipe(monkeypatch, capsys, repository, tmp_path / "lists.jsonl", *options)
    assert "catalogue of 20 items" in shown and shown.split()[-2:] == ["mrr", "1.0000"]
    assert score_lists({user: [item] for user, item in target.items()}, corpus, ks=[1])["recall@1"] == 1
    first = {user: items[:1] for user, items in pairs_of(corpus, "train").items()}
    listed = {item for items in first.values() for item in items}
    assert score_lists(first, corpus, ks=[1], metrics=["coverage"])["coverage@1"] == len(listed) / 20
    assert score_lists(first, corpus, ks=[1], metrics=["popularity"])["popularity@1"] > 1, "the train split is known"
