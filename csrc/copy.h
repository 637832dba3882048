/* An array of any layout, copied into memory that a step can walk. */
#ifndef INSTEP_COPY_H
#define INSTEP_COPY_H

#include <stddef.h>

enum { INSTEP_MAX_DIMS = 64 }; /* NumPy's */

/* A parallel version of
 *
 *     for (each index i, the last dimension fastest)
 *         *to++ = from[i[0] * strides[0] + i[1] * strides[1] + ...];
 *
 * for elements of `width` 2, 4 or 8.  Strides are in bytes: any number, 0 and negative ones too, at any alignment.
 * `to` is apart from `from`.  Allocates nothing. */
void instep_copy(void *to, const void *from, size_t width, int dims, const ptrdiff_t *shape, const ptrdiff_t *strides);

#endif
