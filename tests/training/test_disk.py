"""Whatever library runs into a full disk, or into a limit on what may be written, it is named as that."""

import errno

import pytest
from safetensors import SafetensorError

from seqmm.training.disk import explain_full_disk


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large"),
        SafetensorError("Error while serializing: I/O error: File too large (os error 27)"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
    ],
)
def test_a_full_disk_is_named_and_nothing_is_left(tmp_path, error):
    (tmp_path / "half").mkdir()
    with pytest.raises(OSError, match="disk full while writing"), explain_full_disk(tmp_path, tmp_path / "half"):
        raise error
    assert not (tmp_path / "half").exists()


def test_another_error_stays_what_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="of ours"), explain_full_disk(tmp_path):
        raise RuntimeError("a fault of ours")
