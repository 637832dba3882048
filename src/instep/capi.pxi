# The functions of instep.h for other compiled modules: as a table in a capsule, which csrc/instep_capi.h describes, and
# as what Cython looks up for `cimport instep`, by name and signature.

from cpython.pycapsule cimport PyCapsule_New

cdef extern from *:
    """
    #include "instep_capi.h"

    static const instep_functions c_api = {
        .abi_version = INSTEP_ABI_VERSION,
        .message = instep_message,
        .rule_name = instep_rule_name,
        .option_name = instep_option_name,
        .option_is_flag = instep_option_is_flag,
        .init = instep_init,
        .set = instep_set,
        .get = instep_get,
        .check = instep_check,
        .state_count = instep_state_count,
        .state_name = instep_state_name,
        .state_start = instep_state_start,
        .step = instep_step,
        .step_one = instep_step_one,
        .isa_name = instep_isa_name,
        .isa_available = instep_isa_available,
        .active_isa = instep_active_isa,
        .set_isa = instep_set_isa,
        .set_threads = instep_set_threads,
        .get_threads = instep_get_threads,
    };
    """
    const char *INSTEP_CAPSULE
    ctypedef struct instep_functions:
        pass
    const instep_functions c_api
    int instep_abi_version()
    int instep_set(instep_optimizer *optimizer, const char *option, double value)
    int instep_get(const instep_optimizer *optimizer, const char *option, double *value)

C_API = PyCapsule_New(<void *>&c_api, INSTEP_CAPSULE, NULL)


cdef object _function(const void *address, const char *signature):
    return PyCapsule_New(<void *>address, signature, NULL)


# `__init__.pxd` declares these, and Cython spells a declaration so.
__pyx_capi__ = {
    "instep_message": _function(<void *>instep_message, "char const *(int)"),
    "instep_abi_version": _function(<void *>instep_abi_version, "int (void)"),
    "instep_rule_name": _function(<void *>instep_rule_name, "char const *(size_t)"),
    "instep_option_name": _function(<void *>instep_option_name, "char const *(instep_optimizer const *, size_t)"),
    "instep_option_is_flag": _function(<void *>instep_option_is_flag, "int (instep_optimizer const *, size_t)"),
    "instep_init": _function(<void *>instep_init, "int (instep_optimizer *, char const *)"),
    "instep_set": _function(<void *>instep_set, "int (instep_optimizer *, char const *, double)"),
    "instep_get": _function(<void *>instep_get, "int (instep_optimizer const *, char const *, double *)"),
    "instep_check": _function(<void *>instep_check, "int (instep_optimizer const *, int, char const **)"),
    "instep_state_count": _function(<void *>instep_state_count, "size_t (instep_optimizer const *)"),
    "instep_state_name": _function(<void *>instep_state_name, "char const *(instep_optimizer const *, size_t)"),
    "instep_state_start": _function(<void *>instep_state_start, "double (instep_optimizer const *, size_t)"),
    "instep_step": _function(<void *>instep_step, "int (instep_optimizer *, instep_array *, size_t)"),
    "instep_step_one": _function(<void *>instep_step_one, "int (instep_optimizer *, instep_array *, size_t, size_t)"),
    "instep_isa_name": _function(<void *>instep_isa_name, "char const *(size_t)"),
    "instep_isa_available": _function(<void *>instep_isa_available, "int (size_t)"),
    "instep_active_isa": _function(<void *>instep_active_isa, "char const *(void)"),
    "instep_set_isa": _function(<void *>instep_set_isa, "int (char const *)"),
    "instep_set_threads": _function(<void *>instep_set_threads, "int (int)"),
    "instep_get_threads": _function(<void *>instep_get_threads, "int (void)"),
}
