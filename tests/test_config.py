"""Configuration: class default < YAML < flag; a wrong key names the nearest right one; help is quick."""

import resource
import subprocess
import sys

import pytest
import yaml

from seqmm.files import read_yaml, write_yaml
from seqmm.options import about, option_fields, plain_values
from seqmm.run.settings import load_run
from seqmm.run.variants import sweep_of, variants_of


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.yaml"

    def write(**sections):
        write_yaml(path, sections)
        return str(path)

    return write


def test_default_then_yaml_then_flag(file):
    path = file(model={"model_type": "lightgcn", "num_layers": 4}, train={"epochs": 7, "report_to": ["tensorboard"]})
    run = load_run(["--config", path, "--train.epochs", "9", "--eval.ks", "1", "10"])
    assert (run.model.num_layers, run.model.hidden_size) == (4, 64)
    assert (run.train.epochs, run.train.report_to, run.eval.ks) == (9, ("tensorboard",), (1, 10))
    assert load_run([f"--config={path}"]).train.epochs == 7


def test_run_yaml_comes_back_as_config(tmp_path):
    run = load_run(
        ["--model.model-type", "sasrec", "--data.features", "text", "--train.init-from", "x", "--hub.private", "False"]
    )
    write_yaml(tmp_path / "run.yaml", run.to_dict())
    again = load_run(["--config", str(tmp_path / "run.yaml")])
    assert again.to_dict() == run.to_dict()
    assert again.hub.private is False and again.data.features == ("text",)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"model_type": "lightgcn", "num_layer": 3}}, "model.num_layer: .*; did you mean 'num_layers'"),
        ({"model": {"model_type": "lightgcn"}, "train": {"learning_rat": 3}}, "did you mean 'learning_rate'"),
        ({"model": {"model_type": "lightgcn"}, "trian": {}}, "section 'trian'; did you mean 'train'"),
        ({"model": {"model_type": "lightgnc"}}, "did you mean 'lightgcn'"),
        ({"model": {"model_type": "lightgcn", "num_users": 3}}, "model.num_users: there is no such option"),
        ({"model": {"model_type": "lightgcn"}, "train": 3}, "must be a mapping"),
        (
            {"model": {"model_type": "bpr"}, "train": {"epochs": "many"}},
            "train.epochs is 'many'; choose a whole number",
        ),
        ({"model": {"model_type": "bpr"}, "train": {"epochs": -1}}, "train.epochs is -1; choose 0 or more"),
        ({"model": {"model_type": "bpr"}, "train": {"resume": "yes"}}, "train.resume is 'yes'; choose true or false"),
        (
            {"model": {"model_type": "bpr"}, "train": {"schedule": "cosin"}},
            r"schedule is 'cosin'.*did you mean 'cosine'",
        ),
        ({"model": {"model_type": "bpr"}, "eval": {"ks": 10}}, "eval.ks is 10; choose a list of whole numbers"),
        ({"model": {"model_type": "sasrec", "loss": "sofmax"}}, r"model.loss is 'sofmax'.*did you mean 'softmax'"),
        ({"model": {"model_type": "buir", "neighbors": False, "edge_keep": 0.5}}, "model.edge_keep is 0.5, but does"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_of_the_file(file, sections, message):
    path = file(**sections)
    with pytest.raises(ValueError, match=message) as error:
        load_run(["--config", path])
    assert str(error.value).startswith(f"{path}: ") and "--" not in str(error.value).replace("--plugin", "")


def test_no_model_is_an_error(file):
    with pytest.raises(ValueError, match=r"run\.yaml: model\.model_type is missing; .*--model\.model-type NAME"):
        load_run(["--config", file(train={"epochs": 3})])
    with pytest.raises(ValueError, match="which model"):
        load_run([])


def test_a_flag_mends_what_a_file_combines(file):
    path = file(model={"model_type": "buir", "neighbors": False, "edge_keep": 0.5})
    assert load_run(["--config", path, "--model.neighbors", "True"]).model.edge_keep == 0.5
    with pytest.raises(ValueError, match="^--model.edge-keep is 0.4, but does nothing"):
        load_run(["--config", path, "--model.edge-keep", "0.4"])
    with pytest.raises(ValueError, match="^--train.epochs is -3; choose 0 or more"):
        load_run(["--model.model-type", "bpr", "--train.epochs", "-3"])


def test_yaml_words_mean_what_they_say(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "model: {model_type: freedom, modality_weights: {image: 0.1, text: 1}}\n"
        "train: {mixed_precision: no, learning_rate: 1e-3, init_from: null}\n"
    )
    run = load_run(["--config", str(path)])
    assert (run.train.mixed_precision, run.train.learning_rate, run.train.init_from) == ("no", 1e-3, None)
    assert run.model.modality_weights == {"image": 0.1, "text": 1.0}
    assert load_run(["--config", str(path), "--model.modality-weights"]).model.modality_weights == {}
    given = load_run(["--config", str(path), "--model.modality-weights", "text", "0.3", "image", "0.7"])
    assert given.model.modality_weights == {"image": 0.7, "text": 0.3}


@pytest.mark.parametrize("flags", [["--train.epochz", "3"], ["--train.epochs", "three"], ["--data.protocol", "loo"]])
def test_wrong_flags_exit_with_2(flags, capsys):
    with pytest.raises(SystemExit) as stop:
        load_run(["--model.model-type", "bpr", *flags])
    assert stop.value.code == 2
    assert flags[0].removeprefix("--") in capsys.readouterr().err


def test_missing_file_names_its_siblings(file, tmp_path):
    file(model={"model_type": "bpr"})
    with pytest.raises(FileNotFoundError, match=r"other.yaml; that folder has .*run.yaml"):
        load_run(["--config", str(tmp_path / "other.yaml")])
    (tmp_path / "broken.yaml").write_text("model: [")
    with pytest.raises(ValueError, match="not valid YAML"):
        load_run(["--config", str(tmp_path / "broken.yaml")])


def _yamls():
    from tests.conftest import REPOSITORY

    return sorted((REPOSITORY / "recipes" / "configs").glob("*/*.yaml"))


@pytest.mark.parametrize("path", _yamls(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_shipped_yaml_is_a_run(path):
    pretraining = "recipes/pretrain.py" in path.read_text().splitlines()[0]
    values = read_yaml(path)
    swept = sweep_of(values, path)
    seen = []
    for name in [*(swept or [None]), *variants_of(values, path)]:
        choice = [] if name is None else ["--variant", name]
        run = load_run(["--config", str(path), *choice], pretraining=pretraining)
        assert run.model.model_type == path.parent.name
        assert run.to_dict() not in seen, f"{name} is a run that another name has"
        seen.append(run.to_dict())
    first, second = path.read_text().splitlines()[:2]
    assert first.startswith("# accelerate launch") and str(path.relative_to(path.parents[3])) in first
    measured, not_run = ("validation" in second or "test " in second), "not run" in second
    assert second.startswith("#") and measured != not_run, "the number the file reproduces, or that it was not run"


def _classes_of_options():
    from seqmm.registry import MODELS
    from seqmm.run.settings import ARGUMENTS

    models = (cls.config_class for name in MODELS.names() for cls in MODELS.classes(name))
    return sorted({*ARGUMENTS, *models}, key=lambda cls: cls.__name__)


@pytest.mark.parametrize("cls", _classes_of_options(), ids=lambda cls: cls.__name__)
def test_every_option_says_what_it_is_in_a_sentence_of_its_own(cls):
    names = [each.name for each in option_fields(cls)]
    assert names
    for each in option_fields(cls):
        text = about(each).help
        assert text[0].isupper() and text.endswith("."), f"{cls.__name__}.{each.name}: {text!r} is no sentence"
        assert not text.startswith(("Of ", "The same", "As ")), f"{cls.__name__}.{each.name}: {text!r} leans on another"
        assert text.count("(") == text.count(")") and "``" not in text, f"{cls.__name__}.{each.name}: {text!r}"


@pytest.mark.parametrize("cls", _classes_of_options(), ids=lambda cls: cls.__name__)
def test_a_class_default_is_right_by_its_own_ranges(cls):
    made = cls()
    assert plain_values(cls(**plain_values(made))) == plain_values(made)


def _seconds(code):
    """Of CPU: other tests run beside this one."""

    def used():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return used() - before


def test_import_is_light():
    code = "import sys, seqmm; assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    bare = min(_seconds("pass") for _ in range(3))
    assert min(_seconds(code) for _ in range(3)) - bare < 0.2


def test_help_without_a_model_is_quick_and_imports_no_torch(repository):
    for recipe in sorted((repository / "recipes").glob("*.py")):
        code = (
            f"import runpy, sys; sys.path.insert(0, {str(recipe.parent)!r}); sys.argv = [{str(recipe)!r}, '--help']\n"
            f"try:\n    runpy.run_path({str(recipe)!r}, run_name='__main__')\n"
            "except SystemExit as stop:\n    assert stop.code in (0, None), stop.code\n"
            "assert 'torch' not in sys.modules, 'torch was imported'"
        )
        assert min(_seconds(code) for _ in range(2)) < 1, recipe.name


@pytest.mark.slow
def test_help_with_a_model_shows_its_options(repository):
    recipe = repository / "recipes" / "train.py"
    shown = subprocess.run(
        [sys.executable, recipe, "--config", repository / "recipes/configs/lightgcn/movielens.yaml", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert shown.returncode == 0 and "--model.num-layers" in shown.stdout


def test_read_yaml_gives_plain_values(tmp_path):
    (tmp_path / "a.yaml").write_text("model: {model_type: bpr}\n")
    assert read_yaml(tmp_path / "a.yaml") == yaml.safe_load("model: {model_type: bpr}")


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("train:\n  seed: 1\n  epochs: 2\n  seed: 3\n", "seed", "2 and 4"),
        ("train: {seed: 1}\nmodel: {}\ntrain: {seed: 2}\n", "train", "1 and 3"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path, text, key, lines):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"a\.yaml is not .*: '{key}' stands twice, in lines {lines}; keep"):
        read_yaml(tmp_path / "a.yaml")


def test_a_yaml_anchor_may_be_overridden(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {<<: *a, y: 3}\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}, "c": {"x": 1, "y": 3}}
