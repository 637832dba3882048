# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, freethreading_compatible=True
"""The binding: checks every buffer, releases the GIL, makes one call.  It knows no rule by name."""

cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyObject_CheckBuffer
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_AsUTF8
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, strcmp

import numbers
import os
import weakref

import numpy as np

cnp.import_array()

cdef extern from "instep.h":
    enum:
        INSTEP_ABI_VERSION
        INSTEP_OK
        INSTEP_FLOAT32
        INSTEP_FLOAT64
        INSTEP_MAX_OPTIONS
        INSTEP_MAX_STATES
        INSTEP_UNKNOWN_ISA
        INSTEP_UNAVAILABLE_ISA
        INSTEP_ANY_NUMBER
        INSTEP_FLAG

    ctypedef struct instep_optimizer:
        int64_t step_count
        double option[INSTEP_MAX_OPTIONS]

    ctypedef struct instep_array:
        size_t size
        uint32_t dtype
        void *param
        const void *grad
        void *state[INSTEP_MAX_STATES]
        int64_t step_count

    const char *instep_message(int status)
    const char *instep_rule_name(size_t rule)
    const char *instep_option_name(const instep_optimizer *optimizer, size_t option)
    int instep_option_range(const instep_optimizer *optimizer, size_t option)
    int instep_option_is_structural(const instep_optimizer *optimizer, size_t option)
    int instep_init(instep_optimizer *optimizer, const char *rule, int abi_version)
    int instep_check(const instep_optimizer *optimizer, int dtype, const char **option)
    size_t instep_state_count(const instep_optimizer *optimizer)
    const char *instep_state_name(const instep_optimizer *optimizer, size_t state)
    int instep_state_range(const instep_optimizer *optimizer, size_t state)
    double instep_state_start(const instep_optimizer *optimizer, size_t state)
    int instep_step(instep_optimizer *optimizer, instep_array *arrays, size_t count) nogil
    int instep_step_one(instep_optimizer *optimizer, instep_array *arrays, size_t count, size_t index) nogil
    const char *instep_isa_name(size_t isa)
    int instep_isa_available(size_t isa)
    const char *instep_active_isa()
    int instep_set_isa(const char *name)
    int instep_set_threads(int threads)
    int instep_get_threads()

cdef extern from "step.h":
    int instep_plan(const instep_optimizer *optimizer, instep_array *arrays, size_t count, size_t *total)
    void instep_run(
        instep_optimizer *optimizer, instep_array *arrays, size_t count, size_t total, int64_t step_count
    ) nogil

cdef extern from "float_mode.h":
    ctypedef struct float_mode:
        pass
    float_mode float_mode_enter()
    void float_mode_leave(float_mode callers)

cdef extern from "fork_lock.h":
    ctypedef struct instep_lock:
        pass
    bint instep_lock_try(instep_lock *lock) nogil
    bint instep_lock_is_held(instep_lock *lock) nogil
    void instep_lock_wait(instep_lock *lock) nogil
    void instep_lock_release(instep_lock *lock) nogil

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyArrayObject:
        pass
    bint PyArray_CheckExact(object)
    bint is_writeable "PyArray_ISWRITEABLE"(PyArrayObject *)

cdef extern from "Python.h":
    PyObject *PyList_GET_ITEM(object, Py_ssize_t)

DEEPEST_NESTING = 64
LARGEST_COUNT = 2**63 - 2  # which leaves room for one step more
MOST_STATES = INSTEP_MAX_STATES

cdef object _ABSENT = object()

include "float_mode.pxi"
include "options.pxi"
include "buffers.pxi"
include "function.pxi"
include "nest.pxi"
include "lock.pxi"
include "holder.pxi"
include "stepper.pxi"
include "settings.pxi"

# ---- for other compiled modules ---------------------------------------------------------------------------------

cdef extern from "capsules.h":
    object instep_capsule()
    object instep_cython_functions()

C_API = instep_capsule()
__pyx_capi__ = instep_cython_functions()
