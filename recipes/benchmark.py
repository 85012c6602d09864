"""Compare models on one corpus: models x seeds to a table, on the test split (the only recipe that reads it unasked).

A YAML file is trained here with each seed (one that names a pretraining YAML in train.init_from is pretrained first); a
run's folder is evaluated as it is:

  accelerate launch recipes/benchmark.py --runs recipes/configs/{lightgcn,bpr}/baby.yaml --seeds 0 1 2

  accelerate launch recipes/benchmark.py --runs runs/mine-seed0 runs/mine-seed1 recipes/configs/sasrec/movielens.yaml

A YAML file's variants (the ablations of a paper) are rows beside it; file.yaml#name is one of them alone:

  accelerate launch recipes/benchmark.py --runs recipes/configs/mentor/baby.yaml --variants all

  accelerate launch recipes/benchmark.py --runs recipes/configs/mentor/baby.yaml#M1 recipes/configs/lightgcn/baby.yaml

What is finished is skipped, what was stopped goes on: run the same command again. Popularity and the leakage probes are
always in the table. The first one named is the model, the others are its baselines. Output: results.md, metrics.json,
per_user/*.npz, cells/, runs/.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, replace
from pathlib import Path

from seqmm.cli import run_recipe
from seqmm.flags import made_by_flags, parse_flags
from seqmm.names import Ideal, MaskChoice, MetricName
from seqmm.options import Options, option


@dataclass(frozen=True)
class Arguments(Options):
    """Compare models on one corpus."""

    runs: tuple[str, ...] = option(
        MISSING,
        "YAML files to train and folders of finished runs, in the order of the table; file.yaml#name is a variant.",
    )
    variants: tuple[str, ...] = option(
        (), "Variants that are rows beside the YAML files that have them; all = all they have on their own corpus."
    )
    output: Path = option(Path("runs/benchmark"), "Where everything goes.")
    seeds: tuple[int, ...] = option((0,), "Seeds of the YAML files' runs.")
    corpus: str | None = option(None, "Corpus for all of them, if not where each says.")
    ks: tuple[int, ...] = option((5, 10, 20), "Lengths of the lists that are measured.", least=1)
    metrics: tuple[MetricName, ...] = option(("recall", "ndcg"), "Metrics of the table.")
    monitor: str = option("ndcg@10", "What picks the best baseline (on validation) and is tested.")
    mask: MaskChoice = option(
        "auto",
        "Items left out of the ranking: train, history (train + validation), none; auto = train for ratio and given, "
        "else history.",
    )
    ideal: Ideal = option("test", "Ideal list of NDCG: of the test items, or of the hits in the retrieved list.")
    probes: bool = option(True, "Whether to run the leakage probes.")

    def check(self) -> None:
        metric, _, k = self.monitor.partition("@")
        if metric not in self.metrics or k not in map(str, self.ks) or metric in ("coverage", "popularity"):
            have = f"--metrics {' '.join(self.metrics)} at --ks {' '.join(map(str, self.ks))}"
            raise ValueError(f"--monitor {self.monitor} must be a metric of accuracy among {have}")
        if not self.runs or not self.seeds:
            raise ValueError("name at least one YAML file or run folder in --runs, and one seed in --seeds")


def main() -> None:
    arguments = made_by_flags(Arguments, parse_flags({"": Arguments}, description=__doc__)[""])
    output, monitor = arguments.output, arguments.monitor

    from seqmm.bench.cell import finish_all
    from seqmm.bench.plan import Evaluation, mixed_precision, plan, popularity
    from seqmm.bench.probes import run_probes, tie_report
    from seqmm.bench.table import read_rows, report
    from seqmm.files import write_json, write_text
    from seqmm.run.opening import open_corpus
    from seqmm.training.launching import make_accelerator

    cells = plan(arguments.runs, arguments.seeds, output, arguments.corpus, arguments.variants)
    if all(cell.run.model.model_type != "popularity" for cell in cells):
        cells.append(popularity(cells[0], output))
    accelerator = make_accelerator(mixed_precision(cells))
    corpus, data = open_corpus(replace(cells[0].run.data, features=(), rename=()))
    protocol = Evaluation(arguments.ks, arguments.metrics, arguments.mask, arguments.ideal)
    evaluator = protocol.evaluator(corpus, "test")
    results = finish_all(cells, corpus, protocol, output, accelerator)
    probes = run_probes(corpus, protocol, monitor) if arguments.probes else []
    if accelerator.is_main_process:
        note = tie_report(corpus, data) if arguments.probes else None
        text, values = report(read_rows(cells, results, output), probes, evaluator, monitor, [note] if note else [])
        write_text(output / "results.md", text)
        write_json(output / "metrics.json", values)
        print(f"\n{text}\nwritten to {output}")


if __name__ == "__main__":
    run_recipe(main)
