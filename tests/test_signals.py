"""Ctrl-C and SIGTERM: one line, an exit code that says so, no next run, and no traceback of the launcher."""

import os
import signal
import subprocess
import sys

import pytest
from accelerate import Accelerator

from seqmm import signals
from seqmm.bench import cell as cells
from seqmm.cli import run_recipe
from seqmm.data.synthetic import synthetic_corpus
from seqmm.files import write_yaml
from seqmm.training.interrupts import Interrupts


@pytest.fixture
def untouched():
    """The signals' handlers are those of before, also where a test fails."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    left = {number: signal.getsignal(number) for number in before}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert left == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_recipe_ends_in_one_line(untouched, capsys, monkeypatch, number, code):
    monkeypatch.setattr(sys, "argv", ["recipe.py"])
    reached = []

    def main():
        os.kill(os.getpid(), number)
        reached.append("after")

    with pytest.raises(SystemExit) as end:
        run_recipe(main)
    assert end.value.code == code and not reached
    assert capsys.readouterr().err.strip() == "interrupted."


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_that_comes_after_the_last_look_is_raised_at_the_end(untouched, number):
    with pytest.raises(KeyboardInterrupt, match="What was trained is saved"), Interrupts() as interrupts:
        os.kill(os.getpid(), number)
        assert interrupts.requested
    with Interrupts() as interrupts:
        assert not interrupts.requested


def test_what_a_launcher_passes_on_is_the_same_request(untouched, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(signals, "_received", [])
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with pytest.raises(KeyboardInterrupt, match="^$"), Interrupts() as interrupts:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
            assert interrupts.requested
        now[0] += 1.5
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second request ends at once")


def test_a_benchmark_begins_no_next_cell(untouched, monkeypatch, tmp_path, capsys):
    begun = []

    class Named:
        label, seed = "bpr", 0

    def finish(cell, *rest):
        begun.append(cell)
        with Interrupts():  # a trainer, past its last look at them
            if len(begun) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
        return {}

    monkeypatch.setattr(cells, "finish", finish)
    said = f"1 of 3 are finished, the others are kept as they are in {tmp_path}: run it again to go on"
    with pytest.raises(KeyboardInterrupt, match=said):
        cells.finish_all([Named()] * 3, None, None, tmp_path, Accelerator(cpu=True))
    assert len(begun) == 2
    assert "[2/3] bpr, seed 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["/x/python", "/x/bin/accelerate", "launch", "recipes/train.py"], True),
        (["/x/python", "-m", "accelerate.commands.launch", "recipes/train.py"], True),
        (["/x/python", "/x/bin/accelerate-launch", "recipes/train.py"], True),
        (["/bin/bash", "-c", "python recipes/train.py"], False),
        (["make", "launch"], False),
    ],
)
def test_a_launcher_is_known_by_its_command_line(monkeypatch, words, found):
    import psutil

    class Parent:
        def __init__(self, pid):
            assert pid == os.getppid()

        def cmdline(self):
            return words

    monkeypatch.setattr(psutil, "Process", Parent)
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    assert signals._launcher() == 0
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert signals._launcher() == (os.getppid() if found else 0)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert signals._launcher() == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_launched_benchmark_stops_and_goes_on(tmp_path, repository, number):
    """Slow: up to three processes under accelerate launch, each of which imports torch twice."""
    synthetic_corpus(num_users=80, num_items=50).save(tmp_path / "corpus")
    for model in ("bpr", "lightgcn"):
        train = {"epochs": 12, "batch_size": 64, "patience": 0}
        values = {"model": {"model_type": model}, "data": {"path": str(tmp_path / "corpus")}, "train": train}
        write_yaml(tmp_path / f"{model}.yaml", values)
    launch = [sys.executable, "-m", "accelerate.commands.launch", str(repository / "recipes" / "benchmark.py")]
    files = [str(tmp_path / f"{model}.yaml") for model in ("bpr", "lightgcn")]

    def command(output):
        return [*launch, "--runs", *files, "--probes", "False", "--output", str(tmp_path / output)]

    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": repository}
    process = subprocess.Popen(command("stopped"), start_new_session=True, **options)
    for line in process.stdout:
        if "epoch    2" in line:
            break
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err, err
    assert "0 of 3 are finished" in err and "[2/3]" not in out and process.returncode != 0
    if number == signal.SIGTERM:
        return
    for output in ("stopped", "straight"):
        done = subprocess.run(command(output), **options, timeout=300)
        assert done.returncode == 0, done.stderr
    for name in ("results.md", "metrics.json"):
        assert (tmp_path / "stopped" / name).read_text() == (tmp_path / "straight" / name).read_text()
