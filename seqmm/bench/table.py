"""A benchmark's results as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqmm.bench.plan import Cell
from seqmm.bench.probes import Probe, leak_warnings
from seqmm.bench.records import CellRecord, read_values
from seqmm.evaluation.evaluator import Evaluator
from seqmm.evaluation.significance import Comparison, compare, over_seeds, standard_error
from seqmm.foreign import inline
from seqmm.names import EvaluatedSplit


@dataclass(frozen=True)
class Row:
    """A model of the table: its cells' results and per-user test values."""

    label: str
    results: list[CellRecord]
    values: dict[str, np.ndarray]
    """"recall@20" -> ``[seeds, users]``."""

    def over_seeds(self, split: EvaluatedSplit) -> dict[str, tuple[float, float]]:
        return {name: over_seeds([result[split][name] for result in self.results]) for name in self.results[0][split]}


def read_rows(cells: Sequence[Cell], results: Sequence[CellRecord], output: Path) -> list[Row]:
    """Gathers cells by label."""
    rows = []
    for label in dict.fromkeys(cell.label for cell in cells):
        mine = [(cell, result) for cell, result in zip(cells, results, strict=True) if cell.label == label]
        tables = [read_values(output / "per_user" / f"{cell.name}.npz") for cell, _ in mine]
        values = {name: np.stack([table[name] for table in tables]) for name in tables[0] if name != "users"}
        rows.append(Row(label, [result for _, result in mine], values))
    return rows


def best_baseline(rows: Sequence[Row], monitor: str) -> Row | None:
    """The row other than the first that is best on validation; None if there is no other."""
    return max(rows[1:], key=lambda row: row.over_seeds("validation")[monitor][0], default=None)


def compare_all(rows: Sequence[Row], baseline: Row | None, monitor: str) -> dict[str, Comparison]:
    """Each row against the baseline, paired over users."""
    if baseline is None:
        return {}
    others = [row for row in rows if row.label != baseline.label]
    return {row.label: compare(row.values[monitor], baseline.values[monitor]) for row in others}


def report(
    rows: Sequence[Row],
    probes: Sequence[Probe],
    evaluator: Evaluator,
    monitor: str,
    notes: Sequence[str] = (),
) -> tuple[str, dict[str, Any]]:
    """The table as markdown, and everything in it as plain values."""
    baseline = best_baseline(rows, monitor)
    compared = compare_all(rows, baseline, monitor)
    names = list(rows[0].results[0]["test"])
    heads = ["model", "seeds", *names, f"± users ({monitor})"]
    if baseline is not None:
        heads += [f"Δ {monitor} [95 %]", "p"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    plain: list[dict[str, Any]] = []
    for row in rows:
        test = row.over_seeds("test")
        best = {name: max(other.over_seeds("test")[name][0] for other in rows) for name in names}
        shown = [_bold(_spread(*test[name]), test[name][0] == best[name] and len(rows) > 1) for name in names]
        users = row.values[monitor].mean(0)  # [users]
        error = standard_error(users)
        cells = [inline(row.label), str(len(row.results)), *shown, number(error)]
        against = compared.get(row.label)
        if against is not None:
            interval = f"{number(against.difference)} [{number(against.low)}, {number(against.high)}]"
            cells += [interval, f"{against.p_t:.3g}"]
        elif baseline is not None:
            cells += ["best baseline", ""]
        lines.append(f"| {' | '.join(cells)} |")
        plain.append(_plain(row, error, against))
    empty = " |" * (len(heads) - 2 - len(names))
    for probe in probes:
        for name, probed in ((probe.name, probe.values), (f"{probe.name}, users renumbered", probe.renumbered)):
            lines.append(f"| *{name}* | | {' | '.join(number(probed[metric]) for metric in names)} |{empty}")
    text = [f"# {inline(evaluator.corpus.name)}", inline(evaluator.describe()) + "."]
    text.append(
        "Mean ± standard deviation over seeds; ± users is the standard error of the mean over users, which seeds do "
        f"not show. {_explain(baseline, monitor)}"
        + " Probes learn nothing: what they lose when users are renumbered was read out of the numbering."
        * bool(probes)
    )
    text += ["\n".join(lines), _parts(rows, monitor), *_samples(rows)]
    text += [*leak_warnings(probes, monitor), *notes]
    values: dict[str, Any] = {
        "protocol": evaluator.describe(),
        "mask": evaluator.mask,
        "corpus": {"name": evaluator.corpus.name, "fingerprint": evaluator.corpus.fingerprint()},
        "monitor": monitor,
        "baseline": None if baseline is None else baseline.label,
        "rows": plain,
        "probes": [vars(probe) for probe in probes],
        "notes": list(notes),
    }
    return "\n\n".join(part for part in text if part) + "\n", values


def _plain(row: Row, error: float, against: Comparison | None) -> dict[str, Any]:
    """A row as plain values, each seed's result in it."""
    spread = {
        split: {name: {"mean": mean, "std": std} for name, (mean, std) in row.over_seeds(split).items()}
        for split in ("validation", "test")
    }
    return {
        "label": row.label,
        "seeds": [result["seed"] for result in row.results],
        **spread,
        "standard_error_over_users": error,
        "against_baseline": None if against is None else vars(against),
        "cells": row.results,
    }


def _explain(baseline: Row | None, monitor: str) -> str:
    if baseline is None:
        return ""
    return (
        f"Δ is against {inline(baseline.label)}, the baseline (any row but the first) best in validation {monitor}; "
        "its interval is a paired bootstrap over users, p a paired t test."
    )


def _samples(rows: Sequence[Row]) -> list[str]:
    """Which weights a sample of users chose."""
    chosen = {(row.label, result["validation_users"]): None for row in rows for result in row.results}
    return [f"The weights of {inline(label)} were chosen by {sample}, a sample." for label, sample in chosen if sample]


def _parts(rows: Sequence[Row], monitor: str) -> str:
    """A second table: the monitored metric by kind of target."""
    names = list(rows[0].results[0]["breakdown"])
    if "cold" not in names:
        names.remove("warm")  # all of them
    sizes = [f"{name} ({rows[0].results[0]['breakdown'][name]['targets']:.0f} targets)" for name in names]
    lines = [f"| {monitor} by target | {' | '.join(sizes)} |", "|---" * (len(names) + 1) + "|"]
    for row in rows:
        spread = (over_seeds([result["breakdown"][name][monitor] for result in row.results]) for name in names)
        lines.append(f"| {inline(row.label)} | {' | '.join(_spread(*pair) for pair in spread)} |")
    return "\n".join(lines)


def number(value: float) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"


def _spread(mean: float, deviation: float) -> str:
    return number(mean) if np.isnan(deviation) else f"{number(mean)} ± {number(deviation)}"


def _bold(text: str, yes: bool) -> str:
    return f"**{text}**" if yes else text
