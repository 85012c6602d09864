"""Options check themselves: types, ranges, choices; they are never changed in place and share no default."""

import copy
import dataclasses
import inspect
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args

import pytest

from seqmm.arguments import DataArguments, EvalArguments, HubArguments, TrainArguments
from seqmm.data.synthetic import synthetic_corpus
from seqmm.evaluation.metrics import LIST_METRICS, METRICS
from seqmm.models.collaborative.lightgcn import LightGCN, LightGCNConfig
from seqmm.models.collaborative.ngcf import NGCF, NGCFConfig
from seqmm.models.sequential.sasrec import SASRecConfig
from seqmm.names import MetricName
from seqmm.options import OptionError, Options, check_idle, option, plain_values, result_values
from seqmm.run.settings import load_run


@dataclass(frozen=True)
class Toy(Options):
    """Options of all kinds."""

    section: ClassVar[str] = "toy"

    count: int = option(3, "Some.", least=1)
    share: float = option(0.5, "A share.", above=0, most=1)
    rate: float | None = option(None, "A rate.", below=1)
    kind: Literal["no", "fine", "coarse"] = option("fine", "A kind.")
    flag: bool = option(False, "A flag.")
    sizes: tuple[int, ...] = option((1, 2), "Sizes.", least=1)
    pair: tuple[float, float] = option((0.1, 0.2), "A pair.")
    weights: dict[str, float] = option({}, "Weights.", least=0)
    place: Path = option(Path("a"), "A place.", changes_result=False)

    def check(self) -> None:
        if self.kind == "coarse":
            check_idle(self, "kind coarse has no sizes", "sizes")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": "3"}, "count is '3'; choose a whole number"),
        ({"count": 3.0}, "count is 3.0; choose a whole number"),
        ({"count": True}, "count is True; choose a whole number"),
        ({"count": None}, "count is None; choose a whole number"),
        ({"count": 0}, "count is 0; choose 1 or more"),
        ({"share": 0}, "share is 0; choose above 0 and at most 1"),
        ({"share": 1.1}, "share is 1.1; choose above 0 and at most 1"),
        ({"share": float("nan")}, "share is nan; choose above 0"),
        ({"share": "half"}, "share is 'half'; choose a number"),
        ({"rate": 1.0}, "rate is 1.0; choose a number below 1"),
        ({"rate": "fast"}, "rate is 'fast'; choose a number, or none"),
        ({"kind": "finne"}, r"kind is 'finne'; choose one of no, fine, coarse \(did you mean 'fine'\?\)"),
        ({"flag": 1}, "flag is 1; choose true or false"),
        ({"flag": "no"}, "flag is 'no'; choose true or false"),
        ({"sizes": 1}, "sizes is 1; choose a list of whole numbers"),
        ({"sizes": (1, 0)}, r"sizes is \(1, 0\); choose 1 or more"),
        ({"pair": (0.1,)}, "pair is .*; choose 2 values"),
        ({"weights": {"a": -1}}, "weights is {'a': -1}; choose 0 or more"),
        ({"weights": {"a": "b"}}, "weights is {'a': 'b'}; choose a number"),
        (
            {"kind": "coarse", "sizes": (3,)},
            r"sizes is \(3,\), but does nothing: kind coarse has no sizes; leave sizes out",
        ),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(OptionError, match=f"^Toy.{message}"):
        Toy(**values)
    with pytest.raises(OptionError, match=f"^(toy|Toy).{message}"):
        Toy.from_values(values)


def test_values_are_what_their_types_say():
    made = Toy(share=1, kind=False, sizes=[4, 5], pair=[1, 2], weights={"a": 1}, place="b", rate="1e-3")
    assert made == Toy(
        share=1.0, kind="no", sizes=(4, 5), pair=(1.0, 2.0), weights={"a": 1.0}, place=Path("b"), rate=1e-3
    )
    assert type(made.share) is float and type(made.pair[0]) is float
    assert plain_values(made)["sizes"] == [4, 5] and plain_values(made)["place"] == "b"
    assert Toy.from_values(plain_values(made)) == made


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(OptionError, match="toy.coumt: there is no such option; did you mean 'count'"):
        Toy.from_values({"coumt": 3})


def test_what_changes_a_result_says_so_itself():
    assert "place" in plain_values(Toy()) and "place" not in result_values(Toy())


def test_an_option_cannot_be_changed_in_place_and_shares_no_default():
    for made in (Toy(), TrainArguments(), EvalArguments()):
        for each in dataclasses.fields(made):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(made, each.name, None)
    first, second = Toy(), Toy()
    first.weights["a"] = 1.0
    assert second.weights == {}
    with pytest.raises(OptionError, match="TrainArguments.epochs is -1"):
        dataclasses.replace(TrainArguments(), epochs=-1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "sofmax"}, "loss is 'sofmax'; .*did you mean 'softmax'"),
        ({"hiden_size": 8}, "hiden_size: there is no such option; did you mean 'hidden_size'"),
        ({"hidden_size": "8"}, "hidden_size is '8'; choose a whole number"),
        ({"dropout": 1.0}, "dropout is 1.0; choose at least 0 and below 1"),
        ({"loss": "bce", "num_negatives": 0}, "num_negatives is 0; loss bce needs 1 or more"),
    ],
)
def test_a_model_refuses_what_cannot_be_when_its_config_is_made(values, message):
    with pytest.raises(OptionError, match=f"^SASRecConfig.{message}"):
        SASRecConfig(**values)


def test_a_checkpoint_gives_back_its_config(tmp_path):
    config = NGCFConfig(hidden_size=8, layer_sizes=(4, 6))
    NGCF.for_corpus(config, synthetic_corpus(30, 25)).save_pretrained(tmp_path)
    again = NGCFConfig.from_pretrained(tmp_path)
    assert plain_values(again) == plain_values(config)
    assert (again.num_users, again.layer_sizes) == (30, (4, 6))  # a tuple again, though JSON holds a list
    assert NGCF.from_pretrained(tmp_path).config.layer_sizes == (4, 6)


def test_two_models_of_one_config_share_nothing():
    config = LightGCNConfig(hidden_size=8)
    before = config.to_dict()
    first = LightGCN.for_corpus(config, synthetic_corpus(30, 25))
    second = LightGCN.for_corpus(config, synthetic_corpus(40, 35))
    assert (first.config.num_users, second.config.num_users, config.num_users) == (30, 40, 0)
    assert first.config is not second.config and config.to_dict() == before


def test_longer_goes_on_unless_the_schedule_stretches():
    short, long = (
        TrainArguments(epochs=3),
        TrainArguments(epochs=9, num_workers=2, output_dir="elsewhere", init_from="x"),
    )
    assert short.course() == long.course() and result_values(short) != result_values(long)
    cosine = dataclasses.replace(short, schedule="cosine")
    assert cosine.course() != dataclasses.replace(cosine, epochs=9).course()
    assert short.course() != dataclasses.replace(short, learning_rate=0.1).course()


def test_names_of_metrics_are_those_that_are_computed():
    assert get_args(MetricName) == (*METRICS, *LIST_METRICS)


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (EvalArguments, {"metrics": ["ndgc"]}, "metrics is .'ndgc'.; choose one of recall.*did you mean 'ndcg'"),
        (EvalArguments, {"monitor": "ndcg@7"}, "monitor is 'ndcg@7', which is not computed; .* give recall@5, "),
        (HubArguments, {"license": "mitt"}, "license: licence 'mitt' is not one .*did you mean 'mit'"),
        (DataArguments, {"rename": ["text"]}, "rename text: expected name=value"),
    ],
)
def test_what_a_run_cannot_do_is_refused_with_the_file_it_stands_in(tmp_path, cls, values, message):
    with pytest.raises(OptionError, match=f"^{cls.__name__}.{message}"):
        cls(**values)
    file = tmp_path / "bpr.yaml"
    file.write_text(json.dumps({"model": {"model_type": "bpr"}, cls.section: values}))
    with pytest.raises(ValueError, match=f"^{file}: {cls.section}.{message}"):
        load_run(["--config", str(file)])


def test_a_misspelt_key_names_the_nearest_from_python_too():
    with pytest.raises(OptionError, match="^TrainArguments.lerning_rate: .*did you mean 'learning_rate'"):
        TrainArguments(lerning_rate=3)
    with pytest.raises(OptionError, match="^Toy.coumt: .*did you mean 'count'"):
        dataclasses.replace(Toy(), coumt=1)
    made = Toy(5, sizes=[3], weights={"a": 1})
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == dataclasses.replace(made) == made
    assert "count" in inspect.signature(Toy).parameters


def test_a_plain_field_is_refused():
    @dataclass(frozen=True)
    class Extra(Toy):
        extra: int = 3

    @dataclass(frozen=True)
    class Other(Toy):
        count: int = 8

    with pytest.raises(TypeError, match=r'Extra.extra is a plain field: make it option\(default, "Help."\)'):
        Extra()
    with pytest.raises(TypeError, match="Other.count is a plain field"):
        Other()
    with pytest.raises(TypeError, match="Config.extra is a plain field"):
        type("Config", (SASRecConfig,), {"__annotations__": {"extra": int}, "extra": 3})
    with pytest.raises(TypeError, match="Config.hidden_size is a plain field"):
        type("Config", (SASRecConfig,), {"__annotations__": {"hidden_size": int}, "hidden_size": 8})
