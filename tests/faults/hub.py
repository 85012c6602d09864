"""The stand-in of the Hub in a process of its own, and what its repositories hold."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from typing import Any

from tests.standin_hub import StandinHub

TOKEN = "hf_writer"


class Hub:
    """A context manager; what is imported inside it takes the stand-in for the Hub."""

    def __enter__(self) -> Hub:
        reading, writing = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            with StandinHub() as standin:
                os.write(writing, standin.address.encode())
                os.close(writing)
                parent = os.getppid()
                while os.getppid() == parent:  # until whoever wanted it is gone
                    time.sleep(0.2)
            os._exit(0)
        os.close(writing)
        self.address = os.read(reading, 200).decode()
        os.close(reading)
        for name in [name for name in os.environ if name.startswith(("HF_", "HUGGINGFACE"))]:
            del os.environ[name]
        os.environ |= {
            "HF_ENDPOINT": self.address,
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def files(self, kind: str, repository: str) -> dict[str, str]:
        """Path -> git's hash of each file on the main branch; empty if there is no such repository."""
        try:
            tree = self._ask("GET", f"/api/{kind}s/{repository}/tree/main?recursive=true")
        except urllib.error.HTTPError as error:
            if error.code in (401, 404):
                return {}
            raise
        return {entry["path"]: entry["oid"] for entry in tree if entry["type"] == "file"}

    def delete(self, kind: str, repository: str) -> None:
        """Removes a repository, if it is there."""
        organisation, name = repository.split("/")
        try:
            self._ask("DELETE", "/api/repos/delete", {"type": kind, "organization": organisation, "name": name})
        except urllib.error.HTTPError as error:
            if error.code not in (401, 404):
                raise

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None
