"""An HTTP client that reads images from public addresses and nothing else."""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

MAX_REDIRECTS = 5

GIVE_UP = 20
"""Images of one host that failed one after the other for a reason that may pass; then the host is left alone."""

LONGEST_WAIT = 60.0
"""Seconds of a server's Retry-After that are honoured."""

_CHUNK = 1 << 16

_MAGIC = (
    (re.compile(rb"\xff\xd8\xff"), ".jpg"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), ".png"),
    (re.compile(rb"GIF8[79]a"), ".gif"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), ".webp"),
    (re.compile(rb"BM.{4}\0\0\0\0", re.DOTALL), ".bmp"),
    (re.compile(rb"II\*\0|MM\0\*"), ".tif"),
)

SUFFIXES = (*(suffix for _, suffix in _MAGIC), ".jpeg", ".tiff")

_UNTYPED = ("application/octet-stream", "binary/octet-stream", "")

_PASSING = (408, 425, 429, 500, 502, 503, 504)

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

_UNICAST = ipaddress.IPv6Network("2000::/3")


class Failed(Exception):
    """An image that did not come; ``passing``: it may at another time."""

    def __init__(self, kind: str, detail: str, passing: bool = False, after: float = 0.0):
        super().__init__(kind, detail)
        self.kind, self.detail, self.passing, self.after = kind, detail, passing, after


class _Target(NamedTuple):
    """A URL taken apart."""

    secure: bool
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> _Target:
        shown = url if len(url) <= 100 else url[:100] + "…"
        try:
            parts = urlsplit(url)
            port = parts.port
            host = (parts.hostname or "").encode("idna").decode("ascii") if parts.hostname else ""
        except ValueError as error:  # UnicodeError too
            raise Failed("url", f"{shown!r} is not a URL: {error}") from error
        if parts.scheme not in ("http", "https"):
            raise Failed("url", f"{shown!r} is not http or https")
        if not host or parts.username is not None:
            raise Failed("url", f"{shown!r} has {'no host' if not host else 'a user name in it'}")
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
        query = f"?{quote(parts.query, safe='/%:@!$&()*+,;=~?')}" if parts.query else ""
        secure = parts.scheme == "https"
        return cls(secure, host, port or (443 if secure else 80), path + query)


class _Connection(http.client.HTTPConnection):
    """To one of the addresses that were checked, whatever the name is by now; ended when its time is over."""

    def __init__(self, target: _Target, addresses: Sequence[str], timeout: float, context: ssl.SSLContext | None):
        super().__init__(target.host, target.port, timeout=timeout)
        self.default_port = 443 if target.secure else 80  # of the Host header
        self._addresses, self._context = addresses, context
        self.expired = False
        self._clock = threading.Timer(4 * timeout, self._expire)
        self._clock.daemon = True

    def connect(self) -> None:
        for address in self._addresses:
            try:
                self.sock = socket.create_connection((address, self.port), self.timeout)
                break
            except OSError:  # such as an IPv6 address where there is no IPv6
                if address == self._addresses[-1]:
                    raise
        if self._context is not None:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
        self._connected = self.sock
        self._clock.start()
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.do_handshake()

    def _expire(self) -> None:
        self.expired = True
        with suppress(OSError):  # whoever reads gets an end or an error
            socket.socket.shutdown(self._connected, socket.SHUT_RDWR)

    def close(self) -> None:
        self._clock.cancel()
        super().close()


class _Gate:
    """Of one host."""

    def __init__(self, slots: int):
        self.slots = threading.BoundedSemaphore(slots)
        self.lock = threading.Lock()
        self.next = 0.0
        self.failed = 0
        self.addresses: tuple[str, ...] = ()


class Client:
    """Downloads single images; used by many threads."""

    def __init__(
        self,
        folder: Path,
        per_host: int,
        interval: float,
        retries: int,
        backoff: float,
        timeout: float,
        max_bytes: int,
        allow_private: frozenset[str],
    ):
        self.folder, self.per_host, self.interval, self.retries = folder, per_host, interval, retries
        self.backoff, self.timeout, self.max_bytes, self.allow_private = backoff, timeout, max_bytes, allow_private
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._gates: dict[str, _Gate] = {}
        self._context = ssl.create_default_context()

    def save(self, url: str, name: str) -> None:
        """One image, with retries.

        Raises:
            Failed: it cannot be had.
            OSError: it cannot be written.
        """
        part = self.folder / f"{name}.part"
        gate = self._gate(_Target.parse(url).host)
        for attempt in range(self.retries + 1):
            if gate.failed >= GIVE_UP:
                raise Failed("host", f"left alone after {GIVE_UP} failures one after the other")
            try:
                suffix = self._fetch(url, part)
            except Failed as failed:
                part.unlink(missing_ok=True)
                if not failed.passing:
                    gate.failed = 0  # it answers
                    raise
                wait = max(self.backoff * 2**attempt, min(failed.after, LONGEST_WAIT))
                if attempt == self.retries or self.stop.wait(wait):
                    with gate.lock:
                        gate.failed += 1
                    raise
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            else:
                gate.failed = 0
                part.replace(self.folder / (name + suffix))
                return

    def _fetch(self, url: str, part: Path) -> str:
        """One attempt: follows redirects, writes ``part``, returns the suffix its content asks for."""
        for _ in range(MAX_REDIRECTS + 1):
            target = _Target.parse(url)
            with self._turn(target) as connection:
                with _network(connection):
                    connection.request("GET", target.path, headers=_HEADERS)
                    response = connection.getresponse()
                location = response.getheader("Location")
                if response.status in (301, 302, 303, 307, 308) and location:
                    url = urljoin(url, location)
                    continue
                if response.status != 200:
                    after = response.getheader("Retry-After") or ""
                    seconds = float(after) if after.isascii() and after.isdigit() else 0.0
                    raise Failed("status", str(response.status), response.status in _PASSING, seconds)
                return self._write(connection, response, part)
        raise Failed("redirects", f"more than {MAX_REDIRECTS}")

    def _write(self, connection: _Connection, response: http.client.HTTPResponse, part: Path) -> str:
        kind = (response.getheader("Content-Type") or "").split(";")[0].strip().lower()
        if not kind.startswith("image/") and kind not in _UNTYPED:
            raise Failed("type", f"the server calls it {kind[:60]!r}")
        length = response.length  # None: not told, or in chunks
        if length is not None and length > self.max_bytes:
            raise Failed("size", f"{length:,} bytes, more than {self.max_bytes:,}")
        total, beginning = 0, b""
        with part.open("wb") as stream:
            while True:
                with _network(connection):
                    chunk = response.read1(_CHUNK)
                if not chunk:
                    break
                total += len(chunk)
                if len(beginning) < 16:
                    beginning = (beginning + chunk)[:16]
                if total > self.max_bytes:
                    raise Failed("size", f"more than {self.max_bytes:,} bytes")
                if self.stop.is_set():
                    raise Failed("connection", "stopped")
                stream.write(chunk)
        if connection.expired:
            raise Failed("timeout", "the image took too long", passing=True)
        if length is not None and total != length:
            raise Failed("truncated", f"{total:,} of {length:,} bytes", passing=True)
        suffix = next((suffix for magic, suffix in _MAGIC if magic.match(beginning)), None)
        if suffix is None:
            raise Failed("type", f"no image, it begins with {beginning!r}" if total else "an empty file")
        return suffix

    def _gate(self, host: str) -> _Gate:
        with self._lock:
            return self._gates.setdefault(host, _Gate(self.per_host))

    @contextmanager
    def _turn(self, target: _Target) -> Iterator[_Connection]:
        """A connection to one of the host's addresses, when it is this thread's turn."""
        gate = self._gate(target.host)
        with gate.slots:
            with gate.lock:
                now = time.monotonic()
                start = max(now, gate.next)
                gate.next = start + self.interval
            if self.stop.wait(start - now):
                raise Failed("connection", "stopped")
            gate.addresses = gate.addresses or self._resolve(target)
            context = self._context if target.secure else None
            connection = _Connection(target, gate.addresses, self.timeout, context)
            try:
                yield connection
            finally:
                connection.close()

    def _resolve(self, target: _Target) -> tuple[str, ...]:
        """The host's addresses, if all of them are public."""
        try:
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise Failed("dns", f"{target.host}: {error.strerror}", error.errno != socket.EAI_NONAME) from error
        except (OSError, UnicodeError) as error:
            raise Failed("dns", f"{target.host}: {error}") from error
        addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
        if target.host not in self.allow_private:
            for address in addresses:
                if not is_public(address):
                    raise Failed("address", f"{target.host} is {address}, which is not a public address")
        return addresses


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet; an IPv4 address inside an IPv6 one counts as itself."""
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inside = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inside is not None:
            ip = inside
        elif ip not in _UNICAST:
            return False
    return ip.is_global and not ip.is_multicast


@contextmanager
def _network(connection: _Connection) -> Iterator[None]:
    """What goes wrong on the way, as :class:`Failed`."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        said = str(error) or type(error).__name__
        if connection.expired or isinstance(error, TimeoutError):
            raise Failed("timeout", said, passing=True) from error
        if isinstance(error, http.client.IncompleteRead):
            raise Failed("truncated", said, passing=True) from error
        if isinstance(error, ssl.SSLCertVerificationError):
            raise Failed("connection", said) from error
        if isinstance(error, http.client.InvalidURL):
            raise Failed("url", said) from error
        raise Failed("connection", said, passing=True) from error


_HEADERS = {
    "User-Agent": "seqmm (images of a research data set)",
    "Accept": "image/*",
    "Accept-Encoding": "identity",
    "Connection": "close",
}
