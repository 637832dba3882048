/* What other threads look at, or change, while nobody holds a lock that they respect. */
#ifndef INSTEP_SHARED_H
#define INSTEP_SHARED_H

#include <Python.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

/* A lock, and who holds it how many times, for one process: its children have others. */
typedef struct {
    PyThread_type_lock lock;
    unsigned generation;
    int depth;          /* the owner's alone */
    atomic_ulong owner; /* 0 for nobody; who finds itself here has put itself here */
} gate;

typedef struct {
    _Atomic(gate *) now;
} gate_pointer;

static inline void gate_free(gate *old)
{
    if (old != NULL && old->lock != NULL)
        PyThread_free_lock(old->lock);
    free(old);
}

/* One that its owner, if it has one, holds already; NULL where there is no memory. */
static inline gate *gate_new(unsigned generation, unsigned long owner, int depth)
{
    gate *made = calloc(1, sizeof *made);
    if (made == NULL)
        return NULL;
    made->lock = PyThread_allocate_lock();
    if (made->lock == NULL) {
        gate_free(made);
        return NULL;
    }
    made->generation = generation;
    if (owner != 0) {
        PyThread_acquire_lock(made->lock, NOWAIT_LOCK);
        made->depth = depth;
    }
    atomic_init(&made->owner, owner);
    return made;
}

static inline unsigned long gate_owner(gate *of)
{
    return atomic_load_explicit(&of->owner, memory_order_relaxed);
}

static inline void gate_set_owner(gate *of, unsigned long owner)
{
    atomic_store_explicit(&of->owner, owner, memory_order_relaxed);
}

static inline gate *gate_load(gate_pointer *pointer)
{
    return atomic_load_explicit(&pointer->now, memory_order_acquire);
}

/* Whether `new` has taken the place of `old`, before which nobody else has. */
static inline int gate_replace(gate_pointer *pointer, gate *old, gate *new)
{
    return atomic_compare_exchange_strong(&pointer->now, &old, new);
}

/* What the last step counted and measured: read without a lock, and with the first of them what was written before. */
typedef struct {
    _Atomic(int64_t) step_count, skipped_count;
    _Atomic(double) grad_norm;
} last_step;

static inline void last_step_store(last_step *last, int64_t step_count, int64_t skipped_count, double grad_norm)
{
    atomic_store_explicit(&last->skipped_count, skipped_count, memory_order_relaxed);
    atomic_store_explicit(&last->grad_norm, grad_norm, memory_order_relaxed);
    atomic_store_explicit(&last->step_count, step_count, memory_order_release);
}

static inline int64_t last_step_count(last_step *last)
{
    return atomic_load_explicit(&last->step_count, memory_order_acquire);
}

static inline int64_t last_skipped_count(last_step *last)
{
    return atomic_load_explicit(&last->skipped_count, memory_order_relaxed);
}

static inline double last_grad_norm(last_step *last)
{
    return atomic_load_explicit(&last->grad_norm, memory_order_relaxed);
}

/* A new reference to what the dict has at the key, or to `otherwise`.  Without the GIL another thread may take the
 * value away, and free it, before it is ours. */
static inline PyObject *item_or(PyObject *dict, PyObject *key, PyObject *otherwise)
{
    PyObject *value;
#if PY_VERSION_HEX >= 0x030D0000
    if (PyDict_GetItemRef(dict, key, &value) < 0)
        return NULL;
    if (value != NULL)
        return value;
#else
    value = PyDict_GetItemWithError(dict, key);
    if (value == NULL && PyErr_Occurred())
        return NULL;
    if (value != NULL)
        return Py_NewRef(value);
#endif
    return Py_NewRef(otherwise);
}

#endif
