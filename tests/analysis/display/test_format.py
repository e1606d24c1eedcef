"""Numbers and lists as people write them."""

import subprocess
import sys
from dataclasses import replace

import pytest

from analysis.display import format as words
from analysis.stats.intervals import Interval
from tests.reference.models import spec


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (55097.4, "55,097"),
        (17.25, "17.2"),
        (-0.5, "−0.500"),
        (0, "0"),
        (0.0, "0"),
        (12, "12"),
        (None, ""),
        (float("nan"), ""),
        (1e-7, "1.00×10⁻⁷"),
        (99.96, "100"),
    ],
)
def test_number(value, text):
    assert words.number(value) == text


def test_bounded():
    assert words.bounded(Interval(0.634, 0.5, -0.712)) == "0.634 (0.500 to −0.712)"
    assert words.bounded(Interval(0.634, 0.5, -0.712), words.hundredths) == "0.63 (0.50 to −0.71)"
    assert words.bounded(Interval(0.634, None, None)) == words.bounded(Interval(0.634, float("nan"), float("nan"))) == "0.634"
    assert words.hundredths(-0.001) == "0.00"


def test_signed_and_percent():
    assert [words.signed(x) for x in (0.25, -0.25, 0.0)] == ["+0.250", "−0.250", "0"]
    assert [words.percent(x) for x in (0.123, 1, 0, 0.004, -0.004)] == ["12 %", "100 %", "0 %", "0.4 %", "−0.4 %"]


def test_minutes():
    assert [words.minutes(x) for x in (89, 90, 5399, 5400)] == ["89 s", "2 min", "90 min", "1.5 h"]


def test_listed():
    assert [words.listed(range(n)) for n in range(4)] == ["", "0", "0 and 1", "0, 1 and 2"]
    assert words.listed("abc", "or") == "a, b or c"
    assert words.capital("rise in Loss") == "Rise in Loss"
    assert words.capital("") == ""


def test_parameters():
    dense = replace(spec(2), n_params=1_234_567_890)
    assert words.parameters(dense) == "1,234.6 M parameters"
    sparse = replace(dense.blocks[0], n_params=4_000_000, n_experts=8, experts_per_token=2, expert_params=450_000)
    assert words.parameters(replace(dense, blocks=(sparse, dense.blocks[1]))) == "1,234.6 M parameters, of which a token meets 1,231.9 M"
    everywhere = replace(sparse, experts_per_token=8)
    assert words.parameters(replace(dense, blocks=(everywhere,))) == "1,234.6 M parameters"


def test_words_need_no_figures():
    code = "import sys, analysis.display.format; assert not {'matplotlib', 'seaborn', 'IPython'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_escaped_names_hold_no_control_characters():
    assert words.escape("a\x1b[31m\n $x$\u202e") == r"a\\x1b\[31m \$x\$\\u202e"


@pytest.mark.parametrize("name", ["RWKV-5.2", "a_b*c", r"C:\dir", "x$y`z|{}"])
def test_plain_takes_back_what_escape_did(name: str) -> None:
    assert words.plain(words.escape(name)) == name
