"""What other compiled code needs to find."""

import os


def get_include() -> str:
    """Return the folder of ``instep.h`` and ``instep_capi.h``.

    Returns
    -------
    str
        For the include folders of an extension that does ``cimport instep`` or reads the capsule ``instep.C_API``.
    """
    return os.path.join(os.path.dirname(__file__), "include")
