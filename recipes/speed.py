"""Where the time goes: seconds an epoch, samples/s, peak memory and the time split of any model.

python recipes/speed.py --config recipes/configs/lightgcn/movielens.yaml
python recipes/speed.py --config recipes/configs/msm4sr/movielens.yaml --pretraining
… --variant M1                           (of the YAML file's variants)
… --threads 2 --epochs 5                 (torch threads, default 1; measured epochs after one of warm-up, default 3)
python recipes/speed.py --primitives     (propagation, sampling, metrics and InfoNCE against the plain formulation)
python recipes/speed.py --primitives --corpus corpora/baby --protocol given      (default: generated, of Baby's size)
python recipes/speed.py --models --corpus corpora/baby --random-features image=4096 text=384     (a step of each model)
python recipes/speed.py --models mentor freedom --corpus corpora/clothing --random-features image=4096 text=384

Runs on the GPU where there is one, as training does. Epochs are wall seconds, the GPU waited for at each part's ends.
Primitives are CPU milliseconds without a GPU, wall milliseconds with one (sampling is NumPy on the CPU either way).
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import random
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqmm.cli import run_recipe
from seqmm.files import installed_folder
from seqmm.run.settings import load_run
from seqmm.training.callbacks import Callback

if TYPE_CHECKING:
    import torch

    from seqmm.data.corpus import Corpus
    from seqmm.names import Protocol
    from seqmm.run.settings import RunConfig
    from seqmm.training.trainer import Trainer

PARTS = ("sample", "hooks", "forward", "backward", "optimise")


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--primitives", action="store_true")
    parser.add_argument("--pretraining", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--corpus")
    parser.add_argument("--protocol", default="given")
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--random-features", nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=3)
    options, rest = parser.parse_known_args()
    if min(options.threads, options.epochs, options.steps) < 1:
        given = f"--threads ({options.threads}), --epochs ({options.epochs}) and --steps ({options.steps})"
        raise ValueError(f"{given} must be at least 1")
    if options.primitives and not {"-h", "--help"} & set(rest):
        measure_primitives(options.corpus, options.protocol, options.threads)
        return
    if options.models is not None and not {"-h", "--help"} & set(rest):
        if rest:
            raise ValueError(f"--models takes settings from the YAML files, not from flags: {' '.join(rest)}")
        measure_steps(options)
        return
    default = installed_folder("recipes") / "configs" / "lightgcn" / "movielens.yaml"
    run = load_run(rest, description=__doc__ or "", default_config=str(default), pretraining=options.pretraining)
    measure_training(run, options.pretraining, options.threads, options.epochs)


# -- an epoch of a model -----------------------------------------------------------------------------------------------


class Clock:
    """Seconds by part."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        started = self.now()
        yield
        self.seconds[part] += self.now() - started


class Watch(Clock, Callback):
    """Times the parts of a training from the end of its first epoch, the warm-up in which caches fill."""

    started = stopped = 0.0

    def on_epoch_end(self, trainer: Trainer) -> None:
        if trainer.evaluator is None:
            self.mark(trainer.state.epoch)

    def on_evaluate(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        self.mark(trainer.state.epoch)

    def mark(self, epoch: int) -> None:
        self.stopped = self.now()
        if epoch == 1:
            self.seconds.clear()
            self.started = self.now()


class First:
    """The first batches of each epoch of a collator: one in the warm-up, then ``count``."""

    def __init__(self, collator: Any, count: int):
        self.collator, self.count, self.num_targets = collator, count, collator.num_targets

    def batches(self, epoch: int, size: int) -> list[np.ndarray]:
        return list(self.collator.batches(epoch, size)[: self.count if epoch else 1])

    def __call__(self, epoch: int, rows: np.ndarray) -> dict[str, Any]:
        return dict(self.collator(epoch, rows))


def now() -> float:
    """Wall seconds, after the GPU's queue has drained."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def now_of_primitives() -> float:
    """CPU seconds of the process; wall seconds where there is a GPU, whose work costs the process none."""
    import torch

    return now() if torch.cuda.is_available() else time.process_time()


def gpu_or_cpu() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def measure_training(run: RunConfig, pretraining: bool, threads: int, epochs: int) -> None:
    """Trains for one epoch of warm-up and ``epochs`` more with the real trainer, its parts timed from outside."""
    import torch

    from seqmm.run.run import Run
    from seqmm.training.trainer import Trainer

    torch.set_num_threads(threads)
    before = peak_gigabytes()
    train = replace(run.train, epochs=epochs + 1, patience=0, save_every=0, num_workers=0, output_dir="", report_to=())
    train = replace(train, eval_every=1)  # the clock starts at the evaluation that ends the warm-up
    opened = Run(replace(run, train=replace(train, objective="pretraining" if pretraining else "recommendation")))
    model, corpus = opened.model, opened.corpus
    run = replace(run, train=train)
    watch = Watch(now)
    validation = opened.evaluator("validation")
    monitor = run.eval.monitor
    trainer = Trainer(model, corpus, run.train, evaluator=validation, monitor=monitor, callbacks=[watch])
    if not trainer.collators:
        trainer.train()
        print(f"{run.model.model_type} is not trained; evaluation of validation {watch.seconds['evaluate']:.2f} s")
        return
    rows = sum(len(batch) for c in trainer.collators for batch in c.batches(0, run.train.batch_size))
    steps = sum(len(c.batches(0, run.train.batch_size)) for c in trainer.collators)
    trainer.train()
    total = watch.stopped - watch.started - watch.seconds["evaluate"]
    device, weights = trainer.accelerator.device.type, sum(p.numel() for p in model.parameters())
    print(
        f"\n{run.model.model_type} on {corpus.name} ({corpus.protocol}), {device}, {threads} torch thread(s): "
        f"{steps} steps of {run.train.batch_size} rows an epoch, {weights:,} parameters"
    )
    print(f"{'part':<10}{'s / epoch':>12}{'share':>8}")
    known = {part: watch.seconds[part] for part in PARTS}
    for part, seconds in [*known.items(), ("other", total - sum(known.values())), ("epoch", total)]:
        print(f"{part:<10}{seconds / epochs:>12.3f}{seconds / total:>8.1%}")
    print(f"{'evaluate':<10}{watch.seconds['evaluate'] / epochs:>12.3f}   (validation, once)")
    print(
        f"{rows * epochs / total:,.0f} samples/s; peak memory {peak_gigabytes():.2f} GB ({before:.2f} before the model)"
    )
    if device == "cuda":
        print(f"peak GPU memory {torch.cuda.max_memory_allocated() / 1e9:.2f} GB")


def peak_gigabytes() -> float:
    """Largest resident size of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage's figure starts at the size of the process that started this one
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)


# -- a step of every model -----------------------------------------------------------------------------------------


def measure_steps(options: argparse.Namespace) -> None:
    """Prints milliseconds of a step (all phases) and peak memory of each model, each in a process of its own."""
    from seqmm.models.registry import model_class
    from seqmm.registry import MODELS

    widths = {}
    for pair in options.random_features:
        name, _, width = pair.partition("=")
        if not width.isdigit() or int(width) < 1:
            raise ValueError(f"--random-features {pair}: expected name=width")
        widths[name] = int(width)
    if options.corpus is None:
        raise ValueError("--models needs --corpus, a prepared corpus")
    collaborative = "seqmm.models.collaborative."
    names = options.models or [n for n in MODELS.names() if model_class(n).__module__.startswith(collaborative)]
    names = [name for name in names if model_class(name).stages]
    unit = "wall" if gpu_or_cpu().type == "cuda" else "CPU"
    print(
        f"{options.corpus}, random features {widths or 'none'}, {options.threads} torch thread(s); {unit} ms a step, "
        f"mean of {options.steps} after one; softmax: log-sum-exps over many rows, forward and backward\n"
        f"{'model':<12}{'rows':>6}{'parameters':>13}{'bind s':>8}{'hooks':>8}"
        f"{'forward':>9}{'backward':>9}{'optimise':>9}{'step':>9}{'softmax':>9}{'peak GB':>9}"
    )
    for name in names:
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # a process of its own: its peak is the model's
            row = pool.apply(
                step_cost, (name, options.corpus, options.protocol, widths, options.threads, options.steps)
            )
        times = {key: 1e3 * row[key] for key in ("hooks", "forward", "backward", "optimise", "step")}
        print(
            f"{name:<12}{row['rows']:>6,}{row['parameters']:>13,}{row['bind']:>8.1f}{times['hooks']:>8.0f}"
            f"{times['forward']:>9.1f}{times['backward']:>9.1f}{times['optimise']:>9.1f}{times['step']:>9.1f}"
            f"{row['softmax'] / row['step']:>9.0%}{row['peak']:>9.2f}",
            flush=True,
        )


def step_cost(
    name: str, path: str, protocol: Protocol, widths: dict[str, int], threads: int, steps: int
) -> dict[str, float]:
    """Seconds of the parts of a step, GB at its peak; settings of recipes/configs/<model>/<corpus>.yaml if there."""
    import torch

    from seqmm import losses
    from seqmm.data.corpus import Corpus
    from seqmm.data.feature_sets import Features
    from seqmm.models.making import make_model
    from seqmm.nn import log_sum_exp as kernel
    from seqmm.training.trainer import Trainer

    torch.set_num_threads(threads)
    corpus = Corpus.load(path, protocol=protocol)
    rng = np.random.default_rng(0)
    content = {
        key: Features(
            "dense", rng.standard_normal((corpus.num_items, width), np.float32), None, None, {"made": "random"}
        )
        for key, width in widths.items()
    }
    corpus = replace(corpus, features=content)
    file = installed_folder("recipes") / "configs" / name / f"{Path(path).name}.yaml"
    run = load_run(["--config", str(file)] if file.is_file() else ["--model.model-type", name])
    watch = Watch(now_of_primitives)
    with watch.timed("bind"):
        model = make_model(run.model, corpus, seed=0)
    bind = watch.seconds["bind"]
    losses.log_sum_exp = kernel.log_sum_exp = watch.timed("softmax")(losses.log_sum_exp)
    for cls in (kernel.FlashLogSumExp, kernel.BlockLogSumExp):
        cls.backward = staticmethod(watch.timed("softmax")(cls.backward))  # type: ignore[method-assign]
    train = replace(run.train, report_to=(), num_workers=0, epochs=2, gradient_accumulation_steps=1, output_dir="")
    trainer = Trainer(model, corpus, train, callbacks=[watch])
    trainer.collators = [First(collator, steps) for collator in trainer.collators]
    trainer.train()
    total = watch.stopped - watch.started - watch.seconds["hooks"]
    known = {part: watch.seconds[part] / steps for part in (*PARTS, "softmax")}
    return known | {
        "hooks": watch.seconds["hooks"],
        "bind": bind,
        "step": total / steps,
        "rows": len(trainer.collators[0].batches(0, run.train.batch_size)[0]),
        "parameters": sum(p.numel() for p in model.parameters()),
        "peak": torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else peak_gigabytes(),
    }


# -- primitives against the plain formulation --------------------------------------------------------------------------


def measure_primitives(path: str | None, protocol: Protocol, threads: int) -> None:
    """Prints milliseconds of both, and their ratio; medians of repeated, interleaved calls."""
    import torch

    from seqmm.data.corpus import Corpus

    torch.set_num_threads(threads)
    corpus = generated() if path is None else Corpus.load(path, protocol=protocol)
    device = gpu_or_cpu().type
    unit, memory = ("wall ms", "GPU peak") if device == "cuda" else ("CPU ms", "peak GB")
    print(
        f"{corpus.name}: {corpus.num_users:,} users, {corpus.num_items:,} items, "
        f"{len(corpus.splits['train']):,} train rows; {device}, {unit}; {threads} torch thread(s)\n"
        f"{'':<34}{'plain ms':>10}{'ours ms':>10}{'ratio':>8}"
    )
    with torch.no_grad():
        report("sampling, an epoch", *sampling(corpus))
        report("metrics of given lists", *metrics(corpus))
    report("propagation d=64, forward", *propagation(corpus, backward=False))
    report("propagation d=64, forward+backward", *propagation(corpus, backward=True))
    name = f"InfoNCE {corpus.num_users:,}^2 x 128, forward+backward"
    print(f"\n{name}\n{'':<34}{unit:>10}{memory:>10}   (GB: in all, and above its start)")
    for plain in (True, False):
        context = multiprocessing.get_context("spawn")  # a process of its own: its peak is the method's
        with context.Pool(1) as pool:
            milliseconds, peak, start = pool.apply(info_nce_cost, (corpus.num_users, threads, plain))
        print(f"{'plain' if plain else 'ours':<34}{milliseconds:>10.0f}{peak:>10.2f}{peak - start:>10.2f}")


def report(name: str, plain: Callable[[], Any], ours: Callable[[], Any], repeats: int = 5) -> None:
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(repeats):
        for which, function in ((True, plain), (False, ours)):
            started = now_of_primitives()
            function()
            times[which].append(1e3 * (now_of_primitives() - started))
    slow, fast = float(np.median(times[True])), float(np.median(times[False]))
    print(f"{name:<34}{slow:>10.2f}{fast:>10.2f}{slow / fast:>7.1f}x")


def generated() -> Corpus:
    """Random interactions with the size and the skew of Amazon 2014 Baby."""
    from seqmm.data.corpus import Corpus
    from seqmm.data.interactions import Interactions

    users, items, rng = 19_445, 7_050, np.random.default_rng(0)
    popularity = rng.permutation(1 / (np.arange(items) + 20.0) ** 0.8)
    user = rng.integers(users, size=150_000)
    item = rng.choice(items, size=len(user), p=popularity / popularity.sum())
    key = np.unique(user * items + item)
    key = np.sort(np.concatenate([key[rng.random(len(key)) < 0.8], np.arange(users) * items]))
    user, item = np.divmod(np.unique(key), items)
    last = np.flatnonzero(np.diff(user, append=users))  # the test row of every user who has another row
    test = last[np.bincount(user, minlength=users)[user[last]] > 1]
    train = np.setdiff1d(np.arange(len(user)), test)

    def part(rows: np.ndarray) -> Interactions:
        return Interactions(user[rows], item[rows], rows)

    splits = {"train": part(train), "validation": part(test[:0]), "test": part(test)}
    return Corpus("generated like Baby", "given", users, items, splits)


def propagation(corpus: Corpus, backward: bool) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """COO ``torch.sparse.mm`` with autograd, and :func:`seqmm.graphs.matrix.propagate`."""
    import torch

    from seqmm.graphs.build import user_item_graph
    from seqmm.graphs.matrix import propagate

    graph = user_item_graph(corpus).normalised()
    both = torch.cat([graph.edge_index, graph.edge_index.flip(0)], 1)
    matrix = torch.sparse_coo_tensor(both, graph.edge_weight.repeat(2), graph.shape, check_invariants=False).coalesce()
    device = gpu_or_cpu()
    matrix = matrix.to(device)
    x = torch.randn(graph.shape[1], 64, device=device, requires_grad=backward)
    upstream = torch.randn(graph.shape[0], 64, device=device)

    def measured(product: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], None]:
        def call() -> None:
            result = product(x)
            if backward:
                x.grad = None
                result.backward(upstream)

        call()
        return call

    return measured(lambda x: torch.sparse.mm(matrix, x)), measured(lambda x: propagate(graph, x))


def sampling(corpus: Corpus) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Negatives of an epoch, in shuffled batches: the loop of public implementations, and the counter-based sampler."""
    from seqmm.data.collators import shuffled
    from seqmm.data.sampling import NegativeSampler

    train = corpus.splits["train"]
    batches = shuffled(len(train), 0, 0, 2048)
    sampler = NegativeSampler(corpus, 0)
    owned: dict[int, set[int]] = defaultdict(set)
    for user, item in zip(train.user.tolist(), train.item.tolist(), strict=True):
        owned[user].add(item)
    pool = sampler.pool.tolist()

    def plain() -> None:
        for rows in batches:
            negatives = []
            for user in train.user[rows].tolist():
                negative = random.sample(pool, 1)[0]
                while negative in owned[user]:
                    negative = random.sample(pool, 1)[0]
                negatives.append(negative)

    def ours() -> None:
        negatives = sampler(0, np.arange(len(train)), train.user)
        for rows in batches:
            negatives[rows]

    return plain, ours


def metrics(corpus: Corpus) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Recall, precision, NDCG and MAP at 5, 10, 20, 50 of ranked lists: a loop over users, and tensors."""
    import torch

    from seqmm.evaluation.metrics import METRICS, place_lists

    targets, ks = corpus.targets("test"), (5, 10, 20, 50)
    users = np.flatnonzero(targets.lengths > 0)
    rng = np.random.default_rng(0)
    lists = torch.from_numpy(np.stack([rng.choice(corpus.num_items, 50, replace=False) for _ in users]))
    row = torch.from_numpy(np.repeat(np.arange(len(users)), targets.lengths[users]))
    item = torch.from_numpy(targets.values)
    ranked = lists.numpy()
    lists, row, item = (x.to(gpu_or_cpu()) for x in (lists, row, item))

    def discounts(hits: list[bool], k: int) -> float:
        return sum(hit / math.log2(place + 2) for place, hit in enumerate(hits[:k]))

    formulas: dict[str, Callable[[list[bool], int, int], float]] = {
        "recall": lambda hits, k, size: sum(hits[:k]) / size,
        "precision": lambda hits, k, size: sum(hits[:k]) / k,
        "ndcg": lambda hits, k, size: discounts(hits, k) / discounts([True] * size, k),
        "map": lambda hits, k, size: (
            sum(sum(hits[: place + 1]) / (place + 1) for place in range(k) if hits[place]) / min(k, size)
        ),
    }

    def plain() -> dict[str, float]:
        values: dict[str, list[float]] = defaultdict(list)
        for position, user in enumerate(users.tolist()):
            wanted = set(targets[user].tolist())
            hits = [item in wanted for item in ranked[position].tolist()]
            for name, formula in formulas.items():
                for k in ks:
                    values[f"{name}@{k}"].append(formula(hits, k, len(wanted)))
        return {name: float(np.mean(column)) for name, column in values.items()}

    def ours() -> dict[str, float]:
        hits = place_lists(lists, row, item)
        return {f"{name}@{k}": float(METRICS[name](hits, k).mean()) for name in formulas for k in ks}

    expected, found = plain(), ours()
    worst = max(abs(expected[name] - found[name]) for name in expected)
    if worst > 1e-9:
        raise ValueError(f"the metrics differ from the loop's by {worst}")
    return plain, ours


def info_nce_cost(rows: int, threads: int, plain: bool) -> tuple[float, float, float]:
    """(ms, peak GB, GB before) of one forward and backward over all rows against all rows.

    Without a GPU CPU milliseconds and the process's memory, with one wall milliseconds and its allocated memory.
    """
    import torch
    import torch.nn.functional as F

    from seqmm.losses import info_nce

    torch.set_num_threads(threads)
    generator, device = torch.Generator().manual_seed(0), gpu_or_cpu()
    a, b = (torch.randn(rows, 128, generator=generator).to(device).requires_grad_() for _ in range(2))

    def peak() -> float:
        return torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else peak_gigabytes()

    info_nce(a[:600], b[:600], 0.2).backward()  # loads what the first call loads
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = peak()
    started = now_of_primitives()
    if plain:
        x, y = F.normalize(a), F.normalize(b)
        loss = F.cross_entropy(x @ y.T / 0.2, torch.arange(rows, device=device))
    else:
        loss = info_nce(a, b, 0.2, candidates=b)
    loss.backward()
    return 1e3 * (now_of_primitives() - started), peak(), start


if __name__ == "__main__":
    run_recipe(main)
