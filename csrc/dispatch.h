/* Which compilation of the loops runs. */
#ifndef INSTEP_DISPATCH_H
#define INSTEP_DISPATCH_H

#include "blocks.h"
#include "kernels.h"

struct instep_loops {
    instep_kernel *const *kernel; /* by enum instep_loop */
    const struct instep_block_loops *in_blocks;
};

/* The loops of the active instruction set for a dtype. */
const struct instep_loops *instep_active_loops(int dtype);

#endif
