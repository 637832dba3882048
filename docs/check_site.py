"""What no warning of Sphinx says of the built site: python docs/check_site.py build/docs [--external].

Every link leads somewhere, every picture is there, no markup stands in the text as it was written, and what was
generated of docstrings reads as it was meant: only exceptions are raised, no argument's default is an object.  With
--external, links to elsewhere are opened too.
"""

from __future__ import annotations

import argparse
import builtins
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

OBJECT = re.compile(r"<[a-z]")
MARKUP = re.compile(r"`|\*\*\w[^*]*\*\*|\.\. \w+::|\{[\w ]+\}|[a-z)]\^|]\(")
FEWEST = 40  # pages
VERBATIM = {"code", "pre", "script", "style", "svg", "math"}


@dataclass
class Page(HTMLParser):
    """What is looked at on a page."""

    path: Path
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    raised: list[str] = field(default_factory=list)
    markup: list[str] = field(default_factory=list)
    inside: list[tuple[str, str]] = field(default_factory=list)
    verbatim: list[str] = field(default_factory=list)
    heading: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect."""
        given = {name: value or "" for name, value in attrs}
        self.anchors.add(given.get("id", ""))
        self.links += [given[name] for name in ("href", "src") if given.get(name)]
        if tag in VERBATIM:
            self.verbatim.append(tag)
        if tag in ("dt", "strong"):
            self.inside.append((tag, given.get("class", "")))
            texts = {"dt": self.signatures, "strong": self.raised}[tag]
            if tag == "dt" or self.heading == "Raises":
                texts.append("")

    def handle_endtag(self, tag: str) -> None:
        """Leave."""
        if self.inside and self.inside[-1][0] == tag:
            self.inside.pop()
        if self.verbatim and self.verbatim[-1] == tag:
            self.verbatim.pop()

    def handle_data(self, data: str) -> None:
        """The text of a term, or the name of an exception; what looks like markup, where it is not shown as such."""
        if not self.verbatim and MARKUP.search(data):
            self.markup.append(data.strip())
        if not self.inside:
            return
        tag, classes = self.inside[-1]
        if tag == "dt":
            self.signatures[-1] += data
            if "field-" in classes and data.strip(":"):
                self.heading = data.strip(":")
            elif "sig" in classes:
                self.heading = ""
        elif self.heading == "Raises":
            self.raised[-1] += data


def complaints(site: Path) -> Iterator[str]:
    """What is wrong, a sentence each."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    if len(pages) < FEWEST or not any(page.raised for page in pages.values()):
        yield f"{site} is not the site: it has {len(pages)} pages"
    for path, page in pages.items():
        name = path.relative_to(site)
        for link in page.links:
            if not is_external(link):
                yield from complaints_of_link(site, pages, path, link)
        for text in page.markup:
            yield f"{name}: {text!r} shows its markup"
        for text in page.signatures:
            if OBJECT.search(text):
                yield f"{name}: the signature {text.strip()!r} shows an object"
        for exceptions in page.raised:
            for exception in filter(None, exceptions.split(", ")):
                if not is_exception(exception):
                    yield f"{name}: {exception!r} is listed among what is raised"


def is_exception(name: str) -> bool:
    """Python's, or our one."""
    value = getattr(builtins, name, None)
    return name == "CheckpointError" or (isinstance(value, type) and issubclass(value, Exception))


def is_external(link: str) -> bool:
    """To another site."""
    return link.startswith(("http://", "https://"))


def complaints_of_link(site: Path, pages: dict[Path, Page], path: Path, link: str) -> Iterator[str]:
    """It leads to a file, and to a place in it."""
    if link.startswith(("data:", "mailto:")):
        return
    target, anchor = urldefrag(link)
    goal = (path.parent / unquote(target.split("?")[0])).resolve() if target else path.resolve()
    name = path.relative_to(site)
    if goal.is_dir():
        goal /= "index.html"
    if not goal.exists():
        yield f"{name}: there is no {link}"
    elif anchor and goal in pages and unquote(anchor) not in pages[goal].anchors:
        yield f"{name}: there is no place {link}"


def dead_links(site: Path) -> Iterator[str]:
    """Links to elsewhere that cannot be opened."""
    for link in sorted({link for path in site.rglob("*.html") for link in Page(path).links if is_external(link)}):
        try:
            urllib.request.urlopen(urllib.request.Request(link, headers={"User-Agent": "Mozilla/5.0"}), timeout=30)
        except (urllib.error.URLError, OSError) as error:
            yield f"{link}: {error}"


def main() -> int:
    """Print the complaints; 1 if there are any."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--external", action="store_true")
    arguments = parser.parse_args()
    site = arguments.site.resolve()
    found = [*complaints(site), *(dead_links(site) if arguments.external else ())]
    for complaint in found:
        print(complaint, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
