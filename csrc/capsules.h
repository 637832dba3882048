/* The functions of instep.h for other compiled modules: `instep.C_API`, which instep_capi.h describes, and
 * `instep.__pyx_capi__`, where Cython looks up what a module has by `cimport instep`.  cmake/functions.cmake makes
 * functions.def.  At the end, what only instep._bench may call. */
#ifndef INSTEP_CAPSULES_H
#define INSTEP_CAPSULES_H

#include <Python.h>

#include "instep_capi.h"
#include "internals.h"

static PyObject *instep_capsule(void)
{
    static const instep_functions functions = {
        .abi_version = INSTEP_ABI_VERSION,
        .size = sizeof functions,
#define FUNCTION(name, signature) .name = instep_##name,
#include "functions.def"
#undef FUNCTION
    };
    return PyCapsule_New((void *)&functions, INSTEP_CAPSULE, NULL);
}

/* A dict of capsules, each named as Cython spells the declaration.  Made by hand, for of a function in C Cython would
 * export a wrapper. */
static PyObject *instep_cython_functions(void)
{
    static const struct {
        const char *name, *signature;
        void *address;
    } functions[] = {
        {"instep_abi_version", "int (void)", (void *)instep_abi_version}, /* which the struct has as a number */
#define FUNCTION(name, signature) {"instep_" #name, signature, (void *)instep_##name},
#include "functions.def"
#undef FUNCTION
    };
    PyObject *capsules = PyDict_New();
    for (size_t k = 0; capsules != NULL && k < sizeof functions / sizeof functions[0]; k++) {
        PyObject *capsule = PyCapsule_New(functions[k].address, functions[k].signature, NULL);
        if (capsule == NULL || PyDict_SetItemString(capsules, functions[k].name, capsule) != 0)
            Py_CLEAR(capsules);
        Py_XDECREF(capsule);
    }
    return capsules;
}

static PyObject *instep_internals_capsule(void)
{
    static const struct instep_internals internals = {
        .bare_loop = instep_bare_loop,
        .pool_enter = instep_pool_enter,
        .pool_run = instep_pool_run,
        .pool_leave = instep_pool_leave,
    };
    return PyCapsule_New((void *)&internals, INSTEP_INTERNALS, NULL);
}

#endif
