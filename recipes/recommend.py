"""Recommend with a trained model: titles for users, for a new user, like an item, or with items nobody has seen.

Users of the corpus, or the items a new one had:

  accelerate launch recipes/recommend.py --checkpoint runs/quickstart/finetune --user 42

  accelerate launch recipes/recommend.py --checkpoint runs/quickstart/finetune --user 42 7 --k 5 --filter-seen False

  accelerate launch recipes/recommend.py --checkpoint runs/quickstart/finetune --history 50,181,172

Items like one, by the cosine of the model's item vectors:

  accelerate launch recipes/recommend.py --checkpoint runs/quickstart/finetune --similar 50

New items ranked for a user, or users for each of them:

  accelerate launch recipes/recommend.py --checkpoint runs/content --new-items new.jsonl --user 42

  accelerate launch recipes/recommend.py --checkpoint runs/content --new-items new.jsonl

New items need a model that scores content alone (sasrecm or msm4sr with --model.use-ids False). Their file holds one
JSON object a line: {"id": "x1", "title": "…"}, and under the name of each feature set the model reads, its content: a
text or a vector for a dense set, a list of them for a ragged one, a list of words for tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from typing import TYPE_CHECKING

from seqmm.cli import run_recipe
from seqmm.flags import made_by_flags, parse_flags
from seqmm.foreign import shown
from seqmm.names import Backend
from seqmm.options import OptionError, Options, option

if TYPE_CHECKING:
    from seqmm.serving.index import Index, Recommendation
    from seqmm.serving.new_items import NewItems


@dataclass(frozen=True)
class Arguments(Options):
    """Recommend with a trained model."""

    checkpoint: str = option(MISSING, "A run's folder, or a model repository on the Hub.")
    user: tuple[str, ...] = option((), "Ids of users of the corpus.")
    history: str | None = option(None, "Item ids of a new user, oldest first, separated by commas.")
    similar: str | None = option(None, "Id of an item of the corpus: list the items most like it.")
    new_items: str | None = option(None, "JSON lines file of items that are not in the corpus.")
    encoder: str = option(
        "minilm", "What encodes the new items' texts; must be what the checkpoint's features were made with."
    )
    corpus: str | None = option(None, "Where the corpus is, if not where the run's run.yaml says.")
    k: int = option(10, "How many items to list.", least=1)
    filter_seen: bool = option(True, "Leave out what a user had; False = things are bought again.")
    backend: Backend = option("exact", "Score all items, or search an inner-product index (package faiss).")

    def check(self) -> None:
        asked = [name for name in ("user", "history", "similar") if getattr(self, name) not in (None, ())]
        if len(asked) > 1:
            first, second = asked[:2]
            remedy = "give one of --user, --history and --similar"
            raise OptionError("recommend", second, f" and --{first} were both given; {remedy}")
        if not asked and self.new_items is None:
            remedy = "Give --user ID, --history ID,ID,…, --similar ID, or --new-items FILE to find users for new items"
            raise OptionError("recommend", "user", f" is missing: for whom? {remedy}")


def main() -> None:
    arguments = made_by_flags(Arguments, parse_flags({"": Arguments}, description=__doc__)[""])

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
    if arguments.similar is not None:
        print_similar(index, arguments, new)
    elif arguments.user or arguments.history is not None:
        print_recommended(index, arguments, new)
    elif new is not None:
        print_audiences(index, arguments, new)


def print_recommended(index: Index, arguments: Arguments, new: NewItems | None) -> None:
    what = ranked(index, new)
    among = None if new is None else new.ids
    note = " (seen items left out)" if arguments.filter_seen else ""
    history = None if arguments.history is None else [name.strip() for name in arguments.history.split(",")]
    for user in arguments.user or (None,):
        found = index.recommend(user, history, k=arguments.k, among=among, filter_seen=arguments.filter_seen)
        known = index.history(user, history)
        whom = f"user {shown(user)}" if user is not None else "a new user"
        print(
            f"{whom} had {len(known)} items, at last: {'; '.join(shown(title or name) for name, title in known[-5:])}"
        )
        print(f"{index.model.config.model_type} recommends, of {what}{note}:")
        print_items(found)


def ranked(index: Index, new: NewItems | None) -> str:
    if new is not None:
        return f"the {len(new.ids)} new items"
    return f"{index.corpus.num_items:,} items of {shown(index.corpus.name)}"


def print_similar(index: Index, arguments: Arguments, new: NewItems | None) -> None:
    found = index.similar(arguments.similar or "", k=arguments.k, among=None if new is None else new.ids)
    (_, title), *_ = index.history(history=[arguments.similar or ""])
    what = ranked(index, new)
    print(f"like item {shown(arguments.similar)} {title!r} are, of {what}, to {index.model.config.model_type}:")
    print_items(found)


def print_audiences(index: Index, arguments: Arguments, new: NewItems) -> None:
    for item, title in zip(new.ids, new.titles, strict=True):
        print(f"{index.model.config.model_type} shows new item {shown(item)} {title!r} to")
        for place, (name, score) in enumerate(index.audience(item, k=arguments.k), 1):
            print(f"  {place:>3}  {score:9.4f}  user {shown(name)}")


def print_items(found: Sequence[Recommendation]) -> None:
    for place, (name, title, score) in enumerate(found, 1):
        print(f"  {place:>3}  {score:9.4f}  {shown(name):<12} {shown(title)}")


if __name__ == "__main__":
    run_recipe(main)
