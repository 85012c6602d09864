"""Score anybody's recommendation lists against held-out interactions, with the metrics of every table here.

Lists of another program, and the interactions that were held out and trained on:

  seqmm score lists.csv --truth test.csv --train train.csv --ks 5 10 20 --metrics recall ndcg coverage popularity

A list is a table (CSV, TSV, parquet, each text also .gz) with columns user_id (or user), item_id (or item), and rank or
score; equal scores share their places. Columns of other names:

  seqmm score lists.tsv --truth test.tsv --user customer --item sku --score prediction

As JSON lines, {"user": "u1", "items": ["best", "second"]}:

  seqmm score lists.jsonl --truth test.csv

Against the test split of a prepared corpus, whose train split and catalogue are then known:

  seqmm score lists.csv --truth tokenized/movielens/ml-100k --protocol leave_one_out
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seqmm.cli import run_recipe
from seqmm.flags import made_by_flags, parse_flags
from seqmm.names import Ideal, Protocol
from seqmm.options import Options, option

if TYPE_CHECKING:
    from seqmm.data.corpus import Corpus
    from seqmm.evaluation.lists import Pairs


@dataclass(frozen=True)
class Arguments(Options):
    """Score recommendation lists."""

    lists: str = option(MISSING, "File of the recommendation lists.", positional=True)
    truth: str = option(MISSING, "What was held out: a file of pairs, or a prepared corpus (folder or Hub).")
    train: str | None = option(None, "File of the pairs that were trained on; popularity and filter_seen need it.")
    ks: tuple[int, ...] = option((5, 10, 20), "Lengths of the lists that are measured.", least=1)
    metrics: tuple[str, ...] = option(
        ("recall", "ndcg"), "Metrics: recall, precision, ndcg, map, mrr, hit, coverage, popularity."
    )
    ideal: Ideal = option("test", "Ideal list of NDCG: of the test items, or of the hits in the retrieved list.")
    filter_seen: bool = option(False, "Take what a user had in train out of his list first.")
    num_items: int | None = option(None, "Size of the catalogue, for coverage; None = all items named.", least=1)
    user: str | None = option(None, "Column of the user ids in all tables; None = user_id or user.")
    item: str | None = option(None, "Column of the item ids in all tables; None = item_id or item.")
    rank: str | None = option(None, "Column of the place in the list, best = smallest; None = rank, if there is one.")
    score: str | None = option(None, "Column of the score, best = largest; None = score, if there is one and no rank.")
    protocol: Protocol = option("leave_one_out", "Split protocol of a corpus that is the truth.")


def main() -> None:
    arguments = made_by_flags(Arguments, parse_flags({"": Arguments}, description=__doc__)[""])

    from seqmm.data.loading import load_corpus
    from seqmm.evaluation.list_files import read_lists, read_pairs
    from seqmm.evaluation.lists import measure_lists

    columns = {"user": arguments.user, "item": arguments.item}
    lists = read_lists(arguments.lists, **columns, rank=arguments.rank, score=arguments.score)
    train = None if arguments.train is None else read_pairs(arguments.train, **columns)
    truth: Pairs | Corpus
    if Path(arguments.truth).is_file() or Path(arguments.truth).suffix:
        truth = read_pairs(arguments.truth, **columns)
    else:
        truth = load_corpus(arguments.truth, protocol=arguments.protocol)
        print(f"truth: the test split of {truth}")
    found = measure_lists(
        lists,
        truth,
        train=train,
        ks=arguments.ks,
        metrics=arguments.metrics,
        ideal=arguments.ideal,
        filter_seen=arguments.filter_seen,
        num_items=arguments.num_items,
    )
    print(f"{len(found.users):,} users with held-out items; catalogue of {found.num_items:,} items")
    for remark in found.remarks():
        print(f"note: {remark}")
    width = max(map(len, arguments.metrics))
    print(f"{'':{width}}" + "".join(f"{f'@{k}':>10}" for k in sorted(set(arguments.ks))))
    for name in arguments.metrics:
        print(f"{name:{width}}" + "".join(f"{found.values[f'{name}@{k}']:10.4f}" for k in sorted(set(arguments.ks))))


if __name__ == "__main__":
    run_recipe(main)
