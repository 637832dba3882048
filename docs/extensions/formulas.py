"""The formulas of the docstrings as mathematics: ``p = p - lr g / (sqrt(v) + eps)`` is set as one reads it in a book.

A docstring is read in a terminal too, so its formulas are plain text, in the language of this grammar.  Names and
brackets that stand side by side are multiplied; ``/`` takes what has been multiplied so far, up to the last ``/``, and
the one factor that follows.

    formula   side (("=" | "<-" | ">" | "<") side)?
    side      "-"? product (("+" | "-") product)*
    product   power ("/"? power)*
    power     item ("^" item)?
    item      number | name | "..." | function "(" side ("," side)* ")" | "(" side ")"
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from docutils import nodes
from latex2mathml.converter import convert
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

import instep
from instep._core import rules

logger = logging.getLogger(__name__)

TOKEN = re.compile(r"\s*(<-|\.\.\.|[A-Za-z][A-Za-z_]*[0-9]*'?\(?|[0-9]+|[-+=<>^/(),])")
FUNCTIONS = {"sqrt": r"\sqrt", "max": r"\max", "min": r"\min", "cos": r"\cos", "sign": r"\operatorname{sign}"}
GREEK = {"pi": r"\pi", "rho": r"\rho", "eps": r"\epsilon", "beta1": r"\beta_1", "beta2": r"\beta_2"}
SIGNS = {"=": "=", "<-": r"\gets", ">": ">", "<": "<"}
WORDS = {"pi", "grad", "param", "update", "start", "end", "step", "steps", "power", "decay_rate", "decay_steps"}
LETTER = re.compile(r"(?<![\w'])[b-z]'?(?![\w'])")


class NoFormulaError(ValueError):
    """The text is none."""


class Formula:
    """A text that is read from left to right, into LaTeX."""

    def __init__(self, text: str, names: set[str]) -> None:
        self.tokens = list(self.split(text))
        self.names = names
        self.operators = 0
        self.latex = self.whole()

    @staticmethod
    def split(text: str) -> Iterator[str]:
        """The tokens, the last of which is empty."""
        at = 0
        while at < len(text.rstrip()):
            match = TOKEN.match(text, at)
            if match is None:
                raise NoFormulaError(text)
            yield match[1]
            at = match.end()
        yield ""

    def take(self, *wanted: str) -> str:
        """The next token, if it is one of these."""
        if self.tokens[0] not in wanted:
            raise NoFormulaError(self.tokens[0])
        return self.tokens.pop(0)

    def whole(self) -> str:
        """A side, or two."""
        latex = self.side()
        if self.tokens[0] in SIGNS:
            self.operators += 1
            latex += f" {SIGNS[self.tokens.pop(0)]} {self.side()}"
        self.take("")
        return latex

    def side(self) -> str:
        """A sum, which may begin with a sign."""
        latex = self.tokens.pop(0) if self.tokens[0] in ("+", "-") else ""
        latex += self.product()
        while self.tokens[0] in ("+", "-"):
            self.operators += 1
            latex += f" {self.tokens.pop(0)} {self.product()}"
        return latex

    def product(self) -> str:
        """Fractions, and what is left to be multiplied."""
        done, open_factors = [], [self.power()]
        while True:
            if self.tokens[0] == "/":
                self.operators += 1
                self.tokens.pop(0)
                below = self.power(bare=True)
                above = open_factors[0] if len(open_factors) == 1 else r"\,".join(open_factors)
                done.append(rf"\frac{{{unbracketed(above) if len(open_factors) == 1 else above}}}{{{below}}}")
                open_factors = []
            elif self.tokens[0] and self.tokens[0] not in ("+", "-", ",", ")", "^", *SIGNS):
                self.operators += 1
                open_factors.append(self.power())
            else:
                return r"\,".join([*done, *open_factors])

    def power(self, bare: bool = False) -> str:
        """With an exponent, if there is one; without its brackets where a bar stands for them."""
        latex = self.item()
        if self.tokens[0] != "^":
            return unbracketed(latex) if bare else latex
        self.operators += 1
        self.tokens.pop(0)
        return rf"{{{latex}}}^{{{unbracketed(self.item())}}}"

    def item(self) -> str:
        """One factor."""
        token = self.tokens.pop(0)
        if token == "(":
            latex = self.side()
            self.take(")")
            return rf"\left({latex}\right)"
        if token.endswith("("):
            return self.call(token[:-1])
        if token.isdigit():
            return token
        if token == "...":
            return r"\dots"
        name = token.rstrip("'")
        if not name or not name[0].isalpha() or (len(name) > 1 and name not in self.names):
            raise NoFormulaError(token)
        return GREEK.get(name, name if len(name) == 1 else rf"\text{{{name}}}") + token[len(name) :]

    def call(self, name: str) -> str:
        """A function of what is in its brackets."""
        if name not in FUNCTIONS:
            raise NoFormulaError(name)
        self.operators += 1
        arguments = [self.side()]
        while self.take(",", ")") == ",":
            arguments.append(self.side())
        if name == "sqrt":
            return rf"\sqrt{{{arguments[0]}}}"
        return rf"{FUNCTIONS[name]}\left({', '.join(arguments)}\right)"


def unbracketed(latex: str) -> str:
    """Without the brackets around all of it."""
    inner = latex.removeprefix(r"\left(").removesuffix(r"\right)")
    depth = 0
    for bracket in re.findall(r"\\left\(|\\right\)", inner):
        depth += 1 if bracket == r"\left(" else -1
        if depth < 0:
            return latex
    return inner if len(latex) - len(inner) == len(r"\left(\right)") else latex


def known_names() -> set[str]:
    """What may stand in a formula beside single letters."""
    states = {
        name
        for rule in rules()
        for cls in [instep.Optimizer.of_rule(rule)]
        for name in re.findall(r"``(\w+)``", cls.__doc__ or "")
    }
    return WORDS | {option for options in rules().values() for option in options} | states


def latex_of(text: str, names: set[str]) -> list[str] | None:
    """The LaTeX of each of the formulas that semicolons divide, or None of anything else."""
    try:
        formulas = [Formula(part, names) for part in text.split(";")]
    except NoFormulaError:
        return None
    if not any(formula.operators for formula in formulas) and len(text) > 1:
        return None  # a name by itself is code
    return [formula.latex for formula in formulas]


def set_formulas(app: Sphinx, doctree: nodes.document) -> None:
    """Put mathematics in the place of the formulas in what is generated of docstrings."""
    names = known_names()
    for content in doctree.findall(addnodes.desc_content):
        for literal in list(content.findall(nodes.literal)):
            formulas = latex_of(literal.astext(), names)
            if formulas is not None:
                style = r"\displaystyle " if is_in_table(literal) else ""
                parts = [part for latex in formulas for part in (nodes.Text("; "), nodes.math("", style + latex))]
                literal.parent.replace(literal, parts[1:])
        for block in list(content.findall(nodes.literal_block)):
            lines = [latex_of(line, names) for line in block.astext().splitlines()]
            if all(lines):
                formulas = [latex for line in lines for latex in line or ()]
                block.parent.replace(block, [nodes.math_block("", latex, number=None) for latex in formulas])
        for table in content.findall(nodes.table):
            if any(True for _ in table.findall(nodes.math)):
                table["classes"].append("formulas")
                for literal in table.findall(nodes.literal):
                    if " " in literal.astext():
                        logger.warning("%r is not understood as a formula", literal.astext(), location=literal)
                for text in list(table.findall(nodes.Text)):
                    set_letters(text)


def is_in_table(node: nodes.Node) -> bool:
    """Whether it stands in one."""
    return node.parent is not None and (isinstance(node.parent, nodes.table) or is_in_table(node.parent))


def set_letters(text: nodes.Text) -> None:
    """In the words beside a formula, its letters look as in the formula."""
    if isinstance(text.parent, nodes.math | nodes.literal | addnodes.pending_xref):
        return
    parts: list[nodes.Node] = []
    at = 0
    for match in LETTER.finditer(text):
        parts += [nodes.Text(text[at : match.start()]), nodes.math(match[0], match[0])]
        at = match.end()
    if parts:
        text.parent.replace(text, [*parts, nodes.Text(text[at:])])


def visit_math(translator: HTML5Translator, node: nodes.math) -> None:
    """MathML, which browsers show by themselves."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def visit_math_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """The same in a line of its own."""
    translator.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect both."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))  # type: ignore[arg-type]
    app.connect("doctree-read", set_formulas)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
