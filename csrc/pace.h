/* When to wake workers, and how long they stay awake.  Both are learned from the jobs, for neither what waking costs
 * nor what comes between two jobs is the same on two machines or in two programs.
 *
 * Workers that are awake take part in every job.  They stay awake from one to the next where jobs follow each other
 * within milliseconds, as steps do in much of training.
 *
 * Workers that sleep are woken where the job takes longer than waking does, and where so many smaller ones have come
 * within milliseconds of each other that waking is a fraction of what was missed.
 *
 * Workers that are awake and yet do nothing of a job have to wait for their core, with a thread on it that spins, as
 * those of OpenMP do.  They sleep at once after each job, for then they get it when they are woken.
 *
 * The caller goes alone where it had to wait for workers again and again, for others run on their cores.
 *
 * Times are in nanoseconds.  Nothing here knows a thread or a clock.  Whoever asks does so in a mode of float_mode.h,
 * for there is arithmetic on doubles here, which is not to raise a flag of the caller of a step. */
#ifndef INSTEP_PACE_H
#define INSTEP_PACE_H

#include <stddef.h>
#include <stdint.h>

/* A job is measured in grains, each of so many of its pieces, which a thread takes about so long for until it is known
 * better. */
enum { INSTEP_GRAIN_TIME = 3000 };

/* Of something bad, how often it has happened lately. */
struct doubt {
    unsigned score;
};

struct pace {
    int64_t last_end;    /* of a job that was worth several threads */
    int64_t longest_gap; /* between two of them, lately */
    int64_t price;       /* of waking: what the call takes, and what it takes until the woken one works */
    double grain_time;   /* of a thread */
    double missed;       /* time that workers would have saved if they had been awake */
    int64_t alone_until;
    struct doubt interrupted; /* workers that were awake, by others on their cores */
    struct doubt absent;      /* workers that were awake, from the jobs */
    struct doubt held_up;     /* callers, by workers that were not done */
};

#define INSTEP_PACE_AT_FIRST                                                                                           \
    {                                                                                                                  \
        .longest_gap = 8000000, .price = 50000, .grain_time = INSTEP_GRAIN_TIME                                        \
    }

/* A job of so many pieces begins that is worth `most` threads, of which `awake` are, the caller's included, and one of
 * which has been interrupted since the last or not.  Returns how many threads are to take part. */
unsigned instep_pace_begin(struct pace *pace, int64_t now, size_t pieces, size_t grain, unsigned most, unsigned awake,
                           int interrupted);

/* It ends: from `begin` until `done` the caller did so many pieces itself, and then it waited for the others, or they
 * were awake and absent. */
void instep_pace_end(struct pace *pace, int64_t begin, int64_t done, int64_t now, size_t pieces, size_t grain,
                     int absent);

/* What waking has taken. */
void instep_pace_woke(struct pace *pace, int64_t price);

/* How long a worker is to look for the next job before it sleeps. */
int64_t instep_pace_stay(const struct pace *pace);

#endif
