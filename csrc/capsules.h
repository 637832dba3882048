/* The functions of instep.h for other compiled modules: `instep.C_API`, which instep_capi.h describes, and
 * `instep.__pyx_capi__`, where Cython looks up what a module has by `cimport instep`. */
#ifndef INSTEP_CAPSULES_H
#define INSTEP_CAPSULES_H

#include <Python.h>

#include "instep_capi.h"

static PyObject *instep_capsule(void)
{
    static const instep_functions functions = {
        .abi_version = INSTEP_ABI_VERSION,
        .size = sizeof functions,
        .message = instep_message,
        .rule_name = instep_rule_name,
        .option_name = instep_option_name,
        .option_range = instep_option_range,
        .init = instep_init,
        .set = instep_set,
        .get = instep_get,
        .check = instep_check,
        .state_count = instep_state_count,
        .state_name = instep_state_name,
        .state_start = instep_state_start,
        .step = instep_step,
        .step_one = instep_step_one,
        .isa_name = instep_isa_name,
        .isa_available = instep_isa_available,
        .active_isa = instep_active_isa,
        .set_isa = instep_set_isa,
        .set_threads = instep_set_threads,
        .get_threads = instep_get_threads,
    };
    return PyCapsule_New((void *)&functions, INSTEP_CAPSULE, NULL);
}

/* A dict of capsules, each named as Cython spells the declaration in src/instep/__init__.pxd.  Made by hand, for of a
 * function in C Cython would export a wrapper. */
static PyObject *instep_cython_functions(void)
{
    static const struct {
        const char *name, *signature;
        void *address;
    } functions[] = {
        {"instep_message", "char const *(int)", (void *)instep_message},
        {"instep_abi_version", "int (void)", (void *)instep_abi_version},
        {"instep_rule_name", "char const *(size_t)", (void *)instep_rule_name},
        {"instep_option_name", "char const *(instep_optimizer const *, size_t)", (void *)instep_option_name},
        {"instep_option_range", "int (instep_optimizer const *, size_t)", (void *)instep_option_range},
        {"instep_init", "int (instep_optimizer *, char const *, int)", (void *)instep_init},
        {"instep_set", "int (instep_optimizer *, char const *, double)", (void *)instep_set},
        {"instep_get", "int (instep_optimizer const *, char const *, double *)", (void *)instep_get},
        {"instep_check", "int (instep_optimizer const *, int, char const **)", (void *)instep_check},
        {"instep_state_count", "size_t (instep_optimizer const *)", (void *)instep_state_count},
        {"instep_state_name", "char const *(instep_optimizer const *, size_t)", (void *)instep_state_name},
        {"instep_state_start", "double (instep_optimizer const *, size_t)", (void *)instep_state_start},
        {"instep_step", "int (instep_optimizer *, instep_array *, size_t)", (void *)instep_step},
        {"instep_step_one", "int (instep_optimizer *, instep_array *, size_t, size_t)", (void *)instep_step_one},
        {"instep_isa_name", "char const *(size_t)", (void *)instep_isa_name},
        {"instep_isa_available", "int (size_t)", (void *)instep_isa_available},
        {"instep_active_isa", "char const *(void)", (void *)instep_active_isa},
        {"instep_set_isa", "int (char const *)", (void *)instep_set_isa},
        {"instep_set_threads", "int (int)", (void *)instep_set_threads},
        {"instep_get_threads", "int (void)", (void *)instep_get_threads},
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

#endif
