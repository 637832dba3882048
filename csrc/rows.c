#include "rows.h"

#include "dispatch.h"
#include "float_mode.h"
#include "pool.h"

#include <string.h>

enum {
    DIGITS = 256,          /* which a row is sorted by: one byte of it after the other, the lowest first */
    BYTES_A_THREAD = 65536 /* of rows that are summed: below two of these no thread wakes */
};

/* A stable pass: those of the same digit stay in the order that they had. */
static void sort_by_digit(const struct instep_placed *from, struct instep_placed *to, size_t count, int shift)
{
    size_t next[DIGITS] = {0}, before = 0;

    for (size_t k = 0; k < count; k++)
        next[from[k].row >> shift & (DIGITS - 1)]++;
    for (size_t digit = 0; digit < DIGITS; digit++) {
        size_t with_it = next[digit];
        next[digit] = before;
        before += with_it;
    }
    for (size_t k = 0; k < count; k++)
        to[next[from[k].row >> shift & (DIGITS - 1)]++] = from[k];
}

void instep_order_rows(struct instep_row_order *order, int64_t last)
{
    struct instep_placed *from = order->given, *to = order->room;

    for (int shift = 0; shift < 64 && last >> shift != 0; shift += 8) {
        sort_by_digit(from, to, order->count, shift);
        struct instep_placed *sorted = to;
        to = from;
        from = sorted;
    }
    order->sorted = from;
    order->rows = to;
    order->row_count = 0;
    for (size_t k = 0; k < order->count; k++)
        if (k == 0 || from[k].row != from[k - 1].row)
            to[order->row_count++] = (struct instep_placed){from[k].row, k};
}

struct work {
    const struct instep_row_order *order;
    char *to;
    const char *from;
    instep_add *add;
    int format;
    size_t row_size, from_bytes, to_bytes;
};

static void sum_some(void *context, size_t begin, size_t end)
{
    const struct work *work = context;
    const struct instep_row_order *order = work->order;
    float_mode callers = float_mode_enter(STEP);

    for (size_t r = begin; r < end; r++) {
        char *to = work->to + r * work->to_bytes;
        size_t first = order->rows[r].place;
        size_t last = r + 1 < order->row_count ? order->rows[r + 1].place : order->count;
        for (size_t k = first; k < last; k++) {
            const char *from = work->from + order->sorted[k].place * work->from_bytes;
            if (order->row_count == order->count)
                memcpy(to, from, work->from_bytes);
            else
                work->add(to, from, work->format, work->row_size, k == first);
        }
    }
    float_mode_leave(callers);
}

void instep_sum_rows(const struct instep_row_order *order, void *to, const void *from, int dtype, int format,
                     size_t row_size)
{
    const int once = order->row_count == order->count;
    struct work work = {
        .order = order,
        .to = to,
        .from = from,
        .add = instep_active_loops(dtype)->in_blocks->add,
        .format = format,
        .row_size = row_size,
        .from_bytes = row_size * instep_width(dtype, format),
        .to_bytes = row_size * instep_width(dtype, once ? format : INSTEP_AS_COMPUTED),
    };
    if (order->row_count == 0 || row_size == 0)
        return;
    instep_pool_enter();
    instep_pool_run(sum_some, &work, order->row_count, BYTES_A_THREAD / work.to_bytes + 1);
    instep_pool_leave();
}
