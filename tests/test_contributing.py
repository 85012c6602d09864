"""CONTRIBUTING shows the very files that tests run, and what else it shows runs, too."""

from __future__ import annotations

import re

import pytest
import torch

from seqmm.evaluation import metrics

EXAMPLES = ("toy", "my_extractor", "my_source")


@pytest.fixture(scope="module")
def blocks(repository):
    return re.findall(r"^```python\n(.*?)^```$", (repository / "CONTRIBUTING.md").read_text(), re.M | re.S)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_files_are_those_that_run(repository, blocks, name):
    assert (repository / "tests" / "examples" / f"{name}.py").read_text() in blocks


def test_the_metric_is_exact_and_the_loss_is_right(repository, blocks, monkeypatch):
    files = [(repository / "tests" / "examples" / f"{name}.py").read_text() for name in EXAMPLES]
    monkeypatch.setattr(metrics, "METRICS", dict(metrics.METRICS))
    names: dict = {}
    for block in blocks:
        if block not in files:
            exec(compile(block, "CONTRIBUTING.md", "exec"), names)
    # three targets, lists of two: one hit of the two that fit; in a tie of two places each half
    lists = torch.tensor([[1, 2], [8, 9]])
    row, item = torch.tensor([0, 0, 0, 1]), torch.tensor([2, 5, 6, 8])
    value = metrics.METRICS["capped_recall"](metrics.place_lists(lists, row, item), 2)
    assert value.tolist() == [0.5, 1.0]
    tied = metrics.place(torch.tensor([0]), torch.tensor([1]), torch.tensor([2]), 1, 3)
    assert metrics.METRICS["capped_recall"](tied, 2).tolist() == [0.5]
    assert float(names["squared_hinge"](torch.tensor([2.0, 0.5]), torch.tensor([0.0, 0.0]))) == 0.125


def test_the_named_places_exist(repository):
    text = (repository / "CONTRIBUTING.md").read_text()
    for place in re.findall(r"`((?:seqmm|tests|recipes|docs)/[\w/.]+)`", text):
        assert (repository / place).exists(), place
