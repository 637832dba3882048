/* The copy goes block by block.  A block is a rectangle of two dimensions: the last, in which `to` is contiguous, and
 * another.  Where `from` is closer to contiguous in another, as in a transposed matrix, that is the other, and the
 * block is turned: it is short enough that the lines it reads and those it writes stay in cache until all of each is
 * used.  Its columns are of all the dimensions behind the other, in which `to` is contiguous as well: the last alone
 * may be too short for a line. */
#include "copy.h"

#include "compiler.h"
#include "pool.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    /* Bytes of a block, and its rows where it is turned, which leaves it columns of one line.  The more rows, the more
     * lines are read from a page before the next: to find a page takes longer than to fetch another line of it. */
    BLOCK = 16384,
    ROWS = 256,
    LINE = 64,
    MOST_COLUMNS = 1024,     /* of a block that is turned */
    PATCH = 4,               /* rows and columns that are turned in registers */
    BYTES_PER_THREAD = 32768 /* as a step has it */
};

struct dimension {
    size_t size, step; /* step: that of a block */
    size_t blocks;
    ptrdiff_t from, to; /* strides */
};

struct copy {
    char *to;
    const char *from;
    size_t width;
    int last, other; /* the dimensions of a block */
    bool turned;
    struct dimension dim[1 + INSTEP_MAX_DIMS]; /* the first has one element, so that there always are two */
    int behind;                                /* dimensions that are joined to the last, or 0 */
    struct dimension column[INSTEP_MAX_DIMS];  /* these */
};

static size_t magnitude(ptrdiff_t stride)
{
    return stride < 0 ? 0 - (size_t)stride : (size_t)stride;
}

/* Those of one element are left out, and two that are walked as one are one. */
static void find_dimensions(struct copy *copy, int dims, const ptrdiff_t *shape, const ptrdiff_t *strides)
{
    struct dimension *last = copy->dim;
    *last = (struct dimension){.size = 1};
    for (int k = 0; k < dims; k++) {
        if (shape[k] == 1)
            continue;
        if (last == copy->dim || last->from != strides[k] * shape[k])
            *++last = (struct dimension){.size = 1};
        last->size *= (size_t)shape[k];
        last->from = strides[k];
    }
    if (last == copy->dim)
        *++last = (struct dimension){.size = 1};
    copy->last = (int)(last - copy->dim);

    ptrdiff_t to = (ptrdiff_t)copy->width;
    for (int k = copy->last; k >= 0; k--) {
        copy->dim[k].to = to;
        to *= (ptrdiff_t)copy->dim[k].size;
    }
}

/* The dimensions behind the other as one, if there are several. */
static void join_columns(struct copy *copy)
{
    struct dimension *last = &copy->dim[copy->other + 1];
    if (copy->last == copy->other + 1)
        return;
    copy->behind = copy->last - copy->other;
    memcpy(copy->column, last, (size_t)copy->behind * sizeof *last);
    *last = (struct dimension){.size = 1, .to = (ptrdiff_t)copy->width};
    for (int k = 0; k < copy->behind; k++)
        last->size *= copy->column[k].size;
    copy->last = copy->other + 1;
}

/* Returns how many there are. */
static size_t cut_into_blocks(struct copy *copy)
{
    int closest = copy->last;
    for (int k = copy->last - 1; k > 0; k--)
        if (copy->dim[k].size >= PATCH && copy->dim[k].from != 0
            && magnitude(copy->dim[k].from) < magnitude(copy->dim[closest].from))
            closest = k;
    copy->turned = closest != copy->last;
    copy->other = copy->turned ? closest : copy->last - 1;
    if (copy->turned)
        join_columns(copy);

    const size_t elements = BLOCK / copy->width;
    size_t blocks = 1;
    struct dimension *last = &copy->dim[copy->last], *other = &copy->dim[copy->other];
    for (int k = 0; k <= copy->last; k++) {
        struct dimension *dim = &copy->dim[k];
        size_t most = dim == last ? elements : dim == other && copy->turned ? ROWS : 1;
        dim->step = dim->size < most ? dim->size : most;
    }
    if (copy->turned) {
        size_t columns = elements / other->step, line = LINE / copy->width;
        last->step = columns > MOST_COLUMNS ? MOST_COLUMNS : columns - columns % line;
    } else {
        other->step = elements / last->step;
    }
    for (int k = 0; k <= copy->last; k++) {
        copy->dim[k].blocks = (copy->dim[k].size + copy->dim[k].step - 1) / copy->dim[k].step;
        blocks *= copy->dim[k].blocks;
    }
    return blocks;
}

INLINE void copy_row(const size_t width, char *to, const char *from, size_t count, ptrdiff_t stride)
{
    if (stride == (ptrdiff_t)width && count >= 4 * PATCH)
        memcpy(to, from, count * width);
    else
        for (size_t c = 0; c < count; c++)
            memcpy(to + c * width, from + (ptrdiff_t)c * stride, width);
}

/* A patch of four bytes an element, whose columns are contiguous.  Compilers make two stages of interleaved registers
 * of it, but not where it is inlined. */
NO_INLINE void turn(char *to, ptrdiff_t to_row, const char *from, const ptrdiff_t *from_column)
{
    uint32_t column[PATCH][PATCH], row[PATCH][PATCH];
    for (int c = 0; c < PATCH; c++)
        memcpy(column[c], from + from_column[c], sizeof column[c]);
    for (int r = 0; r < PATCH; r++)
        for (int c = 0; c < PATCH; c++)
            row[r][c] = column[c][r];
    for (int r = 0; r < PATCH; r++)
        memcpy(to + r * to_row, row[r], sizeof row[r]);
}

/* One of any strides, and of constant numbers of rows and columns: the elements come from memory one by one. */
INLINE void copy_patch(const size_t width, const int rows, const size_t columns, char *to, ptrdiff_t to_row,
                       const char *from, ptrdiff_t from_row, const ptrdiff_t *from_column)
{
    for (int r = 0; r < rows; r++) {
        char row[PATCH * sizeof(uint64_t)];
        for (size_t c = 0; c < columns; c++)
            memcpy(row + c * width, from + r * from_row + from_column[c], width);
        memcpy(to + r * to_row, row, columns * width);
    }
}

INLINE void copy_patches(const size_t width, const int rows, char *to, ptrdiff_t to_row, const char *from,
                         ptrdiff_t from_row, const ptrdiff_t *from_column, size_t columns)
{
    for (; columns >= PATCH; columns -= PATCH, to += PATCH * width, from_column += PATCH)
        if (rows == PATCH && width == sizeof(uint32_t) && from_row == (ptrdiff_t)width)
            turn(to, to_row, from, from_column);
        else
            copy_patch(width, rows, PATCH, to, to_row, from, from_row, from_column);
    if (columns == 3)
        copy_patch(width, rows, 3, to, to_row, from, from_row, from_column);
    else if (columns == 2)
        copy_patch(width, rows, 2, to, to_row, from, from_row, from_column);
    else if (columns == 1)
        copy_patch(width, rows, 1, to, to_row, from, from_row, from_column);
}

/* Where so many columns are in `from`, from the first of the block. */
static void find_columns(const struct copy *copy, size_t first, size_t count, ptrdiff_t *from)
{
    const struct dimension *column = copy->column;
    size_t at[INSTEP_MAX_DIMS];
    ptrdiff_t place = 0;
    for (int k = copy->behind - 1; k >= 0; k--) {
        at[k] = first % column[k].size;
        first /= column[k].size;
        place += (ptrdiff_t)at[k] * column[k].from;
    }
    for (size_t c = 0; c < count; c++) {
        from[c] = place;
        int k = copy->behind - 1;
        place += column[k].from;
        for (; ++at[k] == column[k].size && k > 0; k--) {
            at[k] = 0;
            place += column[k - 1].from - (ptrdiff_t)column[k].size * column[k].from;
        }
    }
}

INLINE void copy_block(const size_t width, const struct copy *copy, char *to, const char *from, size_t rows,
                       size_t columns, const ptrdiff_t *from_column)
{
    const struct dimension *last = &copy->dim[copy->last], *other = &copy->dim[copy->other];

    if (!copy->turned && columns >= PATCH) {
        for (size_t r = 0; r < rows; r++)
            copy_row(width, to + (ptrdiff_t)r * other->to, from + (ptrdiff_t)r * other->from, columns, last->from);
        return;
    }
    for (; rows >= PATCH; rows -= PATCH, to += PATCH * other->to, from += PATCH * other->from)
        copy_patches(width, PATCH, to, other->to, from, other->from, from_column, columns);
    for (; rows > 0; rows--, to += other->to, from += other->from)
        copy_patches(width, 1, to, other->to, from, other->from, from_column, columns);
}

/* How many of its elements the block has in this dimension. */
static size_t extent(const struct dimension *dim, size_t at)
{
    size_t left = dim->size - at * dim->step;
    return left < dim->step ? left : dim->step;
}

static void copy_blocks(void *context, size_t begin, size_t end)
{
    const struct copy *copy = context;
    const struct dimension *dim = copy->dim;
    size_t at[1 + INSTEP_MAX_DIMS]; /* in blocks */
    size_t rest = begin;
    ptrdiff_t from_column[MOST_COLUMNS];
    for (size_t c = 0; c < MOST_COLUMNS && c < dim[copy->last].step; c++)
        from_column[c] = (ptrdiff_t)c * dim[copy->last].from;
    for (int k = copy->last; k >= 0; k--) {
        at[k] = rest % dim[k].blocks;
        rest /= dim[k].blocks;
    }
    for (; begin < end; begin++) {
        char *to = copy->to;
        const char *from = copy->from;
        for (int k = 0; k <= copy->last; k++) {
            to += (ptrdiff_t)(at[k] * dim[k].step) * dim[k].to;
            from += (ptrdiff_t)(at[k] * dim[k].step) * dim[k].from;
        }
        size_t rows = extent(&dim[copy->other], at[copy->other]), columns = extent(&dim[copy->last], at[copy->last]);
        if (copy->behind > 0)
            find_columns(copy, at[copy->last] * dim[copy->last].step, columns, from_column);
        if (copy->width == sizeof(uint16_t))
            copy_block(sizeof(uint16_t), copy, to, from, rows, columns, from_column);
        else if (copy->width == sizeof(uint32_t))
            copy_block(sizeof(uint32_t), copy, to, from, rows, columns, from_column);
        else
            copy_block(sizeof(uint64_t), copy, to, from, rows, columns, from_column);
        for (int k = copy->last; k >= 0 && ++at[k] == dim[k].blocks; k--)
            at[k] = 0;
    }
}

void instep_copy(void *to, const void *from, size_t width, int dims, const ptrdiff_t *shape, const ptrdiff_t *strides)
{
    struct copy copy;
    size_t bytes = width;
    for (int k = 0; k < dims; k++)
        bytes *= (size_t)shape[k];
    if (bytes == 0)
        return;
    copy.to = to;
    copy.from = from;
    copy.width = width;
    copy.behind = 0;
    find_dimensions(&copy, dims, shape, strides);
    size_t blocks = cut_into_blocks(&copy);

    instep_pool_enter();
    instep_pool_run(copy_blocks, &copy, blocks, blocks / (bytes / BYTES_PER_THREAD + 1) + 1);
    instep_pool_leave();
}
