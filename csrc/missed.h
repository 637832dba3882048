/* With exact_rows: the steps that rows missed. */
#ifndef INSTEP_MISSED_H
#define INSTEP_MISSED_H

#include "instep.h"

/* Brings the states of the rows that a gradient is of, which its step is about to count in array->step_count, to where
 * steps of a gradient of 0 would have brought them.  Costs a pass over a row's states for each step that it missed, but
 * ends where they change no more. */
void instep_take_missed_steps(const instep_optimizer *optimizer, const instep_array *array);

/* The same between two steps, for all rows of an array, whatever its gradient is of. */
void instep_catch_up(const instep_optimizer *optimizer, const instep_array *array);

#endif
