"""The documentation site: `nox -s docs`."""

import importlib.metadata
from pathlib import Path

import instep

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
autodoc_mock_imports = ["mpi4py"]
napoleon_use_ivar = True
autodoc_member_order = "bysource"

hawkmoth_root = str(Path(__file__).parents[1] / "csrc")
hawkmoth_compiler = "cc"
hawkmoth_clang = ["-std=c11", "-DINSTEP_API="]

html_theme = "furo"
html_title = f"instep {release}"


def list_rules(app, page, source):
    """Put what every rule has where a page says so."""
    classes = [name for name in instep.__all__ if isinstance(getattr(instep, name), type(instep.RMSprop))]
    rules = [name for name in classes if name != "Optimizer" and name.lower() in instep.__all__]
    for comment, directive in (
        (".. the classes of the rules\n", ".. autoclass:: instep.{}\n"),
        (".. the functions of the rules\n", ".. autofunction:: instep.{}\n"),
    ):
        lower = "functions" in comment
        listed = "".join(directive.format(name.lower() if lower else name) for name in rules)
        source[0] = source[0].replace(comment, listed)


def setup(app):
    """Connect what pages are read through."""
    app.connect("source-read", list_rules)
