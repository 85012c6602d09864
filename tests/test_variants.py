"""Variants and sweeps: many runs in one YAML file, each by its name."""

from copy import deepcopy

import pytest

from seqmm.files import read_yaml, write_yaml
from seqmm.foreign import path_name
from seqmm.run.settings import load_run
from seqmm.run.variants import chosen, is_configuration, reference, sweep_of, variants_of

BASE = {"model": {"model_type": "lightgcn", "num_layers": 3}, "train": {"epochs": 7}}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.yaml"

    def write(**sections):
        write_yaml(path, BASE | sections)
        return str(path)

    return write


def test_class_default_then_yaml_then_variant_then_flag(file):
    path = file(variants={"deep": {"model.num_layers": 4, "eval.ks": [1, 10], "train.epochs": 8}})
    base = load_run(["--config", path])
    assert (base.model.num_layers, base.train.epochs, base.variant) == (3, 7, None)
    run = load_run(["--config", path, "--variant", "deep", "--train.epochs", "9"])
    assert (run.model.num_layers, run.model.hidden_size, run.train.epochs, run.eval.ks) == (4, 64, 9, (1, 10))
    assert run.variant == f"{path}#deep"
    assert load_run(["--config", f"{path}#deep", "--train.epochs", "9"]) == run
    assert load_run(["--train.epochs=9", "--variant=deep"], default_config=path) == run
    with pytest.raises(ValueError, match="name two variants"):
        load_run(["--config", f"{path}#deep", "--variant", "flat"])
    with pytest.raises(ValueError, match="--variant deep is one of a file's: say which with --config"):
        load_run(["--model.model-type", "lightgcn", "--variant", "deep"])


def test_a_variant_run_comes_back_from_its_run_yaml(file, tmp_path):
    path = file(variants={"deep": {"model.num_layers": 4, "train.init_from": None}})
    run = load_run(["--config", path, "--variant", "deep"])
    write_yaml(tmp_path / "again.yaml", run.to_dict())
    assert "variants" not in run.to_dict() and "variant" not in run.to_dict()
    assert load_run(["--config", str(tmp_path / "again.yaml")]).to_dict() == run.to_dict()


def test_a_value_is_replaced_as_a_whole_and_the_file_is_left_as_it_is():
    values = {"model": {"modality_weights": {"image": 0.1, "text": 0.9}}, "variants": {}}
    values["variants"]["x"] = {"model.modality_weights": {"image": 1.0}, "data.features": ["image"]}
    before = deepcopy(values)
    expected = {"model": {"modality_weights": {"image": 1.0}}, "data": {"features": ["image"]}}
    assert chosen(values, "x", "f") == expected
    assert values == before
    assert chosen(values, None, "f") == {"model": before["model"]}


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"deep": {"model.num_layers": 4}}, "there is no variant 'deap'; did you mean 'deep'?"),
        ({}, "there is no variant 'deap'; it has no variants"),
        (
            {"deap": {"model.num_layer": 4}},
            "#deap: model.num_layer: there is no such option; did you mean 'num_l",
        ),
        ({"deap": {"modl.num_layers": 4}}, "#deap: unknown section 'modl'; did you mean 'model'"),
        ({"deap": {"model": {"num_layers": 4}}}, "variant deap must be a mapping of section.key to a value"),
        ({"deap": {"num_layers": 4}}, "variant deap must be a mapping of section.key to a value"),
        ({"deap": {"model.": 4}}, "variant deap must be a mapping of section.key to a value"),
        ({"deap": [1]}, "variant deap must be a mapping"),
        ({"deap": {"model.num_layers": 3}}, "variant deap changes nothing"),
        ({"deap": {}}, "variant deap changes nothing"),
        ({"all": {"model.num_layers": 4}}, "no variant can be called all"),
        ({"a": {"model.num_layers": 4}, "b": {"model.num_layers": 4}}, "'a' and 'b' are the same run"),
        (["deap"], "variants must be a mapping of names"),
    ],
)
def test_wrong_variants_name_the_file_and_the_right_one(file, variants, message):
    path = file(variants=variants)
    with pytest.raises(ValueError) as error:
        load_run(["--config", path, "--variant", "deap"])
    assert path in str(error.value) and message in str(error.value)


def test_a_variant_that_is_no_other_run_is_refused(file):
    path = file(variants={"plain": {"model.hidden_size": 64}, "deep": {"model.num_layers": 4}})
    for choice in (["--variant", "plain"], ["--variant", "deep", "--model.num-layers", "5"]):
        with pytest.raises(ValueError, match=rf"{path}: variant {choice[1]} is the same run as the file without it"):
            load_run(["--config", path, *choice])
    assert load_run(["--config", path, "--variant", "deep", "--model.hidden-size", "8"]).model.num_layers == 4


def test_a_sweep_is_every_combination_of_each_grid(file):
    sweep = [{"model.num_layers": [1, 2], "train.seed": [0, 5]}, {"model.num_layers": [4]}]
    path = file(sweep=sweep)
    points = sweep_of(read_yaml(path), path)
    assert list(points) == [
        "num_layers=1 seed=0", "num_layers=1 seed=5", "num_layers=2 seed=0", "num_layers=2 seed=5", "num_layers=4"
    ]  # fmt: skip
    runs = [load_run(["--config", path, "--variant", name]) for name in points]
    assert [(run.model.num_layers, run.train.seed) for run in runs] == [(1, 0), (1, 5), (2, 0), (2, 5), (4, 0)]
    with pytest.raises(ValueError, match=r"sweep, many runs.*benchmark.*--variant 'num_layers=1 seed=0'"):
        load_run(["--config", path])
    for wrong in ({"model.num_layers": [1]}, [{"model.num_layers": 1}], [{"model.num_layers": []}], [{}], []):
        with pytest.raises(ValueError, match="list of grids"):
            sweep_of({"sweep": wrong}, path)
    with pytest.raises(ValueError, match="twice"):
        sweep_of({"sweep": [{"train.seed": [1]}, {"train.seed": [1]}]}, path)
    with pytest.raises(ValueError, match="the same run"):
        sweep_of(BASE | {"sweep": [{"model.num_layers": [3]}, {"train.epochs": [7]}]}, path)
    assert sweep_of(BASE, path) == {}
    wrong = file(sweep=[{"model.num_layer": [1]}])
    with pytest.raises(ValueError, match=r"#num_layer=1: model.num_layer: .*; did you mean 'num_layers'"):
        load_run(["--config", f"{wrong}#num_layer=1"])


def test_a_file_has_variants_beside_its_sweep(file):
    path = file(sweep=[{"model.num_layers": [1, 2]}], variants={"wide": {"model.hidden_size": 128}})
    wide = load_run(["--config", path, "--variant", "wide"])
    assert (wide.model.num_layers, wide.model.hidden_size) == (3, 128)
    assert list(variants_of(read_yaml(path), path)) == ["wide"]
    levels = file(model={"model_type": "mentor"}, sweep=[{"model.align_levels": [[1], [1, 2]]}])
    names = sweep_of(read_yaml(levels), levels)
    found = [load_run(["--config", f"{levels}#{name}"]).model.align_levels for name in names]
    assert found == [(1,), (1, 2)]


def test_references():
    assert reference("a/b.yaml#M1") == ("a/b.yaml", "M1")
    assert reference("a/b.yaml") == ("a/b.yaml", None)
    assert reference("runs/c#1/run.yaml") == ("runs/c#1/run.yaml", None)
    assert is_configuration("a/b.yaml#M1") and is_configuration("a.yml")
    assert not is_configuration("runs/mine") and not is_configuration("org/model")
    assert path_name("mentor", None, "num_layers=1 seed=0") == "mentor-num_layers-1-seed-0"
