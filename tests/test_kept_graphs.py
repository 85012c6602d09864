"""Graphs of raw features: built once, kept on disk, the same bits when read; damage and full disks cost time alone."""

import logging
import multiprocessing
import os
import time

import pytest
import torch

from seqmm.distributed import device_for_products
from seqmm.graphs import build, kept
from seqmm.models.collaborative.base import ContentRecommender
from seqmm.models.making import make_model
from tests.cases import CASES


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "graphs_folder", lambda: tmp_path / "graphs")
    return tmp_path / "graphs"


@pytest.fixture
def built(monkeypatch):
    """How often a graph was built."""
    count = []
    for name in ("knn_graph", "denoised_knn_graphs"):
        real = getattr(build, name)
        monkeypatch.setattr(build, name, lambda *a, real=real, **o: (count.append(1), real(*a, **o))[1])
    return count


def features(rows: int = 30, width: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def same(one, other) -> bool:
    return (
        torch.equal(one.edge_index, other.edge_index)
        and torch.equal(one.edge_weight, other.edge_weight)
        and (one.edge_index.dtype, one.edge_weight.dtype, one.shape, one.undirected)
        == (other.edge_index.dtype, other.edge_weight.dtype, other.shape, other.undirected)
    )


@pytest.mark.parametrize("weight", ["binary", "cosine"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_read_is_what_was_built(folder, built, weight, dtype):
    x = features().to(dtype)
    for _ in range(3):
        assert same(kept.kept_knn_graph(x, 4, weight), build.knn_graph(x, 4, weight))
    assert len(built) == 1 + 3
    pair = [x, features(width=3, seed=1).to(dtype)]
    for _ in range(2):
        found = kept.kept_denoised_knn_graphs(pair, 4)
        assert all(same(a, b) for a, b in zip(found, build.denoised_knn_graphs(pair, 4), strict=True))
    assert len(built) == 4 + 1 + 2
    assert len(list(folder.iterdir())) == 2, "no lock and no half file is left"


def test_whatever_changes_the_graph_is_another_file(folder, built, monkeypatch):
    x = features()
    other = x.clone()
    other[7, 2] = torch.nextafter(other[7, 2], torch.tensor(9.0))
    asked = [(x, 4, "binary"), (x, 5, "binary"), (x, 4, "cosine"), (other, 4, "binary"), (x.double(), 4, "binary"),
             (x.view(15, 10), 4, "binary")]  # fmt: skip
    for number, (values, k, weight) in enumerate(asked, 1):
        kept.kept_knn_graph(values, k, weight)
        assert (len(built), len(list(folder.iterdir()))) == (number, number)
    kept.kept_denoised_knn_graphs([x, other], 4)
    kept.kept_denoised_knn_graphs([other, x], 4)
    assert len(list(folder.iterdir())) == len(asked) + 2
    monkeypatch.setattr(kept, "_source", lambda: "another way to build them")
    kept.kept_knn_graph(x, 4)
    assert len(list(folder.iterdir())) == len(asked) + 3
    kept.kept_knn_graph(x.clone(), 4)
    assert len(built) == len(asked) + 3


def _cut(content: bytes) -> bytes:
    return content[:-7]


def _flip(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize("damage", [_cut, _flip, lambda content: b"", lambda content: b"\x80\x04pickled"])
def test_a_damaged_file_is_built_again(folder, built, caplog, damage):
    x = features()
    expected = kept.kept_knn_graph(x, 4, "cosine")
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    with caplog.at_level(logging.WARNING, "seqmm"):
        assert same(kept.kept_knn_graph(x, 4, "cosine"), expected)
    assert f"{file} is damaged (" in caplog.text and "the graph is built again" in caplog.text
    assert caplog.text.count("is damaged") == 1
    assert same(kept.kept_knn_graph(x, 4, "cosine"), expected)
    assert len(built) == 2 and len(file.read_bytes()) == len(whole)


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(kept, "graphs_folder", lambda: tmp_path / "file")
    assert same(kept.kept_knn_graph(features(), 4), build.knn_graph(features(), 4))
    assert "cannot be written" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_killed_builders_left_is_removed_by_the_next(folder):
    folder.mkdir()
    for name in ("0123.lock", ".4567.safetensors.999999.tmp", ".4567.safetensors.999999.lock"):
        (folder / name).write_text("")
    kept.kept_knn_graph(features(), 4)
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"]


def test_the_oldest_are_forgotten(folder, monkeypatch):
    monkeypatch.setattr(kept, "KEPT_FILES", 3)
    for seed in range(4):
        kept.kept_knn_graph(features(seed=seed), 4)
        for age, file in enumerate(sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)):
            os.utime(file, (1000 - age, 1000 - age))
        kept.kept_knn_graph(features(seed=0), 4)  # read again and again, and so kept
    assert len(list(folder.iterdir())) == 3
    monkeypatch.setattr(build, "knn_graph", None)
    kept.kept_knn_graph(features(seed=0), 4)
    monkeypatch.undo()
    monkeypatch.setattr(kept, "graphs_folder", lambda: folder)
    monkeypatch.setattr(kept, "KEPT_BYTES", 1)
    kept.kept_knn_graph(features(seed=9), 4)
    assert len(list(folder.iterdir())) == 1, "the newest stays however large"


def _build_slowly(folder, start, built):
    kept.graphs_folder = lambda: folder
    real = build.knn_graph
    build.knn_graph = lambda *a, **o: (built.put(os.getpid()), time.sleep(0.3), real(*a, **o))[2]
    start.wait()
    kept.kept_knn_graph(features(), 4)


def test_of_several_processes_one_builds(folder):
    context = multiprocessing.get_context("fork")
    start, built = context.Barrier(3), context.SimpleQueue()
    processes = [context.Process(target=_build_slowly, args=(folder, start, built)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    built.get()
    assert built.empty()
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"]


@pytest.mark.parametrize("name", ["freedom", "lattice", "micro", "mgcn", "mentor", "damrs", "idfree", "dragon"])
def test_models_build_their_graphs_of_content_once(folder, built, name):
    case = CASES[name]
    corpus = case.corpus()
    model = case.model(corpus)
    assert built
    number = len(built)
    again = make_model(model.config, corpus)
    assert len(built) == number
    assert isinstance(again, ContentRecommender)
    model.eval(), again.eval()
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        for name, table in model.tables().items():
            assert torch.equal(table, again.tables()[name])


def test_without_an_accelerator_or_by_request_products_are_computed_on_the_cpu(monkeypatch):
    if not torch.accelerator.is_available():
        assert device_for_products() == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 1)
    assert device_for_products() == torch.device("cuda:1")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert device_for_products() == torch.device("cpu")


def test_features_that_do_not_fit_on_a_device_are_joined_on_the_cpu(folder, monkeypatch, caplog):
    real, asked = build.knn_graph, []

    def small(x, *options):
        asked.append(x.device.type)
        if len(asked) == 1:
            raise torch.OutOfMemoryError("no room")
        return real(x, *options)

    monkeypatch.setattr(build, "knn_graph", small)
    assert same(kept.kept_knn_graph(features(), 4), real(features(), 4))
    assert asked[1] == "cpu" and "do not fit into the memory" in caplog.text
