"""Training states on disk: folders that appear whole, know their own checksums, and of which two are kept."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from seqmm.files import file_digest, json_text
from seqmm.training.disk import explain_full_disk, sync

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
"""Folder of the training states in a run's folder."""
FORMAT, VERSION = "seqmm training state", 1
VALUES, WEIGHTS, TENSORS, BEST, BEST_CONFIG = (
    "training.json",
    "model.safetensors",
    "tensors.safetensors",
    "best.safetensors",
    "best.json",
)
"""Files of a state: plain values; the weights; the tensors the values name; the best weights so far, their config."""
_STATE = re.compile(r"state-(\d+)-(\d+)(?:\.(\d+))?")
_FILES = (VALUES, WEIGHTS, TENSORS, BEST, BEST_CONFIG)
_HALF, _REMOVED = ".tmp-", ".old-"
_START_ANEW = "start anew with train.overwrite = True and train.resume = False, or choose another train.output_dir"


@dataclass(frozen=True)
class Saved:
    """A training state whose files are what its manifest says."""

    path: Path
    digests: Mapping[str, str]

    @cached_property
    def values(self) -> dict[str, Any]:
        """What is not a tensor."""
        with self.explained():
            values = json.loads((self.path / VALUES).read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise TypeError(f"{VALUES} holds a {type(values).__name__}")
            return values

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of one of its files."""
        with self.explained():
            return load_file(self.path / name)

    def explained(self) -> _Explained:
        """A context that turns what reading it may raise into an error that names it."""
        return _Explained(self.path)


class _Explained:
    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        wrong = (KeyError, TypeError, ValueError, OSError, RuntimeError, AttributeError, SafetensorError)
        if isinstance(error, wrong):
            said = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"the training state {self.path} cannot be read ({said}); {_START_ANEW}") from error


def states(folder: Path) -> list[Path]:
    """The training states below ``folder`` that runs wrote, damaged or not, oldest first."""
    return [path for path in _named(folder) if _is_ours(path)]


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest training state below ``folder`` that is whole, or None."""
    return next((path for path in reversed(states(folder)) if _damage(path) is None), None)


def newest(folder: Path) -> Saved | None:
    """The newest training state below ``folder`` that is whole; those after it are named in the log.

    Raises:
        ValueError: there are states and all are damaged, or one was written by a later version.
    """
    damaged: list[str] = []
    for path in reversed(states(folder)):
        manifest = _manifest(path)
        if manifest.get("version", VERSION) > VERSION:
            raise ValueError(
                f"the training state {path} is of format {manifest['version']}, this version of seqmm reads {VERSION}: "
                "it is newer, go on with the version that wrote it"
            )
        if (problem := _damage(path)) is None:
            for line in damaged:
                logger.warning("the training state %s; the one before, %s, is used", line, path.name)
            return Saved(path, manifest["files"])
        damaged.append(f"{path} is damaged and left out: {problem}")
    if damaged:
        raise ValueError(f"no training state can be read: {'; '.join(damaged)}; {_START_ANEW}")
    return None


def write_state(
    folder: Path,
    name: str,
    values: dict[str, Any],
    tensors: Mapping[str, dict[str, Tensor]],
    copies: Mapping[str, Path],
) -> Path:
    """Writes ``folder/state-<name>`` (one rename: whole or not there), then removes all states but it and the last.

    Args:
        folder: of the states.
        name: "<step>-<epoch>".
        values: what is not a tensor.
        tensors: by file and name.
        copies: files that are taken over, by the name they get.

    Raises:
        OSError: a full disk; the states before are as they were.
    """
    temporary = folder / f"{_HALF}state-{name}"
    with explain_full_disk(folder, temporary):
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
        for file, held in tensors.items():
            save_file(held, temporary / file)
        for file, source in copies.items():
            shutil.copyfile(source, temporary / file)
        (temporary / VALUES).write_text(json.dumps(values) + "\n", encoding="utf-8")
        digests = {file.name: file_digest(file) for file in sorted(temporary.iterdir())}
        manifest = {"format": FORMAT, "version": VERSION, "files": digests}
        (temporary / "manifest.json").write_text(json_text(manifest), encoding="utf-8")
        sync(*temporary.iterdir(), temporary)
        target = _place(folder, name)
        temporary.rename(target)
        sync(folder)
    prune(target)
    return target


def prune(newest: Path) -> None:
    """Removes all states but one and the one before it; also those after it, which a run that went back has left."""
    there = states(newest.parent)
    older = [path for path in there if _order(path) < _order(newest)]
    for path in there:
        if path != newest and path not in older[-1:]:
            discard(path)


def discard(state: Path) -> None:
    """Removes a state; one that is half removed is no state any more."""
    hidden = state.with_name(f"{_REMOVED}{state.name}")
    if hidden.exists():
        shutil.rmtree(hidden)
    state.rename(hidden)
    shutil.rmtree(hidden)


def is_leftover(path: Path) -> bool:
    """Whether a killed run left it: a state half written or half removed."""
    return any(path.name.startswith(start) and _STATE.fullmatch(path.name[len(start) :]) for start in (_HALF, _REMOVED))


def _place(folder: Path, name: str) -> Path:
    """Where a state goes: a damaged one of ours makes room for it, what is not ours does not."""
    target, number = folder / f"state-{name}", 0
    while target.exists() or target.is_symlink():
        if target in states(folder):
            discard(target)
        else:
            number += 1
            target = folder / f"state-{name}.{number}"
    return target


def _named(folder: Path) -> list[Path]:
    """What is called like a state, oldest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _STATE.fullmatch(path.name)]
    return sorted((path for path in found if path.is_dir() and not path.is_symlink()), key=_order)


def _order(state: Path) -> list[int]:
    match = _STATE.fullmatch(state.name)
    assert match is not None
    return [int(part or 0) for part in match.groups()]


def _is_ours(state: Path) -> bool:
    """Whether a run wrote it: its manifest says so, or, without one that can be read, the names of all its files do."""
    names = {path.name for path in state.iterdir()}
    return bool(_manifest(state)) or ({VALUES, TENSORS} <= names <= {*_FILES, "manifest.json"})


def _manifest(state: Path) -> dict[str, Any]:
    """The manifest of a state; nothing, if it has none of ours that can be read."""
    try:
        manifest = json.loads((state / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    ours = isinstance(manifest, dict) and manifest.get("format") == FORMAT
    return manifest if ours and isinstance(manifest.get("version"), int) else {}


def _damage(state: Path) -> str | None:
    """What is wrong with a state's files."""
    if not (manifest := _manifest(state)):
        return "its manifest.json is missing or damaged"
    files = manifest.get("files")
    if not isinstance(files, dict) or not {VALUES, WEIGHTS, TENSORS} <= set(files):
        return "its manifest.json names too few files"
    for name, digest in files.items():
        if name not in _FILES:
            return f"its manifest.json names {name!r}, which is no file of a state"
        if not (state / name).is_file():
            return f"it lacks {name}"
        if file_digest(state / name) != digest:
            return f"{name} differs from its checksum"
    return None
