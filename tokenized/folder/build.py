"""Build a corpus from a folder of your own: a table of interactions, a table of items, a folder of images.

  shop/interactions.csv     user_id, item_id, and if there is one a timestamp       (.csv, .tsv, .parquet, also .gz)
  shop/items.csv            item_id, title, description, brand, categories, …      (also .json, .jsonl)
  shop/images/              <item id>.jpg, further ones <item id>_2.jpg …           (or .tar files of them)

  python tokenized/folder/build.py --source shop

Columns of other names, lists in a cell, vectors that are there already, photos behind URLs:

  python tokenized/folder/build.py --source shop --user customer --item sku --timestamp when --rename title=name \\
      --lists categories='|' --tags brand categories --feature clip=shop/clip.parquet
  python tokenized/folder/build.py --source shop --download-images shop/images --image-column photo_url

Ids are text ("007" stays "007"). What does not fit is counted, printed and written into the card: rows without user or
item, items listed twice, items nobody had, interactions with items that are not in the table, images of no item.
"""

from seqmm.building.command import prepare_command
from seqmm.cli import run_recipe

if __name__ == "__main__":
    run_recipe(lambda: prepare_command("folder", description=__doc__ or "", parent="tokenized/folder"))
