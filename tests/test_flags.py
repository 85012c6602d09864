"""Flags are made from options: the class' default < given values < the flag."""

from dataclasses import dataclass
from typing import Literal

import pytest

from seqmm.flags import flag, in_flags, made_by_flags, parse_flags
from seqmm.options import Options, option


@dataclass(frozen=True)
class Toy(Options):
    """Options of a toy."""

    count: int = option(3, "Number of toys.", least=1)
    kind: Literal["no", "fine"] = option("fine", "Kind of toy.")
    flag: bool = option(True, "Whether it has a flag.")
    names: tuple[str, ...] = option((), "Names of the toys.")
    weights: dict[str, float] = option({"a": 1.0}, "Weights of the toys.")
    rate: float | None = option(None, "Rate of toys.")


def parsed(*argv, **values):
    return parse_flags({"toy": Toy}, argv, values={"toy": values})["toy"]


def test_default_then_value_then_flag():
    assert parsed()["count"] == 3 and parsed(count=4)["count"] == 4
    assert parsed("--toy.count", "5", count=4)["count"] == 5
    assert parsed("--toy.names", "a", "b")["names"] == ("a", "b") and parsed("--toy.names", names=("c",))["names"] == ()
    assert parsed("--toy.flag", "False")["flag"] is False
    assert parsed("--toy.rate", "None", rate=0.5)["rate"] is None


def test_a_dict_is_pairs_and_keeps_its_default():
    assert parsed()["weights"] == {"a": 1.0} and parsed(weights={"b": 2.0})["weights"] == {"b": 2.0}
    assert parsed("--toy.weights", "c", "3", weights={"b": 2.0})["weights"] == {"c": 3.0}
    assert parsed("--toy.weights", weights={"b": 2.0})["weights"] == {}


@pytest.mark.parametrize("argv", [["--toy.coumt", "3"], ["--toy.count", "three"], ["--toy.kind", "finne"]])
def test_a_bad_flag_ends_with_2_and_is_named(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        parsed(*argv)
    assert stop.value.code == 2 and argv[0].removeprefix("--") in capsys.readouterr().err


def test_what_an_option_refuses_is_said_of_the_flag():
    with pytest.raises(ValueError, match="^--toy.count is 0; choose 1 or more"):
        made_by_flags(Toy, {"count": 0}, "toy")
    assert flag("some_name") == "--some-name" and flag("some_name", "toy") == "--toy.some-name"


def test_help_shows_the_options_own_texts(capsys):
    with pytest.raises(SystemExit) as stop:
        parsed("--help", count=7)
    shown = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0 and "Number of toys. (default: 7)" in shown
    assert all(text in shown for text in ("Kind of toy.", "--toy.names", "{no,fine}"))


def test_a_section_without_a_name_has_bare_flags():
    found = parse_flags({"": Toy, "more": Toy}, ["--count", "5", "--more.count", "6"])
    assert (found[""]["count"], found["more"]["count"]) == (5, 6)
    assert parse_flags({"": Toy}, ["--count", "5"])[""]["count"] == 5


def test_messages_of_the_library_become_flags():
    assert (
        in_flags("set `overwrite=True`; or `model.modality_weights={}`")
        == "set --overwrite True; or --model.modality-weights"
    )
    assert in_flags("name the set (`data.rename=OURS=THEIRS`)") == "name the set (--data.rename OURS=THEIRS)"
    assert in_flags("go on with train.resume = True") == "go on with --train.resume True"
    for other in ("train.csv is empty", "the file `a b`", "model.safetensors", "x = 3"):
        assert in_flags(other) == other
