"""Files by item id, in folders and tar files: images, videos, sound."""

from __future__ import annotations

import hashlib
import re
import tarfile
import unicodedata
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import ClassVar, NamedTuple
from urllib.parse import quote


class Unreadable(ValueError):
    """A file that cannot be used, with a short reason that is the same on every machine."""


@contextmanager
def reading(content: bytes, what: str) -> Iterator[None]:
    """Turns whatever a decoder trips over into :class:`Unreadable`.

    Args:
        content: the file's bytes.
        what: it should be.

    Raises:
        Unreadable: it is empty, or the body failed.
    """
    if not content:
        raise Unreadable(f"not a readable {what}: the file is empty")
    try:
        yield
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # parsers of hostile bytes raise anything: IndexError, struct.error, zlib.error …
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if "object at 0x" in reason:  # an address differs from run to run
            reason = f"unknown format, it begins with {content[:8]!r}"
        raise Unreadable(f"not a readable {what}: {reason}") from error


class Place(NamedTuple):
    """Where a file is."""

    path: Path
    """The file, or the tar file it is in."""
    member: tarfile.TarInfo | None = None
    """Its entry there."""

    @property
    def name(self) -> str:
        """The file's own name."""
        return PurePosixPath(self.member.name).name if self.member else self.path.name

    @property
    def size(self) -> int:
        """Bytes."""
        return self.member.size if self.member else self.path.stat().st_size

    @property
    def suffix(self) -> str:
        """In lower case."""
        return PurePosixPath(self.name).suffix.lower()


LONGEST_STEM = 200
"""Characters of a file's name that an id may take; file systems allow 255 bytes."""


def file_stem(item_id: str) -> str:
    """The name, without suffix, of an item's file: no id can make it leave its folder, and no two ids share one.

    Percent-encoded (``urllib.parse.unquote`` gives the id back); of an id that would be too long for a file name the
    beginning and 32 hex digits of its sha256.
    """
    quoted = quote(item_id, safe="")
    if quoted.startswith("."):  # a hidden file, or one whose suffix is no suffix
        quoted = f"%2E{quoted[1:]}"
    if len(quoted) <= LONGEST_STEM:
        return quoted
    beginning = re.sub(r"%.?$", "", quoted[: LONGEST_STEM - 33])
    return f"{beginning}~{hashlib.sha256(item_id.encode()).hexdigest()[:32]}"


MAX_BYTES = 1 << 30
"""A larger file is refused: it is read as a whole, and a tar's header may claim any size."""


class ItemFiles:
    """Files by item id, read when asked for; an item may have several.

    An item's files are ``<id>.<suffix>``, then ``<id>_<k>.<suffix>`` in the order of k, then those in a folder
    ``<id>/`` in the order of their names, numbers as numbers; all of them in any folder
    (``010/0108775015.jpg``). An id stands there as it is, or as
    :func:`file_stem` writes it, which it can any id; an accent may be a character of its own or not, which some file
    systems change. Of files that differ in suffix or folder alone the first counts.

    Args:
        paths: folders, searched at any depth, ``.tar`` files that are not compressed, or folders of ``.tar`` files.
        items: all item ids. Then a file ``a_1.jpg`` is not taken for a file of the item ``a`` if there is an item
            ``a_1``, and a file is one of an item's folder only if the folder's name is an id.

    Raises:
        FileNotFoundError: a path is missing, or no file is found in any.
        ValueError: a tar file cannot be read.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    what: ClassVar[str] = "file"

    def __init__(self, paths: Sequence[str | Path], items: Collection[str] | None = None):
        self._owner = {file_stem(item): item for item in items or ()}
        self._known = {*self._owner, *map(_composed, self._owner.values())}
        self._own: dict[str, Place] = {}
        self._numbered: defaultdict[str, dict[int, Place]] = defaultdict(dict)
        self._inside: defaultdict[str, dict[str, Place]] = defaultdict(dict)
        self._nested: dict[str, Place] = {}
        self._tars: dict[Path, tarfile.TarFile] = {}
        self._count = 0
        for path in map(Path, paths):
            if path.is_dir():
                self._add_folder(path)
            elif path.is_file():
                self._add_tar(path)
            else:
                raise FileNotFoundError(
                    f"no folder or tar file {path} with {self.what}s named <item id>{self.suffixes[0]}"
                )
        if not self._count:
            raise FileNotFoundError(
                f"no {self.what} and no tar of {self.what}s in {', '.join(map(str, paths))}; "
                f"expected <item id> with one of {', '.join(self.suffixes)}"
            )

    def _add_folder(self, folder: Path) -> None:
        for path, inside in _walk(folder):
            if path.suffix == ".tar":
                self._add_tar(path)
            elif path.suffix.lower() in self.suffixes and path.is_file():  # not a link to nowhere
                self._add_nested(inside, _composed(path.stem), Place(path))

    def _add_tar(self, path: Path) -> None:
        try:
            # not a compressed one, which would be unpacked from its beginning for every file
            tar = self._tars[path] = tarfile.open(path, "r:")  # noqa: SIM115 (read from later)
            members = tar.getmembers()
        except (tarfile.TarError, EOFError, OverflowError, ValueError, RecursionError) as error:
            raise ValueError(
                f"{path} is not a readable tar file: {error}; give a folder or a tar that is not compressed"
            ) from error
        for member in members:
            name = PurePosixPath(_composed(member.name))
            if member.isfile() and name.suffix.lower() in self.suffixes and not name.name.startswith(_FORKS):
                folders = name.parent.parts if self._known else ()  # whose folder a tar's is, the ids tell
                self._add_nested(folders, name.stem, Place(path, member))

    def _add_nested(self, folders: tuple[str, ...], stem: str, place: Place) -> None:
        """A file by the folders it is in: of the item the last is called after, or else by its own name."""
        owners = [depth for depth, name in enumerate(folders) if name in self._known or not self._known]
        nearest = max(owners, default=None)
        if nearest is None or (nearest < len(folders) - 1 and stem in self._known):
            self._add_file(stem, place)
            return
        name = "/".join([*folders[nearest + 1 :], place.name])
        self._count += self._inside[folders[nearest]].setdefault(name, place) is place
        if not self._known:  # then a folder may be an item's or one of many
            self._nested.setdefault(stem, place)

    def _add_file(self, stem: str, place: Place) -> None:
        number = re.fullmatch(r"(.+)_(\d{1,9})", stem)
        if number and stem not in self._known and (not self._known or number[1] in self._known):
            self._count += self._numbered[number[1]].setdefault(int(number[2]), place) is place
            if self._known:
                return
            self._own.setdefault(stem, place)  # or it is an item's own name: without a list of items, both
        else:
            self._count += self._own.setdefault(stem, place) is place

    def __len__(self) -> int:
        """Number of files."""
        return self._count

    def places(self, item: str) -> list[Place]:
        """An item's files in order; [] if it has none."""
        for name in dict.fromkeys((file_stem(item), _composed(item))):
            if self._owner.get(name, item) != item:  # the item "a%2Fb" has not the file of the item "a/b"
                continue
            inside = self._inside.get(name, {})
            own = [self._own[name]] if name in self._own else []
            numbered = self._numbered.get(name, {})
            found = [*own, *(numbered[k] for k in sorted(numbered)), *(inside[n] for n in sorted(inside, key=_natural))]
            if found:
                return found
        return [self._nested[item]] if item in self._nested else []

    def digest(self) -> str:
        """Number of files, and 16 hex digits over their names and sizes: whether they are those of an earlier run."""
        found = [("", place) for place in self._own.values()]
        found += [("", place) for group in self._numbered.values() for place in group.values()]
        found += [(folder, place) for folder, group in self._inside.items() for place in group.values()]
        listed = sorted({f"{folder}/{place.name} {place.size}" for folder, place in found})
        names = chr(10).join(listed).encode("utf-8", "surrogateescape")  # a file's name may be in another coding
        return f"{self._count:,} files, {hashlib.sha256(names).hexdigest()[:16]}"

    def open(self, place: Place) -> bytes:
        """A file's bytes.

        Raises:
            Unreadable: more than :data:`MAX_BYTES`, or no permission.
        """
        if place.size > MAX_BYTES:
            raise Unreadable(f"{place.size:,} bytes, more than {MAX_BYTES:,}")
        if place.member is None:
            try:
                return place.path.read_bytes()
            except PermissionError as error:
                raise Unreadable("no permission to read it") from error
        whole = place.path.stat().st_size
        if place.size > whole:  # what only a header says, or zeros that are not even there
            raise Unreadable(f"its header says {place.size:,} bytes, the tar has {whole:,}")
        stream = self._tars[place.path].extractfile(place.member)
        assert stream is not None  # only plain files are indexed
        try:
            content = stream.read()
        except tarfile.TarError as error:
            raise Unreadable(f"the tar is cut short: {error}") from error
        if len(content) < place.size:
            raise Unreadable(f"the tar is cut short: {len(content):,} of {place.size:,} bytes are there")
        return content


_FORKS = "._"
"""Begins the names of files in which macOS keeps what other disks have no room for; their suffix is the image's."""


def _walk(root: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Every file below a folder and the names of the folders between, in order, those further up first.

    Links to folders are followed, once each; hidden folders are not (thumbnails, versions).
    """
    waiting: deque[tuple[Path, tuple[str, ...]]] = deque([(root, ())])
    seen = set()
    while waiting:
        folder, inside = waiting.popleft()
        about = folder.stat()
        if (about.st_dev, about.st_ino) in seen:
            continue
        seen.add((about.st_dev, about.st_ino))
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                if not path.name.startswith("."):
                    waiting.append((path, (*inside, _composed(path.name))))
            elif not path.name.startswith(_FORKS):
                yield path, inside


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _natural(name: str) -> tuple[list[int | str], str]:
    """Sorts "2.jpg" before "10.jpg"."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name
