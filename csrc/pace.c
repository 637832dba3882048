#include "pace.h"

enum {
    /* Between jobs that follow each other within this time workers stay awake, and in any case for the other. */
    LONGEST_GAP = 2000000,
    SHORTEST_STAY = 50000,
    LOWEST_PRICE = 1000,
    HIGHEST_PRICE = 150000,
    /* Waking for the sake of later jobs costs this part of what was missed; and this, where workers do not stay awake
     * for those, so that it only finds out what waking takes now. */
    MISSED_OF_PRICE = 5,
    MISSED_OF_PRICE_IN_DOUBT = 20,
    /* The caller is held up if it waits longer than this, and than this part of the job. */
    SHORTEST_WAIT = 100000,
    JOB_OF_WAIT = 8,
    /* Then it goes alone for so many times as long as it waited, so that trying again costs a twentieth. */
    ALONE_OF_WAIT = 20,
    /* Jobs after which workers are trusted anew.  One that stayed awake and was kept from its core is kept for some
     * twenty of them. */
    LONG_DOUBT = 128,
    LONGEST_DOUBT = 1024
};

/* A bad event counts for more the more there have been, up to the most; one that was not bad takes one away. */
static void learn(struct doubt *doubt, int bad, unsigned most)
{
    enum { FIRST = 8 };
    unsigned more = 2 * doubt->score + FIRST;
    if (bad)
        doubt->score = more < most ? more : most;
    else if (doubt->score > 0)
        doubt->score--;
}

static int is_doubtful(struct doubt doubt)
{
    return doubt.score >= 16;
}

static int is_dense(const struct pace *pace)
{
    return pace->longest_gap <= LONGEST_GAP;
}

static int stays_awake(const struct pace *pace)
{
    return is_dense(pace) && !is_doubtful(pace->interrupted) && !is_doubtful(pace->absent);
}

unsigned instep_pace_begin(struct pace *pace, int64_t now, size_t pieces, size_t grain, unsigned most, unsigned awake,
                           int interrupted)
{
    int64_t gap = now - pace->last_end;
    if (gap > 2 * (int64_t)LONGEST_GAP)
        gap = 2 * (int64_t)LONGEST_GAP; /* which is forgotten within some jobs */
    pace->longest_gap = gap > pace->longest_gap ? gap : pace->longest_gap - (pace->longest_gap - gap) / 4;
    learn(&pace->interrupted, interrupted, LONG_DOUBT);

    if (now < pace->alone_until)
        return 1;
    if (awake >= most) {
        pace->missed = 0;
        return most;
    }
    double alone = (double)pieces / (double)grain * pace->grain_time / awake;
    int enough = stays_awake(pace) ? MISSED_OF_PRICE : MISSED_OF_PRICE_IN_DOUBT;
    pace->missed = is_dense(pace) ? pace->missed + alone - alone * awake / most : 0;
    if (alone < 2 * (double)pace->price && pace->missed < enough * (double)pace->price)
        return awake;
    pace->missed = 0;
    return most;
}

void instep_pace_end(struct pace *pace, int64_t begin, int64_t done, int64_t now, size_t pieces, size_t grain,
                     int absent)
{
    double grains = (double)pieces / (double)grain;
    learn(&pace->absent, absent, LONGEST_DOUBT);
    pace->last_end = now;
    if (grains >= 1)
        pace->grain_time += ((double)(done - begin) / grains - pace->grain_time) / 8;
    int64_t waited = now - done;
    if (waited == 0)
        return;
    int held_up = waited > SHORTEST_WAIT && waited > (now - begin) / JOB_OF_WAIT;
    learn(&pace->held_up, held_up, LONG_DOUBT);
    if (held_up && is_doubtful(pace->held_up))
        pace->alone_until = now + ALONE_OF_WAIT * waited;
}

void instep_pace_woke(struct pace *pace, int64_t price)
{
    /* Towards the median: after a pause it may take three times as long as between jobs, which is not to keep them
     * alone. */
    pace->price += price > pace->price ? pace->price / 16 : -pace->price / 16;
    pace->price = pace->price < LOWEST_PRICE ? LOWEST_PRICE : pace->price > HIGHEST_PRICE ? HIGHEST_PRICE : pace->price;
}

int64_t instep_pace_stay(const struct pace *pace)
{
    if (is_doubtful(pace->absent))
        return 0; /* a kernel gives its core to who has slept */
    return stays_awake(pace) ? 2 * pace->longest_gap + SHORTEST_STAY : SHORTEST_STAY;
}
