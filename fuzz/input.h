/* The fuzzer's bytes, taken from the front. */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What is left of the input; zeros when nothing is. */
struct input {
    const uint8_t *bytes;
    size_t left;
};

static inline void take(struct input *input, void *to, size_t size)
{
    size_t have = size < input->left ? size : input->left;
    memset(to, 0, size);
    if (have)
        memcpy(to, input->bytes, have);
    input->bytes += have;
    input->left -= have;
}

static inline uint8_t take_byte(struct input *input)
{
    uint8_t byte;
    take(input, &byte, 1);
    return byte;
}

#endif
