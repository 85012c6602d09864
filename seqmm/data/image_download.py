"""The items' images from their URLs."""

from __future__ import annotations

import csv
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from seqmm.data.item_files import file_stem
from seqmm.data.public_client import SUFFIXES, Client, Failed
from seqmm.data.store import read_items, read_record
from seqmm.files import writing
from seqmm.foreign import cells

FAILURES = "failures.csv"


class Failure(NamedTuple):
    """An image that did not come."""

    item: str
    url: str
    kind: str
    """url, address, dns, connection, timeout, status, redirects, type, size, truncated, host (given up)."""
    detail: str


@dataclass
class DownloadReport:
    """What :func:`download_images` did."""

    folder: Path
    items: int
    without_url: int
    """Items without any URL."""
    present: int = 0
    """Files that were there."""
    saved: int = 0
    failures: list[Failure] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For the terminal."""
        out = [
            f"images       {self.saved:,} saved, {self.present:,} were there, {len(self.failures):,} failed; "
            f"{self.without_url:,} of {self.items:,} items have no URL"
        ]
        kinds = Counter(failure.kind for failure in self.failures).most_common()
        if kinds:
            counts = ", ".join(f"{kind}: {count:,}" for kind, count in kinds)
            out.append(f"failed       {counts}; see {self.folder / FAILURES}; the same command tries them again")
        return out


def corpus_urls(folder: str | Path, column: str = "images") -> dict[str, list[str]]:
    """Item id -> URLs, from a column of a prepared corpus' items table (strings, or lists of strings).

    Raises:
        FileNotFoundError: no corpus there.
        ValueError: the table has no such column, or no ids.
    """
    read_record(Path(folder))
    items = read_items(folder)
    for name in ("id", column):
        if name not in items.column_names:
            raise ValueError(
                f"{Path(folder) / 'items'} has no column {name!r}; it has: {', '.join(items.column_names)}. Name the "
                "one with the URLs of the images"
            )
    cells = items[column].to_pylist()
    urls = [[cell] if isinstance(cell, str) else cell or [] for cell in cells]
    return {
        item: [url.strip() for url in row if isinstance(url, str) and url.strip()]
        for item, row in zip(items["id"].to_pylist(), urls, strict=True)
    }


def download_images(
    urls: Mapping[str, Sequence[str]],
    folder: str | Path,
    *,
    images_per_item: int = 1,
    concurrency: int = 8,
    per_host: int = 4,
    interval: float = 0.05,
    retries: int = 3,
    backoff: float = 1.0,
    timeout: float = 20.0,
    max_bytes: int = 20_000_000,
    allow_private: Collection[str] = (),
) -> DownloadReport:
    """Downloads the items' images into a folder, and writes what failed into its ``failures.csv``.

    Files that are there are not asked for again; the folder may be that of a run that was stopped.

    Args:
        urls: item id -> URLs, the best first.
        folder: where to; made if absent.
        images_per_item: the first so many URLs of an item.
        concurrency: downloads at a time.
        per_host: of these, from one host.
        interval: seconds between the starts of two downloads from one host.
        retries: further attempts after a failure that may pass (no connection, time-out, truncated, 429, 5xx).
        backoff: seconds before the first of these, twice as many before each next; a server's Retry-After counts more.
        timeout: seconds without an answer; a whole image may take four times as long.
        max_bytes: larger files are not kept.
        allow_private: hosts that may have private addresses. For tests on the machine itself: a corpus' URLs must not
            choose what in your network is asked for.

    Raises:
        OSError: the folder cannot be written.
        KeyboardInterrupt: after the downloads under way were given up.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    report = DownloadReport(folder, len(urls), sum(not row for row in urls.values()))
    there = {path.stem for path in folder.iterdir() if path.suffix in SUFFIXES}
    stems = {file_stem(item) for item in urls}
    jobs = []
    for item, row in urls.items():
        names = _names(file_stem(item), stems)
        for place, (url, name) in enumerate(zip(row[:images_per_item], names, strict=False)):
            if name in there or (place == 0 and item in there):
                report.present += 1
            else:
                jobs.append((item, url, name))
    client = Client(folder, per_host, interval, retries, backoff, timeout, max_bytes, frozenset(allow_private))
    try:
        _run(jobs, client, report, min(concurrency, len(jobs)))
    finally:
        _write_failures(report)
    return report


def _names(stem: str, stems: Collection[str]) -> Iterator[str]:
    """Names of an item's files: a number that would make the name of another item's first file is left out."""
    yield stem
    number = 2
    while True:
        if f"{stem}_{number}" not in stems:
            yield f"{stem}_{number}"
        number += 1


def _run(jobs: list[tuple[str, str, str]], client: Client, report: DownloadReport, threads: int) -> None:
    """Works the jobs off in threads; the first error that is not a download's stops all and is raised."""
    from tqdm import tqdm

    lock, waiting, errors = threading.Lock(), iter(jobs), list[BaseException]()

    def work() -> None:
        while not client.stop.is_set():
            with lock:
                job = next(waiting, None)
            if job is None:
                return
            item, url, name = job
            try:
                client.save(url, name)
                failure = None
            except Failed as failed:
                failure = Failure(item, url, failed.kind, failed.detail)
            except BaseException as error:  # the disk is full, or a mistake of ours
                errors.append(error)
                client.stop.set()
                return
            with lock:
                if failure is None:
                    report.saved += 1
                elif not client.stop.is_set():
                    report.failures.append(failure)
                bar.update()

    with tqdm(total=len(jobs), desc="images", unit="image", leave=False, disable=None) as bar:
        workers = [threading.Thread(target=work, name=f"image {number}", daemon=True) for number in range(threads)]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                worker.join()
        except KeyboardInterrupt:
            client.stop.set()
            for worker in workers:  # who still waits for an answer holds no finished file
                worker.join(timeout=1)
            raise KeyboardInterrupt(f"{report.saved:,} images were saved; the same command goes on") from None
    if errors:
        raise errors[0]


def _write_failures(report: DownloadReport) -> None:
    file = report.folder / FAILURES
    if not report.failures:
        file.unlink(missing_ok=True)
        return
    with writing(file) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(Failure._fields)
        writer.writerows(map(cells, sorted(report.failures)))
