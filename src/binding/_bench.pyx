# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""Native loops to hold a step against: the bare kernel and the two walls, timed in C.

Apart from `instep._core`, with a pool of its own: nothing but `instep bench` loads it.
"""

cimport numpy as cnp
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free

from time import perf_counter

from instep._core import active_isa

cnp.import_array()

cdef extern from "instep.h":
    enum:
        INSTEP_FLOAT32
        INSTEP_FLOAT64
    ctypedef struct instep_array:
        size_t size
        uint32_t dtype
        void *param
        const void *grad
        void *state[3]
    int instep_set_isa(const char *name)

cdef extern from "bench/walk.h":
    enum instep_bench_loop:
        INSTEP_ROOF
        INSTEP_DIVIDER
        INSTEP_BARE
    void instep_bench_walk(
        instep_bench_loop loop, const instep_array *arrays, size_t count, int threads, size_t repeats
    ) nogil


cdef class Walk:
    """Loops over arrays of one dtype, which it keeps; `grads[k]` and `square_avgs[k]` go with `params[k]`.

    ``bare`` is the kernel of RMSprop alone, ``roof`` moves the same bytes with the arithmetic of a copy, ``divider``
    writes ``grad / sqrt(square_avg)`` to param and nothing else.  They run on the instruction set `isa`; if it is None,
    on the one that steps use when the walk is made.
    """

    cdef instep_array *arrays
    cdef size_t count
    cdef list kept
    cdef bytes isa

    def __cinit__(self, list params, list grads, list square_avgs, isa=None):
        cdef size_t k = 0
        self.isa = (isa or active_isa()).encode()
        if instep_set_isa(self.isa) != 0:
            raise ValueError(f"the instruction set {isa!r} is not one that runs here")
        self.kept = [*params, *grads, *square_avgs]
        self.arrays = <instep_array *>calloc(len(params) + 1, sizeof(instep_array))
        if self.arrays is NULL:
            raise MemoryError
        for param, grad, square_avg in zip(params, grads, square_avgs, strict=True):
            for array in (param, grad, square_avg):
                if array.dtype != params[0].dtype or array.size != param.size or not array.flags.contiguous:
                    raise ValueError("a walk needs contiguous arrays of one dtype, alike in size")
            self.arrays[k].size = param.size
            self.arrays[k].dtype = INSTEP_FLOAT32 if param.dtype == "float32" else INSTEP_FLOAT64
            self.arrays[k].param = cnp.PyArray_DATA(<cnp.ndarray?>param)
            self.arrays[k].grad = cnp.PyArray_DATA(<cnp.ndarray?>grad)
            self.arrays[k].state[0] = cnp.PyArray_DATA(<cnp.ndarray?>square_avg)
            k += 1
        self.count = k

    def __dealloc__(self):
        free(self.arrays)

    def seconds(self, str loop, int threads, size_t repeats):
        """The time that `repeats` walks take."""
        cdef instep_bench_loop which = {"roof": INSTEP_ROOF, "divider": INSTEP_DIVIDER, "bare": INSTEP_BARE}[loop]
        instep_set_isa(self.isa)
        begin = perf_counter()
        with nogil:
            instep_bench_walk(which, self.arrays, self.count, threads, repeats)
        return perf_counter() - begin
