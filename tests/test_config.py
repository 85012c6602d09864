"""Configuration: class default < YAML < flag; a wrong key names the nearest right one; help is quick."""

import resource
import subprocess
import sys

import pytest
import yaml

from seqmm.files import read_yaml, write_yaml
from seqmm.run.settings import load_run, own_fields
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
    run = load_run(["--config", path, "--train.epochs", "9", "--eval.ks", "1", "2"])
    assert (run.model.num_layers, run.model.hidden_size) == (4, 64)
    assert (run.train.epochs, run.train.report_to, run.eval.ks) == (9, ("tensorboard",), (1, 2))
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
        ({"model": {"model_type": "lightgcn", "num_layer": 3}}, "model.num_layer; did you mean 'num_layers'"),
        ({"model": {"model_type": "lightgcn"}, "train": {"learning_rat": 3}}, "did you mean 'learning_rate'"),
        ({"model": {"model_type": "lightgcn"}, "trian": {}}, "section 'trian'; did you mean 'train'"),
        ({"model": {"model_type": "lightgnc"}}, "did you mean 'lightgcn'"),
        ({"train": {"epochs": 3}}, "which model"),
        ({"model": {"model_type": "lightgcn", "num_users": 3}}, "unknown key model.num_users"),
        ({"model": {"model_type": "lightgcn"}, "train": 3}, "must be a mapping"),
    ],
)
def test_wrong_keys_name_the_right_one(file, sections, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        load_run(["--config", file(**sections)])


@pytest.mark.parametrize("flags", [["--train.epochz", "3"], ["--train.epochs", "three"], ["--data.protocol", "loo"]])
def test_wrong_flags_exit_with_2(flags, capsys):
    with pytest.raises(SystemExit) as stop:
        load_run(["--model.model-type", "bpr", *flags])
    assert stop.value.code == 2
    assert flags[0].removeprefix("--") in capsys.readouterr().err


def test_a_wrong_type_in_yaml_is_an_error(file, capsys):
    with pytest.raises(SystemExit):
        load_run(["--config", file(model={"model_type": "bpr"}, train={"epochs": "many"})])
    assert "many" in capsys.readouterr().err


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


def test_every_hyper_parameter_says_what_it_is():
    from seqmm.models.registry import model_class
    from seqmm.registry import MODELS

    for model_type in MODELS.names():
        for name, _, _, text in own_fields(model_class(model_type).config_class):
            assert text, f"{model_type}.{name} has no attribute docstring"


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
