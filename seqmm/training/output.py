"""What a run keeps on disk: its folder, held while it lasts, with states, best weights and log."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from accelerate.utils import broadcast_object_list

from seqmm.arguments import TrainArguments
from seqmm.files import file_digest, writing
from seqmm.models.base import Recommender
from seqmm.names import first_difference
from seqmm.training.agreement import on_main
from seqmm.training.checkpoints import BEST, BEST_CONFIG, CHECKPOINTS, Saved, newest, prune, write_state
from seqmm.training.disk import explain_full_disk
from seqmm.training.folder import RunFolder
from seqmm.training.snapshot import Snapshot, check_finite
from seqmm.training.tracking import JsonlTracker
from seqmm.training.weights import load_weights, save_weights

logger = logging.getLogger(__name__)
_KEPT = {BEST: "model.safetensors", BEST_CONFIG: "config.json"}
"""Files of a state that hold the best weights so far -> their names in the run's folder."""


class Output:
    """A run's folder and what is written into it; without a path, a temporary one for the best weights alone.

    Rank 0 writes; what it cannot do, no process does.

    Args:
        accelerator: of the run.
        path: of the folder, or None.
        args: of the run: whether it resumes, or overwrites.

    Raises:
        ValueError: ``args`` need a folder, and there is none.
    """

    def __init__(self, accelerator: Accelerator, path: Path | None, args: TrainArguments):
        if path is None and args.resume:
            raise ValueError("train.resume needs train.output_dir: the folder of the run to go on with")
        writers = [name for name in args.report_to if name in LOGGER_TYPE_TO_CLASS]
        if path is None and (
            needs := [name for name in writers if LOGGER_TYPE_TO_CLASS[name].requires_logging_directory]
        ):
            raise ValueError(f"train.report_to {needs[0]} needs train.output_dir: the folder it writes to")
        self.accelerator, self.path, self.args = accelerator, path, args
        self.saved: Saved | None = None
        """The state that the run goes on from."""
        self._place = path
        self._last = ""
        self._users = 0

    @property
    def folder(self) -> Path:
        """Where the best weights are, while it is held."""
        assert self._place is not None
        return self._place

    @contextmanager
    def held(self, identity: dict[str, Any], more: Sequence[str], *, trained: bool) -> Iterator[None]:
        """The folder is this run's inside of it; it may be entered again.

        Args:
            identity: what a state that is gone on from must have been trained with.
            more: files that the caller writes into the folder.
            trained: whether the model is trained at all.

        Raises:
            ValueError: another run has the folder, a run is in it and neither resume nor overwrite is set, its state
                is another run's, or files would be replaced that no run wrote. Nothing in the folder was changed.
        """
        if self._users:
            yield
            return
        held = tempfile.TemporaryDirectory(prefix="seqmm-") if self.path is None and self._is_main else None
        folder = RunFolder(self.path) if self.path is not None and self._is_main else None
        try:
            if self.path is None:
                self._place = self._shared("" if held is None else held.name)
            else:
                self._open(folder, identity, more, trained)
            self._users = 1
            yield
        finally:
            self._users = 0
            if folder is not None:
                folder.release()
            if held is not None:
                held.cleanup()

    def begin(self, snapshot: Snapshot | None) -> None:
        """Puts the state back that the run goes on from, and log and best weights to where they were then."""
        if self.saved is not None and snapshot is not None:
            snapshot.restore(self.saved)
        if self._is_main:
            self._log = JsonlTracker(
                self.folder / "log.jsonl", None if self.saved is None else self._length(self.saved)
            )
            if self.saved is not None:
                self._put_back_weights(self.saved)
                prune(self.saved.path)  # a killed run may have come to no more than writing it
        self.accelerator.wait_for_everyone()

    def log(self, values: dict[str, Any]) -> None:
        """Adds a line to log.jsonl."""
        if self._is_main:
            self._log.log(values)

    def save_state(self, snapshot: Snapshot) -> None:
        """Writes ``checkpoints/state-<step>-<epoch>``, if there is a folder to keep; removes all but the one before.

        Raises:
            FloatingPointError: something in it is not finite.
            OSError: the disk is full.
        """
        name = f"{snapshot.state.step}-{snapshot.state.epoch}"  # two saves at one step differ by the epoch
        if self.path is None or name == self._last:
            return
        snapshot.losses.check_finite(snapshot.state.step)
        everyone = snapshot.gather()

        def write() -> None:
            values, tensors = snapshot.take(everyone)
            has_best = snapshot.state.best is not None
            copies = {kept: self.folder / file for kept, file in _KEPT.items() if has_best}
            values["log"] = self._log.length()
            write_state(self.folder / CHECKPOINTS, name, values, tensors, copies)
            RunFolder(self.folder).remember_state()

        on_main(self.accelerator, write)
        self._last = name

    def save_weights(self, model: Recommender, step: int) -> None:
        """Keeps the weights as the best.

        Raises:
            FloatingPointError: one is not finite; what was saved before is as it was.
        """
        check_finite({f"weight {name}": tensor for name, tensor in model.state_dict().items()}, step)
        save_weights(self.accelerator, model, self.folder)

    def load_weights(self, model: Recommender) -> None:
        """Puts the best weights into the model."""
        load_weights(self.accelerator, model, self.folder)

    def _open(self, folder: RunFolder | None, identity: dict[str, Any], more: Sequence[str], trained: bool) -> None:
        args, path = self.args, self.folder

        def take() -> tuple[str, dict[str, str]] | None:
            assert folder is not None
            folder.hold()
            saved = newest(path / CHECKPOINTS) if args.resume and trained else None
            if saved is not None:
                _check_identity(saved, identity, path)
            going_on = saved is not None
            folder.claim(more, going_on=going_on, resume=args.resume, overwrite=args.overwrite, trained=trained)
            return None if saved is None else (str(saved.path), dict(saved.digests))

        found = on_main(self.accelerator, take)
        if not path.is_dir():
            raise ValueError(f"{path} must be on a disk that all machines share; this one does not see it")
        self.saved = None if found is None else Saved(Path(found[0]), found[1])
        self._last = "" if self.saved is None else self.saved.path.name.removeprefix("state-")

    def _length(self, saved: Saved) -> int:
        length = saved.values.get("log")
        with saved.explained():
            if type(length) is not int or length < 0:
                raise ValueError(f"log is {length!r}")
        return int(length)

    def _put_back_weights(self, saved: Saved) -> None:
        """Those of a run that was killed may be of a later epoch than its state."""
        for kept, name in _KEPT.items():
            if kept in saved.digests and file_digest(self.folder / name) != saved.digests[kept]:
                with explain_full_disk(self.folder), writing(self.folder / name) as temporary:
                    shutil.copyfile(saved.path / kept, temporary)

    @property
    def _is_main(self) -> bool:
        return bool(self.accelerator.is_main_process)

    def _shared(self, name: str) -> Path:
        names = [name]
        if self.accelerator.num_processes > 1:
            broadcast_object_list(names)
        return Path(names[0])


def _check_identity(saved: Saved, identity: dict[str, Any], folder: Path) -> None:
    """Raises ValueError, naming the first difference, if a state was trained with something else."""
    with saved.explained():
        before = saved.values["state"]["config"]
    if (changed := first_difference(before, identity)) is not None:
        what, was, now = changed
        raise ValueError(
            f"{folder} was trained with {what} {was}, this run has {now}; "
            "use the same settings to resume, or another train.output_dir"
        )
