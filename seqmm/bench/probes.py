"""Label-leak probes as rows of the benchmark's table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from seqmm.arguments import DataArguments
from seqmm.bench.plan import Evaluation
from seqmm.data.corpus import Corpus
from seqmm.data.store import read_items
from seqmm.evaluation.leakage import PROBES, renumbered, ties
from seqmm.evaluation.significance import standard_error
from seqmm.hub.access import corpus_files, local_folder
from seqmm.training.launching import make_accelerator


@dataclass(frozen=True)
class Probe:
    """A leakage probe's test metrics on a corpus and on the same with users renumbered at random."""

    name: str
    values: dict[str, float]
    renumbered: dict[str, float]
    z: float
    """Difference in the monitored metric over its standard error; beyond 4 the numbering tells labels."""


def run_probes(corpus: Corpus, protocol: Evaluation, monitor: str) -> list[Probe]:
    """Label-leak probes (:mod:`seqmm.evaluation.leakage`), evaluated as every model."""
    accelerator, other = make_accelerator(), renumbered(corpus)
    found = []
    for name, probe in PROBES.items():
        ours, theirs = protocol.evaluator(corpus, "test"), protocol.evaluator(other, "test")
        values = ours.evaluate(probe(corpus), accelerator=accelerator)
        without = theirs.evaluate(probe(other), accelerator=accelerator)
        error = math.hypot(standard_error(ours.per_user[monitor]), standard_error(theirs.per_user[monitor]))
        found.append(Probe(name, values, without, (values[monitor] - without[monitor]) / max(error, 1e-12)))
    return found


def tie_report(corpus: Corpus, data: DataArguments) -> str | None:
    """One line on ties in time; None where the corpus has no times or its source order is not known."""
    timed = all(part.timestamp is not None for part in corpus.splits.values())
    if data.path is None or data.joined or corpus.protocol != "leave_one_out" or not timed:
        return None
    items = read_items(local_folder(data.path, revision=data.revision, kind="dataset", files=corpus_files()))
    if "source_index" not in items.column_names:
        return None
    found = ties(corpus, items["source_index"].to_numpy())
    shared = f"Ties: {found.share:.1%} of neighbouring interactions share a time"
    if not found.users:
        return f"{shared}; no user's last one does."
    return (
        f"{shared}; of {found.users} users whose last one "
        f"ties, it has the largest source id of its group for {found.largest:.1%} (by chance {found.chance:.1%}), "
        f"leak {found.score:.2f} of 1."
    )


def leak_warnings(probes: Sequence[Probe], monitor: str) -> list[str]:
    return [
        f"**Leak:** {probe.name} scores {probe.values[monitor]:.4f} in {monitor}, and {probe.renumbered[monitor]:.4f} "
        f"with users renumbered ({probe.z:.0f} standard errors less): the numbering tells labels. Prepare the corpus "
        "with index_order permuted."
        for probe in probes
        if probe.z > 4
    ]
