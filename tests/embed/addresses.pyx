# cython: language_level=3
"""Every function of the C API, as Cython finds it."""

cimport instep
from libc.stdint cimport uintptr_t

FUNCTIONS = {
    "instep_message": <uintptr_t>instep.instep_message,
    "instep_abi_version": <uintptr_t>instep.instep_abi_version,
    "instep_rule_name": <uintptr_t>instep.instep_rule_name,
    "instep_option_name": <uintptr_t>instep.instep_option_name,
    "instep_option_is_flag": <uintptr_t>instep.instep_option_is_flag,
    "instep_init": <uintptr_t>instep.instep_init,
    "instep_set": <uintptr_t>instep.instep_set,
    "instep_get": <uintptr_t>instep.instep_get,
    "instep_check": <uintptr_t>instep.instep_check,
    "instep_state_count": <uintptr_t>instep.instep_state_count,
    "instep_state_name": <uintptr_t>instep.instep_state_name,
    "instep_state_start": <uintptr_t>instep.instep_state_start,
    "instep_step": <uintptr_t>instep.instep_step,
    "instep_step_one": <uintptr_t>instep.instep_step_one,
    "instep_isa_name": <uintptr_t>instep.instep_isa_name,
    "instep_isa_available": <uintptr_t>instep.instep_isa_available,
    "instep_active_isa": <uintptr_t>instep.instep_active_isa,
    "instep_set_isa": <uintptr_t>instep.instep_set_isa,
    "instep_set_threads": <uintptr_t>instep.instep_set_threads,
    "instep_get_threads": <uintptr_t>instep.instep_get_threads,
}
