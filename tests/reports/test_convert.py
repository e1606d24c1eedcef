"""The report as its reader gets it: text, fonts and pictures of the PDF, elements of the HTML; nothing from outside acts."""

import base64
import hashlib
import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pypdf
import pytest

from adapters.errors import StrataError
from analysis.display.format import escape
from reports.convert import Chapter, Front, convert
from reports.execute import execute

ROOT = Path(__file__).parents[2]
HOSTILE = '<script>alert(1)</script> #import "x" $x$ \\$y *b* ![i](http://evil.example/i.png)'
MARKDOWN = """# A question

The perplexity is $\\exp(-\\frac{1}{T}\\sum_t \\log p_t)$, and

$$\\mathrm{BI}_i = 1 - \\mathbb{E}\\,\\frac{x^T y}{\\lVert x \\rVert_2 \\lVert y \\rVert_2}$$

去掉一层之后的困惑度. [The paper](https://arxiv.org/abs/2403.03853), [a trap](javascript:alert(1)), [nowhere](#x).

<b onclick="alert(1)">raw html</b> ![outside](http://evil.example/i.png) `#panic()`{=typst}

```{=typst}
#panic()
```
"""
CODE = """import sys
import pandas as pd, seaborn as sns
from matplotlib import pyplot as plt
from analysis.display import format, show
print("noise on stderr", file=sys.stderr)
display({"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "IntProgress()"}, raw=True)
show.setup()
figure, ax = plt.subplots()
sns.lineplot(x=[0, 1, 2], y=[3, 1, 2], ax=ax)
show.figure(figure, f"What the line of {format.escape(hostile)} does.")
rows = pd.DataFrame({"block": range(80), "value": [55097.4, 17.25, None, -0.5] * 20, "name": [hostile, "= x", "- y", "层"] * 20})
show.table(rows, "The table of blocks.")
print("plain \\x1b[31moutput\\x1b[0m")"""


ICON = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><path d="M0 0h9v9z"/></svg>'


def plain(paths: list[Path]) -> list[Chapter]:
    """A chapter for each notebook, about nobody."""
    return [Chapter([("", path)]) for path in paths]


def notebook(path: Path, *cells: nbformat.NotebookNode) -> Path:
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Both files, from a notebook that was really executed."""
    folder = tmp_path_factory.mktemp("report")
    parameters = nbformat.v4.new_code_cell('hostile = ""', metadata={"tags": ["parameters"]})
    cells = nbformat.v4.new_markdown_cell(MARKDOWN), parameters, nbformat.v4.new_code_cell(CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        executed = execute([notebook(folder / "question.ipynb", *cells)], folder, {"hostile": HOSTILE})
    front = Front("= asked", ICON, "What is seen.", "| a | b |\n| --- | --- |\n| 1 | 2 |", "**word**: meaning")
    facts = {"Model": HOSTILE, "Date": "- today"}
    return convert(plain(executed), folder, title=f"Report on {HOSTILE}", front=front, facts=facts)


@pytest.fixture(scope="module")
def pdf(made):
    return pypdf.PdfReader(made[0])


@pytest.fixture(scope="module")
def html(made):
    return made[1].read_text()


def squash(text: str) -> str:
    return re.sub(r"\s+", "", text)


def pdf_text(reader: pypdf.PdfReader) -> str:
    return squash("".join(page.extract_text() for page in reader.pages))


class Elements(HTMLParser):
    """Names and attributes of a page's elements, and its text outside styles and scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        if self.tags[-1:] not in (["style"], ["script"]):
            self.text += data


def test_pdf_shows_what_the_notebook_shows(pdf):
    text = pdf_text(pdf)
    for shown in (
        "Figure1:Whatisseen.",
        "Figure2:Whatthelineof",
        "Table1:Thetableofblocks.",
        "word:meaning",
        "去掉一层之后的困惑度",
        "55,097",
        "−0.500",
        "plainoutput",
        "Thepaper",
        "Aquestion",
    ):
        assert shown in text
    for hidden in ("noise", "IntProgress", "importsys", "lineplot", "[31m"):
        assert hidden not in text


def test_chinese_text_has_an_embedded_font(pdf):
    fonts = {str(font["/BaseFont"]) for page in pdf.pages for font in (f.get_object() for f in page["/Resources"]["/Font"].values())}
    assert any("NotoSansCJK" in name for name in fonts)
    assert all(re.match(r"/[A-Z]{6}\+", name) for name in fonts), "every font is an embedded subset"


def test_figures_stay_vector(pdf, html):
    assert not any(page.images for page in pdf.pages)
    pictures = [value for name, value in Elements(html).attributes if name == "src"]
    assert [p.split(",")[0] for p in pictures] == ["data:image/svg+xml;base64"] * 2


def test_long_table_goes_over_pages_with_its_header(pdf):
    assert sum("block value name" in " ".join(page.extract_text().split()) for page in pdf.pages) >= 2


def test_hostile_text_stays_text(pdf, html):
    hostile = squash(HOSTILE)
    assert pdf_text(pdf).count(hostile) >= 1 + 1 + 1 + 20  # title, fact, caption, cells
    assert squash(Elements(html).text).count(hostile) >= 1 + 1 + 1 + 20
    assert "=asked" in pdf_text(pdf)
    assert "-today" in pdf_text(pdf)


def test_links_lead_to_web_addresses_only(pdf, html):
    uris = {str(a.get_object()["/A"].get("/URI")) for page in pdf.pages for a in page.get("/Annots", ()) if "/A" in a.get_object()}
    assert uris <= {"https://arxiv.org/abs/2403.03853", "None"}
    hrefs = {value for name, value in Elements(html).attributes if name == "href" and not value.startswith("#section-")}
    assert hrefs == {"https://arxiv.org/abs/2403.03853"}


def test_html_is_one_file_in_which_nothing_acts_but_its_own_script(html):
    page = Elements(html)
    assert not {"link", "iframe", "object", "embed", "b"} & set(page.tags)
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    assert page.tags.count("script") == 1
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (value for name, value in page.attributes if name == "content" and "default-src" in value)
    assert policy.startswith(f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{own}';")
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert {value for name, value in page.attributes if name == "style"} <= {"text-align: left;", "text-align: right;"}
    assert not re.search(
        r"url\(|@import|fetch\(|XMLHttpRequest|innerHTML|https?://(?!www.w3.org/|arxiv.org/)", html.replace("http://evil.example", "")
    )
    assert "math" in page.tags
    assert "$" not in squash(page.text).replace(squash(HOSTILE), "")
    assert "Figure 1:" in page.text
    assert "noise" not in page.text


NAMES = ["= head", "- item", "+ item", "1. one", "/ term: x", "// note", "~", "#panic()", "$x$", "<lab>", "@ref", "*b* _i_", "`c`"]
NAMES += ["[a](b)", "![i](x)", "'q' \"q\"", "&lt;", "^a^", "|pipe|", "(paren", ".dot", "2026.", "{x}", "\\(x\\)", "# h", "> q"]
NAMES += ["```{=html} <b>```", "http://a.example/b"]


def test_escaped_names_stay_text_everywhere(tmp_path):
    names = [f"{name} {i}z" for i, name in enumerate(NAMES)]  # no name is part of another
    table = "\n".join(["| a | b |", "|---|---|", *(f"| {escape(name)} | x |" for name in names)])
    sources = [form.format(escape(name)) for name in names for form in ("{}", "# {}", "- {}")] + [table]
    path = notebook(tmp_path / "names.ipynb", *map(nbformat.v4.new_markdown_cell, sources))
    pdf, html = convert(plain([path]), tmp_path, title="names")
    in_pdf, in_html = pdf_text(pypdf.PdfReader(pdf)), squash(Elements(html.read_text()).text)
    counts = {name: (in_pdf.count(squash(name)), in_html.count(squash(name))) for name in names}
    assert counts == dict.fromkeys(names, (5, 5))  # paragraph, heading, contents, list, cell


def test_pieces_without_caption_have_no_number(tmp_path):
    data, other = {"image/svg+xml": ICON}, {"image/svg+xml": ICON.replace("9", "8")}
    shown = (
        nbformat.v4.new_output("display_data", other),
        nbformat.v4.new_output("display_data", data, metadata={"strata": {"caption": "Seen."}}),
    )
    _, html = convert(plain([notebook(tmp_path / "a.ipynb", nbformat.v4.new_code_cell("x", outputs=list(shown)))]), tmp_path, title="a")
    assert re.findall(r"Figure \d", html.read_text()) == ["Figure 1"]


def of_model(path: Path, text: str, fact: str, icon: str) -> Path:
    """As an executed notebook: a title, what is explained, a figure, a sentence, what was measured."""
    shown = [
        nbformat.v4.new_output("display_data", {"text/markdown": "x"}, metadata={"strata": {"facts": [["Text", fact], ["Test", "t"]]}}),
        nbformat.v4.new_output("display_data", {"image/svg+xml": icon}, metadata={"strata": {"caption": "Loss of it."}}),
        nbformat.v4.new_output("display_data", {"text/markdown": text}),
        nbformat.v4.new_output("display_data", {"text/markdown": "Limits of all."}),
    ]
    cells = [
        nbformat.v4.new_markdown_cell("# Title"),
        nbformat.v4.new_markdown_cell("Explained."),
        nbformat.v4.new_code_cell("x", outputs=shown),
    ]
    return notebook(path, *cells)


def test_models_stand_side_by_side(tmp_path):
    """What is explained, and what is the same of all, once; the rest by name; the same picture once; what was measured at the end."""
    paths = [
        of_model(tmp_path / "a.ipynb", "Found one.", "12 documents", ICON),
        of_model(tmp_path / "b.ipynb", "Found two.", "24 documents", ICON.replace("9", "7")),
        of_model(tmp_path / "c.ipynb", "Found three.", "24 documents", ICON),
    ]
    chapter = Chapter(list(zip(("<b>*x*", "y", "z"), paths, strict=True)), "The question", "*Not for v.*")
    _, html = convert([chapter], tmp_path, title="t", ending="# The end\n\n    a | b")
    page = Elements(html.read_text()).text
    for once in ("Explained.", "Limits of all.", "Not for v.", "Found one.", "12 documents", "a | b"):
        assert page.count(once) == 1, once
    assert "*x*: loss of it." in page
    assert "*x*. Found one." in page
    assert "Title" not in page
    assert page.count("The question") == 3, "contents, heading, what was measured"
    assert html.read_text().count("<img") == 2
    assert "Shown above: z: loss of it." in page
    assert "Test: t" in page
    assert "y and z: 24 documents" in page
    assert page.index("Found three.") > page.index("Found two.") > page.index("Shown above")


def test_what_is_no_notebook_is_one_line_and_leaves_nothing(tmp_path):
    (tmp_path / "a.ipynb").write_text("{")
    with pytest.raises(StrataError, match=r"a\.ipynb cannot be read as a notebook"):
        convert(plain([tmp_path / "a.ipynb"]), tmp_path / "out", title="a")
    assert not list((tmp_path / "out").iterdir())


def test_control_characters_are_shown_and_reach_no_file(tmp_path):
    name, read = "n\x1b[1m\x07\u202ex", "n\\x1b[1m\\x07\\u202ex"
    stream = nbformat.v4.new_output("stream", name="stdout", text=f"\x1b[31mred\x1b[0m {name}\r\nnext\tline\n")
    cells = [
        nbformat.v4.new_markdown_cell(f"# Head {name}\n\ntext {name}, `code {name}`"),
        nbformat.v4.new_code_cell("x", outputs=[stream]),
    ]
    pdf, html = convert(plain([notebook(tmp_path / "a.ipynb", *cells)]), tmp_path, title=f"Title {name}", facts={"Model": name})
    page = html.read_text()
    assert not [char for char in page if unicodedata.category(char) in ("Cc", "Cf") and char not in "\n\t"]
    for text in (squash(Elements(page).text), pdf_text(pypdf.PdfReader(pdf))):
        assert text.count(squash(read)) >= 6  # title, fact, heading, contents, text, code, output
        assert "red" in text
        assert "[31m" not in text
