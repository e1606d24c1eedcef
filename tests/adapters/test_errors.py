"""What is quoted from outside stays one line that nothing acts on."""

from pathlib import Path

import pytest

from adapters.errors import StrataError, one_line, unknown, unwritable, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a \x1b[31mred\x1b[0m", r"a \x1b[31mred\x1b[0m"),
        ("two\nlines\r\n\tand a tab", r"two\nlines\r\n\tand a tab"),
        ("title \x1b]0;x\x07\x9b31m", r"title \x1b]0;x\x07\x9b31m"),
        ("turned \u202efdp.exe, \u2066a\u2069", r"turned \u202efdp.exe, \u2066a\u2069"),
        ("lines\u2028of\u2029unicode\x85", r"lines\u2028of\u2029unicode\x85"),
        (b"latin \xe9".decode(errors="surrogateescape"), r"latin \udce9"),
        ("é 中文 😀 $x$ \\n a\u00a0b", "é 中文 😀 $x$ \\n a\u00a0b"),
    ],
)
def test_characters_that_act_are_shown_as_python_writes_them(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown
    assert str(StrataError(text)) == shown
    assert visible(text).encode().decode() == shown


def test_what_is_kept_is_kept() -> None:
    assert visible("a\nb\x1b\tc", keep="\n") == "a\nb\\x1b\\tc"


def test_a_line_ends() -> None:
    """What was found stands in front of it and how to fix it at the end, however long what it quotes is."""
    message = str(StrataError(f"config.json says {'x' * 5000!r}: take the one of the weights"))
    assert message.startswith("config.json says 'xxx")
    assert message.endswith("xxx': take the one of the weights")
    assert len(message) == 1000
    assert str(StrataError("y" * 1000)) == "y" * 1000


def test_every_message_is_one_line() -> None:
    messages = [
        unknown("mo\ndel", "na\nme", ["val\nid"]),
        unwritable(Path("o\nut"), OSError(28, "full\n")),
        StrataError(one_line(ValueError("a\nb"))),
    ]
    assert [str(message) for message in messages if len(str(message).splitlines()) != 1] == []
