"""Every preset against the formula of its framework, written out; and how presets are asked for.

`formulas` has the formulas; `trajectories` says what they are tried on and how close is close.  test_peers.py puts the
frameworks themselves beside presets, where they can be installed.
"""

from __future__ import annotations

import copy
import inspect
import pickle
import pydoc
import re
from functools import partial

import numpy as np
import pytest

import instep
from formulas import FORMULAS
from instep import _core
from instep._core import Options
from instep.dialects import dialects
from instep.optimizers import Optimizer
from trajectories import (
    CLASSES,
    SCALES,
    TOLERANCE,
    combinations,
    distance,
    gradients,
    learning_rates,
    scales,
    spell,
    start,
    walk_preset,
    without_gradient,
    words,
)

PRESETS = [(framework, rule) for rule in CLASSES for framework in instep.presets(rule)]

LEARNING_RATES = {
    "torch": dict(rmsprop=1e-2, sgd=1e-3, adagrad=1e-2, adam=1e-3, adamw=1e-3, adadelta=1.0, rprop=1e-2),
    "keras": dict(rmsprop=1e-3, sgd=1e-2, adagrad=1e-3, adam=1e-3, adamw=1e-3, adadelta=1e-3, lion=1e-3),
    "sklearn": dict(sgd=1e-3, adam=1e-3),
    "tf_keras_legacy": dict(rmsprop=1e-3),
    "timm": dict(rmsprop=1e-2),
    "sb3": dict(rmsprop=1e-2),
    "mxnet1": dict(rmsprop=1e-3),
    "mxnet2": dict(rmsprop=1e-3),
    "chainer": dict(rmsprop=1e-2),
    "graves": dict(rmsprop=1e-4),
    "dqn": dict(rmsprop=2.5e-4),
    "autograd": dict(rmsprop=0.1),
    "flux": dict(rmsprop=1e-3),
    "bitsandbytes": dict(rmsprop=1e-2),
}
WITH_LR = [(framework, rule) for framework, rates in LEARNING_RATES.items() for rule in rates]

REFUSED = [
    ("caffe", dict(momentum=0.8), "refuses momentum"),
    ("bitsandbytes", dict(momentum=0.8), "ignores momentum"),
    ("bitsandbytes", dict(centered=True), "refuses centered"),
    ("bitsandbytes", dict(rho=0.0), "refuses rho=0"),
    ("mxnet1", dict(momentum=0.8), "ignores momentum unless centered"),
    ("mxnet2", dict(momentum=0.8), "ignores momentum unless centered"),
    ("mxnet2", dict(momentum=0.8, centered=False), "ignores momentum unless centered"),
]


def knows(framework, options):
    """The framework makes something of these options."""
    return not (framework in ("mxnet1", "mxnet2") and "momentum" in options and "centered" not in options)


CONFIGURATIONS = [
    (framework, rule, options)
    for (framework, rule), formula in FORMULAS.items()
    for options in combinations(framework, rule, list(inspect.signature(formula).parameters)[2:])
    if knows(framework, options)
]


# What every rule has around its formula, and no framework.
AROUND = {name: value for name, value in Options("sgd").values().items() if name not in Options("sgd").of_formula}


def param():
    return [np.zeros(3)]


def preset(framework, rule, **options):
    """Over some array, at some learning rate."""
    return CLASSES[rule].preset(framework, param(), **dict(lr=0.5) | options)


# ---- what a preset computes -----------------------------------------------------------------------------------------


def test_every_preset_has_a_formula():
    assert sorted(PRESETS) == sorted(FORMULAS)


@pytest.mark.parametrize(("framework", "name", "options"), CONFIGURATIONS, ids=spell)
def test_preset_walks_as_its_formula(framework, name, options):
    scale = scales(framework, name, options)
    begin, grads, rates = start(scale), gradients(scale), learning_rates(1e-2)
    positions = FORMULAS[framework, name](begin, zip(grads, rates, strict=True), **options)
    ours = walk_preset(framework, name, begin, grads, rates, options)
    assert distance(ours, np.array([begin, *positions])) <= TOLERANCE


DECAYS = [(framework, rule) for framework, rule, options in CONFIGURATIONS if options == dict(weight_decay=0.1)]


@pytest.mark.parametrize(("framework", "name"), DECAYS)
def test_decay_moves_without_a_gradient(framework, name):
    begin, grads, rates = without_gradient()
    positions = FORMULAS[framework, name](begin, zip(grads, rates, strict=True), weight_decay=0.1)
    walk = np.array([begin, *positions])
    assert (np.abs(walk[-1]) < 1).all()
    assert distance(walk_preset(framework, name, begin, grads, rates, dict(weight_decay=0.1)), walk) <= TOLERANCE


@pytest.mark.parametrize(("framework", "name"), WITH_LR)
def test_preset_walks_at_its_own_learning_rate(framework, name):
    begin, grads = start(SCALES), gradients(SCALES)
    positions = FORMULAS[framework, name](begin, [(grad, LEARNING_RATES[framework][name]) for grad in grads])
    assert distance(walk_preset(framework, name, begin, grads, None, {}), np.array([begin, *positions])) <= TOLERANCE


# ---- what presets lists ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("framework", "name"), PRESETS)
def test_presets_lists_what_preset_makes(framework, name):
    listed = instep.presets(name)[framework]
    assert listed.get("lr") == LEARNING_RATES.get(framework, {}).get(name)
    assert preset(framework, name).options == AROUND | listed | dict(lr=0.5)


def test_presets_lists_the_options_of_the_formula_alone(rule):
    for options in instep.presets(rule).values():
        assert {"lr", *options} == set(Options(rule).of_formula)


@pytest.mark.parametrize(("framework", "name"), PRESETS)
def test_lr_is_needed_where_the_framework_has_no_default(framework, name):
    if (framework, name) in WITH_LR:
        assert CLASSES[name].preset(framework, param()).lr == LEARNING_RATES[framework][name]
    else:
        with pytest.raises(TypeError, match=f"^preset '{framework}' needs lr: the framework has no default for it$"):
            CLASSES[name].preset(framework, param())


def test_presets_are_the_caller_s_to_change(rule):
    for options in instep.presets(rule).values():
        options["eps"] = 0.5
    assert all(options.get("eps") != 0.5 for options in instep.presets(rule).values())


@pytest.mark.parametrize("name", ["torch", "RMSprop", "", None, ["rmsprop"]])
def test_presets_of_no_rule(name):
    question = r": did you mean rmsprop\? There" if "rmsprop" in str(name).lower() else "; there"
    message = f"there is no rule {re.escape(repr(name))}{question} are rmsprop, .*adam, adamw, .*lion[a-z, ]*$"
    with pytest.raises(ValueError, match=message):
        instep.presets(name)


def test_a_preset_has_no_option_that_the_rule_does_not_have():
    for spoken in dialects().values():
        for name, dialect in spoken.items():
            options = set(_core.rules()[CLASSES[name].rule])
            assert set(dialect.preset) <= options
            assert set(dialect.names) <= options
            assert {*dialect.around, *dialect.otherwise} <= options
            assert not {*dialect.names}.intersection([*dialect.around, *dialect.otherwise])
            assert set(dialect.optional) <= set(dialect.all_names)
            items = [theirs for theirs in dialect.names.values() if not isinstance(theirs, str)]
            assert items == [(whole, place) for whole in dict.fromkeys(dict(items)) for place in range(2)]
            assert {option for option, _ in [*dialect.implied, *dialect.refused]} <= options
            for implied in dialect.implied.values():
                assert set(implied) <= options


def test_no_framework_calls_one_option_by_our_name_of_another():
    for spoken in dialects().values():
        for name, dialect in spoken.items():
            ours = _core.rules()[CLASSES[name].rule]
            assert all(theirs == option for option, theirs in dialect.names.items() if theirs in ours)


# ---- options of the caller's ----------------------------------------------------------------------------------------


def other(value):
    return not value if isinstance(value, bool) else 3 if isinstance(value, int) else 0.25


@pytest.mark.parametrize(("framework", "name"), PRESETS)
def test_every_option_can_be_overridden(framework, name):
    """Each alone, where it goes with the rest and the framework takes it."""
    dialect = dialects()[framework][name]
    listed = AROUND | instep.presets(name)[framework] | dict(lr=0.5)
    for option in listed:
        value = 1.25 if option == "eta_plus" else other(listed[option])
        expected = listed | dialect.implied.get((option, bool(value)), {}) | {option: value}
        try:
            CLASSES[name](param(), **expected)
        except ValueError:
            continue
        if (option, bool(value)) not in dialect.refused:
            assert preset(framework, name, **{option: value}).options == expected


@pytest.mark.parametrize(("framework", "name"), PRESETS)
def test_options_are_taken_in_the_framework_s_words(framework, name):
    names = dialects()[framework][name].names
    for *of, options in CONFIGURATIONS:
        if of == [framework, name] and set(options) <= set(names):
            theirs = preset(framework, name, **words(framework, name, options))
            assert theirs.options == preset(framework, name, **options).options
    lr = names.get("lr", "lr")
    assert CLASSES[name].preset(framework, param(), **{lr: 0.125}).lr == 0.125


def test_a_tuple_is_taken_apart():
    assert preset("torch", "adam", betas=[0.5, 0.25]).beta1 == 0.5
    assert preset("torch", "adam", betas=(0.5, 0.25)).beta2 == 0.25
    assert preset("torch", "rprop", step_sizes=(1e-3, 1)).step_max == 1
    assert preset("torch", "rprop", etas=(0.25, 4)).eta_minus == 0.25
    for wrong in (0.9, (0.9,), (0.9, 0.99, 0.999), "ab", None):
        with pytest.raises(
            TypeError, match=f"^betas must be a tuple of beta1 and beta2, not {re.escape(repr(wrong))}$"
        ):
            preset("torch", "adam", betas=wrong)
    with pytest.raises(TypeError, match="beta1 must be a real number, not a value of type str"):
        preset("torch", "adam", betas=("a", 0.9))


@pytest.mark.parametrize(
    ("framework", "name", "options", "twice"),
    [
        ("torch", "rmsprop", dict(alpha=0.5, rho=0.5), "rho"),
        ("torch", "rmsprop", dict(rho=0.5, alpha=0.5), "rho"),
        ("torch", "adam", dict(betas=(0.5, 0.5), beta2=0.5), "beta2"),
        ("keras", "adadelta", dict(learning_rate=None), "lr"),
    ],
)
def test_an_option_given_twice(framework, name, options, twice):
    message = f"^{twice} is given twice, as {framework} calls it and as it is called here$"
    with pytest.raises(TypeError, match=message):
        preset(framework, name, **options)


def test_none_is_taken_where_the_framework_takes_it():
    """optax has no momentum, Keras no decay; where None is an error there, it is one here."""
    for name in ("rmsprop", "sgd"):
        assert preset("optax", name, momentum=None).momentum == 0
    for name in LEARNING_RATES["keras"]:
        if name != "adamw":
            assert preset("keras", name, weight_decay=None).weight_decay == 0
    for framework, name, option in [
        ("keras", "adamw", "weight_decay"),
        ("keras", "adam", "epsilon"),
        ("torch", "adam", "weight_decay"),
        ("torch", "rmsprop", "momentum"),
        ("optax", "adam", "learning_rate"),
        ("optax", "adadelta", "learning_rate"),
    ]:
        ours = dict(epsilon="eps", learning_rate="lr").get(option, option)
        with pytest.raises(TypeError, match=f"^{ours} must be a real number, not a value of type NoneType$"):
            CLASSES[name].preset(framework, param(), **{option: None})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: instep.RMSprop(param(), alpha=0.9), "torch calls it alpha; here it is rho"),
        (lambda: instep.RMSprop(param(), gamma=0.9), "autograd calls it gamma; here it is rho"),
        (lambda: instep.RMSprop.preset("keras", param(), alpha=0.9), "torch calls it alpha; here it is rho"),
        (lambda: instep.Adam(param(), betas=(0.9, 0.9)), "torch calls it betas; here it is beta1 and beta2"),
        (lambda: instep.Adam.preset("torch", param(), beta_1=0.9), "keras calls it beta_1; here it is beta1"),
        (lambda: instep.AdamW(param(), learning_rate=0.9), "keras calls it learning_rate; here it is lr"),
        (
            lambda: instep.RMSprop.preset("torch", param(), alhpa=0.9),
            "did you mean alpha[?] It has lr, .*maximize, .*seed, alpha$",
        ),
        (lambda: instep.RMSprop(param(), momentun=0.9), "did you mean momentum[?] It has lr, .*maximize, .*seed$"),
        (lambda: instep.RMSprop(param(), LR=0.9), "did you mean lr[?] It has lr, .*maximize, .*seed$"),
        (lambda: instep.SGD(param(), epsilon=0.9), "it has lr, .*maximize, .*seed$"),
        (lambda: instep.Adam.preset("torch", param(), foreach=None), "leave it out; in torch it chooses among several"),
        (lambda: instep.Adam(param(), capturable=True), "leave it out; in torch it lets CUDA graphs"),
    ],
)
def test_an_option_that_there_is_not_is_answered_with_the_right_one(make, message):
    with pytest.raises(TypeError, match=f"^\\w+ has no option '\\w+'[:;] {message}"):
        make()


NAME_FIRST = r"^the name of the framework comes first, as in RMSprop\.preset\('torch', params\)"
ASKED = [
    ("RMSprop", "alpha", "torch calls it alpha; here it is rho"),
    ("RMSprop", "learning_rate", "keras calls it learning_rate; here it is lr"),
    ("Adam", "epsilon", "keras calls it epsilon; here it is eps"),
    ("AdamW", "betas", "torch calls it betas; here it is beta1 and beta2"),
    ("Rprop", "etas", "torch calls it etas; here it is eta_minus and eta_plus"),
    ("SGD", "momentun", "did you mean momentum[?] It has lr, .*maximize, .*seed$"),
    ("Lion", "alpha", "it has lr, .*maximize, .*seed$"),
    ("Yogi", "betas", "torch calls it betas; here it is beta1 and beta2$"),
    ("Adam", "wd", "mxnet1 calls it wd; here it is weight_decay$"),
    ("Adam", "used", "it has lr, .*maximize, .*seed$"),
    (
        "RMSprop",
        "fused",
        "leave it out; in torch it chooses among several implementations, of which there is one here$",
    ),
    ("SGD", "differentiable", "leave it out; in torch it lets autograd differentiate through a step, which .* not do$"),
]


@pytest.mark.parametrize(("name", "option", "message"), ASKED)
def test_a_foreign_name_is_answered_wherever_it_is_given(name, option, message):
    cls, array = getattr(instep, name), np.zeros(3)
    opt = cls(array)
    before = opt.state_dict()
    with pytest.raises(TypeError, match=f"^{name} has no option '{option}'[:;] {message}"):
        cls(array, **{option: 0.5})
    with pytest.raises(AttributeError, match=f"^{name} has no option '{option}'[:;] {message}"):
        setattr(opt, option, 0.5)
    if "here it is" in message:
        with pytest.raises(AttributeError, match=f"^{name} has no option '{option}'[:;] {message}"):
            getattr(opt, option)
    message = message.replace("t has lr", "t has param, grad, .*step_count, lr").replace("maximize, .*seed", "maximize")
    with pytest.raises(TypeError, match=f"^{name.lower()}\\(\\) has no argument '{option}'[:;] {message}"):
        getattr(instep, name.lower())(array, array.copy(), **{option: 0.5})
    with pytest.raises(TypeError, match=f"^{name.lower()}.. has no argument 'clip_norm': it is an option of .*{name}$"):
        getattr(instep, name.lower())(array, array.copy(), clip_norm=0.5)
    assert not array.any()
    assert opt.state_dict()["options"] == before["options"]


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("clipnorm", "keras calls it clipnorm; here it is clip_norm"),
        ("clipvalue", "keras calls it clipvalue; here it is clip_value"),
        ("global_clipnorm", "keras calls it global_clipnorm; here it is clip_global_norm"),
        ("max_norm", "torch's clip_grad_norm_ and optax's .* call it max_norm; here it is clip_global_norm"),
        ("max_delta", "optax's clip calls it max_delta; here it is clip_value"),
        ("use_ema", "keras calls it use_ema; here .* average_decay"),
        ("ema_momentum", "keras calls it ema_momentum; here it is average_decay"),
        ("loss_scale_factor", "keras calls it loss_scale_factor; here it is 1 / grad_scale"),
        ("gradient_accumulation_steps", "keras calls it .*; here accumulate sums gradients, and grad_scale makes"),
    ],
)
def test_what_surrounds_a_rule_has_a_name_in_every_class(name, option, message):
    """Also where the framework does not have the rule; the function of one array has none of it."""
    cls = CLASSES[name]
    others = [framework for framework in instep.presets(name) if framework != "keras"]
    for make in (cls, *(partial(cls.preset, other) for other in others[:1])):
        with pytest.raises(TypeError, match=f"^{cls.__name__} has no option '{option}': {message}"):
            make(param(), **{option: 0.5})
    with pytest.raises(AttributeError, match=f"^{cls.__name__} has no option '{option}': {message}"):
        setattr(cls(param()), option, 0.5)
    with pytest.raises(AttributeError, match=f"^{cls.__name__} has no option '{option}': {message}"):
        getattr(cls(param()), option)
    with pytest.raises(
        TypeError, match=f"^{name}\\(\\) has no argument '{option}': {message}.*, with the class {cls.__name__}$"
    ):
        getattr(instep, name)(param(), param(), **{option: 0.5})


@pytest.mark.parametrize("name", LEARNING_RATES["keras"])
def test_the_bounds_of_keras_are_taken_in_its_words(name):
    for theirs, ours in dict(clipnorm="clip_norm", clipvalue="clip_value", global_clipnorm="clip_global_norm").items():
        assert getattr(preset("keras", name, **{theirs: 0.5}), ours) == 0.5
        assert getattr(preset("keras", name, **{theirs: None}), ours) == 0
        with pytest.raises(TypeError, match=f"^{ours} is given twice"):
            preset("keras", name, **{theirs: 0.5, ours: 0.5})


def test_a_foreign_name_is_no_attribute():
    """A class of the user's own may declare one of that name."""
    opt = instep.Adam(param())
    assert getattr(opt, "betas", None) is None
    for holder in (opt, instep.Adam, instep.AdamW):
        assert not hasattr(holder, "betas")
    assert {"lr", "beta1", "step", "options"} <= {*dir(opt)}
    assert not {"betas", "learning_rate", "clipnorm", "max_norm"}.intersection(dir(opt))
    shown = pydoc.plain(pydoc.render_doc(instep.Adam))
    assert re.search(r"^ \|  betas\n \|      torch calls it betas; here it is beta1 and beta2$", shown, re.MULTILINE)
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="Adam can be neither copied nor pickled"):
            attempt(opt)
    assert type(opt).__getattribute__ is object.__getattribute__
    assert not hasattr(type(opt), "__getattr__")  # either would make every attribute slower to read

    class Mine(instep.Adam):
        betas = (0.5, 0.5)

    mine = Mine(param())
    mine.label = "a"
    assert mine.betas == (0.5, 0.5)
    assert {"betas", "label"} <= {*dir(mine)}
    for ask in (lambda: mine.beta_1, lambda: setattr(mine, "beta_1", 0.5)):  # which would go unnoticed
        with pytest.raises(
            AttributeError, match=r"^Mine has no option 'beta_1': keras calls it beta_1; here it is beta1$"
        ):
            ask()


def test_what_is_there_but_not_to_be_assigned():
    opt = instep.RMSprop(param())
    for name in ("step_count", "state", "step", "rule"):
        with pytest.raises(AttributeError, match=f"{name}|read-only|no setter") as error:
            setattr(opt, name, 1)
        assert "has no option" not in str(error.value)


def test_options_without_a_name():
    with pytest.raises(TypeError, match=r"^options go by name, as in Adam\(params, lr=0\.01\)$"):
        instep.Adam(param(), 0.01, 0.9)
    with pytest.raises(TypeError, match=r"^rmsprop\(\): too many positional arguments$"):
        instep.rmsprop(*[np.zeros(3)] * 3, 0.01)
    with pytest.raises(TypeError, match=r"^rmsprop\(\): missing a required argument: 'grad'$"):
        instep.rmsprop(np.zeros(3))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: instep.RMSprop.preset("pytorch", param()),
            ValueError,
            "^RMSprop has no preset 'pytorch': did you mean torch[?] It has torch, keras, .*bitsandbytes$",
        ),
        (lambda: instep.Rprop.preset("optax", param()), ValueError, "^Rprop has no preset 'optax'; it has torch$"),
        (lambda: instep.Adam.preset("Keras", param()), ValueError, "'Keras': did you mean keras[?] It has torch, "),
        (lambda: instep.RMSprop.preset(np.ones(3), "torch"), TypeError, f"{NAME_FIRST}; .* of type ndarray$"),
        (lambda: instep.RMSprop.preset(param(), "torch"), TypeError, f"{NAME_FIRST}; .* of type list$"),
        (lambda: Optimizer.preset("torch", param()), TypeError, "^Optimizer has no rule: use one of its subclasses"),
    ],
)
def test_a_preset_that_there_is_not(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_what_contradicts_a_preset_is_refused():
    with pytest.raises(ValueError, match=r"eps_hat=True adds eps before .*: it needs bias_correction"):
        preset("keras", "adam", bias_correction=False)
    with pytest.raises(ValueError, match="nesterov=True looks ahead along the momentum: it needs momentum > 0"):
        preset("torch", "sgd", nesterov=True)
    with pytest.raises(ValueError, match=r"dampening=0\.5 does not go with nesterov"):
        preset("sklearn", "sgd", dampening=0.5)


# ---- what depends on what is given ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("framework", "options", "message"), REFUSED)
def test_what_the_framework_refuses_or_ignores_is_refused(framework, options, message):
    with pytest.raises(ValueError, match=f"^preset '{framework}': the framework {message}$"):
        preset(framework, "rmsprop", **options)


def test_keras_refuses_a_lion_without_an_average():
    with pytest.raises(ValueError, match=r"^preset 'keras': the framework refuses beta_1=0$"):
        preset("keras", "lion", beta_1=0.0)


@pytest.mark.parametrize("framework", sorted({framework for framework, _, _ in REFUSED}))
def test_what_is_refused_may_be_said_to_be_off(framework):
    options = preset(framework, "rmsprop", momentum=0.0, centered=False).options
    assert options == AROUND | instep.presets("rmsprop")[framework] | dict(lr=0.5)


def test_tf_keras_legacy_moves_eps_with_momentum():
    assert not preset("tf_keras_legacy", "rmsprop").eps_inside
    assert not preset("tf_keras_legacy", "rmsprop", momentum=0.0).eps_inside
    assert preset("tf_keras_legacy", "rmsprop", momentum=0.9).eps_inside
    assert not preset("tf_keras_legacy", "rmsprop", momentum=0.9, eps_inside=False).eps_inside


@pytest.mark.parametrize("framework", ["mxnet1", "mxnet2"])
def test_centered_mxnet_is_graves(framework):
    graves = dict(lr=0.5, centered=True, eps_inside=True, momentum=0.9, lr_in_momentum=True)
    listed = AROUND | instep.presets("rmsprop")[framework]
    assert preset(framework, "rmsprop", centered=True).options == listed | graves
    for momentum in (0.0, 0.5):
        assert preset(framework, "rmsprop", centered=True, momentum=momentum).momentum == momentum
    assert not preset(framework, "rmsprop", centered=True, eps_inside=False).eps_inside


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_optax_takes_the_maximum_of_the_corrected_averages(name):
    assert not preset("optax", name).amsgrad_corrected
    assert preset("optax", name, amsgrad=True).amsgrad_corrected
    assert not preset("optax", name, amsgrad=False).amsgrad_corrected
    assert not preset("optax", name, amsgrad=True, amsgrad_corrected=False).amsgrad_corrected
    assert not preset("torch", name, amsgrad=True).amsgrad_corrected


def test_sklearn_has_nesterov_s_momentum_where_there_is_any():
    assert preset("sklearn", "sgd").nesterov
    assert preset("sklearn", "sgd", momentum=0.5).nesterov
    assert not preset("sklearn", "sgd", momentum=0.0).nesterov


# ---- subclasses -----------------------------------------------------------------------------------------------------


class Mine(instep.AdamW):
    lr: float = 0.5
    eps_hat: bool = True
    weight_decay: float = 0.25


class Redeclared(Optimizer):
    """A rule of this package under another class."""

    rule = "lion"

    lr: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.99


def test_a_preset_is_the_framework_s_whole_for_a_subclass_too():
    for framework, listed in instep.presets("adamw").items():
        optimizer = Mine.preset(framework, param(), lr=0.125)
        assert type(optimizer) is Mine
        assert optimizer.options == AROUND | listed | dict(lr=0.125)
    assert Mine.preset("torch", param()).lr == 1e-3
    with pytest.raises(TypeError, match="needs lr"):
        Mine.preset("optax", param())
    with pytest.raises(TypeError, match=r"^Mine has no option 'beta_1': keras calls it beta_1; here it is beta1$"):
        Mine.preset("torch", param(), beta_1=0.5)


def test_a_class_of_one_s_own_has_the_presets_of_its_rule():
    assert Redeclared.preset("optax", param(), lr=0.5).options == preset("optax", "lion").options


def test_what_is_not_of_the_formula_goes_on_to_the_class():
    """Groups, formats, and state that there is."""
    made = instep.Adam.preset(
        "torch",
        {"w": np.ones(3, np.float16), "b": np.ones(2, np.float16)},
        betas=(0.5, 0.75),
        groups={"b": {"lr": 0.25}},
        state_dtype="8bit",
        master="float32",
    )
    assert (made.groups["b"].lr, made.groups["b"].beta1, made.lr) == (0.25, 0.5, 1e-3)
    assert made.state["grad_avg"]["w"].dtype == np.int8
    assert made.state["param_master"]["w"].dtype == np.float32
    params, state = np.ones(3), {"square_avg": np.full(3, 4.0)}
    again = instep.RMSprop.preset("torch", params, state=state, step_count=7)
    assert again.step_count == 7
    assert again.state["square_avg"] is state["square_avg"]
    with pytest.raises(ValueError, match="matches no array"):
        instep.RMSprop.preset("torch", params, groups={"x": {}})
