"""The benchmark and recommend recipes on a small corpus: the table, resuming, and what is refused."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator

from seqmm.config import write_yaml
from seqmm.data.corpus import Corpus
from seqmm.data.synthetic import synthetic_corpus
from seqmm.evaluation import benchmark
from seqmm.evaluation.evaluator import Evaluator
from seqmm.hub import from_pretrained
from tests.evaluation.test_leakage import item_sorted

MODELS = {
    "sasrec": {"hidden_size": 16, "max_length": 8, "num_layers": 1, "inner_size": 16},
    "lightgcn": {"hidden_size": 16},
}


def configuration(folder: Path, model_type: str, corpus: Path, protocol: str = "leave_one_out", **train) -> str:
    folder.mkdir(exist_ok=True)
    values = {
        "model": {"model_type": model_type} | MODELS[model_type],
        "data": {"path": str(corpus), "protocol": protocol},
        "train": {"epochs": 2, "batch_size": 64} | train,
    }
    write_yaml(values, folder / f"{model_type}.yaml")
    return str(folder / f"{model_type}.yaml")


@pytest.fixture
def recipe(repository, monkeypatch):
    def run(name: str, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        try:
            runpy.run_path(str(repository / "recipes" / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    corpus = synthetic_corpus(num_users=80, num_items=50)
    corpus.save(tmp_path / "corpus")
    return corpus


def test_table_resumes_and_agrees_with_the_evaluator(tmp_path, recipe, corpus, monkeypatch, capsys):
    files = [configuration(tmp_path / "small", name, tmp_path / "corpus") for name in MODELS]
    output = tmp_path / "out"
    command = ["benchmark", "--runs", *files, "--seeds", 0, 1, "--output", output, "--ks", 5, 10]
    assert recipe(*command) == 0
    text, values = (output / "results.md").read_text(), json.loads((output / "metrics.json").read_text())
    assert "mask = history" in text
    for name in ("small/sasrec", "small/lightgcn", "popularity", "probe: index order", "users renumbered"):
        assert name in text
    assert [row["label"] for row in values["rows"]] == ["small/sasrec", "small/lightgcn", "popularity"]
    assert [row["seeds"] for row in values["rows"]] == [[0, 1], [0, 1], [0]]
    assert values["mask"] == "history"
    assert values["baseline"] in ("small/lightgcn", "popularity")

    # a cell is what the evaluator says of its checkpoint
    found = []
    for seed in (0, 1):
        model = from_pretrained(str(output / "runs" / f"small-lightgcn-seed{seed}")).bind(corpus)
        evaluator = Evaluator(corpus, "test", ks=(5, 10))
        found.append(evaluator(Accelerator(cpu=True), model)["recall@10"])
        saved = np.load(output / "per_user" / f"small-lightgcn-seed{seed}.npz")
        np.testing.assert_array_equal(saved["users"], evaluator.users)
        np.testing.assert_allclose(saved["recall@10"], evaluator.per_user["recall@10"])
    row = values["rows"][1]["test"]["recall@10"]
    assert (row["mean"], row["std"]) == pytest.approx((np.mean(found), np.std(found, ddof=1)))

    # finished cells are read; a lost one is made again from its finished run
    def forbidden(*arguments, **options):
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:
        patch.setattr(benchmark, "fit", forbidden)
        assert recipe(*command) == 0
    assert (output / "results.md").read_text() == text
    (output / "cells" / "small-sasrec-seed1.json").unlink()
    weights = (output / "runs" / "small-sasrec-seed1" / "model.safetensors").read_bytes()
    assert recipe(*command) == 0
    assert (output / "results.md").read_text() == text
    assert (output / "runs" / "small-sasrec-seed1" / "model.safetensors").read_bytes() == weights

    # other settings in the same folder are refused
    configuration(tmp_path / "small", "sasrec", tmp_path / "corpus", learning_rate=0.01)
    capsys.readouterr()
    assert recipe(*command) == 2
    error = capsys.readouterr().err
    assert "run.train.learning_rate: 0.001 before, 0.01 now" in error
    assert "Traceback" not in error


def test_run_folders_are_rows_and_recommend(tmp_path, recipe, corpus, capsys):
    file = configuration(tmp_path / "small", "sasrec", tmp_path / "corpus")
    for seed in (0, 1):
        options = ["--train.seed", seed, "--train.output-dir", tmp_path / f"mine-seed{seed}"]
        assert recipe("train", "--config", file, *options) == 0
    runs = [tmp_path / "mine-seed0", tmp_path / "mine-seed1"]
    assert recipe("benchmark", "--runs", *runs, "--output", tmp_path / "out", "--probes", False) == 0
    values = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert [(row["label"], row["seeds"]) for row in values["rows"]] == [("mine", [0, 1]), ("popularity", [0])]
    assert not values["probes"]

    capsys.readouterr()
    assert recipe("recommend", "--checkpoint", runs[0], "--user", "user-3", "--k", 4) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "sasrec recommends, of 50 items of synthetic" in shown[1]
    assert len(shown) == 6
    assert shown[2].split()[2] in corpus.item_ids
    assert recipe("recommend", "--checkpoint", runs[0], "--history", "item-3, item-9", "--k", 4) == 0
    assert "a new user had 2 items" in capsys.readouterr().out

    # another corpus, and a truncated checkpoint
    synthetic_corpus(num_users=80, num_items=50, seed=5).save(tmp_path / "other")
    (tmp_path / "new.jsonl").write_text('{"id": "x"}')
    elsewhere = configuration(tmp_path / "elsewhere", "lightgcn", tmp_path / "other")
    refused = {
        "was trained on 'synthetic'": [
            "recommend",
            "--checkpoint",
            runs[0],
            "--user",
            "user-3",
            "--corpus",
            tmp_path / "other",
        ],
        "one table holds one corpus": ["benchmark", "--runs", runs[0], elsewhere, "--output", tmp_path / "b"],
        "K = 51 is larger than the catalogue": [
            "benchmark",
            "--runs",
            runs[0],
            "--ks",
            10,
            51,
            "--output",
            tmp_path / "c",
        ],
        "--monitor ndcg@10 must be": ["benchmark", "--runs", runs[0], "--ks", 5, "--output", tmp_path / "c"],
        "no finished run": ["benchmark", "--runs", tmp_path, "--output", tmp_path / "c"],
        "has no user 'Bob'": ["recommend", "--checkpoint", runs[0], "--user", "Bob"],
        "sasrec reads no content": ["recommend", "--checkpoint", runs[0], "--new-items", tmp_path / "new.jsonl"],
        "for whom?": ["recommend", "--checkpoint", runs[0]],
    }
    for message, command in refused.items():
        assert recipe(*command) == 2, message
        assert message in capsys.readouterr().err
    weights = runs[1] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert recipe("recommend", "--checkpoint", runs[1], "--user", "user-3") == 2
    assert "truncated or damaged" in capsys.readouterr().err
    assert recipe("benchmark", "--runs", *runs, "--output", tmp_path / "out") == 2
    assert "made with other settings (weights" in capsys.readouterr().err


def test_a_leak_is_said(tmp_path, recipe):
    for order in ("source", "permuted"):
        item_sorted(order, num_users=1500, num_items=800).save(tmp_path / order)
        file = configuration(tmp_path / "small", "lightgcn", tmp_path / order, protocol="given", epochs=1)
        assert recipe("benchmark", "--runs", file, "--output", tmp_path / f"{order}-out") == 0
        values = json.loads((tmp_path / f"{order}-out" / "metrics.json").read_text())
        assert ("**Leak:**" in (tmp_path / f"{order}-out" / "results.md").read_text()) == (order == "source")
        assert (values["probes"][0]["z"] > 4) == (order == "source")
        assert values["mask"] == "train"
