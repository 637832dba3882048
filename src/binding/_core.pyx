# cython: language_level=3, auto_pickle=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False, freethreading_compatible=True
"""The binding: checks every buffer, releases the GIL, makes one call.  It knows no rule by name."""

cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyObject_CheckBuffer
from cpython.object cimport PyObject
from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_AsUTF8
from instep cimport (
    INSTEP_ABI_VERSION,
    INSTEP_ANY_NUMBER,
    INSTEP_AS_COMPUTED,
    INSTEP_BFLOAT16,
    INSTEP_BYTE,
    INSTEP_COUNT,
    INSTEP_FLAG,
    INSTEP_FLOAT,
    INSTEP_FLOAT16,
    INSTEP_FLOAT32,
    INSTEP_FLOAT64,
    INSTEP_IS_AROUND,
    INSTEP_IS_OF_STEP,
    INSTEP_IS_STRUCTURAL,
    INSTEP_MAX_OPTIONS,
    INSTEP_MAX_STATES,
    INSTEP_OK,
    INSTEP_SIGNED_BYTE,
    INSTEP_SPLIT,
    instep_array,
    instep_norms,
    instep_optimizer,
    instep_team,  # of extern_functions.pxi  # no-cython-lint
)
from libc.math cimport NAN, isfinite
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset, strcmp

import numbers
import operator
import os
import weakref
from contextvars import copy_context

import numpy as np

cnp.import_array()

include "extern_functions.pxi"

cdef extern from "step.h":
    int instep_plan(
        const instep_optimizer *optimizers, size_t groups, instep_array *arrays, size_t count, size_t *total
    )
    void instep_run(
        instep_optimizer *optimizers,
        size_t groups,
        instep_array *arrays,
        size_t count,
        size_t total,
        int64_t step_count,
    ) nogil

cdef extern from "missed.h":
    void instep_catch_up(const instep_optimizer *optimizer, const instep_array *array) nogil

cdef extern from "float_mode.h":
    ctypedef struct float_mode:
        pass
    enum float_arithmetic:
        IEEE
        STEP
    float_mode float_mode_enter(float_arithmetic arithmetic)
    void float_mode_leave(float_mode callers)

cdef extern from "copy.h":
    enum:
        INSTEP_MAX_DIMS
    void instep_copy(
        void *to, const void *source, size_t width, int dims, const cnp.npy_intp *shape, const cnp.npy_intp *strides
    ) nogil

cdef extern from "rows.h":
    cdef struct instep_placed:
        int64_t row
        size_t place
    cdef struct instep_row_order:
        instep_placed *given
        instep_placed *room
        size_t count
        instep_placed *rows
        size_t row_count
    void instep_order_rows(instep_row_order *order, int64_t last)
    void instep_sum_rows(
        const instep_row_order *order, void *to, const void *source, int dtype, int format, size_t row_size
    ) nogil

cdef extern from "pool.h":
    unsigned instep_pool_generation()
    bint instep_pool_survived()

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyArrayObject:
        pass
    enum:
        NPY_USERDEF
    bint PyArray_CheckExact(object)
    void *data_of "PyArray_DATA"(PyArrayObject *)
    int dimensions_of "PyArray_NDIM"(PyArrayObject *)
    cnp.npy_intp *shape_of "PyArray_DIMS"(PyArrayObject *)
    void *dtype_of "PyArray_DESCR"(PyArrayObject *)
    int flags_of "PyArray_FLAGS"(PyArrayObject *)

cdef extern from "Python.h":
    int PyObject_GenericSetAttr(object, object, object) except -1

    ctypedef void *PyThread_type_lock
    enum:
        NOWAIT_LOCK
        PY_LOCK_ACQUIRED
    bint PyThread_acquire_lock(PyThread_type_lock lock, int wait)
    int PyThread_acquire_lock_timed(PyThread_type_lock lock, long long microseconds, bint interruptible) nogil
    void PyThread_release_lock(PyThread_type_lock lock)

cdef extern from "shared.h":
    ctypedef struct gate:
        PyThread_type_lock lock
        unsigned generation
        int depth
    ctypedef struct gate_pointer:
        pass
    gate *gate_new(unsigned generation, unsigned long owner, int depth)
    void gate_free(gate *old)
    unsigned long gate_owner(gate *of)
    void gate_set_owner(gate *of, unsigned long owner)
    gate *gate_load(gate_pointer *pointer)
    bint gate_replace(gate_pointer *pointer, gate *old, gate *new)

    ctypedef struct last_step:
        pass
    void last_step_store(last_step *last, int64_t step_count, int64_t skipped_count, double grad_norm)
    int64_t last_step_count(last_step *last)
    int64_t last_skipped_count(last_step *last)
    double last_grad_norm(last_step *last)

    object item_or(object dict, object key, object otherwise)

cdef extern from "seldom.h":
    void seldom() noexcept

DEEPEST_NESTING = 64
MOST_COUNTED = 2**53  # by an option, which is a double
LARGEST_COUNT = 2**63 - 2  # which leaves room for one step more
MOST_STATES = INSTEP_MAX_STATES

cdef enum:
    NO_FORMAT = 255
    BYTES_WITH_ONE_EXPONENT = 256


cdef class _Absent:
    """Stands for an argument that is not given."""

    def __repr__(self):
        return "..."  # as stubs spell a default


cdef object _ABSENT = _Absent()

include "float_mode.pxi"
include "options.pxi"
include "buffers.pxi"
include "forms.pxi"
include "function.pxi"
include "nest.pxi"
include "rows.pxi"
include "lock.pxi"
include "holder.pxi"
include "stepper.pxi"
include "settings.pxi"

# ---- for other compiled modules ---------------------------------------------------------------------------------

cdef extern from "capsules.h":
    object instep_capsule()
    object instep_cython_functions()
    object instep_internals_capsule()

C_API = instep_capsule()
__pyx_capi__ = instep_cython_functions()
_INTERNALS = instep_internals_capsule()
