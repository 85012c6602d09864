"""What a folder holds, as values that an undisturbed run and a disturbed one must share."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Snapshot = dict[str, str]
"""Path -> what is compared: digest of a file's bytes, or of what in it does not tell the time; of a link its aim."""


def snapshot(folder: Path, skip: Path | None = None) -> Snapshot:
    """Every file, link and empty folder below ``folder``, but for ``skip``; of training states the newest's name."""
    found: Snapshot = {}
    for place, folders, files in os.walk(folder):
        here = Path(place)
        relative = here.relative_to(folder)
        if here == skip:
            folders.clear()
            continue
        if "checkpoints" in relative.parts and relative.name.startswith("state-"):
            folders.clear()
            continue
        for name in sorted(folders):
            if (here / name).is_symlink():
                found[str(relative / name)] = f"link to {os.readlink(here / name)}"
        if not folders and not files and relative != Path("."):
            found[f"{relative}/"] = "empty folder"
        for name in sorted(files):
            found[str(relative / name)] = _content(here / name)
        if relative.name == "checkpoints" and any(name.startswith("state-") for name in folders):
            newest = max((name for name in folders if name.startswith("state-")), key=state_place)
            found[f"{relative}/{newest}/"] = "newest state"
    return found


def state_place(name: str) -> list[int]:
    """Step and epoch of a state's name, by which states are ordered."""
    return [int(part) for part in name.split("-")[1:] if part.isdigit()]


def _content(file: Path) -> str:
    if file.is_symlink():
        return f"link to {os.readlink(file)}"
    content = file.read_bytes()
    try:
        if file.suffix == ".safetensors":
            return _tensors(content)
        if file.name == "log.jsonl":
            content = json.dumps([_timeless(json.loads(line)) for line in content.decode().splitlines()]).encode()
        elif file.suffix == ".json":
            content = json.dumps(_timeless(json.loads(content)), sort_keys=True).encode()
    except (ValueError, RecursionError, struct.error):
        return "damaged"
    return hashlib.sha256(content).hexdigest()


def _tensors(content: bytes) -> str:
    """Bits of every tensor by name; how the header orders its words is nobody's business."""
    (size,) = struct.unpack("<Q", content[:8])
    header, body, digest = json.loads(content[8 : 8 + size]), content[8 + size :], hashlib.sha256()
    for name in sorted(header):
        about = header[name]
        if "data_offsets" in about:
            start, end = about["data_offsets"]
            digest.update(f"{name} {about['dtype']} {about['shape']}".encode() + body[start:end])
        else:
            digest.update(json.dumps(about, sort_keys=True).encode())
    return digest.hexdigest()


def _timeless(values: Any) -> Any:
    """Without how long it took."""
    if isinstance(values, dict):
        return {key: _timeless(value) for key, value in values.items() if not key.endswith("seconds")}
    return [_timeless(value) for value in values] if isinstance(values, list) else values


@dataclass
class Difference:
    """Between what an undisturbed run left and what a disturbed one did."""

    lost: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.differing or self.leftovers)


def compare(expected: Snapshot, found: Snapshot) -> Difference:
    """What ``found`` lacks, has otherwise, and has beside."""
    return Difference(
        [name for name in expected if name not in found],
        [name for name in expected if name in found and found[name] != expected[name]],
        [name for name in found if name not in expected],
    )
