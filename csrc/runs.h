/* How an array is cut: into blocks, and a gradient of some rows into runs of whole rows. */
#ifndef INSTEP_RUNS_H
#define INSTEP_RUNS_H

#include "blocks.h"

/* How many rows count as one block. */
static inline size_t instep_rows_of_block(const instep_array *array)
{
    return array->row_size < INSTEP_BLOCK ? INSTEP_BLOCK / array->row_size : 1;
}

static inline size_t instep_blocks_of(const instep_array *array)
{
    if (array->rows == NULL)
        return array->size / INSTEP_BLOCK + (array->size % INSTEP_BLOCK != 0);
    size_t rows = instep_rows_of_block(array);
    return array->row_count / rows + (array->row_count % rows != 0);
}

#endif
