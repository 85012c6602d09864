"""Graphs of raw features are built once: on the accelerator that is there, and kept on disk for every later process.

What is kept lies in ``graphs/`` of the cache folder (:func:`~seqmm.files.cache_folder`), at most :data:`KEPT_BYTES` of
it; removing the folder costs no more than building again. A file is named by all that its graphs follow from: the
features' values, k, how they are built (the source of :mod:`seqmm.graphs.build`, torch's version) and the kind of
device, since a GPU rounds otherwise than a CPU. So a graph that was read is the one that would be built here.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from seqmm.distributed import device_for_products
from seqmm.files import cache_folder, file_digest, writing
from seqmm.graphs import build
from seqmm.graphs.matrix import Graph
from seqmm.leftovers import tidy_inside
from seqmm.names import EdgeWeight

try:
    import fcntl
except ModuleNotFoundError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

KEPT_BYTES, KEPT_FILES = 1 << 30, 1000
"""Of the files that are kept; those not read for longest go first."""
SLOW = 5.0
"""Seconds from which on building is worth a line of the log."""


def kept_knn_graph(x: Tensor, k: int, weight: EdgeWeight = "binary") -> Graph:
    """:func:`~seqmm.graphs.build.knn_graph` of raw features ``x [N, d]`` on the CPU."""
    builder = partial(_knn_of_one, k=k, weight=weight)
    return _kept(builder, [x], {"graph": "knn", "k": k, "weight": weight})[0]


def kept_denoised_knn_graphs(features: Sequence[Tensor], k: int) -> list[Graph]:
    """:func:`~seqmm.graphs.build.denoised_knn_graphs` of raw ``features [N, d_m]`` on the CPU."""
    builder = partial(build.denoised_knn_graphs, k=k)
    return _kept(builder, features, {"graph": "denoised knn", "k": k})


def graphs_folder() -> Path:
    """Where graphs are kept."""
    return cache_folder() / "graphs"


def _knn_of_one(features: Sequence[Tensor], k: int, weight: EdgeWeight) -> list[Graph]:
    return [build.knn_graph(features[0], k, weight)]


def _kept(
    builder: Callable[[Sequence[Tensor]], list[Graph]], features: Sequence[Tensor], options: dict[str, object]
) -> list[Graph]:
    """The square graphs that ``builder`` makes of the features: read, or built and written."""
    digests = [_digest({"x": x}) for x in features]
    device = device_for_products()
    try:
        return _kept_of(device, builder, features, options, digests)
    except torch.OutOfMemoryError:
        logger.warning("the features do not fit into the memory of %s: their graph is built on the CPU", device)
        return _kept_of(torch.device("cpu"), builder, features, options, digests)


def _kept_of(
    device: torch.device,
    builder: Callable[[Sequence[Tensor]], list[Graph]],
    features: Sequence[Tensor],
    options: dict[str, object],
    digests: list[str],
) -> list[Graph]:
    made_of = options | {"features": digests, "device": device.type, "torch": torch.__version__, "build": _source()}
    file = graphs_folder() / f"{hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()}.safetensors"
    if (found := _read(file)) is not None:
        return found
    # of several processes, ranks of one run or runs of one sweep, one builds and the others wait and read
    with _alone(file):
        if (found := _read(file, again=True)) is not None:
            return found
        started = time.perf_counter()
        with _exact_products():
            graphs = builder([x.to(device) for x in features])
        seconds, rows = time.perf_counter() - started, len(features[0])
        if seconds > SLOW:
            logger.info(
                "built the graph of %s rows' features on %s in %.0f s; kept in %s", f"{rows:,}", device, seconds, file
            )
        _write(file, graphs)
    return graphs


@cache
def _source() -> str | None:
    return file_digest(Path(build.__file__))


@contextmanager
def _exact_products() -> Iterator[None]:
    """Products in full fp32, whatever a program allowed for its training."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, x in sorted(tensors.items()):
        digest.update(f"{name} {x.dtype} {list(x.shape)} ".encode())
        digest.update(x.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(file: Path, again: bool = False) -> list[Graph] | None:
    """The graphs of a file; None if it is not there, or damaged, which is said once."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            about = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118
        if about.get("sha256") != _digest(tensors):
            raise ValueError("its content is not what was written")
        rows = int(about["rows"])
        graphs = [
            Graph(tensors[f"edges.{number}"].long(), tensors[f"weights.{number}"], (rows, rows))
            for number in range(len(tensors) // 2)
        ]
        with suppress(OSError):
            os.utime(file)  # read lately: kept for longer
        return graphs
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        if not again:
            logger.warning("%s is damaged (%s): the graph is built again", file, error)
        return None


def _write(file: Path, graphs: Sequence[Graph]) -> None:
    """Keeps the graphs if the disk takes them; a run goes on without."""
    from safetensors.torch import save_file

    tensors = {}
    for number, graph in enumerate(graphs):
        tensors[f"edges.{number}"] = graph.edge_index.to(torch.int32)
        tensors[f"weights.{number}"] = graph.edge_weight.cpu().contiguous()
    about = {"rows": str(graphs[0].shape[0]), "sha256": _digest(tensors)}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with writing(file) as temporary:
            save_file(tensors, temporary, about)
        _forget_old(file.parent)
    except OSError as error:
        logger.warning("%s cannot be written (%s): the next process builds this graph again", file, error)


def _forget_old(folder: Path) -> None:
    """Removes what is too much, and what killed processes left."""
    tidy_inside(folder)
    for lock in folder.glob("*.lock"):
        with suppress(OSError), lock.open("w") as stream:  # a living builder holds it
            if fcntl is not None:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock.unlink()
    newest, size = [], 0
    for file in folder.glob("*.safetensors"):
        with suppress(FileNotFoundError):  # another process forgot it
            newest.append((file.stat().st_mtime, file.stat().st_size, file))
    for number, (_, length, file) in enumerate(sorted(newest, reverse=True)):
        size += length
        if number and (size > KEPT_BYTES or number >= KEPT_FILES):
            file.unlink(missing_ok=True)


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Waits until no other process builds this file; on a disk without locks all build it, to the same end."""
    lock = file.with_suffix(".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        stream = lock.open("w")
    except OSError:  # it can then not be written either
        yield
        return
    try:
        with suppress(OSError):
            if fcntl is not None:
                fcntl.flock(stream, fcntl.LOCK_EX)
        yield
    finally:
        lock.unlink(missing_ok=True)
        stream.close()
