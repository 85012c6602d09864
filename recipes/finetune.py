"""Finetune a pretrained recommender on a corpus, the one it was pretrained on or another.

    accelerate launch recipes/finetune.py --train.init-from runs/msm4sr-ml-100k-pretrain
    accelerate launch recipes/finetune.py --config recipes/configs/msm4sr/movielens_finetune.yaml \\
        --train.init-from org/pretrained-model --data.path org/corpus          (both from the Hub)
    … --data.path corpora/mine --data.features text_sentences    (its sets may have other names, and may be fewer)
    accelerate launch recipes/finetune.py --variant without_ids --train.init-from runs/msm4sr-ml-100k-pretrain
                                                                 (a row of the file's variants; flags win over it)
    … --train.resume True                                        (go on after Ctrl-C or a crash)
"""

from seqmm.cli import run_recipe
from seqmm.files import installed_folder
from seqmm.foreign import word
from seqmm.run.settings import load_run
from seqmm.run.variants import is_configuration, reference


def main() -> None:
    default = installed_folder("recipes") / "configs" / "msm4sr" / "movielens_finetune.yaml"
    run = load_run(description=__doc__, default_config=str(default))
    if run.train.init_from is None:
        raise ValueError(
            "finetuning starts from a checkpoint: pass --train.init-from FOLDER_OR_HUB_ID "
            "(recipes/pretrain.py makes one); without one use recipes/train.py"
        )

    if is_configuration(run.train.init_from):
        file, variant = reference(run.train.init_from)
        pretrain = f"recipes/pretrain.py --config {word(file)}" + (f" --variant {word(variant)}" if variant else "")
        raise ValueError(
            f"train.init_from is the configuration {run.train.init_from}: run {pretrain} first, "
            "then pass its output folder with --train.init-from"
        )

    from seqmm.hub.access import local_folder
    from seqmm.models.checkpoint import check_start, load_config
    from seqmm.models.registry import model_class
    from seqmm.run.fit import fit_and_publish
    from seqmm.run.run import Run

    recommender = model_class(run.model.model_type)
    before = load_config(local_folder(run.train.init_from, revision=run.train.init_revision))
    check_start(recommender, run.train.init_from, before, run.model)  # before the corpus is read
    fit_and_publish(Run(run))


if __name__ == "__main__":
    run_recipe(main)
