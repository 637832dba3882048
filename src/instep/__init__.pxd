# The functions of instep.h for `cimport instep`.  They are those that the Python package has loaded.  Compile with
# `instep.get_include()` among the include folders; what each does is in the header.

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "instep.h" nogil:
    enum:
        INSTEP_ABI_VERSION
        INSTEP_MAX_OPTIONS
        INSTEP_MAX_STATES

    ctypedef enum instep_status:
        INSTEP_OK
        INSTEP_NULL_ARGUMENT
        INSTEP_UNKNOWN_RULE
        INSTEP_UNKNOWN_OPTION
        INSTEP_UNKNOWN_ISA
        INSTEP_UNAVAILABLE_ISA
        INSTEP_BAD_DTYPE
        INSTEP_BAD_THREADS
        INSTEP_BAD_OPTIMIZER
        INSTEP_BAD_STEP_COUNT
        INSTEP_BAD_SIZE
        INSTEP_BAD_INDEX
        INSTEP_ABI_MISMATCH
        INSTEP_NOT_FINITE
        INSTEP_NEGATIVE
        INSTEP_NOT_POSITIVE
        INSTEP_NOT_BELOW_ONE
        INSTEP_NOT_A_FLAG
        INSTEP_NOT_A_FRACTION
        INSTEP_NOT_ABOVE_ONE
        INSTEP_OVERFLOWS
        INSTEP_VANISHES
        INSTEP_ROUNDS_TO_ONE
        INSTEP_NESTEROV_WITHOUT_MOMENTUM
        INSTEP_BIAS_CORRECTION_OF_CENTERED
        INSTEP_BIAS_CORRECTION_OF_NONZERO_START
        INSTEP_CENTERED_WITHOUT_MEMORY
        INSTEP_DECAY_PAST_ZERO
        INSTEP_DAMPENING_WITHOUT_MOMENTUM
        INSTEP_DAMPENING_OF_NESTEROV
        INSTEP_CORRECTED_WITHOUT_AMSGRAD
        INSTEP_STEPS_OUT_OF_ORDER

    ctypedef enum instep_dtype:
        INSTEP_FLOAT32
        INSTEP_FLOAT64

    ctypedef enum instep_range:
        INSTEP_ANY_NUMBER
        INSTEP_ANY_SIZE
        INSTEP_POSITIVE
        INSTEP_DECAY
        INSTEP_FRACTION
        INSTEP_GROWTH
        INSTEP_FLAG

    ctypedef struct instep_optimizer:
        uint32_t abi_version
        uint32_t rule
        int64_t step_count
        double option[INSTEP_MAX_OPTIONS]

    ctypedef struct instep_array:
        size_t size
        uint32_t dtype
        uint32_t reserved
        void *param
        const void *grad
        void *state[INSTEP_MAX_STATES]
        int64_t step_count
        uint64_t first_line

include "functions.pxi"
