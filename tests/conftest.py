"""What several files share: the sizes of a soak, and processes' settings put back after each test."""

import pytest
from hypothesis import HealthCheck, settings

import instep
from instep import _core
from trials import CLASSES

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")  # an emulator and a busy machine are no failures


def pytest_addoption(parser):
    parser.addoption("--soak", action="store_true", help="the sizes of the promises: minutes instead of seconds")


@pytest.fixture(scope="session")
def soak(request):
    return request.config.getoption("--soak")


@pytest.fixture(autouse=True)
def settings_put_back():
    isa, threads = _core.active_isa(), instep.get_num_threads()
    yield
    _core.set_isa(isa)
    instep.set_num_threads(threads)


def available_isas():
    return [name for name, runs in _core.isas().items() if runs]


def pytest_generate_tests(metafunc):
    """Whatever a test takes of these comes from the registry, unless it says itself which."""
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", available_isas(), indirect=True)
    if "dtype" in metafunc.fixturenames:
        metafunc.parametrize("dtype", ["float32", "float64"])
    chosen = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "rule" in metafunc.fixturenames and not any("rule" in names for names in chosen):
        metafunc.parametrize("rule", list(CLASSES))


@pytest.fixture
def isa(request):
    _core.set_isa(request.param)
    return request.param
