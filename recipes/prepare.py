"""Prepare a corpus: read a source, filter, order, split, number, and write a Hub-shaped folder.

From Amazon's files (reviews and metadata of one category; brand and categories become tags):

  python recipes/prepare.py amazon --year 2023 --interactions Baby_Products.jsonl.gz \\
      --items meta_Baby_Products.jsonl.gz --output corpora/baby
  python recipes/prepare.py amazon --year 2014 --interactions ratings_Beauty.csv --output corpora/beauty

From GroupLens' files, with a table of overviews; tokenized/movielens/build.py does this and the features in one:

  python recipes/prepare.py movielens --source ml-latest-small --overviews overviews.tsv.gz --output corpora/movies

From a folder of your own (interactions.csv, items.csv, images/), or from tables with columns of any name:

  python recipes/prepare.py folder --source shop --output corpora/shop
  python recipes/prepare.py table --interactions inter.tsv.gz --items items.tsv --rename title=name --tags brand \\
      --split x_label --feature image=image_feat.npy text=text_by_id.parquet --output corpora/mine

From a dataset on the Hub, or a folder that datasets.load_dataset reads:

  python recipes/prepare.py datasets --interactions org/name --items-config items --output corpora/theirs

Another protocol into the same folder: the same command with other --protocols. That works with the same interactions
(a newer log is another corpus, or replaces the folder: --overwrite True) and where the protocol keeps the same users
and items: leave_one_out and ratio do, given does with the others' --k-core (its own is 0). temporal and cold drop users
without a train interaction, and get folders of their own beside the others.
"""

from seqmm.building.command import prepare_command
from seqmm.cli import run_recipe

if __name__ == "__main__":
    run_recipe(lambda: prepare_command(description=__doc__ or ""))
