# cython: language_level=3, auto_pickle=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""Gathers the tensors of an optimizer of torch, and steps them where they lie.

It is not linked to torch: what it knows of a tensor it asks DLPack's exchange table and functions of torch that it
looks up and tries when it is imported, or the tensor's own methods.  What it does not know how to step it leaves to
torch's own step, and says why.
"""

cimport cython
from cpython.list cimport PyList_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.object cimport PyObject, PyTypeObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_INCREF, Py_XDECREF
from instep cimport (
    INSTEP_ABI_VERSION,
    INSTEP_FLAG,
    INSTEP_FLOAT32,
    INSTEP_FLOAT64,
    INSTEP_MAX_OPTIONS,
    INSTEP_MAX_STATES,
    INSTEP_OK,
    instep_array,
    instep_check,
    instep_init,
    instep_lend_team,
    instep_message,
    instep_optimizer,
    instep_option_name,
    instep_option_range,
    instep_state_count,
    instep_state_name,
    instep_state_start,
    instep_step,
    instep_team,
)
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport qsort
from libc.string cimport memset

import ctypes
import os
import sys
from time import sleep
from types import GetSetDescriptorType

import torch
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

cdef extern from "Python.h":
    PyObject *PyDict_GetItemWithError(PyObject *mapping, PyObject *key) except? NULL
    Py_ssize_t PyDict_GET_SIZE(PyObject *)
    int PyDict_Next(object mapping, Py_ssize_t *place, PyObject **key, PyObject **value) noexcept
    PyObject *PyList_GET_ITEM(object, Py_ssize_t)
    PyTypeObject *Py_TYPE(PyObject *)
    void PyErr_Clear()
    ctypedef object (*getter)(PyObject *, void *)
    ctypedef struct PyGetSetDef:
        getter get
        void *closure
    ctypedef struct PyGetSetDescrObject:
        PyGetSetDef *d_getset

include "torch/tensors.pxi"
include "torch/options.pxi"
include "torch/sharing.pxi"
include "torch/gather.pxi"
