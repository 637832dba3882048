"""What other compiled code needs to find."""

from pathlib import Path


def get_include() -> str:
    """Return the folder of ``instep.h`` and ``instep_capi.h``.

    Returns
    -------
    str
        For the include folders of an extension that does ``cimport instep`` or reads the capsule ``instep.C_API``.
    """
    return str(Path(__file__).parent / "include")
