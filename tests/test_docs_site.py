"""The site that `make docs` builds: no warning, every page in reach, every link and anchor leads somewhere."""

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *PAGES]
MISSING = [name for name in ("sphinx", "furo", "myst_parser") if find_spec(name) is None]
FENCE = re.compile(r"^(```+).*?^\1$", re.MULTILINE | re.DOTALL)


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def without_code(text: str) -> str:
    """A page without what its fences and quotes hold."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def anchors(path: Path) -> list[str]:
    """The anchors of a page's headings, by GitHub's rule, and those written as HTML."""
    found: list[str] = []
    text = FENCE.sub("", path.read_text())
    for title in re.findall(r"^#{1,4} (.+)$", text, re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").strip().lower()
        name = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        while name in found:
            name = re.sub(r"(?:-(\d+))?$", lambda m: f"-{int(m[1] or 0) + 1}", name, count=1)
        found.append(name)
    return [*found, *re.findall(r'<a (?:id|name)="([^"]+)"', text)]


def links(path: Path) -> list[str]:
    return re.findall(r"\]\(\s*([^)\s]+)[^)]*\)", without_code(path.read_text()))


def in_toctrees() -> set[Path]:
    """Pages that the index names, or a page that it names."""
    seen, to_read = set(), [DOCS / "index.md"]
    while to_read:
        page = to_read.pop()
        if page in seen:
            continue
        seen.add(page)
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
            named = [line for line in tree.splitlines() if line and not line.startswith(":")]
            to_read += [page.parent / f"{name}.md" for name in named]
    return seen


def article(path: Path) -> str:
    """A built page without what stands around it."""
    text = path.read_text()
    return text[text.index("<article") : text.index("</article>")]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built by the Makefile's command with its output elsewhere."""
    if MISSING:
        pytest.skip(f"no {', '.join(MISSING)} here: pip install '.[docs]'")
    line = next(text for text in (ROOT / "Makefile").read_text().splitlines() if text.startswith("docs: ; "))
    command = shlex.split(line.removeprefix("docs: ; ").replace("$(PYTHON)", sys.executable))
    assert command[-1] == "build/docs" and {"-W", "-n"} <= set(command)
    out = tmp_path_factory.mktemp("site")
    built = subprocess.run([*command[:-1], str(out)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return out


def test_it_builds_without_a_warning(site):
    for page in PAGES:
        assert (site / page.relative_to(DOCS).with_suffix(".html")).is_file(), page


def test_links_of_the_readme_lead_to_pages(site):
    shown = article(site / "index.html")
    for target in re.findall(r"\]\(docs/([^)#]+)\.md", (ROOT / "README.md").read_text()):
        assert f'href="{target}.html' in shown, target


def test_formulas_are_formulas(site):
    shown = article(site / "math.html")
    formula = r'<(span|div) class="math .*?</\1>'
    assert len(re.findall(formula, shown, re.DOTALL)) > 20
    assert not re.search(r"[$\\]", re.sub(formula, "", shown, flags=re.DOTALL))
    for page in TEXTS:
        # MyST knows these forms and GitHub does not.
        assert not re.search(r"\\[()\[\]]", without_code(page.read_text())), page


def test_the_reference_has_all_that_is_public(site):
    import lstmrep
    from lstmrep import data, figures, train, viz, zoo
    from lstmrep import eval as evaluation

    text = (site / "api.html").read_text()
    for module in (lstmrep, data, train, evaluation, viz, figures, zoo):
        for name in set(module.__all__) - {"ops"}:
            assert f'id="{module.__name__}.{name}"' in text, f"{module.__name__}.{name}"


def test_nothing_of_the_build_is_this_machines(site):
    for page in site.rglob("*.html"):
        assert str(ROOT) not in page.read_text(), page.name


def test_every_page_is_in_a_toctree():
    assert sorted(in_toctrees()) == PAGES


@pytest.mark.parametrize("page", TEXTS, ids=_id)
def test_every_anchor_is_there(page):
    for target in links(page):
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        if anchor and "://" not in target and other.suffix == ".md":
            assert anchor in anchors(other), target


@pytest.mark.parametrize("page", TEXTS, ids=_id)
def test_external_links_are_https(page):
    for target in [t for t in links(page) if re.match(r"\w+:", t)]:
        parts = urlsplit(target)
        assert parts.scheme == "https" and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc), target
    assert "http://" not in page.read_text()


def test_every_kernel_has_its_page():
    """A folder with a launch rule is a kernel; its page is in the index of kernels."""
    index = (DOCS / "kernels" / "index.md").read_text()
    folders = {p.parent.name for p in (ROOT / "csrc" / "cuda").glob("*/config.h") if "\n// launch " in p.read_text()}
    assert {"cta_resident", "pointwise"} <= folders
    for name in sorted(folders | {"cpu"}):
        assert (DOCS / "kernels" / f"{name}.md").is_file(), name
        assert f"]({name}.md) | `csrc/" in index, name
