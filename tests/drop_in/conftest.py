"""A test that asks for `reader` runs with DLPack's exchange table and without it, as in an older torch."""

import pytest


@pytest.fixture(params=["table", "attributes"])
def reader(request):
    from instep import _torch

    if not _torch.use_exchange_table(request.param == "table") and request.param == "table":
        pytest.skip("this torch has no exchange table")
    yield request.param
    _torch.use_exchange_table(True)
