"""The ``evaluate.Metric`` modules: loaded from their folders offline, combined, with the evaluator's numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import seqmm.evaluation.hf
from seqmm.data.synthetic import synthetic_corpus
from seqmm.evaluation.evaluator import Evaluator

FOLDER = Path(seqmm.evaluation.hf.__file__).parent
NAMES = sorted(path.name for path in FOLDER.iterdir() if (path / f"{path.name}.py").is_file())

SCRIPT = """
import json
import sys

import evaluate

folder, data = sys.argv[1], json.load(sys.stdin)
options = {"coverage_at_k": {"num_items": data["num_items"]}, "mean_popularity_at_k": {"counts": data["counts"]}}
metrics = evaluate.combine([evaluate.load(f"{folder}/{name}", **options.get(name, {})) for name in data["names"]])
arguments = {"predictions": data["predictions"], "references": data["references"]}
retrieved = evaluate.load(f"{folder}/ndcg_at_k", ideal="retrieved").compute(**arguments, k=10)
try:
    evaluate.load(f"{folder}/hit_at_k").compute(predictions=[[1, 2]], references=[[]], k=1)
except ValueError as error:
    message = str(error)
numbers = metrics.compute(**arguments, k=10)
texts = {name: [[f"item {item}" for item in row] for row in rows] for name, rows in arguments.items()}
options["mean_popularity_at_k"] = {"counts": {f"item {item}": n for item, n in enumerate(data["counts"])}}
named = [evaluate.load(f"{folder}/{name}", **options.get(name, {})) for name in data["names"]]
print(json.dumps([numbers, retrieved, message, evaluate.combine(named).compute(**texts, k=10)]))
"""


@pytest.mark.slow
def test_modules_load_combine_and_agree(tmp_path):
    corpus = synthetic_corpus(num_users=80, num_items=60, protocol="given")
    scores = torch.rand(80, 60, generator=torch.Generator().manual_seed(0))
    metrics = ("coverage", "hit", "map", "popularity", "mrr", "ndcg", "precision", "recall")
    options = {"ks": (10, 20), "metrics": metrics, "mask": "none"}
    evaluator = Evaluator(corpus, "test", **options)
    expected = evaluator.evaluate(lambda batch: lambda items: scores[batch["user"]][:, items])
    retrieved = Evaluator(corpus, "test", **options | {"ideal": "retrieved"}).evaluate(
        lambda batch: lambda items: scores[batch["user"]][:, items]
    )
    targets = corpus.targets("test")
    data = {
        "names": NAMES,
        "predictions": scores[evaluator.users].topk(20).indices.tolist(),
        "references": [targets[user].tolist() for user in evaluator.users],
        "num_items": 60,
        "counts": np.bincount(corpus.splits["train"].item, minlength=60).tolist(),
    }
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "HF_MODULES_CACHE": str(tmp_path / "m"),
    }
    environment |= {"PYTHONPATH": str(Path(seqmm.__file__).parent.parent)}
    command = [sys.executable, "-c", SCRIPT, str(FOLDER)]
    done = subprocess.run(command, input=json.dumps(data), capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    combined, other, message, texts = json.loads(done.stdout.splitlines()[-1])
    assert len(NAMES) == 8
    assert combined == pytest.approx({name: value for name, value in expected.items() if name.endswith("@10")})
    assert texts == combined, "ids that are texts give the same"
    assert other["ndcg@10"] == pytest.approx(retrieved["ndcg@10"])
    assert other["ndcg@10"] > combined["ndcg@10"]
    assert "no target" in message
