"""A user's own folder, messy as they are: prepare, extract, pretrain, finetune, recommend, each as a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from seqmm.data.corpus import Corpus
from seqmm.data.store import read_items
from tests.messy_shop import write_shop


@pytest.mark.slow
def test_from_messy_tables_and_photos_to_a_recommendation(tmp_path, repository, bert, clip):
    shop = write_shop(tmp_path / "shop")

    def run(script, *arguments):
        command = [sys.executable, str(repository / script), *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    columns = ["--user", "customer", "--item", "sku", "--timestamp", "when", "--rename", "title=name"]
    said = run(
        "tokenized/folder/build.py", "--source", "shop", "--output", "corpora/shop", "--k-core", 2, *columns,
        "description=about", "--tags", "brand",
    )  # fmt: skip
    assert "recipes/extract.py --corpus corpora/shop" in said
    ids = Corpus.load(tmp_path / "corpora/shop").item_ids
    assert {"007", "A/B 1", "猫-3", "..", "50%"} <= set(ids)
    record = json.loads((tmp_path / "corpora/shop/corpus.json").read_text())["protocols"]["leave_one_out"]["info"]
    assert record["rows_incomplete"] > 0 and record["rows_read"] == len(shop.rows)

    sets = ["text_sentences", "image", "image_keywords"]
    encoders = [
        "--text-encoder", bert, "--pooling", "mean", "--max-tokens", 24, "--image-encoder", f"clip:{clip}",
        "--tagger", f"clip:{clip}", "--min-count", 2, "--keywords", 3,
    ]  # fmt: skip
    said = run(
        "recipes/extract.py", "--corpus", "corpora/shop", "--images", "shop/images", "--features", *sets, *encoders
    )
    kept = set(ids)
    broken, bare = (sum(item in kept for item in some) for some in (shop.broken, [*shop.without_image, shop.unknown]))
    assert f"broken image: {broken} items" in said and f"no image: {bare} items" in said
    card = (tmp_path / "corpora/shop/README.md").read_text()
    assert f"broken image: {broken}" in card and "no text: " in card
    items = read_items(tmp_path / "corpora/shop").to_pylist()
    corpus = Corpus.load(tmp_path / "corpora/shop", features=sets)
    sentences = corpus.features["text_sentences"]
    long = next(row["item"] for row in items if len(row["description"]) > 50_000)
    assert sentences.offsets[long + 1] - sentences.offsets[long] == 10

    small = ["--model.hidden-size", 16, "--model.num-experts", 2, "--model.inner-size", 32, "--model.max-length", 8]
    data = ["--data.path", "corpora/shop", "--data.features", "text_sentences", "image_keywords"]
    train = ["--train.epochs", 1, "--train.batch-size", 16, "--train.patience", 0]
    run("recipes/pretrain.py", *data, *small, *train, "--train.output-dir", "runs/pretrained")
    start = ["--train.init-from", "runs/pretrained", "--train.output-dir", "runs/finetuned"]
    run("recipes/finetune.py", *data, *small, *train, *start)
    shown = run("recipes/recommend.py", "--checkpoint", "runs/finetuned", "--user", "customer 003", "--k", 3)
    assert "customer 003" in shown and "Toy" in shown
