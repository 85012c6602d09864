"""The only reader and writer of text, JSON and YAML, and of folders: what is written appears whole or not at all.

Everything is written to a hidden neighbour first and then renamed, so a crash, a full disk or a second process never
leaves half a file under its real name. A folder that is there is only replaced if it is ours (:func:`check_free`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from seqmm.foreign import shown
from seqmm.leftovers import held, neighbour, put_back, remove
from seqmm.parsing import parse_json, parse_yaml
from seqmm.schema import check_record

T = TypeVar("T")

# -- places ------------------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where files that were downloaded or unpacked are kept: SEQMM_CACHE, else ~/.cache/seqmm."""
    return Path(os.environ.get("SEQMM_CACHE") or Path.home() / ".cache" / "seqmm")


def installed_folder(name: str) -> Path:
    """``recipes`` or ``tokenized``: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).parent
    for place in (package.parent / name, package / f"_{name}"):
        if place.is_dir():
            return place
    raise FileNotFoundError(f"this installation of seqmm has no folder {name}/; install it again")


def check_free(folder: Path, mark: str, what: str, *, overwrite: bool = False) -> None:
    """Whether a folder may be written: it is not there, empty, or ours and to be overwritten.

    Args:
        folder: to be written.
        mark: a file that only folders of ours hold.
        what: they are, for the error.
        overwrite: whether such a one may be replaced.

    Raises:
        ValueError: it holds something else, or ``overwrite`` is not set.
    """
    put_back(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / mark).is_file():
        raise ValueError(f"{folder} exists and is not {what}; it is not overwritten, choose another folder")
    if not overwrite:
        raise ValueError(f"{folder} exists and is not empty; set `overwrite=True` to replace it")


# -- writing -----------------------------------------------------------------------------------------------------------


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yields a hidden neighbour's path to write to; on success it is renamed to ``path``, on failure removed."""
    with held(path):
        temporary = neighbour(path, "tmp")
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing(target: Path, ours: Sequence[str] = ("*",)) -> Iterator[Path]:
    """Yields a fresh folder beside ``target``; on success it takes its place, on failure it is removed.

    Killed at whatever moment, the old folder or the new one is there, or comes back by
    :func:`seqmm.leftovers.put_back`, which who reads or writes it next calls.

    Args:
        target: the folder.
        ours: patterns of the paths in it that may go; what is there beside them is somebody else's, and is in the new
            folder as it was in the old one.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    with held(target):
        temporary, old = neighbour(target, "tmp"), neighbour(target, "old")
        remove(temporary)  # of a thread of this process, or where the disk has no locks
        temporary.mkdir()
        try:
            yield temporary
            if target.exists():
                _keep(target, temporary, ours)
                target.rename(old)
            temporary.rename(target)
            if old.exists():
                old.rename(temporary)  # from here on it is rubbish: what is called .old was never replaced
        finally:
            if old.exists() and not target.exists():  # the second rename failed
                old.rename(target)
            remove(temporary)
            remove(old)


def _keep(old: Path, new: Path, ours: Sequence[str]) -> None:
    """Gives a new folder what the old one has beside our files; the old one keeps it, too, until it goes as a whole."""
    for place, folders, files in os.walk(old):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in (*files, *links):
            file = Path(place) / name
            path = file.relative_to(old)
            if (new / path).exists() or any(fnmatchcase(path.as_posix(), pattern) for pattern in ours):
                continue
            (new / path).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, new / path, follow_symlinks=False)
            except OSError:  # a disk without links
                shutil.copy2(file, new / path, follow_symlinks=False)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Any) -> None:
    """Writes plain values as JSON."""
    write_text(path, json_text(values))


def write_yaml(path: Path, values: dict[str, Any], comment: str = "") -> None:
    """Writes plain values as YAML, a comment at its head."""
    write_text(path, yaml_text(values, comment))


def json_text(values: Any, *, sort_keys: bool = False) -> str:
    """Plain values as JSON, the way every file of ours holds it."""
    return json.dumps(values, indent=2, ensure_ascii=False, sort_keys=sort_keys) + "\n"


def yaml_text(values: dict[str, Any], comment: str = "") -> str:
    """Plain values as YAML, in their order, a comment at its head."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Puts text with line separators and controls into double quotes: it would come back changed from others."""

        def represent_str(self, text: str) -> yaml.ScalarNode:
            style = None if shown(text, keep="\n") == text else '"'
            return self.represent_scalar("tag:yaml.org,2002:str", text, style)

    Dumper.add_representer(str, Dumper.represent_str)
    text = yaml.dump(values, Dumper=Dumper, sort_keys=False, allow_unicode=True)
    return "".join(f"# {shown(line)}\n" for line in comment.splitlines()) + text


# -- reading -----------------------------------------------------------------------------------------------------------

LARGEST_JSON, LARGEST_YAML = 256 << 20, 1 << 20
"""Bytes of a file that is read whole: a record with a vocabulary, a configuration."""


def read_text(path: Path, limit: int = LARGEST_JSON) -> str:
    """A file's text, whatever the locale; a byte order mark at its start is left out.

    Raises:
        FileNotFoundError, OSError: it cannot be opened.
        ValueError: naming the file; it is not UTF-8, or of more than ``limit`` bytes.
    """
    with path.open("rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path} has more than {limit >> 20} MiB, which no file of its kind has")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text (byte 0x{content[error.start]:02x} at {error.start}); save it as UTF-8, or copy "
            "it again"
        ) from error


def read_json(path: Path, kind: type[T], missing: str, damaged: str) -> T:
    """A record in a JSON file.

    Args:
        path: the file.
        kind: what it holds, a TypedDict: keys and types are checked (:mod:`seqmm.schema`).
        missing: what its absence means and what to do, after "… holds no <name>: ".
        damaged: what to do about one that cannot be read, after "…; ".

    Raises:
        FileNotFoundError, ValueError: naming the file, and the key.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} holds no {path.name}: {missing}")
    text = read_text(path)
    try:
        values = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); {damaged}") from error
    return check_record(values, kind, path, damaged)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file that holds a mapping: a run's configuration.

    Raises:
        FileNotFoundError, ValueError: naming the file; also for a key that stands twice in one mapping.
    """
    file = Path(path)
    if not file.is_file():
        siblings = sorted(str(p) for p in file.parent.glob("*.yaml")) if file.parent.is_dir() else []
        raise FileNotFoundError(
            f"no configuration file {file}" + (f"; that folder has {', '.join(siblings)}" if siblings else "")
        )
    text = read_text(file, LARGEST_YAML)
    try:
        values = parse_yaml(text)
    except ValueError as error:
        raise ValueError(f"{file} is not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(
            f"{file} must hold the sections model, data, train, eval, hub; it holds a {type(values).__name__}"
        )
    return values


# -- hashes ------------------------------------------------------------------------------------------------------------


def file_digest(file: Path) -> str | None:
    """sha256 (hex) of a file's bytes; None if it is not there."""
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def values_digest(values: object) -> str:
    """The first 16 hex digits of sha256 over plain values as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
