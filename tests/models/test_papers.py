"""Every model says what it does and cites its paper; the list of models in docs/ is theirs."""

from __future__ import annotations

import doctest
import inspect
import re
import sys

import pytest

import seqmm.models.paper
from seqmm.models.paper import Paper
from seqmm.models.registry import model_class, model_index
from seqmm.registry import MODELS

HEADS = [cls for name in MODELS.names() for cls in MODELS.classes(name)]
NO_PAPER = {"popularity", "sasrecm"}
"""Baselines that no paper defines."""


def _sentence(cls) -> str:
    return (vars(cls).get("__doc__") or "").strip().splitlines()[0] if vars(cls).get("__doc__") else ""


@pytest.mark.parametrize("cls", HEADS, ids=lambda cls: cls.__name__)
def test_a_model_says_what_it_does_and_what_it_needs(cls):
    first = _sentence(cls)
    assert re.match(r"[A-Z]\w+s \w.*\.$", first), f"{cls.__name__}: not a sentence with a verb first: {first!r}"
    assert re.search(r"\b(Needs|Takes) ", cls.__doc__), f"{cls.__name__} does not say what it needs"


@pytest.mark.parametrize("cls", HEADS, ids=lambda cls: cls.__name__)
def test_a_model_cites_its_own_paper(cls):
    own = [base for base in cls.__mro__ if base.__module__ == cls.__module__ and "paper" in vars(base)]
    assert own, f"{cls.__name__} has neither a paper nor paper = None"
    paper = cls.paper
    if cls.config_class.model_type in NO_PAPER:
        assert paper is None
        return
    text = " ".join((sys.modules[cls.__module__].__doc__ or "").split())
    assert isinstance(paper, Paper) and 1990 < paper.year < 2100 and (paper.venue or paper.arxiv)
    assert paper.title in text and str(paper.year) in text + str(paper.arxiv and paper.year)  # what the file opens with
    assert all(name in text for name in paper.authors if name != "others")


def test_papers_are_not_shared():
    papers = [model_class(name).paper for name in MODELS.names()]
    cited = [str(paper) for paper in papers if paper is not None]
    assert len(cited) == len(set(cited)) == len(MODELS.names()) - len(NO_PAPER)


def test_bibtex():
    assert doctest.testmod(seqmm.models.paper).failed == 0
    preprint = Paper("T", ("Zhang", "Zhou", "Shen"), "", 2023, "preprint", "2303.11879")
    assert str(preprint) == "Zhang, Zhou and Shen, T, arXiv 2303.11879, 2023"
    entry = preprint.bibtex("msm4sr")
    assert entry.startswith("@misc{msm4sr,") and "eprint = {2303.11879}" in entry and "howpublished" not in entry
    unknown = Paper("", (), "A Journal", 2025, "journal")
    assert str(unknown) == "A Journal 2025"
    assert "title" not in unknown.bibtex("x") and "author" not in unknown.bibtex("x")
    for name in MODELS.names():
        if (paper := model_class(name).paper) is not None:
            entry = paper.bibtex(name)
            assert entry.count("{") == entry.count("}") and f"year = {{{paper.year}}}" in entry


def test_the_list_of_models_is_up_to_date(repository):
    text = (repository / "docs" / "models.md").read_text()
    assert model_index() in text, "write docs/models.md again: the command is in its first lines"


def test_public_classes_of_models_have_docstrings():
    for module in {cls.__module__ for cls in HEADS}:
        for name, cls in inspect.getmembers(sys.modules[module], inspect.isclass):
            if cls.__module__ == module and not name.startswith("_"):
                assert vars(cls).get("__doc__"), f"{module}.{name}"
