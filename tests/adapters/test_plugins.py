"""Tables that others add to: names, titles, versions, entry points and what is wrong with them."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from adapters import StrataError
from adapters.plugins import Table, noted


@dataclass(frozen=True)
class Thing:
    title: str
    version: str = ""


def read(found: object, title: str, version: str) -> Thing:
    if isinstance(found, Thing):
        return replace(found, version=found.version or version)
    if not callable(found):
        raise StrataError(f"it is {type(found).__name__}")
    return Thing(title, version)


def table() -> Table[Thing]:
    return Table("metric", "strata.test", {"first": Thing("the first"), "second": Thing("the second")}, read, reserved=("all",))


def distribution(folder: Path, name: str, version: str, points: str, code: str = "") -> None:
    """What an installer leaves of a package of one module."""
    made = folder / f"{name}-{version}.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (made / "entry_points.txt").write_text(f"[strata.test]\n{points}\n")
    (folder / f"{name}.py").write_text(code)


def test_registered_things_stand_behind_own_ones() -> None:
    things = table()
    things.register("third_1", Thing("the third", "1"))
    assert list(things) == ["first", "second", "third_1"]
    assert things.find("third_1") == ("third_1", Thing("the third", "1"))
    things.register("third_1", Thing("the third", "2"))
    assert things["third_1"].version == "2"
    with pytest.raises(StrataError, match=r"unknown metric 'thrid_1': did you mean third_1.*valid: also, first, second, third_1"):
        things.find("thrid_1", also=["also"])


@pytest.mark.parametrize("name", ["", "all", "a,b", "../up", "a b", "1st", "x" * 65, "naïve", "a\n"])
def test_names_that_cannot_stand_everywhere(name: str) -> None:
    with pytest.raises(StrataError, match=r"is no name for a metric.*other than all"):
        table().register(name, Thing("a title"))


@pytest.mark.parametrize("title", ["", " ", "a_b", "a*b", "[a](b)", "$x$", "`x`", "<b>", "a\nb", "#panic", "x" * 81, "|"])
def test_titles_that_cannot_stand_everywhere(title: str) -> None:
    with pytest.raises(StrataError, match="is no title for a metric"):
        table().register("name", Thing(title))


def test_what_is_taken() -> None:
    things = table()
    with pytest.raises(StrataError, match="the metric 'first' exists already"):
        things.register("first", Thing("another"))
    with pytest.raises(StrataError, match="the metric 'second' has the title 'the second'"):
        things.register("third", Thing("the second"))
    assert list(things) == ["first", "second"]


def test_noted() -> None:
    assert noted("bi", "Block Influence", "") == "bi"
    assert noted("mine", "Mine", "2") == {"name": "mine", "title": "Mine", "version": "2"}


def test_entry_points_are_imported_when_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    code = "from tests.adapters.test_plugins import Thing\nprint('imported')\ndef made(step): ...\nwhole = Thing('as a whole', '7')\n"
    distribution(tmp_path, "plug_one", "3.1", "some_name = plug_one:made\nwhole = plug_one:whole\nfirst = plug_one:made", code)
    things = table()
    assert things["first"] == Thing("the first"), "own names win"
    assert list(things) == ["first", "second", "some_name", "whole"]
    assert "some_name" in things
    assert "plug_one" not in __import__("sys").modules
    assert things["some_name"] == Thing("some name", "3.1"), "the version is that of the distribution"
    assert things["whole"] == Thing("as a whole", "7")
    with pytest.raises(StrataError, match="'whole' exists already"):
        things.register("whole", Thing("another"))


@pytest.mark.parametrize(
    ("points", "code", "says"),
    [
        ("bad = plug_bad:missing", "", "module 'plug_bad' has no attribute 'missing'"),
        ("bad = plug_bad:x", "1 / 0", "division by zero"),
        ("bad = nowhere_to_be_found:x", "", "No module named"),
        ("bad = plug_bad:x", "x = 3", "it is int"),
        ("bad = plug_bad:x", "from tests.adapters.test_plugins import Thing\nx = Thing('the first')", "has the title 'the first'"),
    ],
)
def test_a_broken_one_names_its_distribution(points: str, code: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "plug_bad", raising=False)
    distribution(tmp_path, "plug_bad", "0.1", points, code)
    things = table()
    assert things["second"] == Thing("the second"), "nothing else is touched"
    assert "bad" in list(things)
    with pytest.raises(StrataError, match="the metric 'bad' of the distribution plug_bad cannot be used") as raised:
        things.find("bad")
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_name_from_two_distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("plug_a", "plug_b"):
        distribution(tmp_path, name, "1", f"both = {name}:x", "def x(step): ...")
    with pytest.raises(StrataError, match=r"'both' comes from plug_. and from plug_.: uninstall all but one"):
        table().find("both")
