"""Build a corpus from Amazon's reviews and metadata of one category: 2014, 2018 or 2023.

Download the two files of a category yourself (README.md beside this file says where), then:

  python tokenized/amazon/build.py --year 2014 --interactions ratings_Baby.csv --items meta_Baby.json.gz
  python tokenized/amazon/build.py --year 2018 --interactions Prime_Pantry.csv --items meta_Prime_Pantry.json.gz \\
      --unknown-items drop --duplicates keep     # as UniSRec does it, but for rows that are the same to the letter
  python tokenized/amazon/build.py --year 2023 --interactions All_Beauty.jsonl.gz --items meta_All_Beauty.jsonl.gz

With the product photos (once; what is there is not asked for again):

  python tokenized/amazon/build.py --year 2018 --interactions … --items … --download-images photos/pantry
"""

from seqmm.building.command import prepare_command
from seqmm.cli import run_recipe

if __name__ == "__main__":
    run_recipe(lambda: prepare_command("amazon", description=__doc__ or "", parent="tokenized/amazon"))
