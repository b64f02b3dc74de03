"""Settings of the site that `make docs` builds from these pages with Sphinx and MyST. Nothing is fetched."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the reference is that of this checkout

project = "lstmrep"
author = "the lstmrep authors"
release = re.search(r'^__version__ = "(.+)"$', (ROOT / "lstmrep" / "__init__.py").read_text(), re.MULTILINE)[1]
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4  # the anchors that GitHub gives headings

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
# Names of other libraries stay text: their inventories would have to be fetched.
nitpick_ignore_regex = [("py:.*", r"(?!lstmrep).*")]
nitpick_ignore = [("py:class", "lstmrep.nn.pretrained.Model")]  # a type variable
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"lstmrep {release}"
html_show_copyright = False


def _links_from_here(app, path, parent, content):
    """README.md and CHANGELOG.md lie above this folder: their links to files start here, or are downloads."""
    text = re.sub(r"\]\((?!\w+:|#)", "](path:../", content[0])
    content[0] = text.replace("](path:../docs/", "](").replace("](path:../CHANGELOG.md", "](changes.md")


def setup(app):
    """Called by Sphinx."""
    app.connect("include-read", _links_from_here)
