"""The documentation site: `nox -s docs`."""

import importlib.metadata
from pathlib import Path

project = "instep"
author = "the instep developers"
copyright = "2026, the instep developers"
release = importlib.metadata.version("instep")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "hawkmoth",
]
myst_enable_extensions = ["colon_fence", "dollarmath"]
exclude_patterns = ["_build"]
default_role = "py:obj"
autodoc_typehints = "none"
napoleon_use_ivar = True
autodoc_member_order = "bysource"

hawkmoth_root = str(Path(__file__).parents[1] / "csrc")
hawkmoth_compiler = "cc"
hawkmoth_clang = ["-std=c11", "-DINSTEP_API="]

html_theme = "furo"
html_title = f"instep {release}"
