"""The recipes refuse a damaged checkpoint in one line, before they print or train anything."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import seqmm

KINDS = {
    "removed": r"lacks item\.weight",
    "nan": r"item\.weight\[0, 1\] is nan",
    "reshaped": r"item\.weight is \(24, 8\), not \(25, 8\)",
    "renamed": r"lacks item\.weight; it has items\.weight besides",
    "of another model": "holds weights made with model_type 'bpr'",
    "newer": "made by a newer seqmm",
    "cut": "cannot be read",
    "pickled": r"holds no model\.safetensors: pytorch_model\.bin is not read",
}
"""What is done to a checkpoint of BPR -> what is said."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A folder with ``corpus``, and runs ``bpr`` and ``lightgcn`` on it."""
    folder = tmp_path_factory.mktemp("sound")
    seqmm.synthetic_corpus(num_users=30, num_items=25).save(folder / "corpus")
    corpus = seqmm.load_corpus(str(folder / "corpus"))
    for model in ("bpr", "lightgcn"):
        train = seqmm.TrainArguments(epochs=1, output_dir=str(folder / model))
        seqmm.Run.of(model, corpus, train=train, hidden_size=8).fit()
    return folder


@pytest.fixture
def recipe(repository, monkeypatch, capsys):
    def run(name: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(str(repository / "recipes" / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return run


def damage(sound, target, kind):
    shutil.copytree(sound / "bpr", target)
    file, config = target / "model.safetensors", target / "config.json"
    weights = {key: value.clone() for key, value in load_file(file).items()}
    if kind == "removed":
        save_file({"user.weight": weights["user.weight"]}, file)
    elif kind == "nan":
        weights["item.weight"][0, 1] = torch.nan
        save_file(weights, file)
    elif kind == "reshaped":
        save_file(weights | {"item.weight": weights["item.weight"][1:].clone()}, file)
    elif kind == "renamed":
        weights["items.weight"] = weights.pop("item.weight")
        save_file(weights, file)
    elif kind == "of another model":
        shutil.copy(sound / "lightgcn" / "config.json", config)
    elif kind == "newer":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"seqmm_format": 2}))
    elif kind == "cut":
        file.write_bytes(file.read_bytes()[:-7])
    else:
        file.rename(target / "pytorch_model.bin")


@pytest.mark.parametrize("kind", KINDS)
def test_every_recipe_that_reads_a_checkpoint_refuses_a_damaged_one(kind, sound, recipe, tmp_path):
    run = tmp_path / "run"
    damage(sound, run, kind)
    model = "lightgcn" if kind == "of another model" else "bpr"
    start = ["--model.model-type", model, "--model.hidden-size", 8, "--train.init-from", run, "--train.epochs", 1]
    commands = {
        "recommend": ["--checkpoint", run, "--user", "user-7"],
        "benchmark": ["--runs", run, "--output", tmp_path / "bench"],
        "finetune": [*start, "--data.path", sound / "corpus", "--train.output-dir", tmp_path / "fine"],
        "publish": ["--model", run, "--repo", "org/x", "--license", "mit", "--dry-run", True],
    }
    for name, arguments in commands.items():
        code, out, error = recipe(name, *arguments)
        assert code == 2 and error.count("\n") == 1 and error.startswith("error: "), (name, error)
        assert str(run) in error, (name, error)
        assert re.search(KINDS[kind], error), (name, error)
        assert "recommends" not in out and "epoch" not in out, (name, out)
    assert not (tmp_path / "fine" / "model.safetensors").exists()


def test_the_same_commands_take_the_sound_one(sound, recipe):
    code, out, _ = recipe("recommend", "--checkpoint", sound / "bpr", "--user", "user-7", "--k", 2)
    assert code == 0 and "bpr recommends" in out


def test_titles_steer_no_terminal(sound, recipe, tmp_path):
    from dataclasses import replace

    corpus = seqmm.synthetic_corpus(num_users=30, num_items=25)
    titles = tuple(f"\x1b[2J\x1b[31m{title}\nuser x\u202e" for title in corpus.titles)
    replace(corpus, titles=titles, name="evil\x1b]0;x\x07").save(tmp_path / "corpus")
    arguments = ["--checkpoint", sound / "bpr", "--corpus", tmp_path / "corpus", "--k", 3]
    for whom in (["--user", "user-7"], ["--similar", "item-3"]):
        code, out, _ = recipe("recommend", *arguments, *whom)
        assert code == 0 and "\x1b" not in out and "\x07" not in out and "\u202e" not in out
        assert "\\u001b[2J" in out and "\nuser x" not in out
