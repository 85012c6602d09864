"""Recommend with a trained model: titles for a user, for a new user, or with items nobody has seen.

A user of the corpus, or the items a new one had:

  accelerate launch recipes/recommend.py --checkpoint runs/quickstart/finetune --user 42

  accelerate launch recipes/recommend.py --checkpoint runs/quickstart/finetune --history 50,181,172

New items ranked for a user, or users for each of them:

  accelerate launch recipes/recommend.py --checkpoint runs/content --new-items new.jsonl --user 42

  accelerate launch recipes/recommend.py --checkpoint runs/content --new-items new.jsonl

New items need a model that scores content alone (sasrecm or msm4sr with --model.use-ids False). Their file holds one
JSON object a line: {"id": "x1", "title": "…"}, and under the name of each feature set the model reads, its content: a
text or a vector for a dense set, a list of them for a ragged one, a list of words for tags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from seqmm.cli import run_recipe


@dataclass
class Arguments:
    """Recommend with a trained model."""

    checkpoint: str
    """A run's folder, or a model repository on the Hub."""
    user: str | None = None
    """Id of a user of the corpus."""
    history: str | None = None
    """Item ids of a new user, oldest first, separated by commas."""
    new_items: str | None = None
    """JSON lines file of items that are not in the corpus."""
    encoder: str = "minilm"
    """What encodes the new items' texts; must be what the checkpoint's features were made with."""
    corpus: str | None = None
    """Where the corpus is, if not where the run's run.yaml says."""
    k: int = 10
    """How many to list."""
    backend: Literal["exact", "faiss"] = "exact"
    """Score all items, or search an inner-product index (package faiss)."""


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__, config=(tyro.conf.FlagConversionOff,))
    if arguments.user is not None and arguments.history is not None:
        raise ValueError("--user is a user of the corpus and --history a new one; give one of them")
    if arguments.user is None and arguments.history is None and arguments.new_items is None:
        raise ValueError("for whom? Give --user ID, --history ID,ID,…, or --new-items FILE to find users for new items")

    from accelerate import PartialState

    from seqmm.distributed import on_cpu
    from seqmm.serving.index import Index, open_checkpoint
    from seqmm.serving.new_items import add_items, read_new_items

    state = PartialState(cpu=on_cpu())
    model, corpus = open_checkpoint(arguments.checkpoint, arguments.corpus)
    if not state.is_main_process:
        return
    new = None
    if arguments.new_items is not None:
        new = read_new_items(arguments.new_items, model, corpus, arguments.encoder)
        corpus = add_items(model, corpus, new)
    index = Index(model.to(state.device), corpus, backend=arguments.backend)
    kind = model.config.model_type
    if arguments.user is None and arguments.history is None and new is not None:
        for item, title in zip(new.ids, new.titles, strict=True):
            print(f"{kind} shows new item {item} {title!r} to")
            for place, (name, score) in enumerate(index.audience(item, k=arguments.k), 1):
                print(f"  {place:>3}  {score:9.4f}  user {name}")
        return
    history = None if arguments.history is None else [name.strip() for name in arguments.history.split(",")]
    what = f"the {len(new.ids)} new items" if new is not None else f"{corpus.num_items:,} items of {corpus.name}"
    found = index.recommend(arguments.user, history, k=arguments.k, among=None if new is None else new.ids)
    known = index.history(arguments.user, history)
    whom = f"user {arguments.user}" if arguments.user is not None else "a new user"
    print(f"{whom} had {len(known)} items, at last: {'; '.join(title or name for name, title in known[-5:])}")
    print(f"{kind} recommends, of {what} (seen items left out):")
    for place, (name, title, score) in enumerate(found, 1):
        print(f"  {place:>3}  {score:9.4f}  {name:<12} {title}")


if __name__ == "__main__":
    run_recipe(main)
