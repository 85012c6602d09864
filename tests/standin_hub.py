"""A stand-in of the Hugging Face Hub, over HTTP on loopback: what huggingface_hub 2 and datasets 5 ask of it.

Repositories of models and datasets with their history, in memory: accounts and tokens, private and gated repositories,
branches and tags, commits of regular and of LFS files, paginated trees, and files served with ETag, Range and, for LFS,
the redirect to another host that the Hub answers. Errors carry the Hub's codes in their headers.

huggingface_hub reads where the Hub is when it is imported, so a client is a process of its own (:class:`Client`).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import re
import runpy
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import yaml

LARGE = 10_000_000  # bytes from which any file is an LFS file


class Refusal(Exception):
    """An error as the Hub answers it: status, code (X-Error-Code) and message (X-Error-Message)."""

    def __init__(self, status: int, message: str, code: str | None = None, body: dict[str, Any] | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.body = status, message, code, body or {"error": message}


@dataclass
class Account:
    name: str
    organisations: tuple[str, ...] = ()
    writes: bool = True

    def owns(self, repository_id: str) -> bool:
        return repository_id.split("/")[0] in (self.name, *self.organisations)


@dataclass
class Blob:
    content: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        lines = ("version https://git-lfs.github.com/spec/v1", f"oid sha256:{self.sha256}", f"size {len(self.content)}")
        return "".join(f"{line}\n" for line in lines).encode()

    @property
    def oid(self) -> str:
        """git's, of the file or of the pointer that stands for it."""
        text = self.pointer if self.large else self.content
        return hashlib.sha1(b"blob %d\0" % len(text) + text).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.oid


@dataclass
class Commit:
    oid: str
    parent: str | None
    title: str
    files: dict[str, Blob]


@dataclass
class Repository:
    kind: str
    id: str
    private: bool
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    """LFS objects by sha256."""

    def __post_init__(self) -> None:
        self.branches["main"] = self.add("initial commit", {".gitattributes": Blob(b"*.parquet filter=lfs\n", False)})

    def add(self, title: str, files: dict[str, Blob], parent: str | None = None) -> str:
        text = json.dumps([parent, title, len(self.commits), {name: blob.oid for name, blob in files.items()}])
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.commits[oid] = Commit(oid, parent, title, files)
        return oid

    def at(self, revision: str) -> Commit:
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    @property
    def history(self) -> list[str]:
        """Titles of main's commits, the newest first."""
        titles, oid = [], self.branches["main"]
        while oid is not None:
            titles.append(self.commits[oid].title)
            oid = self.commits[oid].parent  # type: ignore[assignment]
        return titles


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    status: int
    sent: int
    """Bytes of the answer's body."""
    authorised: bool
    file: str
    """Whose content was sent; "" = none."""


@dataclass
class Answer:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    file: str = ""


def as_json(value: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(json.dumps(value).encode(), status, {"Content-Type": "application/json"} | headers)


class StandinHub:
    """The server; a context manager. ``address`` is what HF_ENDPOINT must be.

    Args:
        page: entries of a page of a tree.
    """

    def __init__(self, page: int = 1000):
        self.page = page
        self.accounts = {
            "hf_writer": Account("someone", ("org",)),
            "hf_reader": Account("reader", ("org",), writes=False),
            "hf_stranger": Account("stranger"),
        }
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[Request] = []
        self.faults: list[str] = []
        self.lock = threading.RLock()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self) -> None:
                hub.serve(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.storage = f"http://localhost:{self.port}"  # another host, as the Hub's content network is

    def __enter__(self) -> StandinHub:
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def repository(self, kind: str, id: str) -> Repository:
        return self.repositories[kind, id]

    def downloaded(self, since: int = 0) -> dict[str, int]:
        """Bytes sent of each file by the requests from number ``since`` on."""
        sent: dict[str, int] = {}
        for request in self.requests[since:]:
            if request.file and request.sent:
                sent[request.file] = sent.get(request.file, 0) + request.sent
        return sent

    # -- requests -----------------------------------------------------------------------------------------------------

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = _read_body(handler)
        path = handler.path
        with self.lock:
            try:
                answer = self._route(handler, body)
            except Refusal as refusal:
                headers = {"X-Error-Message": refusal.message}
                if refusal.code:
                    headers["X-Error-Code"] = refusal.code
                answer = as_json(refusal.body, refusal.status, **headers)
            except Exception:  # a fault of ours: an answer without retries, and a test that fails
                self.faults.append(f"{handler.command} {path}\n{traceback.format_exc()}")
                answer = as_json({"error": "the stand-in has a fault"}, 501)
            content = b"" if handler.command == "HEAD" else answer.body
            authorised = "Authorization" in handler.headers
            self.requests.append(Request(handler.command, path, answer.status, len(content), authorised, answer.file))
        try:
            handler.send_response(answer.status)
            for name, value in ({"Content-Length": str(len(answer.body))} | answer.headers).items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):  # the client has read what it wanted
            handler.close_connection = True

    def _route(self, handler: BaseHTTPRequestHandler, body: bytes) -> Answer:
        url = urlsplit(handler.path)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        for method, pattern, function in ROUTES:
            if handler.command in method.split() and (match := re.fullmatch(pattern, url.path)):
                parts = {key: unquote(value or "") for key, value in match.groupdict().items()}
                if "kind" in parts:
                    parts["kind"] = parts["kind"].strip("/").removesuffix("s") or "model"
                return function(self, Call(handler, body, query, self._account(handler), **parts))
        raise Refusal(404, f"no such page: {handler.command} {url.path}")

    def _account(self, handler: BaseHTTPRequestHandler) -> Account | None:
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.accounts:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self.accounts.get(token)

    def find(self, call: Call, *, write: bool = False) -> Repository:
        """The repository a call is about, if its account may see, or write to, it."""
        repository = self.repositories.get((call.kind, call.id))
        account = call.account
        if repository is None or (repository.private and not (account and account.owns(call.id))):
            raise Refusal(404 if account else 401, "Repository not found", "RepoNotFound")
        if repository.gated and not (account and account.owns(call.id)):
            raise Refusal(403 if account else 401, "Access to this repository is restricted", "GatedRepo")
        if write and not (account and account.writes and account.owns(call.id)):
            raise Refusal(403 if account else 401, "You have read access but not the required permissions")
        return repository


@dataclass
class Call:
    """A request and what its address names."""

    handler: BaseHTTPRequestHandler
    body: bytes
    query: dict[str, str]
    account: Account | None
    kind: str = "model"
    id: str = ""
    revision: str = ""
    path: str = ""

    def json(self) -> Any:
        return json.loads(self.body)


def _read_body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding", "").lower() == "chunked":
        chunks = []
        while size := int(handler.rfile.readline().split(b";")[0], 16):
            chunks.append(handler.rfile.read(size))
            handler.rfile.readline()
        handler.rfile.readline()
        return b"".join(chunks)
    return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))


# -- accounts and repositories ----------------------------------------------------------------------------------------


def whoami(hub: StandinHub, call: Call) -> Answer:
    if call.account is None:
        raise Refusal(401, "Invalid username or password.")
    role = "write" if call.account.writes else "read"
    organisations = [{"name": name, "type": "org"} for name in call.account.organisations]
    token = {"accessToken": {"role": role, "displayName": "stand-in"}}
    return as_json({"type": "user", "name": call.account.name, "orgs": organisations, "auth": token})


def create(hub: StandinHub, call: Call) -> Answer:
    if call.account is None:
        raise Refusal(401, "Invalid username or password.")
    wanted = call.json()
    id = f"{wanted.get('organization') or call.account.name}/{wanted['name']}"
    if not call.account.owns(id) or not call.account.writes:
        raise Refusal(403, f"You don't have the rights to create a repository under the namespace {id.split('/')[0]}")
    kind = wanted.get("type") or "model"
    url = f"{hub.address}/{'datasets/' if kind == 'dataset' else ''}{id}"
    if (kind, id) in hub.repositories:
        message = f"You already created this {kind} repo"
        raise Refusal(409, message, body={"error": message, "url": url})
    hub.repositories[kind, id] = Repository(kind, id, wanted.get("visibility") == "private")
    return as_json({"url": url, "id": id})


def delete(hub: StandinHub, call: Call) -> Answer:
    wanted = call.json()
    call.kind = wanted.get("type") or "model"
    call.id = f"{wanted.get('organization') or (call.account.name if call.account else '')}/{wanted['name']}"
    hub.find(call, write=True)
    del hub.repositories[call.kind, call.id]
    return as_json({})


def validate_yaml(hub: StandinHub, call: Call) -> Answer:
    """The front matter's form; the Hub checks much more."""
    found = re.match(r"---\n(.*?\n)---\n", call.json()["content"], re.DOTALL)
    if not found:
        return as_json({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
    errors = []
    try:
        front = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        front, errors = {}, [f"not valid YAML: {error}"]
    if not isinstance(front, dict):
        front, errors = {}, ["metadata must be a mapping"]
    if "license" in front and not re.fullmatch(r"[a-z0-9+.-]+", str(front["license"])):
        errors.append('"license" must be one of the identifiers of the list')
    for config in front.get("configs", []):
        if "config_name" not in config:
            errors.append('"configs[0].config_name" is required')
    for entry in front.get("model-index", []):
        if "name" not in entry or "results" not in entry:
            errors.append('"model-index[0].results" is required')
    if errors:
        return as_json({"errors": [{"message": text} for text in errors], "warnings": []}, 400)
    return as_json({"errors": [], "warnings": []})


def info(hub: StandinHub, call: Call) -> Answer:
    repository = hub.find(call)
    commit = repository.at(call.revision or "main")
    found = (
        re.match(rb"---\n(.*?\n)---\n", commit.files["README.md"].content, re.DOTALL)
        if "README.md" in commit.files
        else None
    )
    return as_json(
        {
            "id": repository.id,
            "author": repository.id.split("/")[0],
            "sha": commit.oid,
            "private": repository.private,
            "gated": "auto" if repository.gated else False,
            "disabled": False,
            "tags": [],
            "cardData": yaml.safe_load(found[1]) if found else None,
            "siblings": [{"rfilename": name} for name in sorted(commit.files)],
        }
    )


def refs(hub: StandinHub, call: Call) -> Answer:
    repository = hub.find(call)

    def listed(names: dict[str, str], where: str) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{where}/{name}", "targetCommit": oid} for name, oid in names.items()]

    return as_json(
        {"branches": listed(repository.branches, "heads"), "converts": [], "tags": listed(repository.tags, "tags")}
    )


def branch(hub: StandinHub, call: Call) -> Answer:
    repository = hub.find(call, write=True)
    if call.revision in repository.branches:
        raise Refusal(409, "Reference already exists")
    repository.branches[call.revision] = repository.at((call.json() or {}).get("startingPoint") or "main").oid
    return as_json({})


def tag(hub: StandinHub, call: Call) -> Answer:
    repository = hub.find(call, write=True)
    repository.tags[call.json()["tag"]] = repository.at(call.revision).oid
    return as_json({})


def commits(hub: StandinHub, call: Call) -> Answer:
    repository = hub.find(call)
    out, oid = [], repository.at(call.revision).oid
    while oid is not None:
        commit = repository.commits[oid]
        date = "2025-01-01T00:00:00.000Z"
        out.append({"id": oid, "title": commit.title, "message": "", "authors": [{"user": "someone"}], "date": date})
        oid = commit.parent
    return as_json(out)


# -- uploads ----------------------------------------------------------------------------------------------------------


def preupload(hub: StandinHub, call: Call) -> Answer:
    repository = hub.find(call, write=True)
    there = repository.at(call.revision).files
    files = []
    for wanted in call.json()["files"]:
        large = wanted["path"].endswith((".parquet", ".safetensors")) or wanted["size"] >= LARGE
        oid = there[wanted["path"]].etag if wanted["path"] in there else None
        mode = "lfs" if large else "regular"
        files.append({"path": wanted["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return as_json({"files": files})


def lfs_batch(hub: StandinHub, call: Call) -> Answer:
    repository = hub.find(call, write=True)
    objects = []
    for wanted in call.json()["objects"]:
        entry = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in repository.objects:
            place = f"{repository.kind}s/{repository.id}/{wanted['oid']}"
            entry["actions"] = {
                "upload": {"href": f"{hub.storage}/upload/{place}"},
                "verify": {"href": f"{hub.address}/verify/{place}"},
            }
        objects.append(entry)
    return as_json({"transfer": "basic", "objects": objects})


def lfs_upload(hub: StandinHub, call: Call) -> Answer:
    if hashlib.sha256(call.body).hexdigest() != call.path:
        raise Refusal(400, f"the content is not that of {call.path}")
    hub.repositories[call.kind, call.id].objects[call.path] = call.body
    return Answer()


def lfs_verify(hub: StandinHub, call: Call) -> Answer:
    wanted, objects = call.json(), hub.find(call, write=True).objects
    if len(objects.get(wanted["oid"], b"")) != wanted["size"]:
        raise Refusal(404, f"object {wanted['oid']} was not uploaded")
    return as_json({})


def commit(hub: StandinHub, call: Call) -> Answer:
    repository = hub.find(call, write=True)
    if call.revision not in repository.branches:
        raise Refusal(404, f"Invalid rev id: {call.revision}", "RevisionNotFound")
    head = repository.branches[call.revision]
    files = dict(repository.commits[head].files)
    title = ""
    for line in call.body.splitlines():
        entry = json.loads(line)
        key, value = entry["key"], entry["value"]
        if key == "header":
            title = value["summary"]
            if value.get("parentCommit", head) != head:
                raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        elif key == "file":
            files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
        elif key == "lfsFile":
            if value["oid"] not in repository.objects:
                raise Refusal(400, f"LFS object {value['oid']} of {value['path']} was not uploaded")
            files[value["path"]] = Blob(repository.objects[value["oid"]], True)
        elif key == "deletedFile":
            if value["path"] not in files:
                raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
            del files[value["path"]]
        elif key == "deletedFolder":
            files = {name: blob for name, blob in files.items() if not name.startswith(value["path"].rstrip("/") + "/")}
        else:
            raise Refusal(400, f"unknown operation {key}")
    oid = repository.branches[call.revision] = repository.add(title, files, head)
    place = f"{hub.address}/{'datasets/' if repository.kind == 'dataset' else ''}{repository.id}"
    return as_json({"success": True, "commitOid": oid, "commitUrl": f"{place}/commit/{oid}", "hookOutput": ""})


# -- downloads --------------------------------------------------------------------------------------------------------


def _entry(path: str, blob: Blob) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "oid": blob.oid, "size": len(blob.content), "path": path}
    if blob.large:
        entry["lfs"] = {"oid": blob.sha256, "size": len(blob.content), "pointerSize": len(blob.pointer)}
    return entry


def _folders(files: dict[str, Blob]) -> dict[str, dict[str, Any]]:
    names = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    return {
        name: {"type": "directory", "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0, "path": name}
        for name in names
    }


def tree(hub: StandinHub, call: Call) -> Answer:
    files = hub.find(call).at(call.revision).files
    entries = {name: _entry(name, blob) for name, blob in files.items()} | _folders(files)
    root = call.path.strip("/")
    if root and root not in entries:
        raise Refusal(404, f"{root} does not exist on {call.revision}", "EntryNotFound")
    inside = sorted(name for name in entries if not root or name.startswith(root + "/"))
    if call.query.get("recursive", "false").lower() not in ("true", "1"):
        depth = root.count("/") + 2 if root else 1
        inside = [name for name in inside if name.count("/") + 1 == depth]
    start = int(call.query.get("cursor", 0))
    headers = {}
    if start + hub.page < len(inside):
        query = urlencode(call.query | {"cursor": start + hub.page})
        headers["Link"] = f'<{hub.address}{urlsplit(call.handler.path).path}?{query}>; rel="next"'
    return as_json([entries[name] for name in inside[start : start + hub.page]], **headers)


def paths_info(hub: StandinHub, call: Call) -> Answer:
    files = hub.find(call).at(call.revision).files
    entries = {name: _entry(name, blob) for name, blob in files.items()} | _folders(files)
    wanted = parse_qs(call.body.decode()).get("paths", [])
    return as_json([entries[name] for name in wanted if name in entries])


def resolve(hub: StandinHub, call: Call) -> Answer:
    commit = hub.find(call).at(call.revision)
    if call.path not in commit.files:
        raise Refusal(404, "Entry not found", "EntryNotFound")
    blob = commit.files[call.path]
    headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.oid}"', "Accept-Ranges": "bytes"}
    if not blob.large:
        return _content(blob.content, call, headers, call.path)
    headers |= {"X-Linked-ETag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.content))}
    place = f"{hub.storage}/content/{call.kind}s/{call.id}/{blob.sha256}?{urlencode({'file': call.path})}"
    return Answer(b"", 302, headers | {"Location": place})


def content(hub: StandinHub, call: Call) -> Answer:
    """Of an LFS file, from the other host; signed addresses there need no token, and no token may get there."""
    if "Authorization" in call.handler.headers:
        raise Refusal(400, "a token was sent to the content host")
    whole = hub.repositories[call.kind, call.id].objects[call.path]
    return _content(whole, call, {"ETag": f'"{call.path}"', "Accept-Ranges": "bytes"}, call.query["file"])


def _content(whole: bytes, call: Call, headers: dict[str, str], file: str) -> Answer:
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", call.handler.headers.get("Range", ""))
    if not asked:
        return Answer(whole, 200, headers, file)
    first, last = asked[1], asked[2]
    start = int(first) if first else max(len(whole) - int(last), 0)
    stop = min(int(last) + 1, len(whole)) if first and last else len(whole)
    if start >= len(whole):
        raise Refusal(416, "Range Not Satisfiable")
    part = {"Content-Range": f"bytes {start}-{stop - 1}/{len(whole)}"}
    return Answer(whole[start:stop], 206, headers | part, file)


_ID = r"(?P<id>[^/]+/[^/]+)"
_API = rf"/api/(?P<kind>models|datasets)/{_ID}"
_PAGE = rf"/(?P<kind>datasets/)?{_ID}"
_STORED = rf"/(?P<kind>models|datasets)/{_ID}/(?P<path>[0-9a-f]{{64}})"

ROUTES: list[tuple[str, str, Callable[[StandinHub, Call], Answer]]] = [
    ("GET", r"/api/whoami-v2", whoami),
    ("POST", r"/api/repos/create", create),
    ("DELETE", r"/api/repos/delete", delete),
    ("POST", r"/api/validate-yaml", validate_yaml),
    ("GET", rf"{_API}/refs", refs),
    ("POST", rf"{_API}/branch/(?P<revision>[^/]+)", branch),
    ("POST", rf"{_API}/tag/(?P<revision>[^/]+)", tag),
    ("GET", rf"{_API}/commits/(?P<revision>[^/]+)", commits),
    ("POST", rf"{_API}/preupload/(?P<revision>[^/]+)", preupload),
    ("POST", rf"{_API}/commit/(?P<revision>[^/]+)", commit),
    ("GET", rf"{_API}/tree/(?P<revision>[^/]+)(?P<path>/.+)?", tree),
    ("POST", rf"{_API}/paths-info/(?P<revision>[^/]+)", paths_info),
    ("GET", rf"{_API}(/revision/(?P<revision>[^/]+))?", info),
    ("POST", rf"{_PAGE}\.git/info/lfs/objects/batch", lfs_batch),
    ("PUT", rf"/upload{_STORED}", lfs_upload),
    ("POST", rf"/verify{_STORED}", lfs_verify),
    ("GET", rf"/content{_STORED}", content),
    ("GET HEAD", rf"{_PAGE}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", resolve),
]


# -- clients ----------------------------------------------------------------------------------------------------------


class Client:
    """A process that sees the stand-in as the Hub, with a cache and (if ``token``) an account of its own.

    Args:
        hub: or the address of nothing at all.
        home: HF_HOME.
        token: of one of the stand-in's accounts; None = not logged in.
        environment: more variables, such as HF_HUB_OFFLINE="1".
    """

    def __init__(self, hub: StandinHub | str, home: Path, token: str | None = "hf_writer", **environment: str):
        self.pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        others = {key for key in os.environ if key.startswith(("HF_", "HUGGINGFACE", "TRANSFORMERS_OFFLINE"))}
        kept = {key: value for key, value in os.environ.items() if key not in others}
        kept |= {
            "HF_ENDPOINT": hub if isinstance(hub, str) else hub.address,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }
        kept |= ({} if token is None else {"HF_TOKEN": token}) | environment
        with mock.patch.dict(os.environ, kept, clear=True):
            self.pool.submit(os.getpid).result(60)  # the process starts here, with this environment

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """``function(*args, **kwargs)`` there; it must be importable. What it raises is raised here."""
        return self.pool.submit(function, *args, **kwargs).result(300)

    def recipe(self, name: str, *arguments: object) -> str:
        """What ``python recipes/<name>.py`` prints; for an error, its last line on stderr."""
        return self.call(run_recipe, name, [str(argument) for argument in arguments])


def run_recipe(name: str, arguments: list[str]) -> str:
    script = Path(__file__).resolve().parent.parent / "recipes" / f"{name}.py"
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", [str(script), *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as stop:
            if stop.code:
                return err.getvalue().strip()
    return out.getvalue()


@contextlib.contextmanager
def running(page: int = 1000) -> Iterator[StandinHub]:
    """A stand-in for a test module, which fails if the stand-in did."""
    with StandinHub(page) as hub:
        yield hub
    assert not hub.faults, "\n".join(hub.faults)
