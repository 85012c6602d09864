"""Numbers: weights of checkpoints, files of vectors, new items, feature sets of a corpus."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.faults.doors.payloads import evil_pickle, evil_torch
from tests.faults.doors.records import CHECKPOINT, CORPUS, nothing
from tests.faults.hostile import EITHER, REFUSED, SOUND, Case, Door, canary

DIM, ITEMS = 4, 40
WEIGHTS = "content/model.safetensors"


# -- weights -----------------------------------------------------------------------------------------------------------


def _tensors(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS, {"format": "pt"})

    return spoil


def _bytes(change: Callable[[bytes], bytes], file: str = WEIGHTS) -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_bytes(change((folder / file).read_bytes()))


def _header(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Another header of a file of safetensors."""

    def made(content: bytes) -> bytes:
        (size,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + size])
        change(header)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + size :]

    return made


def _first(header: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(value for name, value in header.items() if name != "__metadata__")
    return found


def _weights() -> Iterator[Case]:
    def each(place: int, what: str, change: Callable[[dict[str, Any], str], object]) -> Case:
        def spoil(tensors: dict[str, Any]) -> None:
            change(tensors, sorted(tensors)[place])

        return Case(CHECKPOINT, f"tensor {place} {what}", _tensors(spoil), REFUSED, "content")

    def nan(tensors: dict[str, Any], name: str) -> None:
        tensors[name].view(-1)[0] = float("nan")

    def infinite(tensors: dict[str, Any], name: str) -> None:
        tensors[name].view(-1)[-1] = float("inf")

    def reshape(tensors: dict[str, Any], name: str) -> None:
        tensors[name] = tensors[name][:-1] if len(tensors[name]) > 1 else tensors[name].repeat(2, 1)

    def rename(tensors: dict[str, Any], name: str) -> None:
        tensors[f"{name}_"] = tensors.pop(name)

    for place in range(4):
        yield each(place, "missing", lambda tensors, name: tensors.pop(name))
        yield each(place, "with a NaN", nan)
        yield each(place, "with an infinity", infinite)
        yield each(place, "of another shape", reshape)
        yield each(place, "renamed", rename)
        yield each(place, "in a row", lambda tensors, name: tensors.update({name: tensors[name].reshape(1, 1, -1)}))
        yield each(place, "of whole numbers", lambda tensors, name: tensors.update({name: tensors[name].long()}))
    yield Case(
        CHECKPOINT,
        "a tensor too many",
        _tensors(lambda t: t.update(more=next(iter(t.values())).clone())),
        REFUSED,
        "content",
    )
    yield Case(CHECKPOINT, "no tensor", _tensors(dict.clear), REFUSED, "content")
    changes: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda content: b"",
        "cut short": lambda content: content[: len(content) // 2],
        "without its last byte": lambda content: content[:-1],
        "with a byte too many": lambda content: content + b"\0",
        "of noise": lambda content: b"\xa5" * 4000,
        "whose header is too long": lambda content: struct.pack("<Q", 1 << 60) + content[8:],
        "whose header is no JSON": lambda content: content[:8] + b"x" * 20 + content[28:],
        "whose header is nested deep": lambda content: struct.pack("<Q", 100_000) + b"[" * 100_000,
        "whose tensors overlap": _header(lambda header: _first(header).update(data_offsets=[0, 8])),
        "whose tensor is out of bounds": _header(lambda header: _first(header).update(data_offsets=[0, 1 << 40])),
        "of an unknown type": _header(lambda header: _first(header).update(dtype="F7")),
        "of a huge shape": _header(lambda header: _first(header).update(shape=[1 << 40, 1 << 40])),
        "of a shape below 0": _header(lambda header: _first(header).update(shape=[-1, 8])),
    }
    for name, change in changes.items():
        yield Case(CHECKPOINT, f"weights {name}", _bytes(change), REFUSED, "content")
    yield Case(
        CHECKPOINT,
        "weights are a pickle",
        lambda folder: (folder / WEIGHTS).write_bytes(evil_pickle(folder)),
        REFUSED,
        "content",
    )
    yield Case(
        CHECKPOINT,
        "weights are torch's pickle",
        lambda folder: (folder / WEIGHTS).write_bytes(evil_torch(folder)),
        REFUSED,
    )
    yield Case(CHECKPOINT, "weights gone", lambda folder: (folder / WEIGHTS).unlink(), REFUSED)

    def only_bin(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        (folder / "content" / "pytorch_model.bin").write_bytes(evil_torch(folder))

    def both(folder: Path) -> None:
        (folder / "content" / "pytorch_model.bin").write_bytes(evil_torch(folder))

    yield Case(CHECKPOINT, "a pickle instead of weights", only_bin, REFUSED)
    yield Case(CHECKPOINT, "a pickle beside weights", both, SOUND)
    yield Case(
        CHECKPOINT,
        "an adapter beside weights",
        lambda folder: (folder / "content" / "adapter_config.json").write_text(
            '{"peft_type": "LORA", "base_model_name_or_path": "../../evil", "auto_mapping": null}'
        ),
        EITHER,
    )


# -- vectors -----------------------------------------------------------------------------------------------------------


def vectors() -> Any:
    """``[n, d]`` float32, by the number in the item's id."""
    import numpy as np

    return (np.arange(ITEMS)[:, None] * np.arange(1, DIM + 1) / 7).astype(np.float32)


def _by_number(folder: Path, first: int = 0) -> str | None:
    """Whether every item, from the first on, has its vector."""
    import numpy as np

    from seqmm.data.loading import load_corpus

    corpus = load_corpus(str(folder / "corpus"), features=("mine",))
    numbers = np.array([int(name.removeprefix("item-")) for name in corpus.item_ids])
    found, right = corpus.features["mine"].values, vectors()[numbers]
    if found.shape != right.shape:
        return f"shape {found.shape}, right is {right.shape}"
    same = np.allclose(found[numbers >= first], right[numbers >= first], atol=1e-4)
    return None if same and np.isfinite(found).all() else "other vectors"


def _table(mark: str = ",", index: bool = False, cells: dict[int, str] | None = None, head: bool = True) -> str:
    names = ["item_id", *(f"v{d}" for d in range(DIM))]
    lines = [mark.join([""] * index + names)] if head else []
    for number, row in enumerate(vectors().tolist()):
        values = [f"item-{number}", *map(str, row)]
        if cells and number in cells:
            values[2] = cells[number]
        lines.append(mark.join([str(number)] * index + values))
    return "\n".join(lines) + "\n"


def _lay(folder: Path) -> None:
    (folder / "vectors.csv").write_text(_table())


VECTORS = Door(
    "vectors", ("corpus",), _lay, ("extract", "--corpus", "corpus", "--vectors", "mine=vectors.csv"), _by_number
)


def _given(name: str, file: str, write: Callable[[Path], object], right: str = REFUSED) -> Case:
    return Case(VECTORS, name, lambda folder: write(folder / file), right, file, ("--vectors", f"mine={file}"))


def _npy(array: Callable[[], Any]) -> Callable[[Path], object]:
    def write(file: Path) -> None:
        import numpy as np

        np.save(file, array(), allow_pickle=True)

    return write


def _npz(**arrays: Callable[[], Any]) -> Callable[[Path], object]:
    def write(file: Path) -> None:
        import numpy as np

        np.savez_compressed(file, **{name: made() for name, made in arrays.items()})

    return write


def _safe(tensors: Callable[[], dict[str, Any]]) -> Callable[[Path], object]:
    def write(file: Path) -> None:
        from safetensors.numpy import save_file

        save_file(tensors(), file)

    return write


def _torch(value: Callable[[], Any]) -> Callable[[Path], object]:
    def write(file: Path) -> None:
        import torch

        torch.save(value(), file)

    return write


def _by_id() -> dict[str, Any]:
    return {f"item-{number}": row for number, row in enumerate(vectors())}


def _parquet(**more: Any) -> Callable[[Path], object]:
    def write(file: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {"item_id": [f"item-{n}" for n in range(ITEMS)], "vector": vectors().tolist()}
        pq.write_table(pa.table(columns | more), file)

    return write


def _evil_array() -> Any:
    import numpy as np

    folder = Path.cwd()

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(canary(folder)), "w"))

    return np.array([Evil()] * ITEMS, dtype=object)


def _npz_bomb(file: Path) -> None:
    """A few kilobytes that say they are 400 GB."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (40, 2684354560), }"
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("arr_0.npy", head + b"\0" * 10_000_000)


def _npy_claim(file: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (40, 99999999999), }"
    file.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + b"\0" * 640)


def _npy_code(file: Path) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': open({str(canary(Path.cwd()))!r}, 'w'), 'shape': (40, 4), }}".encode()
    file.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + b"\0" * 640)


def _cut(write: Callable[[Path], object], share: float = 0.5) -> Callable[[Path], object]:
    def cut(file: Path) -> None:
        write(file)
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * share)])

    return cut


def _holed(value: float) -> Any:
    made = vectors()
    made[3, 1] = value
    return made


def _vectors() -> Iterator[Case]:
    yield _given("safetensors by id", "v.safetensors", _safe(_by_id), SOUND)
    yield _given(
        "torch by id",
        "v.pt",
        _torch(lambda: {n: __import__("torch").from_numpy(row) for n, row in _by_id().items()}),
        SOUND,
    )
    yield _given("parquet", "v.parquet", _parquet(), SOUND)
    yield _given("parquet with an index", "v.parquet", _parquet(__index_level_0__=list(range(ITEMS))), SOUND)
    yield _given("tabs", "v.tsv", lambda file: file.write_text(_table("\t")), SOUND)
    yield _given("semicolons", "v.csv", lambda file: file.write_text(_table(";")), SOUND)
    yield _given("an index", "v.csv", lambda file: file.write_text(_table(index=True)), EITHER)
    yield _given("no header", "v.csv", lambda file: file.write_text(_table(head=False)))
    for word in ("nan", "inf", "x", "", "1e400", "0x1F", "1,5"):
        yield _given(f"a cell is {word!r}", "v.csv", lambda file, word=word: file.write_text(_table(cells={3: word})))
    for name, value in (("NaN", float("nan")), ("an infinity", float("-inf"))):
        yield _given(f"npy with {name}", "v.npy", _npy(lambda value=value: _holed(value)))
        yield _given(f"safetensors with {name}", "v.safetensors",
                     _safe(lambda value=value: {f"item-{n}": row for n, row in enumerate(_holed(value))}))  # fmt: skip
    yield _given("npy of objects", "v.npy", _npy(_evil_array))
    yield _given("npz of objects", "v.npz", _npz(arr_0=_evil_array))
    yield _given("npz with objects beside", "v.npz", _npz(arr_0=vectors, other=_evil_array))
    yield _given("a pickle called npy", "v.npy", lambda file: file.write_bytes(evil_pickle(file.parent)))
    yield _given("a pickle called npz", "v.npz", lambda file: file.write_bytes(evil_pickle(file.parent)))
    yield _given("a pickle called pt", "v.pt", lambda file: file.write_bytes(evil_pickle(file.parent)))
    yield _given("torch's pickle", "v.pt", lambda file: file.write_bytes(evil_torch(file.parent)))
    yield _given(
        "a pickle called safetensors", "v.safetensors", lambda file: file.write_bytes(evil_pickle(file.parent))
    )
    yield _given("npz bomb", "v.npz", _npz_bomb)
    yield _given("npy that claims more than it has", "v.npy", _npy_claim)
    yield _given("npy with code in its header", "v.npy", _npy_code)
    yield _given("npy cut short", "v.npy", _cut(_npy(vectors)))
    yield _given("npz cut short", "v.npz", _cut(_npz(arr_0=vectors)))
    yield _given("npz without its end", "v.npz", _cut(_npz(arr_0=vectors), 0.97))
    yield _given("safetensors cut short", "v.safetensors", _cut(_safe(_by_id)))
    yield _given("torch's file cut short", "v.pt", _cut(_torch(lambda: __import__("torch").ones(ITEMS, DIM))))
    yield _given("parquet cut short", "v.parquet", _cut(_parquet()))
    yield _given("npz of nothing", "v.npz", lambda file: zipfile.ZipFile(file, "w").close())
    yield _given(
        "npz that leads out", "v.npz", lambda file: zipfile.ZipFile(file, "w").writestr("../../escape.npy", b"x")
    )
    yield _given("empty npy", "v.npy", lambda file: file.write_bytes(b""))
    yield _given("npy of one number", "v.npy", _npy(lambda: __import__("numpy").float32(3)))
    yield _given("npy of three axes", "v.npy", _npy(lambda: vectors().reshape(ITEMS, 2, 2)))
    yield _given("npy of texts", "v.npy", _npy(lambda: vectors().astype(str)))
    yield _given("npy of complex numbers", "v.npy", _npy(lambda: vectors().astype(complex)))
    yield _given("npy of another length", "v.npy", _npy(lambda: vectors()[:-1]))
    yield _given("npy of no width", "v.npy", _npy(lambda: vectors()[:, :0]))
    yield _given("vectors of several widths", "v.parquet", _parquet(vector=[[1.0] * (1 + n % 3) for n in range(ITEMS)]))
    null = _parquet(vector=[None, *vectors().tolist()[1:]])  # is an item without a vector
    yield replace(
        _given("parquet with a null vector", "v.parquet", null, EITHER), check=lambda folder: _by_number(folder, 1)
    )
    yield _given("ids of other items", "v.csv", lambda file: file.write_text(_table().replace("item-", "other-")))
    yield _given("a file of unknown kind", "v.mat", lambda file: file.write_bytes(b"x"))
    yield _given("a text called npy", "v.npy", lambda file: file.write_text("vectors"))


# -- new items ---------------------------------------------------------------------------------------------------------

NEW = Door(
    "new items",
    ("corpus", "unnumbered", "new.jsonl"),
    nothing,
    ("recommend", "--checkpoint", "unnumbered", "--new-items", "new.jsonl", "--user", "user-3"),
)


def _new(name: str, content: str | bytes, right: str = REFUSED) -> Case:
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return Case(NEW, name, lambda folder: (folder / "new.jsonl").write_bytes(data), right, "new.jsonl")


def _record(**changed: Any) -> str:
    """Two new items, the second changed; ``...`` takes a key away."""
    rows = [{"id": f"new-{n}", "title": f"New {n}", "text": [[0.1] * 16], "image": [[0.2] * 20]} for n in range(2)]
    rows[1] |= changed
    return "".join(json.dumps({k: v for k, v in row.items() if v is not ...}) + "\n" for row in rows)


def _news() -> Iterator[Case]:
    yield _new("empty", "")
    yield _new("cut short", _record()[:-20])
    yield _new("a list", "[1]\n")
    yield _new("a number", "3\n")
    yield _new("nested deep", "[" * 60_000 + "]" * 60_000 + "\n")
    yield _new("a vector nested deep", _record().replace('"New 1"', "[" * 60_000 + "]" * 60_000))
    yield _new("UTF-16", _record().encode("utf-16"), EITHER)
    yield _new("latin-1", _record(title="\u00e9").replace("\\u00e9", "\u00e9").encode("latin-1"))
    yield _new("BOM", b"\xef\xbb\xbf" + _record().encode(), EITHER)
    yield _new("a key twice", _record().replace('"title": "New 1"', '"id": "new-7", "title": "New 1"'))
    yield _new("an id twice", _record(id="new-0"))
    yield _new("an id that is taken", _record(id="item-3"))
    wrong: dict[str, tuple[Any, ...]] = {
        "id": (None, [], {}, True, 1.5, "", ...),
        "title": ([], {}, True),
        "text": (
            None,
            {},
            3,
            [[0.1] * 15],
            [["a"] * 16],
            [[None] * 16],
            [[float("nan")] * 16],
            [[1e400] * 16],
            "x",
            ...,
        ),
        "image": ([[[0.2] * 20]], [[0.2] * 20, 3], [{}], [[10**400] * 20], [[True] * 20], ...),
    }
    for key, values in wrong.items():
        for value in values:
            shown = "none at all" if value is ... else repr(value)[:40]
            yield _new(f"{key} = {shown}", _record(**{key: value}))
    yield replace(_new("no photo", _record(image=[]), EITHER), check=lambda folder: None, shown=lambda out: None)


# -- feature sets of a corpus ------------------------------------------------------------------------------------------


def _features(
    name: str, change: Callable[[Any], Any], right: str = REFUSED, file: str = "text_vector/features.parquet"
) -> Case:
    """Another table of a corpus, made of its own."""

    def spoil(folder: Path) -> None:
        import pyarrow.parquet as pq

        place = folder / "corpus" / file
        pq.write_table(change(pq.ParquetFile(place).read()), place)

    return Case(CORPUS, name, spoil, right, Path(file).parent.name)


def _column(name: str, change: Callable[[list[Any]], list[Any]]) -> Callable[[Any], Any]:
    def made(table: Any) -> Any:
        import pyarrow as pa

        return table.set_column(table.column_names.index(name), name, pa.array(change(table[name].to_pylist())))

    return made


def _replaced(place: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda rows: [
        value(row) if number == place and callable(value) else value if number == place else row
        for number, row in enumerate(rows)
    ]


def _corpora() -> Iterator[Case]:
    yield _features("vectors without a row", lambda table: table.slice(1))
    yield _features(
        "vectors with a row twice", lambda table: __import__("pyarrow").concat_tables([table, table.slice(0, 1)])
    )
    yield _features("vectors out of order", lambda table: table.take(list(reversed(range(len(table))))))
    yield _features("no column of values", lambda table: table.drop_columns(["values"]))
    yield _features("no column of items", lambda table: table.drop_columns(["item"]), EITHER)
    yield _features("a vector with NaN", _column("values", _replaced(3, lambda row: [float("nan"), *row[1:]])))
    yield _features("a vector of another width", _column("values", _replaced(3, lambda row: row[1:])))
    yield _features("a vector that is none", _column("values", _replaced(3, None)))
    yield _features("vectors are texts", _column("values", lambda rows: [str(row) for row in rows]))
    yield _features("a value changed", _column("values", _replaced(3, lambda row: [9.0, *row[1:]])))
    train = "leave_one_out/train.parquet"
    yield _features("an item beyond the last", _column("item", _replaced(3, 10**6)), REFUSED, train)
    yield _features("an item below 0", _column("item", _replaced(3, -1)), REFUSED, train)
    yield _features("a user beyond the last", _column("user", _replaced(3, 10**6)), REFUSED, train)
    yield _features("items are texts", _column("item", lambda rows: [str(row) for row in rows]), REFUSED, train)
    yield _features("an item that is none", _column("item", _replaced(3, None)), REFUSED, train)
    yield _features("rows missing", lambda table: table.slice(5), REFUSED, train)
    yield _features("no column of users", lambda table: table.drop_columns(["user"]), REFUSED, train)
    yield _features("an id missing", lambda table: table.slice(1), REFUSED, "items/items.parquet")
    yield _features("an id twice", _column("id", lambda rows: [rows[1], *rows[1:]]), REFUSED, "items/items.parquet")
    yield _features("a user's id missing", lambda table: table.slice(1), REFUSED, "users/users.parquet")
    for file in ("text_vector/features.parquet", train, "items/items.parquet"):
        place, names = f"corpus/{file}", Path(file).parent.name
        yield Case(
            CORPUS, f"{file} cut short", _bytes(lambda content: content[: len(content) // 2], place), REFUSED, names
        )
        yield Case(CORPUS, f"{file} empty", _bytes(lambda content: b"", place), REFUSED, names)
        yield Case(
            CORPUS,
            f"{file} of noise",
            _bytes(lambda content: b"PAR1" + b"\xa5" * 500 + content[504:], place),
            REFUSED,
            names,
        )
        yield Case(CORPUS, f"{file} gone", lambda folder, place=place: (folder / place).unlink(), REFUSED, names)


CASES: list[Case] = [*_weights(), *_vectors(), *_news(), *_corpora()]
