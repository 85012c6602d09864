"""Publish a prepared corpus or a trained model on the Hub, as one commit.

A corpus: all its protocols and feature sets, and a card with statistics, splits, how it was prepared, and its licence,
which has to be given the first time (an identifier of the Hub; "other" with a name and a link for one that has none):

  python recipes/publish.py --corpus corpora/mine --repo org/mine --license cc-by-4.0

  python recipes/publish.py --corpus corpora/ml-1m --repo org/ml-1m --license other --license-name movielens-1m \\
      --license-link https://files.grouplens.org/datasets/movielens/ml-1m-README.txt

A model: weights, config, run.yaml, and a card with results and corpus; say where the corpus was published:

  python recipes/publish.py --model runs/finetuned --repo org/finetuned --corpus-repo org/mine

What would go up, without any network: add --dry-run True. A new repository is private unless --private False.

Log in with `hf auth login` or set HF_TOKEN. What was published comes back by its name: seqmm.load_corpus("org/mine"),
seqmm.from_pretrained("org/finetuned"), --data.path org/mine, --train.init-from org/finetuned.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seqmm.cli import run_recipe
from seqmm.flags import in_flags, made_by_flags, parse_flags
from seqmm.options import Options, option

if TYPE_CHECKING:
    from seqmm.publishing.plans import Upload


@dataclass(frozen=True)
class Arguments(Options):
    """Publish a corpus or a model."""

    repo: str = option(MISSING, 'Repository, "org/name"; made if there is none.')
    corpus: Path | None = option(None, "Folder of a prepared corpus.")
    model: Path | None = option(None, "Folder of a finished run.")
    license: str | None = option(
        None,
        "Identifier of the licence on the Hub. If absent: the one it was published with before, or a model card's.",
    )
    license_name: str | None = option(None, 'Identifier of the licence "other", such as movielens-1m.')
    license_link: str | None = option(
        None, 'Text of the licence "other": its URL, or LICENSE for a file in the folder.'
    )
    corpus_repo: str | None = option(
        None,
        "Dataset repository that a model's corpus was published as. If absent: where the corpus was loaded from.",
    )
    private: bool = option(True, "Make it a private repository; one that is public is then refused.")
    revision: str | None = option(None, "Branch to push to, made if there is none; main if absent.")
    message: str | None = option(None, "Message of the commit.")
    dry_run: bool = option(False, "List what would go up and check the card; nothing is sent and nothing is written.")

    def check(self) -> None:
        if (self.corpus is None) == (self.model is None):
            raise ValueError("publish what? Give either --corpus FOLDER or --model FOLDER")
        if self.corpus is not None and self.corpus_repo is not None:
            raise ValueError("--corpus-repo says where a model's corpus is; the repository of --corpus is --repo")
        if self.license is None and (self.license_name or self.license_link):
            raise ValueError("--license-name and --license-link belong to --license other")


def main() -> None:
    arguments = made_by_flags(Arguments, parse_flags({"": Arguments}, description=__doc__)[""])

    from seqmm.hub.licences import check_license
    from seqmm.publishing.plans import plan_corpus, plan_model
    from seqmm.publishing.push import publish_corpus, publish_model

    license = None
    if arguments.license is not None:
        license = check_license(arguments.license, arguments.license_name, arguments.license_link)
    if arguments.dry_run:
        known = None if arguments.corpus_repo is None else {"repository": arguments.corpus_repo}
        if arguments.corpus is not None:
            upload = plan_corpus(arguments.corpus, arguments.repo, license)
        else:
            upload = plan_model(arguments.model or Path(), arguments.repo, license, known)
        print("\n".join(listing(upload)))
        if known is not None:
            print(f"not checked without network: that {arguments.corpus_repo} holds the model's corpus")
        print(f"the card is well-formed; nothing was sent to {arguments.repo}")
        return
    if arguments.corpus is not None:
        pushed = publish_corpus(
            arguments.corpus,
            arguments.repo,
            license=license,
            private=arguments.private,
            revision=arguments.revision,
            message=arguments.message,
        )
    else:
        pushed = publish_model(
            arguments.model or Path(),
            arguments.repo,
            license=license,
            corpus_repo=arguments.corpus_repo,
            private=arguments.private,
            revision=arguments.revision,
            message=arguments.message,
        )
    print(f"{'published' if pushed.changed else 'unchanged'}  {pushed.url}")
    print(f"commit     {pushed.commit}")
    for name in pushed.removed:
        print(f"removed    {name} (of an earlier upload)")


def listing(upload: Upload) -> list[str]:
    """What goes up and what does not, a line each."""
    sizes = upload.sizes()
    lines = [f"{size:>14,}  {name}" for name, size in sizes.items()]
    lines.append(f"{sum(sizes.values()):>14,}  bytes in {len(sizes)} files of one commit to a {upload.kind} repository")
    folders: dict[str, int] = {}  # a raw folder may hold a million pictures
    for name in upload.left_out:
        top = name.split("/")[0] + "/" * ("/" in name)
        folders[top] = folders.get(top, 0) + 1
    return (
        lines
        + [
            f"{'stays here':>14}  {top}" + (f" ({count:,} files)" if top.endswith("/") else "")
            for top, count in folders.items()
        ]
        + [f"{'check':>14}  {in_flags(note)}" for note in upload.notes]
    )


if __name__ == "__main__":
    run_recipe(main)
