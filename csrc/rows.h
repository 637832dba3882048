/* Rows of a gradient as they come, put in order: each once, and the sum of all that name it. */
#ifndef INSTEP_ROWS_H
#define INSTEP_ROWS_H

#include <stddef.h>
#include <stdint.h>

/* A row, and a place: where it was given, or where those that name it begin. */
struct instep_placed {
    int64_t row;
    size_t place;
};

struct instep_row_order {
    /* Two of `count` each: rows as they come with their places, and room for as many. */
    struct instep_placed *given, *room;
    size_t count;
    /* What is made of them. */
    struct instep_placed *sorted; /* by row, and those of one row by place */
    struct instep_placed *rows;   /* each once, with the first place of it in sorted */
    size_t row_count;
};

/* In time linear in their number, for rows from 0 to `last`. */
void instep_order_rows(struct instep_row_order *order, int64_t last);

/* Writes the rows in order: first come, first added, in the type of the arithmetic.  Where each is given once they are
 * copied as they are.  A row has row_size elements, and an instep_format. */
void instep_sum_rows(const struct instep_row_order *order, void *to, const void *from, int dtype, int format,
                     size_t row_size);

#endif
