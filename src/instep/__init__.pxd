# The functions of instep.h for `cimport instep`.  They are those that the Python package has loaded.  Compile with
# `instep.get_include()` among the include folders; what each does is in the header.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "instep.h" nogil:
    enum:
        INSTEP_ABI_VERSION
        INSTEP_MAX_OPTIONS
        INSTEP_MAX_STATES
        INSTEP_LIMBS

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
        INSTEP_BAD_FORMAT
        INSTEP_BAD_ROWS
        INSTEP_BAD_GROUP
        INSTEP_NOT_FINITE
        INSTEP_NEGATIVE
        INSTEP_NOT_POSITIVE
        INSTEP_NOT_BELOW_ONE
        INSTEP_NOT_A_FLAG
        INSTEP_NOT_A_FRACTION
        INSTEP_NOT_ABOVE_ONE
        INSTEP_NOT_A_COUNT
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
        INSTEP_CLIPPED_TWICE
        INSTEP_OF_ONE_GROUP
        INSTEP_ROWS_WOULD_MOVE
        INSTEP_HAT_WITHOUT_CORRECTION

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
        INSTEP_COUNT

    ctypedef enum instep_trait:
        INSTEP_IS_STRUCTURAL
        INSTEP_IS_AROUND
        INSTEP_IS_OF_STEP

    ctypedef enum instep_format:
        INSTEP_AS_COMPUTED
        INSTEP_BFLOAT16
        INSTEP_FLOAT16
        INSTEP_FLOAT
        INSTEP_SPLIT
        INSTEP_BYTE
        INSTEP_SIGNED_BYTE

    ctypedef struct instep_formats:
        uint8_t param
        uint8_t grad
        uint8_t copy
        uint8_t reserved
        uint8_t state[INSTEP_MAX_STATES]

    ctypedef struct instep_optimizer:
        uint32_t abi_version
        uint32_t rule
        int64_t step_count
        double option[INSTEP_MAX_OPTIONS]
        double grad_norm
        int64_t skipped_count
        int64_t finite_count

    ctypedef struct instep_norms:
        double grad
        double update
        double param

    ctypedef struct instep_array:
        size_t size
        uint32_t dtype
        uint32_t group
        void *param
        const void *grad
        void *state[INSTEP_MAX_STATES]
        int64_t step_count
        uint64_t first_block
        instep_formats formats
        uint64_t stream
        const int64_t *rows
        size_t row_count
        size_t row_size
        int64_t *row_steps
        void *low
        void *copy
        instep_norms *norms

    ctypedef void instep_team(void (*work)(void *) noexcept nogil, void *, unsigned int, unsigned int) noexcept nogil

include "functions.pxi"
