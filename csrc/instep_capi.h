/* The functions of instep.h for an extension module that does not link to the library: those that the Python package
 * `instep` has loaded, so that there is one copy of them, and of its threads, in the process.
 *
 *     #include <Python.h>
 *     #include "instep_capi.h"
 *
 *     const instep_functions *instep = PyCapsule_Import(INSTEP_CAPSULE, 0);
 *     if (instep == NULL)
 *         return NULL;
 *     if (instep->abi_version != INSTEP_ABI_VERSION)
 *         return PyErr_Format(PyExc_ImportError, "instep has ABI %d, expected %d", instep->abi_version,
 *                             INSTEP_ABI_VERSION);
 *
 *     instep->step(&optimizer, arrays, count);
 *
 * `instep.get_include()` is the folder of both headers.  No function needs the GIL. */
#ifndef INSTEP_CAPI_H
#define INSTEP_CAPI_H

#include "instep.h"

#define INSTEP_CAPSULE "instep.C_API"

/* Each member is the function instep_<member>.  Within an ABI version, members are only added, and at the end: a module
 * that also runs with an instep older than its header has those for which offsetof(instep_functions, member) is less
 * than the size. */
typedef struct instep_functions {
    int abi_version;
    size_t size; /* in bytes, of the table that the running instep has */
    const char *(*message)(int status);
    const char *(*rule_name)(size_t rule);
    const char *(*option_name)(const instep_optimizer *optimizer, size_t option);
    int (*option_range)(const instep_optimizer *optimizer, size_t option);
    int (*init)(instep_optimizer *optimizer, const char *rule, int abi_version);
    int (*set)(instep_optimizer *optimizer, const char *option, double value);
    int (*get)(const instep_optimizer *optimizer, const char *option, double *value);
    int (*check)(const instep_optimizer *optimizer, int dtype, const char **option);
    size_t (*state_count)(const instep_optimizer *optimizer);
    const char *(*state_name)(const instep_optimizer *optimizer, size_t state);
    double (*state_start)(const instep_optimizer *optimizer, size_t state);
    int (*step)(instep_optimizer *optimizer, instep_array *arrays, size_t count);
    int (*step_one)(instep_optimizer *optimizer, instep_array *arrays, size_t count, size_t index);
    const char *(*isa_name)(size_t isa);
    int (*isa_available)(size_t isa);
    const char *(*active_isa)(void);
    int (*set_isa)(const char *name);
    int (*set_threads)(int threads);
    int (*get_threads)(void);
} instep_functions;

#endif
