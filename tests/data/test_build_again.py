"""A build that was killed between two folders, or two protocols of one, is finished by the same call."""

import json
import shutil

import numpy as np
import pytest

from seqmm.building.build import build
from seqmm.data.corpus import Corpus
from seqmm.data.filtering import Log
from seqmm.data.sources.base import SourceData


def source(rows: int = 240) -> SourceData:
    rng = np.random.default_rng(0)
    user, item = np.repeat(np.arange(20), 12)[:rows], rng.integers(0, 15, rows)
    ids = [f"u{n}" for n in range(20)], [f"i{n}" for n in range(15)]
    time = rng.permutation(rows).astype(np.int64) + 1_500_000_000
    return SourceData(Log(user, item, *ids, timestamp=time, source="memory"))


def made(folder, protocols=("leave_one_out", "temporal", "ratio"), data=None, **options):
    said: list[str] = []
    build(data or source(), folder, protocols=protocols, k_core=0, duplicates="keep", say=said.append, **options)
    return said


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("lost", ["c", "c-temporal"])
def test_killed_between_two_folders(tmp_path, lost):
    made(tmp_path / "c")
    whole = contents(tmp_path)
    shutil.rmtree(tmp_path / lost)
    said = made(tmp_path / "c")
    assert contents(tmp_path) == whole
    assert sum("is there already" in line for line in said) == (1 if lost == "c" else 2)


def test_killed_between_two_protocols(tmp_path):
    made(tmp_path / "c", ("leave_one_out",))
    said = made(tmp_path / "c", ("leave_one_out", "ratio"))
    assert "leave_one_out is there already, with the same interactions" in said[0]
    assert len(Corpus.load(tmp_path / "c", protocol="ratio").splits["test"])
    assert list(json.loads((tmp_path / "c" / "corpus.json").read_text())["protocols"]) == ["leave_one_out", "ratio"]


def test_what_is_whole_or_of_other_rows_is_refused(tmp_path):
    made(tmp_path / "c")
    with pytest.raises(ValueError, match="it holds leave_one_out, ratio; set `overwrite=True`"):
        made(tmp_path / "c")
    shutil.rmtree(tmp_path / "c-temporal")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="was prepared from other interactions"):
        made(tmp_path / "c", data=source(228))
    with pytest.raises(ValueError, match="of other interactions or settings"):
        made(tmp_path / "c", seed=1)
    assert contents(tmp_path) == before
    made(tmp_path / "c", data=source(228), overwrite=True)
    assert contents(tmp_path).keys() > before.keys()
