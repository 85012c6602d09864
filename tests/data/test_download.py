"""Image download against a local server that behaves badly on purpose."""

import csv
import io
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from seqmm.data.image_download import DownloadReport, corpus_urls, download_images
from seqmm.data.item_files import file_stem
from seqmm.data.item_images import ImageFiles
from seqmm.data.public_client import is_public


def picture(kind: str, colour: str = "red", size: int = 24) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(stream, kind)
    return stream.getvalue()


JPEG, PNG = picture("JPEG"), picture("PNG")


class Handler(BaseHTTPRequestHandler):
    """A path says what happens."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        with server.lock:
            server.asked[self.path] += 1
            server.active += 1
            server.most = max(server.most, server.active)
        try:
            self.answer(server)
        finally:
            with server.lock:
                server.active -= 1

    def answer(self, server: "Server") -> None:
        name = self.path.split("?")[0].strip("/").split("/")[0]
        if name == "flaky" and server.asked[self.path] < 3:
            self.reply(503, b"busy", "text/plain")
        elif name == "dead":
            self.reply(500, b"", "text/plain")
        elif name == "gone":
            self.reply(404, b"not here", "text/plain")
        elif name == "page":
            self.reply(200, b"<html>hello</html>", "text/html")
        elif name == "lying":
            self.reply(200, b"<html>hello</html>", "image/jpeg")
        elif name == "empty":
            self.reply(200, b"", "image/jpeg")
        elif name == "large":
            self.reply(200, JPEG + b"x" * 50_000, "image/jpeg")
        elif name == "endless":  # no length: cut off while reading
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                for _ in range(100):
                    self.wfile.write(JPEG * 10)
            except OSError:
                pass
            self.close_connection = True
        elif name == "truncated":
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(JPEG) + 100))
            self.end_headers()
            self.wfile.write(JPEG)
            self.close_connection = True
        elif name == "slow":
            time.sleep(2)
            self.reply(200, JPEG, "image/jpeg")
        elif name == "drip":
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", "1000")
            self.end_headers()
            try:
                for _ in range(1000):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.02)
            except OSError:
                pass
            self.close_connection = True
        elif name == "to":
            self.send_response(302)
            self.send_header("Location", unquote(self.path.split("?", 1)[1]))
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif name == "chunked":
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(f"{len(PNG):x}\r\n".encode() + PNG + b"\r\n0\r\n\r\n")
        elif name == "busy":
            time.sleep(0.05)
            self.reply(200, JPEG, "image/jpeg")
        else:
            png = name.endswith("png")
            self.reply(200, PNG if png else JPEG, "image/png" if png else "image/jpeg")

    def reply(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.asked, self.active, self.most = threading.Lock(), Counter[str](), 0, 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what is tested."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


QUICK = {"interval": 0.0, "backoff": 0.01, "timeout": 5.0, "allow_private": ("127.0.0.1",)}


def fetch(urls: dict[str, list[str]], folder: Path, **options) -> DownloadReport:
    return download_images(urls, folder, **{**QUICK, **options})


def kinds(report: DownloadReport) -> dict[str, str]:
    return {failure.item: failure.kind for failure in report.failures}


def test_images_come_and_are_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    urls = {
        "a": [f"{server.url}/a.jpg"],
        "b": [f"{server.url}/b.png?size=1", f"{server.url}/b2.jpg"],
        "c": [f"{server.url}/chunked"],
        "d": [],
        "e": [f"{server.url}/to?/to?/a.jpg"],
        "f": [f"{server.url}/with%20space and ü.jpg"],
    }
    report = fetch(urls, tmp_path / "images")
    assert (report.saved, report.present, report.without_url, report.failures) == (5, 0, 1, [])
    files = {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()}
    assert files == {"a.jpg": JPEG, "b.png": PNG, "c.png": PNG, "e.jpg": JPEG, "f.jpg": JPEG}
    asked = sum(server.asked.values())
    again = fetch(urls, tmp_path / "images")
    assert (again.saved, again.present) == (0, 5) and sum(server.asked.values()) == asked
    more = fetch(urls, tmp_path / "images", images_per_item=2)
    assert (more.saved, more.present) == (1, 5) and (tmp_path / "images" / "b_2.jpg").read_bytes() == JPEG


def test_failures_by_kind(server: Server, tmp_path: Path) -> None:
    def free_port() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    bad = {
        "url": ["ftp://127.0.0.1/x.jpg", "file:///etc/hosts", "photos/x.jpg", "http://", "http://u:p@127.0.0.1/x",
                "http://127.0.0.1:99999999/x", "javascript:alert(1)", "http://a..b/x"],
        "status": [f"{server.url}/gone", f"{server.url}/dead"],
        "type": [f"{server.url}/page", f"{server.url}/lying", f"{server.url}/empty"],
        "size": [f"{server.url}/large", f"{server.url}/endless"],
        "truncated": [f"{server.url}/truncated"],
        "redirects": [f"{server.url}/to?" + "/to?" * 6 + "/a.jpg"],
        "connection": [f"http://127.0.0.1:{free_port()}/x.jpg"],
    }  # fmt: skip
    urls = {f"{kind}-{n}": [url] for kind, some in bad.items() for n, url in enumerate(some)} | {"ok": [server.url]}
    report = fetch(urls, tmp_path, max_bytes=20_000, retries=1)
    assert kinds(report) == {item: item.split("-")[0] for item in urls if item != "ok"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["failures.csv", "ok.jpg"]  # no .part is left
    with (tmp_path / "failures.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["item"]: row["kind"] for row in rows} == kinds(report)
    assert next(row for row in rows if row["item"] == "status-0")["detail"] == "404"
    assert "url: 8, type: 3" in "\n".join(report.lines()) and "1 saved" in report.lines()[0]
    assert server.asked["/gone"] == 1 and server.asked["/dead"] == 2 and server.asked["/truncated"] == 2
    fetch({"ok": urls["ok"]}, tmp_path)
    assert not (tmp_path / "failures.csv").exists()  # a list of what failed last time, not ever


def test_retry_after_503(server: Server, tmp_path: Path) -> None:
    report = fetch({"a": [f"{server.url}/flaky"]}, tmp_path)
    assert report.saved == 1 and server.asked["/flaky"] == 3
    report = fetch({"b": [f"{server.url}/flaky?again"]}, tmp_path, retries=1)
    assert kinds(report) == {"b": "status"} and report.failures[0].detail == "503"


def test_slow_servers(server: Server, tmp_path: Path) -> None:
    started = time.monotonic()
    urls = {"slow": [f"{server.url}/slow"], "drip": [f"{server.url}/drip"]}
    report = fetch(urls, tmp_path, timeout=0.1, retries=0)
    assert kinds(report) == {"slow": "timeout", "drip": "timeout"}
    assert time.monotonic() - started < 1.5


def test_private_addresses_are_refused_also_behind_a_redirect(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = server.server_address[1]
    direct = ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0.0.0.0", "10.0.0.1", "169.254.169.254", "192.168.1.1",
              "[::1]", "[::ffff:127.0.0.1]", "[fe80::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::1]"]  # fmt: skip
    urls = {f"direct-{host}": [f"http://{host}:{port}/a.jpg"] for host in direct}
    report = fetch(urls, tmp_path, allow_private=())
    assert set(kinds(report)) == set(urls)
    assert set(kinds(report).values()) <= {"address", "dns"}  # a resolver may not know the odder spellings
    assert sum(kind == "address" for kind in kinds(report).values()) >= 9
    assert not server.asked  # nothing was sent

    hops = [f"http://localhost:{port}/a.jpg", "http://169.254.169.254/latest/meta-data", "//10.0.0.1/x.jpg"]
    urls = {str(n): [f"{server.url}/to?{hop}"] for n, hop in enumerate(hops)} | {"file": [f"{server.url}/to?file:///x"]}
    report = fetch(urls, tmp_path)
    assert kinds(report) == {"0": "address", "1": "address", "2": "address", "file": "url"}
    assert server.asked["/a.jpg"] == 0

    # a name of which one address is private, and a name that answers differently the second time
    real, calls = socket.getaddrinfo, Counter[str]()

    def resolver(host: str, port: int, *args, **options):
        calls[host] += 1
        if host == "mixed.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("8.8.8.8", "10.1.1.1")]
        if host == "rebinding.example":
            ip = "8.8.8.8" if calls[host] == 1 else "127.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))]
        return real(host, port, *args, **options)

    dialled = []

    def connect(address, timeout):
        dialled.append(address[0])
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    monkeypatch.setattr(socket, "create_connection", connect)
    urls = {name: [f"http://{name}.example:{port}/a.jpg"] for name in ("mixed", "rebinding")}
    report = fetch(urls, tmp_path, allow_private=(), retries=2)
    assert kinds(report) == {"mixed": "address", "rebinding": "connection"}
    assert dialled == ["8.8.8.8"] * 3  # the address that was checked, never what the name says by then


def test_the_next_address_is_tried(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = ("2606:4700::1111", "8.8.8.8")

    def connect(address, timeout):
        if address[0] == addresses[0]:
            raise OSError(101, "Network is unreachable")
        assert address[0] == addresses[1]
        stand_in = socket.socket()
        stand_in.settimeout(timeout)
        stand_in.connect(server.server_address[:2])
        return stand_in

    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "create_connection", connect)
    report = fetch({"a": ["http://two.example/a.jpg"]}, tmp_path, retries=0, allow_private=())
    assert report.saved == 1 and (tmp_path / "a.jpg").read_bytes() == JPEG


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("::ffff:8.8.8.8", True), ("64:ff9b::808:808", True),
        ("127.0.0.1", False), ("100.64.0.1", False), ("224.0.0.1", False), ("255.255.255.255", False),
        ("::", False), ("fc00::1", False), ("fec0::1", False), ("ff02::1", False), ("fe80::1%eth0", False),
        ("64:ff9b::a00:1", False), ("64:ff9b:1::1", False), ("2002:c0a8:101::", False), ("::7f00:1", False),
    ],
)  # fmt: skip
def test_is_public(address: str, public: bool) -> None:
    assert is_public(address) == public


ODD_IDS = ["../../x", "a/b", "a\\b", "..", ".", " 007 ", "x%2Fy", "x/y", "猫" * 90, "a" * 300, "a" * 299 + "b", "x",
           "x_2", "nul\0byte", "C:x", "~", "é", "e\u0301", "-rf", "a.jpg"]  # fmt: skip


def test_file_names_stay_in_the_folder_and_lead_back(server: Server, tmp_path: Path) -> None:
    stems = [file_stem(item) for item in ODD_IDS]
    assert len(set(stems)) == len(ODD_IDS) and all(len(stem) <= 200 for stem in stems)
    assert all(unquote(stem) == item for stem, item in zip(stems, ODD_IDS, strict=True) if len(item) < 90)

    images = tmp_path / "deep" / "images"
    urls = {item: [f"{server.url}/{n}.jpg", f"{server.url}/{n}.png"] for n, item in enumerate(ODD_IDS)}
    report = fetch(urls, images, images_per_item=2)
    assert report.saved == 2 * len(ODD_IDS) and not report.failures
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["images"]
    assert len(list(images.iterdir())) == 2 * len(ODD_IDS) and all(path.is_file() for path in images.iterdir())

    files = ImageFiles([images], ODD_IDS)
    for item in ODD_IDS:  # "x" has a second image, which is not the first one of "x_2"
        assert [place.suffix for place in files.places(item)] == [".jpg", ".png"], item
        assert files.open(files.places(item)[0]) == JPEG


def test_tls(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate is checked against the name of the URL, though the connection goes to an address."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*command, *names], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    port = server.server_address[1]
    urls = {"named": [f"https://localhost:{port}/a.jpg"], "other": [f"https://127.0.0.1:{port}/a.jpg"]}
    hosts = {"allow_private": ("127.0.0.1", "localhost"), "retries": 0}
    report = fetch(urls, tmp_path / "a", **hosts)
    assert kinds(report) == {"named": "connection", "other": "connection"}
    assert all("certificate verify failed" in failure.detail for failure in report.failures)
    trusting = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
    report = fetch(urls, tmp_path / "b", **hosts)
    assert report.saved == 1 and kinds(report) == {"other": "connection"}


def test_politeness(server: Server, tmp_path: Path) -> None:
    urls = {str(n): [f"{server.url}/busy/{n}"] for n in range(12)}
    fetch(urls, tmp_path / "a", per_host=2, concurrency=8)
    assert server.most == 2
    started = time.monotonic()
    fetch({str(n): [f"{server.url}/{n}.jpg"] for n in range(5)}, tmp_path / "b", interval=0.1)
    assert time.monotonic() - started >= 0.4


def test_a_host_that_is_down_is_left_alone(server: Server, tmp_path: Path) -> None:
    urls = {str(n): [f"{server.url}/dead/{n}"] for n in range(60)}
    report = fetch(urls, tmp_path, retries=0, concurrency=1)
    assert Counter(kinds(report).values()) == {"status": 20, "host": 40} and sum(server.asked.values()) == 20


def test_resume_after_a_kill(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was under way is done again, what was finished is not; an error that is not the network's stops the run."""
    urls = {str(n): [f"{server.url}/{n}.jpg"] for n in range(10)}
    real = Path.replace

    def full(self: Path, target: Path) -> Path:
        if self.name == "4.part":
            raise OSError(28, "No space left on device")
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            fetch(urls, tmp_path, concurrency=1)
    assert sorted(path.stem for path in tmp_path.glob("*.jpg")) == ["0", "1", "2", "3"]
    (tmp_path / "4.part").write_bytes(JPEG[:10])  # of a killed process
    report = fetch(urls, tmp_path)
    assert (report.present, report.saved) == (4, 6) and (tmp_path / "4.jpg").read_bytes() == JPEG
    assert server.asked["/0.jpg"] == 1 and not list(tmp_path.glob("*.part"))


def test_interrupt(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = {str(n): [f"{server.url}/busy/{n}"] for n in range(200)}
    real, joins = threading.Thread.join, []

    def join(self: threading.Thread, timeout: float | None = None) -> None:
        joins.append(self)
        if len(joins) == 1:
            time.sleep(0.2)
            raise KeyboardInterrupt
        real(self, timeout)

    monkeypatch.setattr(threading.Thread, "join", join)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        fetch(urls, tmp_path)
    monkeypatch.undo()
    done = len(list(tmp_path.glob("*.jpg")))
    assert 0 < done < 200 and not (tmp_path / "failures.csv").exists()


def test_urls_of_a_corpus(tmp_path: Path) -> None:
    from seqmm.data.synthetic import synthetic_corpus

    corpus = synthetic_corpus(5, 4)
    cells = [["http://a/1", "", None], [], None, [" http://a/2 "]]
    corpus.save(tmp_path / "c", item_columns={"images": cells, "photo": ["http://a/1", "", None, "http://a/4"]})
    names = corpus.item_ids
    assert corpus_urls(tmp_path / "c") == dict(zip(names, [["http://a/1"], [], [], ["http://a/2"]], strict=True))
    assert corpus_urls(tmp_path / "c", "photo")[names[3]] == ["http://a/4"]
    with pytest.raises(ValueError, match="no column 'image'; it has: item, id, .*images, photo"):
        corpus_urls(tmp_path / "c", "image")
    with pytest.raises(FileNotFoundError, match="is not a prepared corpus"):
        corpus_urls(tmp_path)
