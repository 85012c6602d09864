"""Shared fixtures. Tests run on two cores, so one torch thread each keeps them quick and their sums repeatable."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

from seqmm.graphs import kept
from tests.standin_hub import StandinHub, running

torch.set_num_threads(1)

REPOSITORY = Path(__file__).resolve().parent.parent
GOLDENS = Path(os.environ.get("SEQMM_GOLDENS", Path(__file__).parent / "goldens"))


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def goldens() -> Path:
    return GOLDENS


@pytest.fixture(scope="session", autouse=True)
def graphs_of_this_session(tmp_path_factory) -> Iterator[Path]:
    """Graphs built from features are kept for the session, not longer: what is tested is how they are built today."""
    folder = tmp_path_factory.mktemp("graphs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "graphs_folder", lambda: folder)
        yield folder


@pytest.fixture(scope="module")
def hub() -> Iterator[StandinHub]:
    """A Hub on loopback; its trees come in pages of five."""
    with running(page=5) as standin:
        yield standin


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under xdist a file's tests share a worker and its fixtures; the contract's, which share none, are dealt out."""
    for item in items:
        if item.path.name != "test_contract.py":
            item.add_marker(pytest.mark.xdist_group(item.path.name))
