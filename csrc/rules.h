/* Every rule's formula, for the type T: included where the loops are and where the coefficients are formed. */
#include "coefficients.h"
#include "instep.h"
#include "kernels.h"

#include "rules/prepare.h"

#define FORMULAS
#include "rules.def"
