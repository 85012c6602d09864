"""log.jsonl: one JSON object a line, always on; other trackers come from accelerate by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class JsonlTracker:
    """Appends to a file. A resumed run goes on in the same file; a torn last line (kill -9) is cut off first."""

    def __init__(self, path: Path):
        self.path = path
        if path.exists():
            text = path.read_bytes()
            whole = text[: text.rfind(b"\n") + 1]
            if len(whole) < len(text):
                path.write_bytes(whole)

    def log(self, values: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")
