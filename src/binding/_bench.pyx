# cython: language_level=3, auto_pickle=False
# cython: boundscheck=False, wraparound=False, freethreading_compatible=True
"""Native loops to hold a step against: a rule's bare kernel and the walls, timed in C.

Apart from `instep._core`, whose kernels and pool these are: nothing but `instep bench` loads it.
"""

from cpython.pycapsule cimport PyCapsule_Import
from instep cimport (
    INSTEP_ABI_VERSION,
    INSTEP_FLOAT32,
    INSTEP_FLOAT64,
    INSTEP_OK,
    instep_active_isa,
    instep_array,
    instep_get_threads,
    instep_init,
    instep_message,
    instep_optimizer,
    instep_set,
    instep_set_isa,
    instep_set_threads,
)
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport calloc, free

from time import perf_counter

cdef extern from "bench/walk.h":
    const char *INSTEP_INTERNALS
    struct instep_bare_loop:
        pass
    struct instep_internals:
        void (*bare_loop)(const instep_optimizer *optimizer, int dtype, int64_t t, instep_bare_loop *loop) noexcept
    struct instep_walk:
        const instep_internals *library
        instep_bare_loop bare
        const char *isa
        const instep_array *arrays
        size_t count
        size_t states
    enum instep_bench_loop:
        INSTEP_BARE
        INSTEP_ROOF
        INSTEP_DIVIDER
        INSTEP_DIVIDER_OF_TWO_ROOTS
    void instep_bench_walk(const instep_walk *walk, instep_bench_loop loop, int on_several, size_t repeats) nogil

LOOPS = {
    "bare": INSTEP_BARE,
    "roof": INSTEP_ROOF,
    "divider": INSTEP_DIVIDER,
    "divider of two roots": INSTEP_DIVIDER_OF_TWO_ROOTS,
}


cdef uintptr_t _address(array) except? 0:
    return array.ctypes.data


cdef class Walk:
    """Loops over arrays of one dtype, which it keeps; `grads[k]` and `states[name][k]` go with `params[k]`.

    ``bare`` is the kernel alone that these options run, as in an array's first step.  ``roof`` moves the same bytes
    with the arithmetic of a copy.  ``divider`` writes ``grad / sqrt(first state)`` to param and nothing else, ``divider
    of two roots`` writes ``sqrt(second state) / sqrt(first state)``.  They run on the instruction set `isa`; if it is
    None, on the one that steps use when the walk is made.
    """

    cdef instep_walk walk
    cdef instep_array *arrays
    cdef list kept

    def __cinit__(self, options, list params, list grads, dict states, isa=None):
        cdef instep_array *array
        cdef size_t s
        if list(states) != list(options.states):
            raise ValueError(f"the states must be {list(options.states)}, not {list(states)}")
        self.kept = [*params, *grads, *states.values()]
        self.arrays = <instep_array *>calloc(len(params) + 1, sizeof(instep_array))
        if self.arrays is NULL:
            raise MemoryError
        for param, grad, *of_param in zip(params, grads, *states.values(), strict=True):
            for one in (param, grad, *of_param):
                if one.dtype != params[0].dtype or one.size != param.size or not one.flags.contiguous:
                    raise ValueError("a walk needs contiguous arrays of one dtype, alike in size")
            array = &self.arrays[self.walk.count]
            array.size = param.size
            array.dtype = INSTEP_FLOAT32 if param.dtype == "float32" else INSTEP_FLOAT64
            array.param = <void *>_address(param)
            array.grad = <const void *>_address(grad)
            for s in range(len(of_param)):
                array.state[s] = <void *>_address(of_param[s])
            self.walk.count += 1
        self.walk.arrays = self.arrays
        self.walk.states = len(states)
        self.walk.library = <const instep_internals *>PyCapsule_Import(INSTEP_INTERNALS, 0)
        self.choose(options, isa)

    def __dealloc__(self):
        free(self.arrays)

    cdef int choose(self, options, isa) except -1:
        cdef instep_optimizer optimizer
        cdef const char *active = instep_active_isa()
        cdef bytes chosen = active if isa is None else isa.encode()
        instep_init(&optimizer, options.rule.encode(), INSTEP_ABI_VERSION)
        for name, value in options.values().items():
            instep_set(&optimizer, name.encode(), value)
        if instep_set_isa(chosen) != INSTEP_OK:
            raise ValueError(f"the instruction set {isa!r} is not one that runs here")
        self.walk.isa = instep_active_isa()
        self.walk.library.bare_loop(&optimizer, self.arrays[0].dtype, 1, &self.walk.bare)
        instep_set_isa(active)
        return 0

    def seconds(self, str loop, int threads, size_t repeats):
        """The time that `repeats` walks take."""
        cdef instep_bench_loop which = LOOPS[loop]
        cdef int status, before = instep_get_threads()
        if which >= INSTEP_DIVIDER and self.walk.states < <size_t>(which - INSTEP_DIVIDER + 1):
            raise ValueError(f"the {loop} needs more states than these options have")
        status = instep_set_threads(threads)
        if status != INSTEP_OK:
            raise ValueError(instep_message(status).decode())
        begin = perf_counter()
        with nogil:
            instep_bench_walk(&self.walk, which, threads != 1, repeats)
        end = perf_counter()
        instep_set_threads(before)
        return end - begin
