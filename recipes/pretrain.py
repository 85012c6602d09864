"""Pretrain the encoder of a two-stage recommender on item content; finetune it afterwards with recipes/finetune.py.

accelerate launch recipes/pretrain.py                        (MSM4SR on the default corpus)
accelerate launch recipes/pretrain.py --config recipes/configs/msm4sr/movielens.yaml
… --variant without_mixup                                    (a row of the file's variants; flags win over it)
… --train.epochs 5 --model.num-layers 3                      (any field of any section)
… --train.resume True                                        (go on after Ctrl-C or a crash)
"""

from seqmm.cli import run_recipe
from seqmm.files import installed_folder
from seqmm.run.settings import load_run


def main() -> None:
    default = installed_folder("recipes") / "configs" / "msm4sr" / "movielens.yaml"
    run = load_run(description=__doc__, default_config=str(default), pretraining=True)

    from seqmm.run.fit import fit_and_publish
    from seqmm.run.run import Run

    fit_and_publish(Run(run))


if __name__ == "__main__":
    run_recipe(main)
