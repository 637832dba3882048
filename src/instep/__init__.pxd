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
        INSTEP_OVERFLOWS
        INSTEP_VANISHES
        INSTEP_ROUNDS_TO_ONE
        INSTEP_NESTEROV_WITHOUT_MOMENTUM
        INSTEP_BIAS_CORRECTION_OF_CENTERED
        INSTEP_BIAS_CORRECTION_OF_NONZERO_START
        INSTEP_CENTERED_WITHOUT_MEMORY
        INSTEP_DECAY_PAST_ZERO

    ctypedef enum instep_dtype:
        INSTEP_FLOAT32
        INSTEP_FLOAT64

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

cdef:
    const char *instep_message(int status) noexcept nogil
    int instep_abi_version() noexcept nogil

    const char *instep_rule_name(size_t rule) noexcept nogil
    const char *instep_option_name(const instep_optimizer *optimizer, size_t option) noexcept nogil
    int instep_option_range(const instep_optimizer *optimizer, size_t option) noexcept nogil
    int instep_init(instep_optimizer *optimizer, const char *rule, int abi_version) noexcept nogil
    int instep_set(instep_optimizer *optimizer, const char *option, double value) noexcept nogil
    int instep_get(const instep_optimizer *optimizer, const char *option, double *value) noexcept nogil
    int instep_check(const instep_optimizer *optimizer, int dtype, const char **option) noexcept nogil
    size_t instep_state_count(const instep_optimizer *optimizer) noexcept nogil
    const char *instep_state_name(const instep_optimizer *optimizer, size_t state) noexcept nogil
    double instep_state_start(const instep_optimizer *optimizer, size_t state) noexcept nogil

    int instep_step(instep_optimizer *optimizer, instep_array *arrays, size_t count) noexcept nogil
    int instep_step_one(instep_optimizer *optimizer, instep_array *arrays, size_t count, size_t index) noexcept nogil

    const char *instep_isa_name(size_t isa) noexcept nogil
    int instep_isa_available(size_t isa) noexcept nogil
    const char *instep_active_isa() noexcept nogil
    int instep_set_isa(const char *name) noexcept nogil

    int instep_set_threads(int threads) noexcept nogil
    int instep_get_threads() noexcept nogil
