"""Losses and metrics say what they need, give, relate to, and when to choose them; their examples are right."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re

import pytest

from seqmm import losses
from seqmm.evaluation import metrics

LOSSES = [
    function
    for name, function in inspect.getmembers(losses, inspect.isfunction)
    if function.__module__ == losses.__name__ and not name.startswith("_") and name != "weighted_sum"
]
METRICS = [*metrics.METRICS.values(), metrics.coverage, metrics.mean_popularity]
HF = [f"{name}_at_k" for name in ("recall", "precision", "ndcg", "map", "mrr", "hit", "coverage", "mean_popularity")]


@pytest.mark.parametrize("function", [*LOSSES, *METRICS], ids=lambda function: function.__name__)
def test_it_says_four_things_and_shows_one(function):
    text = function.__doc__ or ""
    for part in (r"^Needs ", r"\bGives\s", r"^Related: ", r"^Choose it ", r"^>>> "):
        assert re.search(part, inspect.cleandoc(text), re.M), f"{function.__name__} lacks {part!r}"


@pytest.mark.parametrize("module", [losses, metrics], ids=lambda module: module.__name__)
def test_the_examples_are_right(module):
    found = doctest.testmod(module)
    assert found.attempted > 15 and not found.failed


@pytest.mark.parametrize("name", HF)
def test_the_evaluate_modules_say_and_show_it_too(name):
    module = importlib.import_module(f"seqmm.evaluation.hf.{name}.{name}")
    found = doctest.testmod(module)
    assert found.attempted and not found.failed
    cls = next(cls for _, cls in inspect.getmembers(module, inspect.isclass) if cls.__module__ == module.__name__)
    for part in (r"^Needs ", r"\bGives\s", r"^Related: ", r"^Choose it "):
        assert re.search(part, inspect.cleandoc(cls.__doc__), re.M), f"{name} lacks {part!r}"
