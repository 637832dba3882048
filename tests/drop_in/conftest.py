"""A test that asks for `reader` runs with all that tensors are read by, and with less of it, as in another torch."""

import pytest


@pytest.fixture(params=["torch's functions", "table", "attributes"])
def reader(request):
    from instep import _torch

    _torch.read_within(table=request.param != "attributes", functions=request.param == "torch's functions")
    yield request.param
    _torch.read_within(table=True, functions=True)
