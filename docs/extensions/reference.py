"""The reference: a page for each class and function, an anchor for each option, a table of all dialects.

What is listed stands in ``reference/python.md``, in directives ``.. pages::`` with a name a line; ``{classes}``,
``{functions}`` and ``{twins}`` there are those of every rule.  A public name that no page has is an error.
"""

from __future__ import annotations

import ast
import inspect
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent, indent
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.ext.autodoc.mock import mock
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

import instep
from instep import dialects
from instep._core import rules
from instep.optimizers import Optimizer


def stand_in() -> None:
    """What our modules ask of torch, timm, stable-baselines3 and thinc while they are imported.

    They are too large to be installed for that.
    """
    import stable_baselines3.common.sb2_compat.rmsprop_tf_like
    import thinc.optimizers
    import timm.optim.rmsprop_tf
    import torch._C  # a module, and so with a file, if one that holds no functions
    import torch.optim

    torch.__version__ = "2.4"
    torch.optim.Optimizer = type(
        "Optimizer", (), {"step": lambda self, closure=None: None, "profile_hook_step": staticmethod(lambda step: step)}
    )
    for name in ("RMSprop", "SGD", "Adagrad", "Adam", "AdamW", "Adadelta", "Rprop"):
        setattr(torch.optim, name, type(name, (torch.optim.Optimizer,), {}))
    timm.optim.rmsprop_tf.RMSpropTF = type("RMSpropTF", (torch.optim.Optimizer,), {})
    sb2_compat = stable_baselines3.common.sb2_compat
    sb2_compat.rmsprop_tf_like.RMSpropTFLike = type("RMSpropTFLike", (torch.optim.Optimizer,), {})
    thinc.optimizers.Optimizer = type("Optimizer", (), {"__slots__": ()})
    thinc.optimizers.ADAM_DEFAULTS = {  # of thinc 9.1
        "learn_rate": 0.001,
        "L2": 0.0,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-08,
        "L2_is_weight_decay": True,
        "grad_clip": 1.0,
    }


with mock(["mpi4py", "stable_baselines3", "thinc", "timm", "torch"]):
    stand_in()
    import instep.mpi
    import instep.thinc
    import instep.torch
    import instep.torch.stable_baselines3
    import instep.torch.timm

INDEX = "reference/python.md"
FOLDER = "reference/api"
METHODS = (
    "step",
    "step_one",
    "accumulate",
    "bind",
    "averaged",
    "state_dict",
    "load_state_dict",
    "save",
    "load",
    "preset",
)
PROPERTIES = ("groups", "grad_norm", "loss_scale", "norms", "skipped_steps")
ATTRIBUTES = ("params", "state", "options", "step_count")
# What twins call that is not NumPy's.
HELPERS = {
    "prepared": "``prepared`` is the gradient after `maximize` and `weight_decay`; decoupled, that shrinks `param`.",
    "whole_power": "``whole_power(x, n)`` is ``x**n`` by squaring, in multiplications alone.",
}


# ---- a page each ------------------------------------------------------------------------------------------------


def variants() -> list[str]:
    """The functions of the rules and their variants, in the order of the roll-call."""
    order = list(rules())
    classes = dialects.family()
    return sorted(classes, key=lambda name: order.index(classes[name].rule))


def listed(lines: list[str]) -> list[str]:
    """The names in the lines of a directive."""
    names: list[str] = []
    for line in filter(None, map(str.strip, lines)):
        if line == "{classes}":
            names += [dialects.family()[name].__name__ for name in variants()]
        elif line == "{functions}":
            names += variants()
        elif line == "{twins}":
            names += [f"reference.{name}" for name in variants()]
        else:
            names.append(line)
    return names


def page_of(name: str) -> str:
    """Where the page of a name is; the case of letters tells no files apart on some systems."""
    kind = "classes" if inspect.isclass(found(name)) else "functions"
    return f"{FOLDER}/{kind}/{name}"


def found(name: str) -> Any:
    """The object of a dotted name below the package."""
    value: Any = instep
    for part in name.split("."):
        value = getattr(value, part)
    return value


def write_pages(app: Sphinx) -> None:
    """Write what `INDEX` lists, and take away what an earlier build has left."""
    source = Path(app.srcdir)
    shutil.rmtree(source / FOLDER, ignore_errors=True)
    index = (source / INDEX).read_text()
    names = [
        name
        for block in re.findall(r"^\.\. pages::\n((?:\n|   .*\n)+)", index, re.M)
        for name in listed(block.splitlines())
    ]
    for name in names:
        path = source / f"{page_of(name)}.rst"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(name))
    listed_otherwise = {"__version__", *re.findall(r"^\.\. py:data:: (\S+)", index, re.M)}
    if missing := public_names() - {*names, *listed_otherwise}:
        raise ValueError(f"{INDEX} lists no page of {', '.join(sorted(missing))}")


def public_names() -> set[str]:
    """What the package and its public modules export."""
    names = {f"reference.{name}" for name in dir(instep.reference)}
    for module in (instep, *modules(instep)):
        prefix = module.__name__.partition(".")[2]
        exported = [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
        names |= {f"{prefix}.{name}" if prefix else name for name in exported}
    return names


def modules(package: ModuleType) -> Iterator[ModuleType]:
    """Those in it that say what they export."""
    for value in list(vars(package).values()):
        if inspect.ismodule(value) and value.__name__.startswith(f"{package.__name__}.") and hasattr(value, "__all__"):
            yield value
            yield from modules(value)


def page(name: str) -> str:
    """The source of a page."""
    value = found(name)
    is_class = inspect.isclass(value)
    title = name + ("" if is_class else "()")
    full = f"instep.{name}"
    lines = [title, "=" * len(title), "", f".. currentmodule:: {full.rpartition('.')[0]}", ""]
    if value is Optimizer:
        lines += [f".. autoclass:: {full}", f"   :members: {', '.join((*METHODS, *PROPERTIES))}"]
    elif is_class and issubclass(value, Optimizer):
        lines += [f".. autoclass:: {full}", "", "Methods and attributes", "----------------------", ""]
        lines += ["They are those of :py:class:`Optimizer`:", "", ".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   Optimizer.{member}" for member in (*METHODS, *ATTRIBUTES, *PROPERTIES)]
    elif is_class and issubclass(value, instep.torch.dropin.Dropin):
        lines += [f".. autoclass:: {full}(params, ...)", "   :members: step, fallbacks", "   :inherited-members:"]
    elif is_class and issubclass(value, tuple):  # its docstring has the attributes
        lines += [f".. autoclass:: {full}"]
    elif is_class and issubclass(value, Exception):
        lines += [f".. autoexception:: {full}"]
    elif is_class and "__call__" in vars(value):
        lines += [f".. autoclass:: {full}()", "   :special-members: __call__"]
    elif is_class:
        lines += [f".. autoclass:: {full}", "   :members:"]
    elif name.startswith("reference."):
        lines += twin(name)
    else:
        lines += [f".. autofunction:: {full}"]
    return "\n".join(lines) + "\n"


def twin(name: str) -> list[str]:
    """A twin's page shows what it computes: the body of the function."""
    step = found(name).__wrapped__
    source = dedent(inspect.getsource(step))
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    body = dedent("\n".join(source.splitlines()[function.body[0].end_lineno :])).strip("\n")
    rule = name.removeprefix("reference.")
    says = f"What :py:obj:`instep.{rule}` computes, in NumPy: the same arguments, the same bits.  This is all of it:"
    given = inspect.signature(step)
    parameters = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in given.parameters.values()]
    given = given.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    lines = [f".. py:function:: {rule}{given}", "", f"   {says}", "", "   .. code-block:: python", ""]
    lines += [indent(body, "      "), ""]
    lines += [f"   {words}" for function, words in HELPERS.items() if f"{function}(" in body]
    return lines


class Pages(SphinxDirective):
    """A table of names, each with its first sentence, which leads to their pages."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Through the directives that Sphinx has for it."""
        names = listed(list(self.content))
        lines = [".. currentmodule:: instep", "", ".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   {name}" for name in names]
        lines += ["", ".. toctree::", "   :hidden:", ""] + [f"   /{page_of(name)}" for name in names]
        return self.parse_text_to_nodes("\n".join(lines))


# ---- an anchor for each option ----------------------------------------------------------------------------------


def set_options_apart(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Options and attributes of an optimizer get places of their own, which links and the search find."""
    if what != "class" or not issubclass(value, Optimizer):
        return
    for heading in {"Parameters", "Attributes"} & set(lines):
        begin = lines.index(heading)
        end = next(k for k in range(begin + 2, len(lines) - 1) if set(lines[k + 1]) == {"-"})
        kept, moved = lines[begin : begin + 2], []
        for names, kind, body in entries(lines[begin + 2 : end]):
            if heading == "Parameters" and not set(names) <= set(value._defaults):
                kept += [f"{', '.join(names)} : {kind}", *body]
                continue
            for attribute in names:
                moved += [f".. py:attribute:: {attribute}"]
                if heading == "Parameters":
                    default = value._defaults[attribute]
                    moved += [f"   :value: {default!r}"]
                    kind = type(default).__name__
                moved += [f"   :type: {kind}", "", *[line[1:] if line else line for line in body], ""]
        if heading == "Parameters":
            given = "By name, from those below.  They are attributes too, to read and to assign between steps."
            lines[begin:end] = [*kept, "**options", f"    {given}", ""]
            lines += ["", ".. rubric:: Options", "", *moved]
        else:
            lines[begin:end] = moved


def link(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Where a docstring names a paper, or a class that is returned, the site leads to it."""
    if "Returns" in lines:
        place = lines.index("Returns") + 2
        lines[place] = re.sub(r"^(Optimizer|Schedule)$", r":py:obj:`\1`", lines[place])
    lines[:] = [re.sub(r"arXiv:(\d+\.\d+)", r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", line) for line in lines]


def entries(lines: list[str]) -> Iterator[tuple[list[str], str, list[str]]]:
    """The entries of a numpydoc section: the names that each is of, their type, and the lines below."""
    starts = [k for k, line in enumerate(lines) if line and not line.startswith(" ")]
    for begin, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        names, _, kind = lines[begin].partition(" : ")
        yield [name.strip() for name in names.split(",")], kind, lines[begin + 1 : end]


def resolve(app: Sphinx, env: Any, node: pending_xref, shown: nodes.Element) -> nodes.Element | None:
    """What single backticks in a docstring may name without all its dots.

    A method of an optimizer, a function of a module that is spoken of; an argument or option needs no target.
    """
    if node["reftype"] != "obj":
        return None
    target = node["reftarget"].removesuffix("()").removeprefix("instep.")
    if "." in target and target.partition(".")[0] in CLASSES:
        target = target.partition(".")[2]
    python = env.domains.python_domain
    for prefix in PREFIXES:
        if prefix + target in python.objects:
            entry = python.objects[prefix + target]
            return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, shown, prefix + target)
    return shown if target in ARGUMENTS or node["refdoc"] == "reference/c" else None


def arguments() -> set[str]:
    """What any public function or method is given by name."""
    names = {option for options in rules().values() for option in options}
    for name in (*instep.__all__, "mpi.Sharded", "thinc.Adam"):
        value = found(name)
        members = inspect.getmembers(value) if inspect.isclass(value) or inspect.ismodule(value) else ()
        for _, member in (("", value), *members):
            if inspect.isroutine(member) or inspect.isclass(member):
                names |= signature(member)
    return names


def signature(value: Any) -> set[str]:
    """The names in it, where there is one."""
    try:
        return set(inspect.signature(value).parameters)
    except (TypeError, ValueError):
        return set()


ARGUMENTS = arguments()
PREFIXES = [
    f"instep.{each}"
    for each in ("", "Optimizer.", "schedules.", "interchange.", "mpi.Sharded.", "around.", "storage.", "thinc.")
]
CLASSES = {name for name in instep.__all__ if inspect.isclass(getattr(instep, name))}


# ---- the dialects -----------------------------------------------------------------------------------------------


class Dialects(SphinxDirective):
    """For each rule, what its frameworks set otherwise and how they call it."""

    def run(self) -> list[nodes.Node]:
        """A section a rule."""
        lines: list[str] = []
        for name in variants():
            spoken = {framework: rule[name] for framework, rule in dialects.dialects().items() if name in rule}
            cls = dialects.family()[name]
            if not spoken:
                continue
            lines += [f".. rubric:: {cls.__name__}", "   :heading-level: 2", ""]
            lines += [".. list-table::", "   :header-rows: 1", "   :widths: 15 40 45", ""]
            lines += ["   * - framework", "     - other defaults than here", "     - its names, where they are others"]
            for framework, dialect in spoken.items():
                lines += [f"   * - ``{framework}``", f"     - {defaults(cls, framework)}", f"     - {names(dialect)}"]
            lines += [""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def defaults(cls: type[Optimizer], framework: str) -> str:
    """The options whose defaults differ from the class's."""
    preset = dialects.presets(dialects._rule_of(cls))[framework]
    found = [f"``{name}={value!r}``" for name, value in preset.items() if value != cls._defaults[name]]
    return ", ".join([*found, *([] if "lr" in preset else ["``lr`` must be given"])]) or "none"


def names(dialect: dialects.Dialect) -> str:
    """The options that the framework calls otherwise, and what it refuses."""
    found = [
        f"``{theirs}`` is ``{' and '.join(ours)}``"
        if len(ours) == 1
        else f"``{theirs}`` are ``{'`` and ``'.join(ours)}``"
        for theirs, ours in dialects._our_names(dialect.all_names).items()
        if ours != [theirs]
    ]
    found += [f"it {words}" for words in dialect.refused.values()]
    return ", ".join(found) or "none"


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect all of it."""
    app.add_directive("pages", Pages)
    app.add_directive("dialects", Dialects)
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", set_options_apart, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", link, priority=100)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
