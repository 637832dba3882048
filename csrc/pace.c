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
    LONGEST_DOUBT = 1024,
    /* Of so many jobs so few are done the other way than what has been faster: an eightieth of twice their time. */
    JOBS_BETWEEN_TRIES = 512,
    JOBS_OF_TRY = 8
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

static struct ways *ways_of(struct pace *pace, size_t grains)
{
    size_t size = 0;
    for (; grains > 1 && size + 1 < INSTEP_JOB_SIZES; grains >>= 1)
        size++;
    return &pace->ways[size];
}

static int goes_alone(const struct ways *ways)
{
    int is_faster_alone = ways->alone > 0 && ways->alone < 0.95 * ways->shared;
    return is_faster_alone != ways->tries_other;
}

/* A job has been done the way that was wanted. */
static void count(struct ways *ways)
{
    if (++ways->jobs < (ways->tries_other ? JOBS_OF_TRY : JOBS_BETWEEN_TRIES))
        return;
    ways->jobs = 0;
    ways->tries_other = !ways->tries_other && ways->alone > 0 && ways->shared > 0;
}

/* Towards the median: a job during which the core was taken away takes a thousand times as long. */
static void note(double *takes, double time)
{
    if (*takes <= 0)
        *takes = time;
    else
        *takes += time > *takes ? *takes / 32 : -*takes / 32;
}

unsigned instep_pace_begin(struct pace *pace, int64_t now, size_t pieces, size_t grain, unsigned most, unsigned awake,
                           int interrupted)
{
    int64_t gap = now - pace->last_end;
    if (gap > 2 * (int64_t)LONGEST_GAP)
        gap = 2 * (int64_t)LONGEST_GAP; /* which is forgotten within some jobs */
    pace->longest_gap = gap > pace->longest_gap ? gap : pace->longest_gap - (pace->longest_gap - gap) / 4;
    learn(&pace->interrupted, interrupted, LONG_DOUBT);

    pace->takes = NULL;
    pace->tried = NULL;
    if (now < pace->alone_until)
        return 1;
    double by_one = (double)pieces / (double)grain * pace->grain_time, alone = by_one / awake;
    struct ways *ways = ways_of(pace, pieces / grain);
    int is_small = by_one < 2 * (double)pace->price;
    pace->pieces = pieces;
    if (is_small && goes_alone(ways)) {
        pace->missed = 0;
        pace->takes = &ways->alone;
        pace->tried = ways;
        return 1;
    }
    if (awake >= most) {
        pace->missed = 0;
        if (is_small) {
            pace->takes = &ways->shared;
            pace->tried = ways;
        }
        return most;
    }
    if (is_small && awake == 1)
        pace->takes = &ways->alone;
    int enough = stays_awake(pace) ? MISSED_OF_PRICE : MISSED_OF_PRICE_IN_DOUBT;
    pace->missed = is_dense(pace) ? pace->missed + alone - alone * awake / most : 0;
    if (alone < 2 * (double)pace->price && pace->missed < enough * (double)pace->price)
        return awake;
    pace->missed = 0;
    pace->takes = NULL; /* for it wakes some */
    return most;
}

void instep_pace_end(struct pace *pace, int64_t begin, int64_t done, int64_t now, size_t pieces, size_t grain,
                     int absent)
{
    double grains = (double)pieces / (double)grain;
    learn(&pace->absent, absent, LONGEST_DOUBT);
    pace->last_end = now;
    if (pace->takes != NULL)
        note(pace->takes, (double)(now - begin) / (double)pace->pieces);
    if (pace->tried != NULL)
        count(pace->tried);
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
