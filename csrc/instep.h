/* instep: optimizer steps in place, on CPU buffers.
 *
 * The contract, as a loop.  One call of
 *
 *     instep_step(&optimizer, arrays, count)
 *
 * checks everything first, and then does what this does, for RMSprop with the options that it starts with:
 *
 *     for (size_t k = 0; k < count; k++) {
 *         instep_array *a = &arrays[k];
 *         if (a->grad == NULL)
 *             continue;
 *         a->step_count++;
 *         for (size_t i = 0; i < a->size; i++) {
 *             square_avg[i] = rho * square_avg[i] + (1 - rho) * (grad[i] * grad[i]);
 *             param[i] -= lr * (grad[i] / (sqrt(square_avg[i]) + eps));
 *         }
 *     }
 *     optimizer.step_count++;
 *
 * What surrounds the rule happens in the same pass, in this order, where an array or an option asks for it:
 *
 *     read       grad, param and states, from their formats
 *     scale      grad by grad_scale, and by bound / norm where clip_norm or clip_global_norm bound a larger norm
 *     clip       each element of grad to clip_value, either way
 *     the rule
 *     write      states, param and copy, in their formats
 *     average    param_avg = d param_avg + (1 - d) param with d = average_decay, but param in an array's first step
 *     zero       grad, with zero_grads
 *
 * Written:       param, low, copy, the states, norms, all counts, grad_norm, with grow_every grad_scale, and
 *                first_block, which is scratch.  grad is set to 0 with zero_grads, and is not written otherwise.
 * Skipped:       with skip_nonfinite or grow_every, a step of gradients whose norm is not finite, or is 2^127 or more
 *                with a grad_scale greater than 1 and an array of float, for there an element may be infinite once it
 *                is scaled.  It counts in skipped_count, and writes grad_norm, norms, finite_count, grad_scale
 *                and, with zero_grads, the gradients, and nothing else.  The status is INSTEP_OK.  In double, squares
 *                overflow, and so a norm is infinite from about 1e154 on.
 * Not finite:    nothing is clipped by a norm that is a NaN; of an infinite one finite gradients become 0.
 * Rows:          only those are read and written that rows names.  The average of a row that waits is what it was, so
 *                start param_avg as a copy of param.
 *                With exact_rows, a row first takes the steps that it missed, as if its gradient had been 0 in them,
 *                with the options of now: its states have the bits of an array that got those gradients.  Before it is
 *                turned off, step a whole gradient of zeros, or the steps that rows missed are lost.
 * Allocated:     nothing.  A large step asks the system for processors and for threads where it is the first one, or
 *                the first one after instep_set_threads or a fork.
 * May overlap:   gradients with gradients, but with zero_grads not even these.  Nothing else, and this is not checked:
 *                what is written and shares memory with anything else in the call is undefined behaviour.
 * Alignment:     any address is right; the natural alignment of the type is as fast as it gets.
 * The same bits: for every instruction set, number of threads, alignment and, where nothing is rounded to fewer bits or
 *                summed, way of cutting the arrays into calls, NaN payloads and signs aside; x86 and arm64 may differ
 *                where a result rounds up to the smallest normal number, which is 0 on arm64.  Coefficients such as
 *                1 - rho are formed in double and rounded once to the arrays' type; nothing is contracted into a fused
 *                multiply-add.
 * Subnormal numbers: count as 0, whether they are read or would be written: in a parameter, a gradient, a state or in
 *                between, whatever is less than 1.2e-38 in float, 2.2e-308 in double.  So a step takes the same time
 *                whatever the arrays hold.
 * Floating point mode: rounding, flush-to-zero and exception flags of the caller neither matter nor change.
 * Threads:       different optimizers may step at the same time.  One optimizer may not: lock around it.
 *                instep_set_isa may not run beside a step; instep_set_threads may.
 * Forks:         a fork waits for the steps in flight; parent and child both go on, with threads made anew.
 * NULL and 0:    an array without a gradient is left alone; an array of size 0 that has one is counted as
 *                stepped and needs no param and no states; a call with count 0 needs no arrays and is a step.
 *                A state that the options do not need is not looked at: SGD without momentum has none at all.
 * Not promised:  the same bits as any other library, or as an instep of another ABI version.
 *
 * One buffer, from beginning to end; status codes are left out, and a program looks at them:
 *
 *     instep_optimizer rmsprop;
 *     instep_init(&rmsprop, "rmsprop", INSTEP_ABI_VERSION);
 *     instep_set(&rmsprop, "lr", 0.01);
 *
 *     instep_array weights = {.size = n, .dtype = INSTEP_FLOAT32, .param = w, .grad = g, .state = {v}};
 *     for (size_t i = 0; i < n; i++)
 *         v[i] = instep_state_start(&rmsprop, 0);
 *
 *     while (fill_the_gradient(g))
 *         instep_step(&rmsprop, &weights, 1);
 */
#ifndef INSTEP_H
#define INSTEP_H

#include <stddef.h>
#include <stdint.h>

/* For building the library itself: what makes a function visible outside of it. */
#ifndef INSTEP_API
#define INSTEP_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** Goes up when a struct, an enum value or the meaning of a call changes. */
#define INSTEP_ABI_VERSION 1
/** How many options a rule may have. */
#define INSTEP_MAX_OPTIONS 32
/** How long the scratch of an exact sum is. */
#define INSTEP_LIMBS 68
/** How many state arrays there may be: those of the rule, and the average of the parameters. */
#define INSTEP_MAX_STATES 4

/** What the functions return that can fail. */
typedef enum instep_status {
    /** All is well. */
    INSTEP_OK = 0,
    /** A pointer that must point somewhere is NULL. */
    INSTEP_NULL_ARGUMENT = 1,
    /** There is no rule of that name. */
    INSTEP_UNKNOWN_RULE = 2,
    /** This rule has no option of that name. */
    INSTEP_UNKNOWN_OPTION = 3,
    /** No instruction set of that name was compiled in. */
    INSTEP_UNKNOWN_ISA = 4,
    /** This processor does not run that instruction set. */
    INSTEP_UNAVAILABLE_ISA = 5,
    /** The type is neither float32 nor float64. */
    INSTEP_BAD_DTYPE = 6,
    /** The number of threads must be from 1 to 256, or 0 for the default. */
    INSTEP_BAD_THREADS = 7,
    /** The optimizer was not made by instep_init of this version. */
    INSTEP_BAD_OPTIMIZER = 8,
    /** A step count must be at least 0 and leave room for one step more. */
    INSTEP_BAD_STEP_COUNT = 9,
    /** The arrays are larger than the address space. */
    INSTEP_BAD_SIZE = 10,
    /** The index is past the last array. */
    INSTEP_BAD_INDEX = 11,
    /** The header that the caller was compiled with has another ABI version than this library. */
    INSTEP_ABI_MISMATCH = 12,
    /** The format is not one that this array may be stored in, beside the others. */
    INSTEP_BAD_FORMAT = 13,
    /** The rows must ascend and lie inside the array, whose size is a multiple of a row's. */
    INSTEP_BAD_ROWS = 14,
    /** There is no such group, or the groups are not of one rule with the same states. */
    INSTEP_BAD_GROUP = 15,
    /* an option's value by itself */
    /** Must be finite. */
    INSTEP_NOT_FINITE = 16,
    /** Must not be negative. */
    INSTEP_NEGATIVE = 17,
    /** Must be greater than 0. */
    INSTEP_NOT_POSITIVE = 18,
    /** Must be in [0, 1). */
    INSTEP_NOT_BELOW_ONE = 19,
    /** Must be on or off. */
    INSTEP_NOT_A_FLAG = 20,
    /** Must be between 0 and 1. */
    INSTEP_NOT_A_FRACTION = 21,
    /** Must be greater than 1. */
    INSTEP_NOT_ABOVE_ONE = 22,
    /** Must be a whole number from 0 to 2^53. */
    INSTEP_NOT_A_COUNT = 23,
    /* an option in the arrays' type */
    /** Is infinite in the arrays' type. */
    INSTEP_OVERFLOWS = 32,
    /** Counts as 0 in the arrays' type, in which it is less than the smallest normal number. */
    INSTEP_VANISHES = 33,
    /** Rounds to 1 in the arrays' type, where nothing would ever change. */
    INSTEP_ROUNDS_TO_ONE = 34,
    /* options that contradict each other */
    /** Looks ahead along the momentum: it needs momentum > 0. */
    INSTEP_NESTEROV_WITHOUT_MOMENTUM = 48,
    /** Does not go with centered: the corrected variance of the first gradient is 0 / 0. */
    INSTEP_BIAS_CORRECTION_OF_CENTERED = 49,
    /** Undoes a start at 0: it needs initial_square_avg = 0. */
    INSTEP_BIAS_CORRECTION_OF_NONZERO_START = 50,
    /** Needs rho > 0: the variance of a single gradient is 0. */
    INSTEP_CENTERED_WITHOUT_MEMORY = 51,
    /** Times lr must not exceed 1: a decoupled decay would turn the sign of every parameter. */
    INSTEP_DECAY_PAST_ZERO = 52,
    /** Weakens what enters the momentum: it needs momentum > 0. */
    INSTEP_DAMPENING_WITHOUT_MOMENTUM = 53,
    /** Does not go with nesterov, which looks ahead along an undamped momentum. */
    INSTEP_DAMPENING_OF_NESTEROV = 54,
    /** Says what amsgrad takes the maximum of: it needs amsgrad. */
    INSTEP_CORRECTED_WITHOUT_AMSGRAD = 55,
    /** Must not exceed step_max. */
    INSTEP_STEPS_OUT_OF_ORDER = 56,
    /** Does not go with another way to clip. */
    INSTEP_CLIPPED_TWICE = 57,
    /** Is of the step, and so the same in all groups. */
    INSTEP_OF_ONE_GROUP = 58,
    /** Does not go with exact_rows: a row without a gradient would move, and not only its averages decay. */
    INSTEP_ROWS_WOULD_MOVE = 59,
    /** Adds eps before the bias is corrected: it needs bias_correction. */
    INSTEP_HAT_WITHOUT_CORRECTION = 60
} instep_status;

/** The type of the elements. */
typedef enum instep_dtype {
    /** float */
    INSTEP_FLOAT32 = 0,
    /** double */
    INSTEP_FLOAT64 = 1
} instep_dtype;

/** What an option may be, or a state array hold. */
typedef enum instep_range {
    /** Any number. */
    INSTEP_ANY_NUMBER = 0,
    /** 0 or greater. */
    INSTEP_ANY_SIZE = 1,
    /** Greater than 0. */
    INSTEP_POSITIVE = 2,
    /** In [0, 1). */
    INSTEP_DECAY = 3,
    /** In (0, 1). */
    INSTEP_FRACTION = 4,
    /** Greater than 1. */
    INSTEP_GROWTH = 5,
    /** 0 or 1. */
    INSTEP_FLAG = 6,
    /** A whole number from 0 to 2^53. */
    INSTEP_COUNT = 7
} instep_range;

/** What kind of option one is: a sum of these. */
typedef enum instep_trait {
    /** It chooses a variant of the formula, or which states there are, what they hold or what they start at. */
    INSTEP_IS_STRUCTURAL = 1,
    /** It is of what surrounds the formula, and every rule has it. */
    INSTEP_IS_AROUND = 2,
    /** It is of the step as a whole, and so the same in all groups. */
    INSTEP_IS_OF_STEP = 4
} instep_trait;

/**
 * How an array is stored beside the others, which are in the type of the arithmetic.  16 bits and 8 go with float
 * alone, but for gradients.  A param or a state of less bits than the arithmetic is rounded stochastically: the random
 * numbers depend on the option seed, the array's stream, its step and the element.  A copy is rounded to the nearest,
 * the even one of two that are as near.
 */
typedef enum instep_format {
    /** In the type of the arithmetic. */
    INSTEP_AS_COMPUTED = 0,
    /** The upper half of a float: param, grad, state, copy. */
    INSTEP_BFLOAT16 = 1,
    /** IEEE's half: param, grad, copy. */
    INSTEP_FLOAT16 = 2,
    /** float beside double: grad. */
    INSTEP_FLOAT = 3,
    /** A float whose rounded upper half is in param, as a bfloat16, and whose lower half is in low: param. */
    INSTEP_SPLIT = 4,
    /** A byte an element, then one for each 256 of them, for a state that is never negative. */
    INSTEP_BYTE = 5,
    /** The same with a sign, for any state. */
    INSTEP_SIGNED_BYTE = 6
} instep_format;

/** The format of each array, an instep_format; all 0 where everything is in the type of the arithmetic. */
typedef struct instep_formats {
    uint8_t param, grad, copy, reserved;
    uint8_t state[INSTEP_MAX_STATES];
} instep_formats;

/**
 * A rule with its options and its count of steps.  Plain data: copy it, keep it on the stack, write it to a file.
 * Fill it with instep_init, change it with instep_set; option[k] is the one that instep_option_name calls k, flags
 * as 0 and 1, and every step checks them all.
 */
typedef struct instep_optimizer {
    /** INSTEP_ABI_VERSION of the header and of the library that made it. */
    uint32_t abi_version;
    /** The rule that instep_rule_name calls so. */
    uint32_t rule;
    /** How many steps have been taken. */
    int64_t step_count;
    /** The options, in the order of instep_option_name. */
    double option[INSTEP_MAX_OPTIONS];
    /** The norm of all gradients of the last step that measured it: times grad_scale, and before it was clipped. */
    double grad_norm;
    /** How many steps were skipped, for their gradients were not finite. */
    int64_t skipped_count;
    /** How many steps were taken since the last one that was skipped, or since grad_scale grew. */
    int64_t finite_count;
} instep_optimizer;

/**
 * What a step measured of an array that has room for it: with the option statistics all of them, of the rows alone
 * where the gradient is of rows.  0 where the array had no gradient, and of a step that was skipped all but the first.
 */
typedef struct instep_norms {
    /** Of its gradient times grad_scale, before it was clipped; with clip_norm too. */
    double grad;
    /** Of what the step added to the parameter, before that was rounded to fewer bits. */
    double update;
    /** Of the parameter after the step, before it was rounded to fewer bits. */
    double param;
    /** Scratch of a step. */
    int64_t sums[3][INSTEP_LIMBS];
} instep_norms;

/**
 * One parameter array and what goes with it, all of `size` elements of `dtype`.  Fill it with zeros first.
 */
typedef struct instep_array {
    /** How many elements. */
    size_t size;
    /** An instep_dtype: what is computed in. */
    uint32_t dtype;
    /** Which of the optimizers of the call its options are. */
    uint32_t group;
    /** Moved by a step. */
    void *param;
    /** Read by a step; set to 0 by it with zero_grads.  NULL leaves this array alone, but its norms, which become 0. */
    const void *grad;
    /** As many as instep_state_count says, in the order of instep_state_name.  The others are not looked at. */
    void *state[INSTEP_MAX_STATES];
    /** How often this array has been stepped; start it at 0.  In the formula of its next step t is one more. */
    int64_t step_count;
    /** Scratch of a step; need not be set. */
    uint64_t first_block;
    /** How each of them is stored. */
    instep_formats formats;
    /** Tells the random numbers of this array from those of others. */
    uint64_t stream;
    /** Where the gradient is of some rows only: which, ascending.  NULL where it is of the whole array. */
    const int64_t *rows;
    /** How many rows the gradient is of. */
    size_t row_count;
    /** How many elements a row has. */
    size_t row_size;
    /**
     * With exact_rows, one for each row: which of the array's steps was the last that it took.  Start them at 0.  NULL
     * where every gradient is of the whole array; row_size is needed otherwise, whatever the gradient is of.
     */
    int64_t *row_steps;
    /** The lower halves of a param that is INSTEP_SPLIT: 16 bits each. */
    void *low;
    /** What a step writes of the parameter besides, rounded to the nearest, in formats.copy; or NULL. */
    void *copy;
    /** Room for what a step measures; needed with clip_norm and with statistics. */
    instep_norms *norms;
} instep_array;

/**
 * Calls work(context) once on each of so many threads, or of fewer, the caller's among them, and returns when all are
 * done; `flags` is 0.  GOMP_parallel of the OpenMP of gcc and of LLVM is one.
 */
typedef void instep_team(void (*work)(void *context), void *context, unsigned threads, unsigned flags);

/* Each declaration is one line: the tables for Python are made of them.  Within an ABI version a function keeps its
 * place there, so new ones come last. */

/** What a status means, in words; those from INSTEP_NOT_FINITE on follow the name of an option.  Never NULL. */
INSTEP_API const char *instep_message(int status);
/** INSTEP_ABI_VERSION of the library that runs. */
INSTEP_API int instep_abi_version(void);

/* ---- rules and their options, by name ---------------------------------------------------------------------------
 * Names outlive the program.  An index past the end gives NULL.
 */

/** The rules there are. */
INSTEP_API const char *instep_rule_name(size_t rule);
/** The options of this one's rule. */
INSTEP_API const char *instep_option_name(const instep_optimizer *optimizer, size_t option);
/** An instep_range. */
INSTEP_API int instep_option_range(const instep_optimizer *optimizer, size_t option);
/** A sum of instep_trait. */
INSTEP_API int instep_option_traits(const instep_optimizer *optimizer, size_t option);

/**
 * The rule of that name with its default options and no step taken.  abi_version is INSTEP_ABI_VERSION, which says what
 * the caller takes the structs to be: a library that has them otherwise writes nothing and returns INSTEP_ABI_MISMATCH.
 */
INSTEP_API int instep_init(instep_optimizer *optimizer, const char *rule, int abi_version);
/** Sets one option after checking the value by itself; how options go together is seen by instep_check. */
INSTEP_API int instep_set(instep_optimizer *optimizer, const char *option, double value);
/** Reads one option. */
INSTEP_API int instep_get(const instep_optimizer *optimizer, const char *option, double *value);
/** Are these options good for arrays of this type?  `option`, if not NULL, is set to the one at fault, or to NULL. */
INSTEP_API int instep_check(const instep_optimizer *optimizer, int dtype, const char **option);

/** How many state arrays these options need. */
INSTEP_API size_t instep_state_count(const instep_optimizer *optimizer);
/** Their names, in the order of instep_array.state. */
INSTEP_API const char *instep_state_name(const instep_optimizer *optimizer, size_t state);
/** An instep_range.  No step leaves anything else there but NaN and infinity, and none expects it. */
INSTEP_API int instep_state_range(const instep_optimizer *optimizer, size_t state);
/** The value that each starts at. */
INSTEP_API double instep_state_start(const instep_optimizer *optimizer, size_t state);

/* ---- the step --------------------------------------------------------------------------------------------------- */

/**
 * Steps every array that has a gradient.  Any status but INSTEP_OK: nothing was written, except first_block, which is
 * scratch.  From INSTEP_NOT_FINITE on, instep_check names the option, but for INSTEP_OF_ONE_GROUP.
 */
INSTEP_API int instep_step(instep_optimizer *optimizer, instep_array *arrays, size_t count);
/**
 * The same where arrays belong to groups with options of their own: array k goes by optimizers[arrays[k].group].  They
 * are of one rule, with the same states.  The first one's step_count is the count, and the others' follow it.
 * INSTEP_OF_ONE_GROUP: an option whose instep_option_traits have INSTEP_IS_OF_STEP is another number in one of them
 * than in the first.  No optimizer is at fault by itself, so instep_check finds none.
 */
INSTEP_API int instep_step_groups(instep_optimizer *optimizers, size_t groups, instep_array *arrays, size_t count);
/** Steps arrays[index] only, which must have a gradient and be of group 0.  A sweep over all arrays counts as one step.
 */
INSTEP_API int instep_step_one(instep_optimizer *optimizer, instep_array *arrays, size_t count, size_t index);

/* ---- instruction sets ------------------------------------------------------------------------------------------- */

/** The sets compiled in, lowest first; NULL past the end. */
INSTEP_API const char *instep_isa_name(size_t isa);
/** 1 if this processor runs it. */
INSTEP_API int instep_isa_available(size_t isa);
/** The one that steps run. */
INSTEP_API const char *instep_active_isa(void);
/** Forces one, for the whole process.  NULL chooses the highest available, as at start. */
INSTEP_API int instep_set_isa(const char *name);

/* ---- threads ---------------------------------------------------------------------------------------------------- */

/**
 * How many threads a large step of this process may use, the caller's included; the same bits whatever their number.
 * 0 asks for the default: the processors that affinity and control groups leave.  No environment variable is read.
 * Without POSIX threads, as on Windows, the number is kept, but every step uses one thread, which is the default there.
 */
INSTEP_API int instep_set_threads(int threads);
/** The number set, or the default. */
INSTEP_API int instep_get_threads(void);
/**
 * Has large steps of the calling thread use this team, and at most so many threads of it, instead of the library's own:
 * worth it where its threads have just worked for the caller and look for more, on the very cores that a step needs.
 * NULL stands for the library's own, 0 for as many as there may be; instep_set_threads bounds both.  Without POSIX
 * threads, and in a forked child, no team is used.
 */
INSTEP_API void instep_lend_team(instep_team *team, int threads);

#ifdef __cplusplus
}
#endif
#endif
