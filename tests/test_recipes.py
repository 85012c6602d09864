"""The recipes as a user runs them: through accelerate launch, on a prepared corpus on disk."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

from seqmm.data.corpus import Corpus
from seqmm.data.synthetic import synthetic_corpus
from seqmm.files import write_yaml

MODEL = {"hidden_size": 16, "max_length": 8, "num_layers": 1, "inner_size": 32, "dropout": 0.1}
MSM4SR = {"model_type": "msm4sr", "num_experts": 2} | MODEL


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    corpus = synthetic_corpus(80, 50, mean_length=10)
    corpus.save(folder / "corpus")
    synthetic_corpus(70, 45, mean_length=10, seed=5).save(folder / "other")
    for name, model, features in (
        ("msm4sr", MSM4SR, ["text", "image"]),
        ("sasrec", {"model_type": "sasrec"} | MODEL, []),
        ("bpr", {"model_type": "bpr", "hidden_size": 16}, []),
    ):
        data = {"path": str(folder / "corpus"), "features": features}
        train = {"epochs": 2, "batch_size": 32, "learning_rate": 0.01}
        write_yaml(folder / f"{name}.yaml", {"model": model, "data": data, "train": train})
    return folder


@pytest.fixture(scope="module")
def recipe(home, repository):
    def run(name, *arguments, code=0):
        script = [str(repository / "recipes" / f"{name}.py"), *map(str, arguments)]
        command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", *script]
        if code:  # accelerate turns every exit code into 1; the recipe's own is what a user of the script sees
            command = [sys.executable, *script]
        environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=home, env=environment, timeout=300)
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stderr if code else done.stdout

    return run


@pytest.fixture(scope="module")
def together(home, repository):
    """Runs commands ``[recipe, argument, …]`` in one process; gives ``(exit code, stdout, stderr)`` of each."""

    def run(commands):
        scripts = [[str(repository / "recipes" / f"{name}.py"), *map(str, rest)] for name, *rest in commands]
        environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        driver = [sys.executable, str(repository / "tests" / "commands.py")]
        done = subprocess.run(
            driver, input=json.dumps(scripts), capture_output=True, text=True, cwd=home, env=environment, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def pretrained(recipe, home):
    recipe("pretrain", "--config", "msm4sr.yaml", "--train.output-dir", "runs/pretrained")
    return home / "runs" / "pretrained"


@pytest.mark.slow
def test_pretrain_finetune_benchmark_recommend(recipe, home, pretrained):
    assert {
        "config.json",
        "model.safetensors",
        "run.yaml",
        "metrics.json",
        "log.jsonl",
        "README.md",
        "checkpoints",
    } <= {path.name for path in pretrained.iterdir()}
    metrics = json.loads((pretrained / "metrics.json").read_text())
    assert metrics["test"] is None and metrics["validation"]["ndcg@10"] > 0 and metrics["mask"] == "history"
    assert "model-index" in (pretrained / "README.md").read_text()

    shown = recipe(
        "finetune", "--config", "msm4sr.yaml", "--train.init-from", pretrained, "--train.output-dir", "runs/fine"
    )
    assert "validation" in shown
    config = json.loads((home / "runs/fine/config.json").read_text())
    assert config["architectures"] == ["MSM4SRForRecommendation"]
    assert config["pretrained_on"]["fingerprint"] == config["corpus"]["fingerprint"]

    table = recipe(
        "benchmark", "--runs", "runs/fine", "sasrec.yaml", "bpr.yaml", "--seeds", "0", "1", "--output", "runs/table"
    )
    for name in ("fine", "sasrec", "bpr", "popularity"):
        assert name in table
    again = recipe(
        "benchmark", "--runs", "runs/fine", "sasrec.yaml", "bpr.yaml", "--seeds", "0", "1", "--output", "runs/table"
    )
    assert _tables(again) == _tables(table)
    assert json.loads((home / "runs/table/metrics.json").read_text())

    corpus = Corpus.load(home / "corpus")
    shown = recipe("recommend", "--checkpoint", "runs/fine", "--user", corpus.user_ids[3], "--k", "4")
    titles = [title for title in corpus.titles if title in shown]
    assert len(titles) >= 4
    shown = recipe("recommend", "--checkpoint", "runs/fine", "--history", ",".join(corpus.item_ids[:3]), "--k", "4")
    assert not any(re.search(rf"^ +\d+ .*\b{name}\b", shown, re.M) for name in corpus.item_ids[:3]), "seen items shown"


def _tables(text):
    return [line for line in text.splitlines() if line.startswith("|")]


@pytest.mark.slow
def test_finetune_on_another_corpus_and_run_again_from_run_yaml(recipe, home, pretrained):
    more = ["--data.path", "other", "--train.output-dir", "runs/other"]
    recipe("finetune", "--config", "msm4sr.yaml", "--train.init-from", pretrained, *more)
    config = json.loads((home / "runs/other/config.json").read_text())
    assert config["pretrained_on"]["fingerprint"] != config["corpus"]["fingerprint"]
    recipe("finetune", "--config", "runs/other/run.yaml", "--train.output-dir", "runs/again")
    a, b = ((home / "runs" / run / "model.safetensors").read_bytes() for run in ("other", "again"))
    assert a == b, "run.yaml repeats a run"


@pytest.mark.slow
def test_finetune_on_a_corpus_whose_sets_have_other_names(together, home, pretrained):
    """By identity all sets of the checkpoint, or one of them; then a copy of the corpus that calls them otherwise."""
    shop = synthetic_corpus(70, 45, mean_length=10, seed=6)

    def write(folder, **names):
        features = {name: shop.features[old] for name, old in names.items()} | {"genre": shop.features["genre"]}
        replace(shop, name="shop", features=features).save(home / folder)

    write("shop", words="text", cover="image")
    write("shop_again", picture="image", letters="text")
    write("twins", words="text", more_words="text", cover="image")
    none = home / "none.yaml"
    write_yaml(none, {"model": MSM4SR, "train": {"batch_size": 32, "learning_rate": 0.01}})
    start = ["--train.init-from", pretrained, "--train.epochs", "1"]
    rename = ["--data.rename", "more_words=text"]
    user = ["--user", shop.user_ids[3], "--k", "4"]
    runs = [
        ["finetune", "--config", "msm4sr.yaml", *start, "--data.path", "shop", "--train.output-dir", "runs/both"],
        ["finetune", "--config", none, *start, "--data.path", "shop", "--train.output-dir", "runs/none"],
        ["finetune", "--config", none, *start, "--data.path", "shop", "--data.features", "words"]
        + ["--train.output-dir", "runs/words"],
        ["recommend", "--checkpoint", "runs/words", *user],
        ["recommend", "--checkpoint", "runs/words", *user, "--corpus", "shop_again"],
        ["benchmark", "--runs", "runs/both", "--corpus", "shop_again", "--probes", "False", "--output", "runs/table"],
        ["finetune", "--config", none, *start, "--data.path", "twins", *rename, "--train.output-dir", "runs/twins"],
        ["finetune", "--config", none, *start, "--data.path", "twins"],
        ["pretrain", "--config", "msm4sr.yaml", *rename],
    ]
    both, without, words, shown, again, table, twins, ambiguous, idle = together(runs)
    for code, _, said in (both, without, words, shown, again, table, twins):
        assert code == 0, said[-2000:]
    settings = {
        name: yaml.safe_load((home / "runs" / name / "run.yaml").read_text())
        for name in ("both", "none", "words", "twins")
    }
    sets = {name: run["data"]["features"] for name, run in settings.items()}
    assert sets["both"] == ["words", "cover"], "the YAML's names are the checkpoint's"
    assert (sets["none"], sets["words"], sets["twins"]) == (["cover", "words"], ["words"], ["cover", "more_words"])
    weights = [(home / "runs" / name / "model.safetensors").read_bytes() for name in ("both", "none")]
    assert weights[0] == weights[1]
    assert shown[1].splitlines()[2:] == again[1].splitlines()[2:], "other names, the same titles"
    for (code, _, said), words_of_it in ((ambiguous, "which is which"), (idle, "data.rename more_words=text")):
        line = said.strip().splitlines()[-1]
        assert code == 2 and line.startswith("error: ") and words_of_it in line, said


@pytest.mark.slow
def test_errors_are_one_line_and_exit_2(together, home, pretrained, tmp_path):
    corpus = Corpus.load(home / "corpus", features=("text", "image"))
    text = corpus.features["text"]
    wrong = replace(corpus, features=corpus.features | {"text": replace(text, provenance={"encoder": "another"})})
    wrong.save(tmp_path / "wrong")
    narrow = replace(text, values=text.values[:, :10].copy())
    replace(corpus, features=corpus.features | {"text": narrow}).save(tmp_path / "narrow")
    start = ["finetune", "--config", "msm4sr.yaml", "--train.init-from", pretrained]
    wanted = [
        ("no folder nowhere", ["train", "--config", "bpr.yaml", "--data.path", "nowhere"]),
        ("did you mean 'num_layers'", ["train", "--config", _typo(tmp_path)]),
        ("has no pretraining head", ["pretrain", "--config", "bpr.yaml"]),
        ("--train.init-from", ["finetune", "--config", "msm4sr.yaml"]),
        ("'audio'", ["train", "--config", "bpr.yaml", "--data.features", "audio"]),
        ("ratio", ["train", "--config", "bpr.yaml", "--data.protocol", "ratio"]),
        ("60", ["train", "--config", "bpr.yaml", "--eval.ks", "60", "--eval.monitor", "ndcg@60"]),
        ("hidden_size = 16, this run has 8", [*start, "--model.hidden-size", "8"]),
        ("was trained on 'synthetic'", ["recommend", "--checkpoint", pretrained, "--corpus", "other", "--user", "u"]),
        ("recipes/finetune.py", ["recommend", "--checkpoint", pretrained, "--corpus", "other", "--user", "u"]),
        ("another", [*start, "--data.path", tmp_path / "wrong"]),
        ("10", [*start, "--data.path", tmp_path / "narrow"]),
    ]
    for (expected, command), (code, _, said) in zip(wanted, together([c for _, c in wanted]), strict=True):
        line = said.strip().splitlines()[-1]
        assert code == 2 and line.startswith("error: ") and expected in line, (command, said)
    assert not (home / "runs" / "msm4sr-wrong-finetune").exists()


def _typo(folder):
    write_yaml(folder / "typo.yaml", {"model": {"model_type": "lightgcn", "num_layer": 3}})
    return folder / "typo.yaml"


@pytest.mark.slow
def test_the_console_command_runs_recipes(repository):
    from seqmm.cli import RECIPES

    assert sorted(RECIPES) == sorted(file.stem for file in (repository / "recipes").glob("*.py"))
    command = [sys.executable, "-c", "from seqmm.cli import main; main()"]
    shown = subprocess.run([*command, "train", "--help"], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0 and "accelerate launch recipes/train.py" in shown.stdout
    path = subprocess.run([*command, "path", "speed"], capture_output=True, text=True, timeout=60).stdout.strip()
    assert path == str(repository / "recipes" / "speed.py")
    assert subprocess.run([*command, "evaluate"], capture_output=True, timeout=60).returncode == 2
