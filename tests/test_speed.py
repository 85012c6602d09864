"""recipes/speed.py: what it prints adds up, and its two formulations agree."""

import re
import subprocess
import sys

import pytest

from seqmm.data.synthetic import synthetic_corpus

pytestmark = pytest.mark.slow  # each starts the recipe, which times with threads of its own


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("speed") / "corpus"
    synthetic_corpus(num_users=60, num_items=60, protocol="given").save(path)
    return path


def run(repository, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(repository / "recipes" / "speed.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=repository)


def test_time_split_adds_up(repository, folder):
    flags = ["--data.path", str(folder), "--data.protocol", "given", "--train.batch-size", "64", "--epochs", "2"]
    flags += ["--train.eval-every", "5"]  # no effect: the clock needs every epoch's end
    done = run(repository, "--model.model-type", "lightgcn", "--model.edge-keep", "0.5", *flags)
    assert done.returncode == 0, done.stderr
    rows = dict(re.findall(r"^(\w+) +([\d.]+) ", done.stdout, re.M))
    parts = [float(rows[name]) for name in ("sample", "hooks", "forward", "backward", "optimise", "other")]
    assert all(part >= 0 for part in parts) and float(rows["forward"]) > 0 and float(rows["evaluate"]) > 0
    assert sum(parts) == pytest.approx(float(rows["epoch"]), abs=0.004)
    assert re.search(r"[\d,]+ samples/s; peak memory [\d.]+ GB", done.stdout)


def test_primitives_print_ratios(repository, folder):
    done = run(repository, "--primitives", "--corpus", str(folder))
    assert done.returncode == 0, done.stderr
    for name in ("sampling", "metrics", "propagation", "InfoNCE"):
        assert name in done.stdout
    assert len(re.findall(r"[\d.]+x$", done.stdout, re.M)) == 4


def test_bad_arguments_are_one_line(repository):
    done = run(repository, "--threads", "0")
    assert done.returncode == 2 and done.stderr.startswith("error: --threads (0)")


def test_a_step_of_each_model_is_a_row(repository, folder):
    flags = ["--models", "bpr", "freedom", "--corpus", str(folder), "--random-features", "image=12", "text=8"]
    done = run(repository, *flags, "--steps", "2")
    assert done.returncode == 0, done.stderr
    rows = {row[0]: row[1:] for line in done.stdout.splitlines() if (row := line.split()) and row[0] in flags}
    assert set(rows) == {"bpr", "freedom"}
    for values in rows.values():
        forward, backward, optimise, step = map(float, values[4:8])
        assert 0 < forward + backward + optimise <= step + 0.2 and float(values[-1]) > 0
    wrong = run(repository, "--models", "bpr", "--corpus", str(folder), "--random-features", "image")
    assert wrong.returncode == 2 and "name=width" in wrong.stderr
