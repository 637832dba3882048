/* Arrays in blocks: what one compilation of blocks.c offers. */
#ifndef INSTEP_BLOCKS_H
#define INSTEP_BLOCKS_H

#include "kernels.h"
#include "sum.h"

enum {
    /* Elements: the stages of a block overlap as far as out-of-order execution reaches, so that it is short.  A step is
     * cut between threads at multiples of it; a sum adds up the blocks of an array, and each has random numbers and, in
     * a state of bytes, a scale of its own. */
    INSTEP_BLOCK = 256,
    /* Elements: how many partial sums a block has. */
    INSTEP_SUM_LANES = 32
};

/* What happens around a rule in an array's step, in double. */
struct around {
    int any;             /* whether anything does */
    double scale, clip;  /* g <- clipped(scale g), if `clips`; it is the rule that scales otherwise */
    double average_keep; /* param_avg <- keep param_avg + (1 - keep) p, or p where it is 0 */
    int clips, averages, zeroes, measures;
    uint64_t random; /* the array's step, hashed: see storage.h */
};

/* The loop of a rule, with all that it reads beside arrays. */
struct loop {
    instep_kernel *kernel;
    int preparation;
    const void *coefficients; /* in the type of the arrays */
    size_t states;
};

/* Takes elements begin to end of an array through their blocks; grad is that of begin.  The sums are of the squares of
 * update and param. */
typedef void instep_blocks(const struct loop *loop, const struct around *around, const instep_array *array,
                           size_t begin, size_t end, const void *grad, struct sum sums[2]);

/* Adds the squares of the elements, block by block. */
typedef void instep_squares(const void *from, int format, size_t size, struct sum *sum);

/* Adds numbers of a format to sums in the type of the arithmetic, or begins these with them. */
typedef void instep_add(void *sums, const void *from, int format, size_t size, int begins);

struct instep_block_loops {
    instep_blocks *blocks;
    instep_squares *squares;
    instep_add *add;
};

/* How many bytes an element of a gradient has. */
static inline size_t instep_width(int dtype, int format)
{
    switch (format) {
    case INSTEP_BFLOAT16:
    case INSTEP_FLOAT16:
    case INSTEP_SPLIT:
        return 2;
    case INSTEP_FLOAT:
        return sizeof(float);
    case INSTEP_BYTE:
    case INSTEP_SIGNED_BYTE:
        return 1;
    default:
        return dtype == INSTEP_FLOAT32 ? sizeof(float) : sizeof(double);
    }
}

#endif
