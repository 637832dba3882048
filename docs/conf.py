"""The documentation site: `nox -s docs`."""

import importlib.metadata
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))

metadata = importlib.metadata.metadata("instep")
project = "instep"
author = "the instep developers"
copyright = "2026, the instep developers"
release = metadata["Version"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "hawkmoth",
    "commands",
    "formulas",
    "reference",
]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["extensions"]
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*"), ("c:.*", ".*")]  # types in words, and those of the C library
default_role = "py:obj"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autosummary_generate = False
napoleon_use_param = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True

hawkmoth_root = str(HERE.parent / "csrc")
hawkmoth_compiler = "cc"
hawkmoth_clang = ["-std=c11", "-DINSTEP_API="]

html_theme = "furo"
html_title = f"instep {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_search_scorer = str(HERE / "static/scorer.js")
html_math_renderer = "mathml"

# The repository's address stands in pyproject.toml, once it has one that is public.
addresses = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL", []))
if "Repository" in addresses:
    html_theme_options = {
        "source_repository": addresses["Repository"],
        "source_branch": "main",
        "source_directory": "docs/",
    }
