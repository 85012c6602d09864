"""The only training loop. It knows stages, phases and hooks, and nothing about any model."""

from __future__ import annotations

import ctypes
import errno
import math
import shutil
import signal
import sys
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast, gather_object, send_to_device
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from seqmm.arguments import TrainArguments
from seqmm.data.collators import Collator
from seqmm.data.corpus import Corpus
from seqmm.distributed import on_cpu
from seqmm.evaluation.evaluator import Evaluator
from seqmm.hub.access import quietly
from seqmm.models.base import Recommender
from seqmm.models.checkpoint import explain_damage
from seqmm.names import first_difference
from seqmm.random import derive_seed
from seqmm.run.settings import own_fields
from seqmm.training.state import TrainState, latest_checkpoint
from seqmm.training.tracking import JsonlTracker


class Trainer:
    """Trains a bound model on a corpus.

    For each epoch, stage, batch and phase: forward, backward, clip, step; the model's hooks around it. A batch is
    global: each process takes its share of the rows, and the model's loss is that of the whole batch, so that any
    number of processes trains the same. Every draw is a function of (seed, epoch, row) or (seed, step), so a resumed
    run is exact.

    Args:
        model: made by ``for_corpus`` or loaded and bound.
        corpus: what the collators read.
        args: see :class:`~seqmm.arguments.TrainArguments`.
        evaluator: scores the validation split; None trains for ``args.epochs`` and keeps the last weights.
        monitor: the evaluator's metric that chooses weights and stops training.
        output_dir: gets ``config.json`` + ``model.safetensors`` (best weights), ``checkpoints/``, ``log.jsonl``.

    Raises:
        ValueError: for a run that cannot start: fp16 without a GPU, an output folder in use, another run's state.

    >>> import seqmm
    >>> corpus = seqmm.synthetic_corpus(num_users=60, num_items=40)
    >>> model = seqmm.make_model("bpr", corpus, hidden_size=8)
    >>> args = seqmm.TrainArguments(epochs=3, batch_size=128, learning_rate=0.05)
    >>> validation = seqmm.Evaluator(corpus, "validation")
    >>> state = seqmm.Trainer(model, corpus, args, evaluator=validation, output_dir="runs/bpr-trained").train()
    epoch    1  validation ndcg@10 0.1756 *
    epoch    2  validation ndcg@10 0.1850 *
    epoch    3  validation ndcg@10 0.2225 *
    >>> state.epoch, sorted(state.validation)[:2]
    (3, ['ndcg@10', 'ndcg@20'])
    """

    def __init__(
        self,
        model: Recommender,
        corpus: Corpus,
        args: TrainArguments,
        *,
        evaluator: Evaluator | None = None,
        monitor: str = "ndcg@10",
        output_dir: str | Path | None = None,
    ):
        if evaluator is not None and monitor not in (
            computed := [f"{m}@{k}" for m in evaluator.metrics for k in evaluator.ks]
        ):
            raise ValueError(
                f"eval.monitor {monitor!r} is not computed; eval.metrics and eval.ks give {', '.join(computed)}"
            )
        if args.mixed_precision == "fp16" and not torch.cuda.is_available():
            raise ValueError("train.mixed-precision fp16 needs a GPU and none is visible; use bf16 or no")
        self.accelerator = Accelerator(
            cpu=on_cpu(),
            mixed_precision=args.mixed_precision,
            log_with=list(args.report_to) or None,
            project_dir=str(output_dir or args.output_dir or "."),
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)],
        )
        self.model, self.corpus, self.args, self.evaluator = model, corpus, args, evaluator
        self.monitor = monitor
        self.output_dir = Path(output_dir or args.output_dir or ".")
        self.state = TrainState(config=self._identity())
        self.collators: list[Collator] = [
            stage.collator(corpus, args.seed, **model.collator_options(number))
            for number, stage in enumerate(model.stages)
        ]
        self._opened = self._interrupted = False
        self._sums: dict[str, Tensor] = {}
        self._counts: Counter[str] = Counter()

    # -- the loop -----------------------------------------------------------------------------------------------------

    def train(self) -> TrainState:
        """Trains to the end, or on from a saved state with ``args.resume``; leaves the best weights in the model.

        Raises:
            KeyboardInterrupt: after Ctrl-C, once the state is saved.
            FloatingPointError: when a loss is not finite; the text names the part and the step.
        """
        self.open_output()
        if not self.model.stages or self.args.epochs == 0:
            self.model.to(self.accelerator.device)
            self._evaluate()
            self.state.finished = True
            return self.state
        self._prepare()
        self._bar = tqdm(
            total=self.args.epochs,
            initial=self.state.epoch,
            desc=self.model.config.model_type,
            bar_format="{desc} {percentage:3.0f}%|{bar}| epoch {n:.1f}/{total} [{elapsed}<{remaining}]{postfix}",
            disable=None if self.accelerator.is_local_main_process else True,  # None: only on a terminal
        )
        with self._bar, self._catching_interrupts():
            for epoch in range(self.state.epoch, self.args.epochs):
                if self.state.finished:
                    break
                started = time.perf_counter()
                self.ddp.train()
                for number, stage in enumerate(self.model.stages):
                    if number < self.state.stage:
                        continue
                    batches = self.collators[number].batches(epoch, self.args.batch_size)
                    if not batches:
                        raise ValueError(
                            f"the train split of corpus {self.corpus.name!r} gives no batch for "
                            f"{type(self.model).__name__}"
                        )
                    if self.state.batch == 0:  # what a hook made is state: not made again inside a resumed stage
                        self.model.on_stage_start(number, epoch, self._generator("hook", epoch, number))
                        self._share_hook_state()
                    for group in self._groups(number, epoch, batches):
                        for phase in stage.phases:
                            self._optimise(phase, group, epoch, len(batches))
                        self.state.step += 1
                        self.state.batch += len(group)
                        if not self.accelerator.optimizer_step_was_skipped:  # fp16: the scale was too large
                            self.model.on_step_end(self.state.step)
                        self._after_step(epoch)
                    self.state.stage, self.state.batch = number + 1, 0
                self.state.seconds += time.perf_counter() - started
                self._log_losses(epoch, {"seconds": round(time.perf_counter() - started, 3)})
                self.state.epoch, self.state.stage = epoch + 1, 0
                last = self.state.epoch == self.args.epochs
                if self.evaluator is not None and (last or self.state.epoch % self.args.eval_every == 0):
                    self._evaluate()
                self.state.finished = self._is_finished()
                if self.state.finished or (self.args.save_every and self.state.epoch % self.args.save_every == 0):
                    self.save_state()
        if self.evaluator is None:
            self.save(self.output_dir)
        else:
            self._load_best()
        for tracker in self.accelerator.trackers:
            tracker.finish()
        return self.state

    def _is_finished(self) -> bool:
        return self.state.epoch >= self.args.epochs or 0 < self.args.patience <= self.state.stale

    def _optimise(self, phase: str, group: list[tuple[dict[str, Tensor], int]], epoch: int, num_batches: int) -> None:
        optimizer = self.optimizers[phase]
        for parameters in optimizer.param_groups:
            parameters["lr"] = parameters["initial_lr"] * self._schedule(epoch, num_batches)
        self._only(phase)
        targets = sum(count for _, count in group)
        for micro, (batch, count) in enumerate(group):
            seed = derive_seed("step", self.args.seed, self.state.step, micro)
            torch.manual_seed(derive_seed(seed, self.accelerator.process_index))  # dropout: a fresh mask on each rank
            batch = batch | {"step_seed": torch.tensor(seed)}  # on the CPU: it is read, which would wait for a GPU
            last = micro == len(group) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.ddp):
                losses = self.ddp(batch, phase)
                self.accelerator.backward(losses["loss"] * (count / targets))
            self._add(phase, losses)
        if self.args.max_grad_norm > 0:
            self.accelerator.clip_grad_norm_(self._parameters[phase], self.args.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _groups(
        self, stage: int, epoch: int, batches: list[np.ndarray]
    ) -> Iterator[list[tuple[dict[str, Tensor], int]]]:
        """Lists of (this rank's tensors, targets of the global batch); a list is one optimiser step."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        rows = [batch[len(batch) * rank // world : len(batch) * (rank + 1) // world] for batch in batches]
        start = self.state.batch
        loader: Iterable[dict[str, Tensor]] = DataLoader(
            _Batches(self.collators[stage], epoch, rows[start:]),
            batch_size=None,
            num_workers=self.args.num_workers,
            pin_memory=self.accelerator.device.type == "cuda",
            generator=torch.Generator(),  # else the loader draws its base seed from the global generator
        )
        group: list[tuple[dict[str, Tensor], int]] = []
        for number, batch in enumerate(loader, start):
            count = self.collators[stage].num_targets(batches[number])
            group.append((send_to_device(batch, self.accelerator.device, non_blocking=True), count))
            if len(group) == self.args.gradient_accumulation_steps or number == len(batches) - 1:
                yield group
                self._bar.update(len(group) / len(batches) / len(self.model.stages))
                group = []

    def _after_step(self, epoch: int) -> None:
        if self.args.log_every and self.state.step % self.args.log_every == 0:
            self._check_finite()
        if self._stop_requested():
            self.save_state()
            raise KeyboardInterrupt(f"State saved in {self.output_dir}; go on with --train.resume True")
        if self.args.save_steps and self.state.step % self.args.save_steps == 0:
            self.save_state()

    # -- preparation --------------------------------------------------------------------------------------------------

    def open_output(self) -> None:
        """Takes the output folder: finds the state to resume from, or refuses a folder in use. :meth:`train` does it.

        Raises:
            ValueError: if a run is there and neither resume nor overwrite is set, or there is no state to resume from.
        """
        if self._opened:
            return
        self._checkpoint = latest_checkpoint(self.output_dir / "checkpoints") if self.args.resume else None
        if self._checkpoint is None and self.accelerator.is_main_process:
            self._claim_output()
        self.accelerator.wait_for_everyone()
        if not self.output_dir.is_dir():
            raise ValueError(f"{self.output_dir} must be on a disk that all machines share; this one does not see it")
        if self.accelerator.is_main_process:
            self._jsonl = JsonlTracker(self.output_dir / "log.jsonl")
        if self.args.report_to:
            about = {"model": self.model.config.model_type, "corpus": self.corpus.name}
            self.accelerator.init_trackers("seqmm", config=about)
        self._opened = True

    def _prepare(self) -> None:
        if self.accelerator.device.type == "cpu":
            _reuse_freed_memory()
        phases = list(dict.fromkeys(phase for stage in self.model.stages for phase in stage.phases))
        self.model.to(self.accelerator.device)
        self._parameters: dict[str, list[nn.Parameter]] = {}
        optimizers = []
        for phase in phases:
            groups = self.model.parameter_groups(phase)
            self._parameters[phase] = [p for group in groups for p in group["params"] if p.requires_grad]
            if not self._parameters[phase]:
                raise ValueError(f"{type(self.model).__name__} has no parameters for phase {phase!r}")
            optimizers.append(self._adam(groups))
        with warnings.catch_warnings():  # accelerate 1.15 passes broadcast_buffers on under its old name
            warnings.simplefilter("ignore", FutureWarning)
            self.ddp, *prepared = self.accelerator.prepare(self.model, *optimizers)
        self.optimizers = dict(zip(phases, prepared, strict=True))
        self.accelerator.register_for_checkpointing(self.state)
        self._same_on_all_ranks()
        if self._checkpoint is not None:
            self._load_state(self._checkpoint)
            self.state.finished = self._is_finished()

    def _adam(self, groups: list[dict[str, Any]]) -> torch.optim.Adam:
        defaults: dict[str, Any] = {
            "lr": self.args.learning_rate,
            "betas": self.args.adam_betas,
            "weight_decay": self.args.weight_decay,
            "decoupled_weight_decay": self.args.decoupled_weight_decay,
        }
        # one fused pass over a table instead of one per operation: 6x on 7,050 x 4,096 (fp32 on CPU and GPU)
        optimizer = torch.optim.Adam(groups, fused=True, **defaults)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        return optimizer

    def _schedule(self, epoch: int, num_batches: int) -> float:
        """Factor on the learning rate, a pure function of the position."""
        if self.args.schedule == "decay":
            return self.args.decay_rate ** (epoch / self.args.decay_epochs)
        done = (epoch + self.state.batch / num_batches) / self.args.epochs
        warmup = self.args.warmup_ratio
        if done < warmup:
            return (done * self.args.epochs * num_batches + 1) / (warmup * self.args.epochs * num_batches + 1)
        if self.args.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
        return 1.0

    def _only(self, phase: str) -> None:
        """Gradients flow to the phase's parameters alone."""
        if len(self.optimizers) > 1:
            chosen = {id(parameter) for parameter in self._parameters[phase]}
            for parameters in self._parameters.values():
                for parameter in parameters:
                    parameter.requires_grad_(id(parameter) in chosen)

    def _claim_output(self) -> None:
        names = ("checkpoints", "log.jsonl", "model.safetensors", "metrics.json")
        used = [path for path in (self.output_dir / name for name in names) if path.exists()]
        if used and self.model.stages and self.args.resume and (self.output_dir / "model.safetensors").exists():
            raise ValueError(
                f"{self.output_dir} holds weights but no training state to resume from; replace them with "
                "--train.overwrite True and --train.resume False, or choose another --train.output-dir"
            )
        if used and not (self.args.overwrite or self.args.resume):
            raise ValueError(
                f"{self.output_dir} already holds a run ({used[0].name}); go on with --train.resume True, "
                "replace it with --train.overwrite True, or choose another --train.output-dir"
            )
        for path in used:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.output_dir.mkdir(parents=True, exist_ok=True)

    def _identity(self) -> dict[str, Any]:
        """What a resumed run must share with the one it goes on with; everything that changes its course."""
        evaluation = {}
        if self.evaluator is not None:
            evaluation = {"monitor": self.monitor, "mask": self.evaluator.mask, "ideal": self.evaluator.ideal}
        config = self.model.config
        return {
            "model": type(self.model).__name__,
            "corpus": self.corpus.fingerprint(),
            "protocol": self.corpus.protocol,
            "features": config.features | {name: zlib.crc32(f.values.data) for name, f in self.corpus.features.items()},
            "train": self.args.course(),
            "started_from": config.pretrained_on.get("weights"),
            "eval": evaluation,
            "hyper_parameters": {name: getattr(config, name) for name, *_ in own_fields(type(config))},
        }

    def _same_on_all_ranks(self) -> None:
        if self.accelerator.num_processes > 1:
            checksum = [
                float(sum(p.detach().double().abs().sum() for p in self.model.parameters())),
                self.corpus.fingerprint(),
            ]
            everyone = gather_object([checksum])
            if any(other != everyone[0] for other in everyone):
                raise ValueError(f"processes start from different weights or corpora: {everyone}; seed them alike")

    def _share_hook_state(self) -> None:
        """Rank 0's products of a hook everywhere: a GPU's arithmetic may differ between machines."""
        if self.accelerator.num_processes > 1:
            for name, tensor in list(self.model.hook_state.items()):
                shared = broadcast(tensor.to(self.accelerator.device)).to(tensor.device)
                if not torch.equal(shared, tensor):
                    self.model.set_state(name, shared, publish=name in dict(self.model.named_buffers()))

    def _generator(self, *keys: int | str) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(*keys, self.args.seed))

    # -- saving and loading -------------------------------------------------------------------------------------------

    def save_state(self) -> None:
        """Writes ``checkpoints/state-<step>-<epoch>`` (one rename: whole or not there), then removes older ones."""
        folder = self.output_dir / "checkpoints"
        name = f"{self.state.step}-{self.state.epoch}"  # two saves at one step differ by the epoch
        target, temporary = folder / f"state-{name}", folder / f".tmp-{name}"
        self.state.hook_state = dict(self.model.hook_state)
        if self.accelerator.is_main_process:
            for torn in folder.glob(".tmp-*"):  # what an earlier crash left
                shutil.rmtree(torn)
            temporary.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        with _explain_full_disk(temporary):
            self.accelerator.save_state(str(temporary))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            older = [path for path in folder.glob("state-*") if path != target]
            if target.exists():  # the same point, saved twice
                shutil.rmtree(temporary)
            else:
                temporary.rename(target)
            for path in older:
                shutil.rmtree(path)
        self.accelerator.wait_for_everyone()

    def _load_state(self, checkpoint: Path) -> None:
        mine = self.state.config
        try:
            self.accelerator.load_state(str(checkpoint))
        except (SafetensorError, RuntimeError, EOFError, FileNotFoundError) as error:
            raise ValueError(
                f"the training state {checkpoint} cannot be read ({error}); remove it, or start anew "
                "with --train.overwrite True"
            ) from error
        saved = self.state.config
        if (changed := first_difference(saved, mine)) is not None:
            what, was, now = changed
            raise ValueError(
                f"{self.output_dir} was trained with {what} {was}, this run has {now}; "
                "use the same settings to resume, or another --train.output-dir"
            )
        for name, tensor in self.state.hook_state.items():
            self.model.set_state(name, tensor)

    def save(self, path: str | Path) -> None:
        """Writes the weights and the config for ``from_pretrained``, each file in one rename."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            target = Path(path)
            target.mkdir(parents=True, exist_ok=True)
            temporary = target / ".weights.tmp"
            shutil.rmtree(temporary, ignore_errors=True)
            with _explain_full_disk(temporary), quietly():
                self.accelerator.unwrap_model(self.model).save_pretrained(temporary)
                for file in temporary.iterdir():
                    file.replace(target / file.name)
            temporary.rmdir()
        self.accelerator.wait_for_everyone()

    def _load_best(self) -> None:
        """The best weights, read by rank 0 and sent to all."""
        if self.accelerator.is_main_process:
            with explain_damage(self.output_dir):
                self.model.load_state_dict(load_file(self.output_dir / "model.safetensors"), strict=False)
        if self.accelerator.num_processes > 1:
            for tensor in self.model.state_dict().values():
                dist.broadcast(tensor, 0)
        published = dict(self.model.named_buffers())
        for name in self.model.hook_state.keys() & published.keys():
            self.model.on_state(name, published[name])  # what depends on it is that of the best weights again

    # -- evaluation and logging ---------------------------------------------------------------------------------------

    def _evaluate(self) -> None:
        if self.evaluator is None:
            self.save(self.output_dir)
            return
        started = time.perf_counter()
        metrics = self.evaluator(self.accelerator, self.model)
        if self.state.best is None or metrics[self.monitor] > self.state.best:
            self.state.best, self.state.best_epoch, self.state.stale = metrics[self.monitor], self.state.epoch, 0
            self.state.validation = metrics
            self.save(self.output_dir)
        else:
            self.state.stale += 1
        seconds = round(time.perf_counter() - started, 3)
        self._log(
            {"epoch": self.state.epoch, "step": self.state.step, "evaluation_seconds": seconds}
            | {f"validation/{k}": v for k, v in metrics.items()}
        )
        if self.accelerator.is_main_process:
            best = " *" if self.state.stale == 0 else f" (best {self.state.best:.4f} at epoch {self.state.best_epoch})"
            tqdm.write(f"epoch {self.state.epoch:>4}  validation {self.monitor} {metrics[self.monitor]:.4f}{best}")

    def _add(self, phase: str, losses: dict[str, Tensor]) -> None:
        prefix = "" if phase == "main" else f"{phase}/"
        for name, value in losses.items():
            value = value.detach().float()
            self._sums[prefix + name] = self._sums.get(prefix + name, torch.zeros_like(value)) + value
            self._counts[prefix + name] += 1  # a phase has its own steps

    def _check_finite(self) -> None:
        for name, total in self._sums.items():
            if not torch.isfinite(total):
                raise FloatingPointError(
                    f"loss part {name!r} is {float(total)} at step {self.state.step}; lower train.learning-rate, set "
                    "train.max-grad-norm, or train without mixed precision"
                )

    def _log_losses(self, epoch: int, more: dict[str, Any]) -> None:
        self._check_finite()
        means = {f"train/{name}": float(total) / self._counts[name] for name, total in self._sums.items()}
        rate = next(iter(self.optimizers.values())).param_groups[0]["lr"]
        self._log({"epoch": epoch + 1, "step": self.state.step, **means, "learning_rate": rate, **more})
        self._sums, self._counts = {}, Counter()

    def _log(self, values: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self._jsonl.log(values)
            if self.args.report_to:
                numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
                self.accelerator.log(numbers, step=self.state.step)

    # -- Ctrl-C -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _catching_interrupts(self) -> Iterator[None]:
        """The first Ctrl-C ends the run after the step under way, its state saved; a second one ends it at once."""

        def request(number: int, frame: Any) -> None:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True

        try:
            before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread: the caller's interrupts stay as they are
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop_requested(self) -> bool:
        if self.accelerator.num_processes == 1:
            return self._interrupted
        flag = torch.tensor(int(self._interrupted), device=self.accelerator.device)
        dist.all_reduce(flag)
        return bool(flag)


def _reuse_freed_memory() -> None:
    """Keeps large freed blocks instead of handing them back to the system (Linux with glibc; elsewhere nothing).

    A step frees and asks for the same tables again; without this the page faults were 30 % of LightGCN's step on Baby
    (42 ms, now 29).
    """
    if sys.platform == "linux":
        try:
            mallopt = ctypes.CDLL(None).mallopt
        except AttributeError:  # another C library
            return
        mallopt(-4, 0)  # M_MMAP_MAX: no block of its own for each large tensor
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: keep what is free at the top


class _Batches(Dataset):
    def __init__(self, collator: Collator, epoch: int, rows: list[np.ndarray]):
        self.collator, self.epoch, self.rows = collator, epoch, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        return self.collator(self.epoch, self.rows[number])


@contextmanager
def _explain_full_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        full = (
            getattr(error, "errno", None) == errno.ENOSPC
            or "No space left" in str(error)
            or "unexpected pos" in str(error)
        )
        if not full:
            raise
        free = shutil.disk_usage(folder.parent).free / 2**20
        raise OSError(
            errno.ENOSPC,
            f"disk full while writing {folder.parent} ({free:.0f} MiB free); the state saved before is untouched. "
            "Free some space, then --train.resume True",
        ) from error
