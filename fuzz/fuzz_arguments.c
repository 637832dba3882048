/* Any structs, any names, any numbers into every function of csrc/instep.h.  The pointers are NULL or valid, and a size
 * is that of the memory or beyond any memory.  What is refused changes nothing; what is done is counted. */
#include "input.h"
#include "instep.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARRAYS = 4, ELEMENTS = 24, NAME = 40 };

static void require(bool truth, const char *what)
{
    if (truth)
        return;
    fprintf(stderr, "does not hold: %s\n", what);
    abort();
}
#define REQUIRE(truth) require(truth, #truth)

static bool known(int status)
{
    return strcmp(instep_message(status), "unknown status") != 0;
}

/* An optimizer that was made and then perhaps written over, a word here or there or all of it. */
static instep_optimizer take_optimizer(struct input *input)
{
    instep_optimizer optimizer;
    uint8_t how = take_byte(input);
    size_t rules = 0;
    while (instep_rule_name(rules))
        rules++;
    instep_init(&optimizer, instep_rule_name(take_byte(input) % rules), INSTEP_ABI_VERSION);
    if (how % 4 == 1)
        take(input, &optimizer, sizeof optimizer);
    if (how % 4 == 2)
        take(input, (char *)&optimizer + take_byte(input) % (sizeof optimizer / 8) * 8, 8);
    if (how % 4 == 3)
        take(input, optimizer.option, sizeof optimizer.option);
    return optimizer;
}

/* A name: an option's, or any bytes. */
static void take_name(struct input *input, const instep_optimizer *optimizer, char name[NAME])
{
    size_t k = take_byte(input);
    memset(name, 0, NAME);
    if (instep_option_name(optimizer, k))
        strncpy(name, instep_option_name(optimizer, k), NAME - 1);
    else
        take(input, name, k % NAME);
}

static void try_options(struct input *input, instep_optimizer *optimizer)
{
    char name[NAME];
    double value, got;
    for (int tries = take_byte(input) % 8; tries > 0; tries--) {
        instep_optimizer before = *optimizer;
        take_name(input, optimizer, name);
        take(input, &value, sizeof value);
        if (take_byte(input) % 2)
            value = (int8_t)take_byte(input) / 8.0;
        int status = instep_set(optimizer, name, value);
        REQUIRE(known(status));
        if (status != INSTEP_OK)
            REQUIRE(memcmp(optimizer, &before, sizeof before) == 0);
        else
            REQUIRE(instep_get(optimizer, name, &got) == INSTEP_OK && got == value);
    }
    const char *option = name;
    for (int dtype = -1; dtype < 3; dtype++) {
        int status = instep_check(optimizer, dtype, &option);
        REQUIRE(known(status));
        REQUIRE(status != INSTEP_OK || option == NULL);
    }
}

static void try_names(struct input *input, const instep_optimizer *optimizer)
{
    uint64_t index;
    instep_optimizer made;
    char name[NAME];

    take(input, &index, sizeof index);
    REQUIRE(instep_state_count(optimizer) <= INSTEP_MAX_STATES);
    REQUIRE((instep_state_name(optimizer, index) != NULL) == (index < instep_state_count(optimizer)));
    instep_state_range(optimizer, index);
    instep_state_start(optimizer, index);
    instep_option_name(optimizer, index);
    instep_option_range(optimizer, index);
    instep_option_traits(optimizer, index);
    instep_rule_name(index);
    instep_isa_name(index);
    instep_isa_available(index);
    take_name(input, optimizer, name);
    REQUIRE(known(instep_init(&made, name, INSTEP_ABI_VERSION)));
    REQUIRE(instep_init(&made, name, (int)index) == INSTEP_ABI_MISMATCH || (int)index == INSTEP_ABI_VERSION);
    REQUIRE(known(instep_set_isa(name)));
    REQUIRE(known(instep_set_threads((int)index)));
}

static void *take_pointer(struct input *input, void *valid)
{
    return take_byte(input) % 8 == 7 ? NULL : valid;
}

/* A count: any, or one at the edge. */
static int64_t take_count(struct input *input)
{
    static const int64_t edges[] = {0, 1, INT64_MAX - 1, INT64_MAX, INT64_MIN, -1};
    int64_t count;
    uint8_t choice = take_byte(input);
    if (choice % 8 < sizeof edges / sizeof edges[0])
        return edges[choice % 8];
    take(input, &count, sizeof count);
    return count;
}

static void try_steps(struct input *input, instep_optimizer *first)
{
    enum { PLACES = 4 + INSTEP_MAX_STATES, ROWS = 4, GROUPS = 2 };
    static double memory[ARRAYS][PLACES][ELEMENTS], before[ARRAYS][PLACES][ELEMENTS];
    static instep_norms norms[ARRAYS];
    int64_t rows[ARRAYS][ROWS], row_steps[ARRAYS][ELEMENTS], row_steps_before[ARRAYS][ELEMENTS];
    instep_array arrays[ARRAYS], arrays_before[ARRAYS];
    instep_optimizer optimizers[GROUPS], optimizers_before[GROUPS];
    size_t count = take_byte(input) % (ARRAYS + 1), index = take_byte(input) % (ARRAYS + 2);
    size_t groups = take_byte(input) % (GROUPS + 1);
    bool all = take_byte(input) % 2;

    first->step_count = take_count(input);
    for (size_t g = 0; g < GROUPS; g++) {
        optimizers[g] = *first;
        if (g != 0 && take_byte(input) % 4 == 0)
            optimizers[g] = take_optimizer(input);
    }
    for (size_t k = 0; k < sizeof memory / sizeof(double); k++)
        ((double *)memory)[k] = (double)k / 7;
    for (size_t k = 0; k < ARRAYS; k++) {
        take(input, &arrays[k], sizeof arrays[k]);
        if (take_byte(input) % 8 != 7)
            arrays[k].dtype %= 2;
        if (take_byte(input) % 8 != 7)
            arrays[k].group %= GROUPS;
        if (take_byte(input) % 2)
            memset(&arrays[k].formats, 0, sizeof arrays[k].formats);
        arrays[k].step_count = take_count(input);
        if (arrays[k].size <= PTRDIFF_MAX / sizeof(double))
            arrays[k].size %= ELEMENTS + 1;
        for (size_t r = 0; r < ROWS; r++)
            rows[k][r] = (int8_t)take_byte(input) % (ELEMENTS + 2);
        arrays[k].rows = take_byte(input) % 4 == 0 ? rows[k] : NULL;
        arrays[k].row_count %= ROWS + 1;
        if (take_byte(input) % 8 != 7)
            arrays[k].row_size %= 5;
        for (size_t r = 0; r < ELEMENTS; r++) /* few steps are missed, or what is no count of steps */
            row_steps[k][r] = arrays[k].step_count >= 3 ? arrays[k].step_count - 1 - take_byte(input) % 3 : -1;
        arrays[k].row_steps = take_pointer(input, row_steps[k]);
        arrays[k].param = take_pointer(input, memory[k][0]);
        arrays[k].grad = take_pointer(input, memory[k][1]);
        arrays[k].low = take_pointer(input, memory[k][2]);
        arrays[k].copy = take_byte(input) % 4 == 0 ? memory[k][3] : NULL;
        arrays[k].norms = take_pointer(input, &norms[k]);
        for (size_t s = 0; s < INSTEP_MAX_STATES; s++)
            arrays[k].state[s] = take_pointer(input, memory[k][4 + s]);
    }
    memcpy(before, memory, sizeof memory);
    memcpy(row_steps_before, row_steps, sizeof row_steps);
    memcpy(arrays_before, arrays, sizeof arrays);
    memcpy(optimizers_before, optimizers, sizeof optimizers);

    int status =
        all ? instep_step_groups(optimizers, groups, arrays, count) : instep_step_one(optimizers, arrays, count, index);
    REQUIRE(known(status));
    bool taken = status == INSTEP_OK && optimizers->skipped_count == optimizers_before->skipped_count;
    double zeroes[GROUPS] = {0};
    for (size_t g = 0; g < GROUPS; g++)
        instep_get(&optimizers[g], "zero_grads", &zeroes[g]);
    for (size_t k = 0; k < ARRAYS; k++) {
        bool meant = status == INSTEP_OK && arrays[k].grad && (all ? k < count : k == index);
        bool is_zeroed = meant && zeroes[arrays[k].group] != 0;
        REQUIRE(is_zeroed || memcmp(memory[k][1], before[k][1], sizeof memory[k][1]) == 0);
        for (size_t place = 0; place < PLACES; place++)
            if (!(meant && taken) && place != 1)
                REQUIRE(memcmp(memory[k][place], before[k][place], sizeof memory[k][place]) == 0);
        REQUIRE((meant && taken) || memcmp(row_steps[k], row_steps_before[k], sizeof row_steps[k]) == 0);
        REQUIRE(arrays[k].step_count == arrays_before[k].step_count + (meant && taken));
        arrays[k].first_block = arrays_before[k].first_block;
        arrays[k].step_count = arrays_before[k].step_count;
        REQUIRE(memcmp(&arrays[k], &arrays_before[k], sizeof arrays[k]) == 0);
    }
    if (taken)
        REQUIRE(!all || optimizers->step_count == optimizers_before->step_count + 1);
    else
        REQUIRE(optimizers->step_count == optimizers_before->step_count);
    if (status != INSTEP_OK)
        REQUIRE(memcmp(optimizers, optimizers_before, sizeof optimizers) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct input input = {bytes, length};
    instep_optimizer optimizer = take_optimizer(&input);

    try_options(&input, &optimizer);
    try_names(&input, &optimizer);
    try_steps(&input, &optimizer);
    return 0;
}
