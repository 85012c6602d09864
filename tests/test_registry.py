"""Names of models: derived from the files, complete, and open to classes from outside but not to what a folder says."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import logging
import pkgutil
import subprocess
import sys

import pytest

import seqmm.models.collaborative
import seqmm.models.sequential
from seqmm.cli import run_recipe, without_plugins
from seqmm.models.base import Recommender, RecommenderConfig
from seqmm.models.checkpoint import from_pretrained, load_config
from seqmm.models.collaborative.bpr import BPRConfig
from seqmm.models.registry import model_class
from seqmm.registry import MODELS, Registry, plug_in, register


def test_the_derived_names_are_those_of_all_classes():
    found = {}
    for package in (seqmm.models.collaborative, seqmm.models.sequential):
        for module in pkgutil.iter_modules(package.__path__):
            for cls in vars(importlib.import_module(f"{package.__name__}.{module.name}")).values():
                if isinstance(cls, type) and issubclass(cls, Recommender) and cls.__module__.endswith(module.name):
                    found.setdefault(cls.config_class.model_type, []).append(cls)
    for base in ("recommender", "sequence"):  # of no model
        del found[base]
    assert set(MODELS.names()) == set(found)
    for name, classes in found.items():
        assert set(MODELS.classes(name)) <= set(classes)
        assert model_class(name).objective == "recommendation"


def test_names_are_told_without_importing_torch():
    code = "import sys, seqmm.registry as r; assert len(r.MODELS.names()) > 30 and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_answered_by_the_nearest():
    with pytest.raises(
        ValueError,
        match=r"unknown model_type 'lightgnc'; did you mean 'lightgcn'\? .*seqmm\.register.*plugin module:Class",
    ):
        model_class("lightgnc")


def test_pretraining_heads():
    assert model_class("msm4sr", pretraining=True).__name__ == "MSM4SRForPretraining"
    assert model_class("msm4sr").__name__ == "MSM4SRForRecommendation"
    with pytest.raises(ValueError, match=r"bpr has no pretraining head; models that have one: msm4sr\. Use recipes/tr"):
        model_class("bpr", pretraining=True)


@pytest.fixture
def table(monkeypatch):
    """MODELS without what a test registers."""
    monkeypatch.setattr(MODELS, "_classes", {name: [*classes] for name, classes in MODELS._classes.items()})


def _mine(model_type, module="mine", name="Mine", **more):
    config = type("MineConfig", (RecommenderConfig,), {"model_type": model_type, "__module__": module})
    return type(name, (Recommender,), {"config_class": config, "__module__": module, **more})


def test_a_class_registered_again_replaces_the_first_and_another_is_refused(table):
    first, again = _mine("mine"), _mine("mine")
    register(first)
    register(again)  # a notebook cell that was run twice
    assert model_class("mine") is again
    with pytest.raises(ValueError, match=r"model_type 'mine' is mine\.Mine's already"):
        register(_mine("mine", name="Other"))
    register(_mine("mine", name="Head", objective="pretraining"))
    assert model_class("mine", pretraining=True).__name__ == "Head" and model_class("mine") is again
    with pytest.raises(
        ValueError, match=r"'lightgcn' is seqmm\.models\.collaborative\.lightgcn.*'s already; give Mine"
    ):
        register(_mine("lightgcn"))
    with pytest.raises(ValueError, match="use letters"):
        register(_mine("os:system"))
    with pytest.raises(ValueError, match="subclass of seqmm.Recommender"):
        register(dict)


@pytest.mark.parametrize("name", ["os:system", "evil.module:Cls", "evil", None, 3, ["evil:Cls"]])
def test_a_checkpoint_imports_nothing_by_name(tmp_path, monkeypatch, name):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "module.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": name, "architectures": ["evil.module:Cls"]}))
    (tmp_path / "model.safetensors").touch()
    before = set(sys.modules)
    for read in (load_config, lambda folder: from_pretrained(str(folder))):
        with pytest.raises(
            ValueError,
            match=r"config\.json: model_type .* is not registered[^.]* \(a model of.*seqmm\.register.*--plugin",
        ):
            read(tmp_path)
    assert not any(module.startswith("evil") for module in set(sys.modules) - before)


def test_a_place_that_cannot_be_imported_is_named(tmp_path, monkeypatch, table):
    (tmp_path / "things.py").write_text("import seqmm\nnumber = 3\nclass Plain: pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for place, problem in {
        "nosuch:Toy": "No module named 'nosuch'; give module:Class",
        "things:Toy": "has no attribute 'Toy'; give module:Class",
        "things:number": "3 cannot be registered: make it a subclass",
        "things:Plain": "cannot be registered: make it a subclass",
        "os:system": "cannot be registered",
        ":Toy": "give module:Class",
        "things:": "give module:Class",
    }.items():
        with pytest.raises(ValueError, match=f"--plugin {place}: .*{problem}"):
            plug_in(place)
        with pytest.raises(ValueError, match=f"model_type {place}: .*{problem}"):
            MODELS.imported(place)
    assert MODELS.imported("lightgcn") == "lightgcn"


def test_a_class_of_another_kind_is_no_model(tmp_path, monkeypatch):
    other = Registry("thing", (), "seqmm.things")
    monkeypatch.setitem(sys.modules, "kinds", type(sys)("kinds"))
    sys.modules["kinds"].Thing = type("Thing", (), {"registry": other, "name": "thing", "__module__": "kinds"})
    with pytest.raises(ValueError, match="model_type kinds:Thing: it is a class of another kind, thing"):
        MODELS.imported("kinds:Thing")


def test_an_installed_package_adds_names_by_entry_points(tmp_path, monkeypatch):
    source = "from seqmm import Recommender, RecommenderConfig\n"
    source += "class Config(RecommenderConfig):\n    model_type = 'elsewhere'\n"
    source += "class Elsewhere(Recommender):\n    config_class = Config\n"
    (tmp_path / "elsewhere.py").write_text(source)
    info = tmp_path / "elsewhere-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[seqmm.models]\nelsewhere = elsewhere:Elsewhere\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    fresh = Registry("model_type", (), "seqmm.models")
    assert fresh.names() == ["elsewhere"] and "elsewhere" not in sys.modules
    assert fresh.classes("elsewhere")[0].__name__ == "Elsewhere"
    sys.modules.pop("elsewhere")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("gone", "nosuch_module:Toy", "cannot be used: No module named 'nosuch_module'; mend that package"),
        ("gone", "seqmm.models.base:Toy", "cannot be used: .*has no attribute 'Toy'; mend that package"),
        ("other", "seqmm.models.collaborative.bpr:BPR", "the class' own name is 'bpr'; that package must use one name"),
    ],
)
def test_an_entry_point_that_does_not_fit_is_named(monkeypatch, name, value, problem):
    fresh = Registry("model_type", (), "seqmm.models")
    point = importlib.metadata.EntryPoint(name, value, "seqmm.models")
    monkeypatch.setattr(fresh, "_entry_points", {name: point}, raising=False)
    with pytest.raises(ValueError, match=rf"entry point {name} = {value} \(seqmm\.models\).*{problem}"):
        fresh.classes(name)


@pytest.mark.parametrize("config", [RecommenderConfig, type("Plain", (RecommenderConfig,), {}), BPRConfig])
def test_a_model_without_a_name_of_its_own_is_refused(table, config):
    bad = type("Bad", (Recommender,), {"config_class": config, "__module__": "mine"})
    with pytest.raises(ValueError, match=r"Bad has no model_type of its own, only .*; give it config_class = a sub"):
        register(bad)


def test_plugins_are_taken_off_the_command_line():
    rest = ["--checkpoint", "runs/x", "--k", "3"]
    assert without_plugins([*rest[:2], "--plugin", "a:B", *rest[2:], "--plugin=c.d:E"]) == (rest, ["a:B", "c.d:E"])
    for wrong in (["--plugin"], ["--plugin", "toy"], ["--plugin="]):
        with pytest.raises(ValueError, match="--plugin.*expected module:Class"):
            without_plugins(wrong)


def test_a_recipe_prints_each_line_of_the_log_once(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["recipe"])
    log = logging.getLogger("seqmm")
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "level", log.level)
    for _ in range(2):  # a recipe that calls another
        run_recipe(lambda: logging.getLogger("seqmm.somewhere").info("said"))
    assert capsys.readouterr().out.splitlines() == ["said", "said"]
