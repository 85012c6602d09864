"""A run's folder: one run at a time, and nothing in it is touched but what a run wrote."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from seqmm.arguments import EvalArguments, TrainArguments
from seqmm.run.run import Run
from seqmm.training.folder import RunFolder
from tests.cases import CASES
from tests.training.test_callbacks import make

RUN = {"going_on": False, "resume": False, "overwrite": False, "trained": True}


def train(folder, epochs=1, **more):
    trainer = make("bpr", folder, epochs=epochs, batch_size=200, **more)
    trainer.train()
    return trainer


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def foreign(folder: Path) -> dict[str, bytes]:
    """Files of somebody else, in places near to ours."""
    for name in (
        "notes.txt",
        "checkpoints/llm/weights.bin",
        "checkpoints/state-1-2/model.bin",
        "checkpoints/.tmp-mine/x",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"mine: {name}")
    return contents(folder)


@pytest.mark.parametrize("more", [{}, {"resume": True}, {"overwrite": True}])
def test_foreign_files_survive_every_kind_of_run(tmp_path, more):
    before = foreign(tmp_path)
    train(tmp_path, **more)
    assert before.items() <= contents(tmp_path).items()
    train(tmp_path, overwrite=True)
    assert before.items() <= contents(tmp_path).items()


def test_a_state_goes_beside_a_foreign_folder_of_its_name(tmp_path):
    trainer = make("bpr", tmp_path, epochs=1, batch_size=200)
    name = f"state-{len(trainer.collators[0].batches(0, 200))}-1"
    (tmp_path / "checkpoints" / name).mkdir(parents=True)
    (tmp_path / "checkpoints" / name / "thesis.txt").write_text("mine")
    trainer.train()
    assert train(tmp_path, resume=True).state.finished
    assert (tmp_path / "checkpoints" / name / "thesis.txt").read_text() == "mine"
    assert (tmp_path / "checkpoints" / f"{name}.1" / "manifest.json").is_file()


@pytest.mark.parametrize("more", [{}, {"resume": True}, {"overwrite": True}])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "log.jsonl"])
def test_a_foreign_file_that_would_be_replaced_refuses_the_run(tmp_path, name, more):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=rf"holds {name}, which no run wrote there"):
        train(tmp_path, **more)
    assert contents(tmp_path) == {name: b"mine"}


def test_a_folder_is_no_file_of_ours(tmp_path):
    train(tmp_path)
    (tmp_path / "log.jsonl").unlink()
    (tmp_path / "log.jsonl").mkdir()
    (tmp_path / "log.jsonl" / "mine").write_text("mine")
    with pytest.raises(ValueError, match="holds log.jsonl"):
        train(tmp_path, overwrite=True)
    assert (tmp_path / "log.jsonl" / "mine").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="file is a file; choose another train.output_dir"):
        train(tmp_path / "file")


@pytest.mark.parametrize("name", ["README.md", "run.yaml", "metrics.json"])
def test_a_run_does_not_replace_a_foreign_card(tmp_path, name):
    train(tmp_path)  # from Python: it wrote weights there, and no card
    (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=rf"holds {name}, which no run wrote"):
        run(tmp_path, overwrite=True).fit()
    assert contents(tmp_path) == before


def run(folder, corpus=None, metrics=("ndcg",), ideal="test", **more):
    train = TrainArguments(epochs=1, batch_size=64, output_dir=str(folder), **more)
    scored = EvalArguments(ks=(5, 10), metrics=metrics, ideal=ideal, test=True)
    return Run.of("bpr", corpus or CASES["bpr"].corpus(), train=train, eval=scored, hidden_size=8)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"seed": 3}, "train.seed 0, this run has 3"),
        ({"ideal": "retrieved"}, "eval.ideal test, this run has retrieved"),
        ({"metrics": ("ndcg", "recall")}, "eval.metrics"),
    ],
)
def test_a_refused_resume_leaves_every_byte(tmp_path, more, what, monkeypatch):
    corpus = CASES["bpr"].corpus()
    run(tmp_path, corpus).fit()
    before = contents(tmp_path)
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", None)  # refused before weights are loaded
    with pytest.raises(ValueError, match=what):
        run(tmp_path, corpus, resume=True, log_every=7, **more).fit()
    assert contents(tmp_path) == before


def test_one_run_at_a_time(tmp_path):
    first = make("bpr", tmp_path, epochs=1, batch_size=200)
    with first.output():
        before = contents(tmp_path)
        for more in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(ValueError, match=rf"{tmp_path} is in use by another run \(process {os.getpid()} on "):
                train(tmp_path, **more)
        assert contents(tmp_path) == before
        first.train()
        with pytest.raises(ValueError, match="in use"):  # its caller has not let go of it
            train(tmp_path, resume=True)
    assert train(tmp_path, resume=True).state.finished
    assert not (tmp_path / ".seqmm-run.lock").exists()


def test_a_run_that_fails_lets_go_of_its_folder(tmp_path):
    train(tmp_path)
    with pytest.raises(ValueError, match="already holds"):
        train(tmp_path)
    train(tmp_path, resume=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_run_leaves_no_lock(tmp_path):
    reading, writing = os.pipe()
    if (run := os.fork()) == 0:
        try:
            os.setsid()
            RunFolder(tmp_path).hold()
            if os.fork() == 0:
                time.sleep(60)  # a loader process that outlives its run
            os.write(writing, b"held")
            time.sleep(60)
        finally:
            os._exit(1)
    try:
        assert os.read(reading, 4) == b"held"
        with pytest.raises(ValueError, match=rf"process {run} on "):
            RunFolder(tmp_path).hold()
        os.kill(run, signal.SIGKILL)
        os.waitpid(run, 0)
        taken = RunFolder(tmp_path)
        taken.hold()  # although a child of it lives on
        taken.release()
    finally:
        os.killpg(run, signal.SIGKILL)
        os.close(reading)
        os.close(writing)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_killed_runs_are_removed(tmp_path):
    train(tmp_path)
    left = ("checkpoints/.tmp-state-3-1", "checkpoints/.tmp-state-4-1.2", ".weights.tmp")
    for name in left:
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("half")
    (tmp_path / ".config.json.77.tmp").write_text("half")
    (tmp_path / ".mine.77.tmp").write_text("mine")
    train(tmp_path, resume=True)
    assert not [name for name in (*left, ".config.json.77.tmp") if (tmp_path / name).exists()]
    assert (tmp_path / ".mine.77.tmp").exists()


def test_an_untrained_model_does_not_replace_a_trained_one_by_resuming(tmp_path):
    train(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="already holds a run"):
        make("popularity", tmp_path, resume=True).train()
    assert contents(tmp_path) == before


def test_a_tracker_without_a_folder_writes_nothing_into_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="train.report_to tensorboard needs train.output_dir"):
        make("bpr", report_to=("tensorboard",))
    make("bpr").train()
    assert list(tmp_path.iterdir()) == []


def test_the_mark_says_which_files_are_ours(tmp_path):
    folder = RunFolder(tmp_path)
    folder.hold()
    folder.claim(["run.yaml"], **RUN)
    folder.release()
    mark = json.loads((tmp_path / ".seqmm-run.json").read_text())
    assert mark == {"files": ["config.json", "log.jsonl", "model.safetensors", "run.yaml"], "saved": False}
    (tmp_path / ".seqmm-run.json").write_text("{")  # damaged: what is there is then nobody's
    (tmp_path / "run.yaml").write_text("x")
    with pytest.raises(ValueError, match=r"run\.yaml"):
        folder.claim(["run.yaml"], **RUN)
