/* The two halves of a step, for a caller that plans once and runs often. */
#ifndef INSTEP_STEP_H
#define INSTEP_STEP_H

#include "instep.h"

/* Checks a call of instep_step_groups, and lays the blocks of its arrays end to end.  Writes nothing but `total`, how
 * many there are, and the scratch of the arrays. */
int instep_plan(const instep_optimizer *optimizers, size_t groups, instep_array *arrays, size_t count, size_t *total);

/* Runs what was planned: the structural options, and of each array all but the addresses, are as they were then.  A
 * fork sees all of it or nothing, the counts included. */
void instep_run(instep_optimizer *optimizers, size_t groups, instep_array *arrays, size_t count, size_t total,
                int64_t step_count);

#endif
