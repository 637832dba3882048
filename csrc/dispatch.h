/* Which compilation of the loops runs. */
#ifndef INSTEP_DISPATCH_H
#define INSTEP_DISPATCH_H

#include "kernels.h"

/* The loops of the active instruction set for a dtype, indexed by enum instep_loop. */
instep_kernel *const *instep_active_kernels(int dtype);

#endif
