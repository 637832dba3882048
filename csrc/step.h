/* The two halves of a step, for a caller that plans once and runs often. */
#ifndef INSTEP_STEP_H
#define INSTEP_STEP_H

#include "instep.h"

/* Bytes: the unit in which a step is cut between threads. */
enum { INSTEP_LINE = 64 };

static inline size_t instep_bytes(const instep_array *array)
{
    return array->size * (array->dtype == INSTEP_FLOAT32 ? sizeof(float) : sizeof(double));
}

static inline size_t instep_lines(size_t bytes)
{
    return (bytes + INSTEP_LINE - 1) / INSTEP_LINE;
}

/* Checks a call of instep_step, and lays the cache lines of its arrays end to end.  Writes nothing but `total`, how
 * many there are, and the scratch of the arrays. */
int instep_plan(const instep_optimizer *optimizer, instep_array *arrays, size_t count, size_t *total);

/* Runs what was planned: the structural options, and of each array all but the addresses, are as they were then.  A
 * fork sees all of it or nothing, the counts included. */
void instep_run(instep_optimizer *optimizer, instep_array *arrays, size_t count, size_t total, int64_t step_count);

#endif
