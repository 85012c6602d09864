"""The only training loop. It knows stages, phases and hooks, and nothing about any model."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from seqmm.arguments import TrainArguments
from seqmm.data.collators import Collator
from seqmm.data.corpus import Corpus
from seqmm.models.base import Recommender
from seqmm.random import derive_seed
from seqmm.training.agreement import check_agreement, share_hook_state
from seqmm.training.borrowing import borrowed
from seqmm.training.callbacks import Callback, Callbacks
from seqmm.training.identity import identity, makers_given
from seqmm.training.interrupts import Interrupts
from seqmm.training.launching import make_accelerator
from seqmm.training.loading import Loader, Share
from seqmm.training.memory import reuse_freed_memory
from seqmm.training.optimisation import (
    OptimizerMaker,
    SchedulerMaker,
    make_optimizers,
    make_scheduler,
    rate_factor,
    trained,
)
from seqmm.training.output import Output
from seqmm.training.snapshot import Snapshot
from seqmm.training.state import TrainState
from seqmm.training.tracking import LossSums
from seqmm.training.validation import Validation
from seqmm.training.weights import save_weights

logger = logging.getLogger(__name__)


class Trainer:
    """Trains a bound model on a corpus.

    For each epoch, stage, batch and phase: forward, backward, clip, step; the model's hooks around it. A batch is
    global: each process takes its share of the rows, and the model's loss is that of the whole batch, so that any
    number of processes trains the same. Every draw is a function of (seed, epoch, row) or (seed, step), so a resumed
    run is exact. Of the model nothing but its weights and its hooks' state is changed: device, mode and
    ``requires_grad`` are afterwards what they were.

    Args:
        model: made by :func:`seqmm.make_model`, which seeds its first weights, or loaded and bound.
        corpus: what the collators read.
        args: how to train; None = the defaults.
        evaluator: scores the validation split; None trains for ``args.epochs`` and keeps the last weights.
        monitor: the evaluator's metric that chooses weights and stops training.
        output_dir: gets ``config.json`` + ``model.safetensors`` (best weights), ``checkpoints/``, ``log.jsonl``. None =
            ``args.output_dir``; without either nothing stays on disk, and the model holds the best weights.
        callbacks: see :class:`~seqmm.training.callbacks.Callback`.
        optimizer: a class of torch.optim, or a function that makes one, called for each phase with the model's
            parameter groups, ``lr`` and ``weight_decay``; None = what ``args`` says.
        scheduler: makes a torch scheduler of an optimiser and its number of steps, such as ``lambda optimizer, steps:
            OneCycleLR(optimizer, 0.1, steps)``; it steps after every step of its optimiser, and its state is saved, so
            that a resumed run is exact. None = ``args.schedule``.

    Raises:
        ValueError: for a run that cannot start: fp16 without a GPU, an output folder in use, another run's state.

    >>> import seqmm
    >>> corpus = seqmm.synthetic_corpus(num_users=60, num_items=40)
    >>> model = seqmm.make_model("bpr", corpus, hidden_size=8)
    >>> args = seqmm.TrainArguments(epochs=3, batch_size=128, learning_rate=0.05)
    >>> state = seqmm.Trainer(model, corpus, args, evaluator=seqmm.Evaluator(corpus, "validation")).train()
    >>> state.epoch, round(state.validation["ndcg@10"], 4)
    (3, 0.2225)
    """

    def __init__(
        self,
        model: Recommender,
        corpus: Corpus,
        args: TrainArguments | None = None,
        *,
        evaluator: Validation | None = None,
        monitor: str = "ndcg@10",
        output_dir: str | Path | None = None,
        callbacks: Sequence[Callback] = (),
        optimizer: OptimizerMaker | None = None,
        scheduler: SchedulerMaker | None = None,
    ):
        args = TrainArguments() if args is None else args
        if evaluator is not None and monitor not in evaluator.names:
            raise ValueError(
                f"eval.monitor {monitor!r} is not computed; eval.metrics and eval.ks give {', '.join(evaluator.names)}"
            )
        self.model, self.corpus, self.evaluator, self.monitor = model, corpus, evaluator, monitor
        self.callbacks = Callbacks(callbacks)
        self._make_optimizer, self._make_scheduler = optimizer, scheduler
        if scheduler is not None and (args.schedule != "constant" or args.warmup_ratio):
            raise ValueError(
                f"a scheduler is given, and train.schedule is {args.schedule} with train.warmup_ratio "
                f"{args.warmup_ratio}: choose one of them"
            )
        folder = output_dir or args.output_dir or None
        self.accelerator = make_accelerator(
            args.mixed_precision,
            log_with=list(args.report_to) or None,
            project_dir=None if folder is None else str(folder),
        )
        # what the launcher chose is part of the run
        self.args = args = replace(args, mixed_precision=self.accelerator.mixed_precision)
        self.output_dir = None if folder is None else Path(folder)
        self._output = Output(self.accelerator, self.output_dir, args)
        self.collators: list[Collator] = [
            stage.collator(corpus, args.seed, **model.collator_options(number))
            for number, stage in enumerate(model.stages)
        ]
        course = args.course() | makers_given(optimizer, scheduler, args.epochs)
        self.state = TrainState(config=identity(model, corpus, course, evaluator, monitor))
        self.optimizers: dict[str, Optimizer] = {}
        """By phase, once training has started."""
        self.schedulers: dict[str, LRScheduler] = {}
        self._interrupts, self._losses = Interrupts(), LossSums()
        self._snapshot: Snapshot | None = None
        self._started = 0.0

    # -- the loop -----------------------------------------------------------------------------------------------------

    def train(self) -> TrainState:
        """Trains to the end, or on from a saved state with ``args.resume``; leaves the best weights in the model.

        Raises:
            KeyboardInterrupt: after Ctrl-C, once the state is saved.
            FloatingPointError: when a loss is not finite; the text names the part and the step.
        """
        with self.output():
            try:
                with borrowed(self.model, self.accelerator.device):
                    if self.model.stages and self.args.epochs > 0:
                        self._train()
                    else:
                        self._output.begin(None)
                        self._start()
                        self._evaluate()
                        self.state.finished = True
            finally:
                self._close()
        return self.state

    def _train(self) -> None:
        self._prepare()
        self._start()
        with self._bar, self._interrupts:
            while not self.state.finished:
                epoch, self._started = self.state.epoch, time.perf_counter() - self.state.epoch_seconds
                self._ddp.train()
                # the stages of an epoch in turn, those that a resumed run has done left out
                for number in range(self.state.stage, len(self.model.stages)):
                    self._run_stage(number, epoch)
                    self.state.stage, self.state.batch = number + 1, 0
                self._end_epoch(epoch, time.perf_counter() - self._started)
                self._stop_if_asked()
        if self.evaluator is None:
            self._output.save_weights(self.model, self.state.step)
        else:
            self._output.load_weights(self.model)
        for tracker in self.accelerator.trackers:
            tracker.finish()

    def _start(self) -> None:
        if self.args.report_to:
            about = {"model": self.model.config.model_type, "corpus": self.corpus.name}
            self.accelerator.init_trackers("seqmm", config=about)
        self.callbacks.on_train_start(self)

    def _run_stage(self, number: int, epoch: int) -> None:
        stage, collator, timed = self.model.stages[number], self.collators[number], self.callbacks.timed
        with timed("sample"):
            batches = collator.batches(epoch, self.args.batch_size)
        if not batches:
            raise ValueError(
                f"the train split of corpus {self.corpus.name!r} gives no batch for {type(self.model).__name__}"
            )
        # the model's hook before the stage; what it made is state, so not made again inside a resumed stage
        if self.state.batch == 0:
            seed = derive_seed("hook", epoch, number, self.args.seed)
            with timed("hooks"):
                self.model.on_stage_start(number, epoch, torch.Generator().manual_seed(seed))
            share_hook_state(self.accelerator, self.model)
        for step in self._timed_steps(self._loaders[number].steps(epoch, batches, self.state.batch)):
            # forward, backward, clip, update: for each phase
            losses: dict[str, Tensor] = {}
            for phase in stage.phases:
                factor = rate_factor(self.args, epoch, self.state.batch, len(batches))
                losses |= self._optimise(phase, step, factor)
            self.state.step += 1
            self.state.batch += len(step)
            self._bar.update(len(step) / len(batches) / len(self.model.stages))
            # the model's hook after the step, unless there was none: in fp16 the scale may have been too large
            if not self.accelerator.optimizer_step_was_skipped:
                with timed("hooks"):
                    self.model.on_step_end(self.state.step)
            # look on, save, stop if asked to
            self.callbacks.on_step_end(self, losses)
            self._end_step(losses)

    def _timed_steps(self, steps: Iterator[list[Share]]) -> Iterator[list[Share]]:
        while True:
            with self.callbacks.timed("sample"):
                step = next(steps, None)
            if step is None:
                return
            yield step

    def _optimise(self, phase: str, step: list[Share], factor: float) -> dict[str, Tensor]:
        """One update of a phase's parameters; returns the last batch's losses by name."""
        optimizer, timed = self.optimizers[phase], self.callbacks.timed
        if not self.schedulers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
        self._only(phase)
        targets = sum(share.targets for share in step)
        for micro, share in enumerate(step):
            # seeds: one for all ranks, and for dropout one of each rank
            seed = derive_seed("step", self.args.seed, self.state.step, micro)
            torch.manual_seed(derive_seed(seed, self.accelerator.process_index))
            batch = share.tensors | {"step_seed": torch.tensor(seed)}  # on the CPU: reading it would wait for a GPU
            # gradients are averaged over ranks once a step
            last = micro == len(step) - 1
            with nullcontext() if last else self.accelerator.no_sync(self._ddp):
                with timed("forward"):
                    losses = self._ddp(batch, phase)
                with timed("backward"):
                    self.accelerator.backward(losses["loss"] * (share.targets / targets))
            named = self._losses.add(phase, losses)
        with timed("optimise"):
            if self.args.max_grad_norm > 0:
                self.accelerator.clip_grad_norm_(self._parameters[phase], self.args.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.schedulers and not self.accelerator.optimizer_step_was_skipped:
            self.schedulers[phase].step()
        return named

    def _only(self, phase: str) -> None:
        """Gradients flow to the phase's parameters alone."""
        if len(self.optimizers) > 1:
            chosen = {id(parameter) for parameter in self._parameters[phase]}
            for parameters in self._parameters.values():
                for parameter in parameters:
                    parameter.requires_grad_(id(parameter) in chosen)

    def _end_step(self, losses: dict[str, Tensor]) -> None:
        step = self.state.step
        if self.args.log_every and step % self.args.log_every == 0:
            self._losses.check_finite(step)
            self._log({"step": step, **{f"step/{name}": float(loss) for name, loss in losses.items()}})
        self._stop_if_asked()
        if self.args.save_steps and step % self.args.save_steps == 0:
            self.save_state()

    def _stop_if_asked(self) -> None:
        if self._interrupts.on_any(self.accelerator):
            if self.output_dir is None:
                raise KeyboardInterrupt("Without an output folder nothing was saved")
            self.save_state()
            raise KeyboardInterrupt(f"State saved in {self.output_dir}; go on with train.resume = True")

    def _end_epoch(self, epoch: int, seconds: float) -> None:
        args, state = self.args, self.state
        state.seconds += seconds
        self._losses.check_finite(state.step)
        means = {f"train/{name}": mean for name, mean in self._losses.means().items()}
        rate = next(iter(self.optimizers.values())).param_groups[0]["lr"]
        about = {"learning_rate": rate, "seconds": round(seconds, 3)}
        self._log({"epoch": epoch + 1, "step": state.step, **means, **about})
        state.epoch, state.stage, state.epoch_seconds = epoch + 1, 0, 0.0
        self.callbacks.on_epoch_end(self)
        if self.evaluator is not None and (state.epoch == args.epochs or state.epoch % args.eval_every == 0):
            self._evaluate()
        state.finished = state.finished or self._is_finished()
        if state.finished or (args.save_every and state.epoch % args.save_every == 0):
            self.save_state()

    def _is_finished(self) -> bool:
        return self.state.epoch >= self.args.epochs or 0 < self.args.patience <= self.state.stale

    def interrupt(self) -> None:
        """Ends the run after the step under way, its state saved, as Ctrl-C does."""
        self._interrupts.requested = True

    # -- preparation --------------------------------------------------------------------------------------------------

    @contextmanager
    def output(self, *files: str) -> Iterator[None]:
        """Has the output folder, so that no other run can write into it; :meth:`train` does, if its caller does not.

        Args:
            files: names of what the caller will write there itself.

        Raises:
            ValueError: another run has it; it holds a run and neither resume nor overwrite is set; its state is that of
                other settings; or files of these names which no run wrote. Nothing in it was changed.
        """
        trained = bool(self.model.stages) and self.args.epochs > 0
        if self._make_optimizer is None and trained:
            make_optimizers(self.args, self.model)  # what its options refuse is known before a run is replaced
        with self._output.held(self.state.config, files, trained=trained):
            yield

    def _prepare(self) -> None:
        if self.accelerator.device.type == "cpu":
            reuse_freed_memory()
        made = make_optimizers(self.args, self.model, self._make_optimizer)
        phases, optimizers = list(made), list(made.values())
        self._parameters = {phase: trained(self.model, phase) for phase in phases}
        with warnings.catch_warnings():  # accelerate 1.15 passes broadcast_buffers on under its old name
            warnings.simplefilter("ignore", FutureWarning)
            self._ddp, *prepared = self.accelerator.prepare(self.model, *optimizers)
        self.optimizers = dict(zip(phases, prepared, strict=True))
        if self._make_scheduler is not None:
            for phase, optimizer in zip(phases, optimizers, strict=True):
                self.schedulers[phase] = make_scheduler(self._make_scheduler, optimizer, self._steps_of(phase))
        workers, accumulated = self.args.num_workers, self.args.gradient_accumulation_steps
        self._loaders: list[Loader] = [
            Loader(collator, self.accelerator, workers, accumulated) for collator in self.collators
        ]
        check_agreement(self.accelerator, self.model, self.corpus)
        self._snapshot = Snapshot(
            self.accelerator, self.model, self.optimizers, self.schedulers, self.state, self._losses
        )
        self._snapshot.check_packable()
        self._output.begin(self._snapshot)
        self.state.finished = self._is_finished()
        self._bar = tqdm(
            total=self.args.epochs,
            initial=self.state.epoch,
            desc=self.model.config.model_type,
            bar_format="{desc} {percentage:3.0f}%|{bar}| epoch {n:.1f}/{total} [{elapsed}<{remaining}]{postfix}",
            disable=None if self.accelerator.is_local_main_process else True,  # None: only on a terminal
        )

    def _steps_of(self, phase: str) -> int:
        """How many steps a phase's optimiser makes in all epochs."""
        steps = 0
        for stage, collator in zip(self.model.stages, self.collators, strict=True):
            batches = len(collator.batches(0, self.args.batch_size))
            steps += stage.phases.count(phase) * math.ceil(batches / self.args.gradient_accumulation_steps)
        return steps * self.args.epochs

    def _close(self) -> None:
        """Lets go of what was prepared, so that a second trainer can have the model."""
        self._ddp, self._loaders = None, []  # with the loaders end their workers
        self.accelerator.free_memory()

    # -- saving and loading -------------------------------------------------------------------------------------------

    def save_state(self) -> None:
        """Writes ``checkpoints/state-<step>-<epoch>``, if the run has a folder; keeps it and the one before."""
        self.state.epoch_seconds = time.perf_counter() - self._started if self.state.stage or self.state.batch else 0.0
        if self._snapshot is not None:
            self._output.save_state(self._snapshot)

    def save(self, path: str | Path) -> None:
        """Writes the weights and the config for ``from_pretrained``, each file in one rename."""
        save_weights(self.accelerator, self.model, Path(path))

    # -- evaluation and logging ---------------------------------------------------------------------------------------

    def _evaluate(self) -> None:
        """Validates; keeps the weights if they are the best so far."""
        if self.evaluator is None:
            self._output.save_weights(self.model, self.state.step)
            return
        started, state = time.perf_counter(), self.state
        with self.callbacks.timed("evaluate"):
            scored = self.evaluator(self.accelerator, self.model)
            metrics = {name: float(value) for name, value in scored.items()}
            value = metrics[self.monitor]
            if state.best is None or value > state.best:
                state.best, state.best_epoch, state.stale, state.validation = value, state.epoch, 0, metrics
                self._output.save_weights(self.model, state.step)
            else:
                state.stale += 1
        seconds = round(time.perf_counter() - started, 3)
        values = {f"validation/{name}": value for name, value in metrics.items()}
        self._log({"epoch": state.epoch, "step": state.step, "evaluation_seconds": seconds, **values})
        if self.accelerator.is_main_process:
            best = " *" if state.stale == 0 else f" (best {state.best:.4f} at epoch {state.best_epoch})"
            logger.info("epoch %4d  validation %s %.4f%s", state.epoch, self.monitor, value, best)
        self.callbacks.on_evaluate(self, metrics)

    def _log(self, values: dict[str, Any]) -> None:
        self._output.log(values)
        if self.args.report_to:
            numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
            self.accelerator.log(numbers, step=self.state.step)
