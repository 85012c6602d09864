"""A stranger's model (tests/examples/toy.py) in a folder of his own: every recipe and the Python API honour it."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tokenize

import pytest

from seqmm.data.synthetic import synthetic_corpus
from seqmm.files import write_yaml


def test_it_is_twenty_lines_of_code(repository):
    text = (repository / "tests" / "examples" / "toy.py").read_text()
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        quiet = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT, tokenize.ENDMARKER)
        if token.type not in quiet and not (token.type == tokenize.STRING and token.string.startswith('"""')):
            lines.add(token.start[0])
    assert len(lines) <= 20


@pytest.fixture(scope="module")
def home(tmp_path_factory, repository):
    folder = tmp_path_factory.mktemp("stranger")
    shutil.copy(repository / "tests" / "examples" / "toy.py", folder)
    synthetic_corpus(80, 50, mean_length=10).save(folder / "corpus")
    train = {"epochs": 3, "batch_size": 64, "learning_rate": 0.01}
    write_yaml(
        folder / "mine.yaml",
        {
            "model": {"model_type": "toy:Toy", "hidden_size": 16, "regularization": 1e-3},
            "data": {"path": "corpus"},
            "train": train,
        },
    )
    return folder


@pytest.fixture(scope="module")
def python(home, repository):
    def run(*command, code=0):
        environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [sys.executable, *map(str, command)], capture_output=True, text=True, cwd=home, env=environment, timeout=300
        )
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stderr if code else done.stdout

    return run


@pytest.fixture(scope="module")
def recipe(python, repository):
    return lambda name, *arguments, **options: python(repository / "recipes" / f"{name}.py", *arguments, **options)


@pytest.fixture(scope="module")
def trained(recipe, home):
    shown = recipe("train", "--config", "mine.yaml", "--train.output-dir", "runs/mine")
    assert "toy on synthetic" in shown
    return home / "runs" / "mine"


@pytest.mark.slow
def test_it_trains_recommends_and_says_how_it_is_found(recipe, home, trained):
    config = json.loads((trained / "config.json").read_text())
    assert config["model_type"] == "toy" and config["architectures"] == ["Toy"] and config["regularization"] == 1e-3
    with_plugin = recipe("recommend", "--checkpoint", trained, "--user", "user-1", "--plugin", "toy:Toy", "--k", "3")
    assert "toy recommends" in with_plugin
    error = recipe("recommend", "--checkpoint", trained, "--user", "user-1", code=2)  # toy.py lies here, unread
    assert "model_type 'toy' is not registered" in error and "--plugin module:" in error
    # the recorded settings name the model, not where its code is: the flag says that
    recipe("train", "--config", trained / "run.yaml", "--plugin=toy:Toy", "--train.output-dir", "runs/again")
    values = [
        json.loads((home / "runs" / name / "metrics.json").read_text())["validation"] for name in ("mine", "again")
    ]
    assert values[0] == values[1]


@pytest.mark.slow
def test_it_is_benchmarked_with_two_seeds_and_as_a_run(recipe, home, trained):
    shown = recipe(
        *("benchmark", "--runs", "mine.yaml", trained, "--seeds", "0", "1", "--plugin", "toy:Toy"),
        *("--ks", "5", "10", "--probes", "False", "--output", "runs/table"),
    )
    assert "/mine" in shown and "popularity" in shown
    rows = [path.stem for path in (home / "runs" / "table" / "cells").glob("*.json") if "started" not in path.name]
    assert sorted(row.rpartition("seed")[2] for row in rows if not row.startswith(("popularity", "mine"))) == ["0", "1"]


@pytest.mark.slow
def test_it_is_saved_and_loaded_in_python(python, home, trained):
    code = """
        import torch, seqmm, toy  # toy.py registers it: a decorator, or seqmm.register(toy.Toy)
        corpus = seqmm.load_corpus("corpus")
        model = seqmm.from_pretrained("runs/mine")
        assert type(model) is toy.Toy
        model.save_pretrained("saved")
        again = seqmm.from_pretrained("saved").bind(corpus)
        assert torch.equal(model.bind(corpus).tables()["items"], again.tables()["items"])
        print(seqmm.Index(again, corpus).recommend("user-1", k=2)[0].item_id)
    """
    lines = [line[8:] for line in code.splitlines()]
    assert python("-c", "\n".join(lines)).strip()
