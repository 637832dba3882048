/* A private pool of threads.
 *
 * Why not OpenMP: gcc's runtime hangs in a child forked after a threaded parent step, a second runtime in the process
 * competes for the cores, and it would have to be shipped.
 *
 * What makes it legal to cut a step anywhere: nothing couples two elements.
 *
 * A job is a range cut into one share a thread.  Whoever is done with its own share takes pieces from the others', so
 * a worker that wakes late, or never, costs nothing but its help: the caller does not wait for who has not come.  How
 * many take part, and how long they look for the next job before they sleep, is decided in pace.c. */
#if defined __linux__
#define _GNU_SOURCE /* for the cores that threads run on */
#else
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#endif
#include "pool.h"

#include "cpu.h"
#include "float_mode.h"
#include "instep.h"
#include "pace.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#if defined __x86_64__
#define PAUSE() __builtin_ia32_pause()
#elif defined __aarch64__
#define PAUSE() __asm__ volatile("yield")
#else
#define PAUSE() ((void)0)
#endif

enum {
    PIECES_PER_SHARE = 32,
    PIECES_PER_GRAIN = 8, /* at most: a piece takes some time beside its work */
    WOKEN_BY_ONE = 2,     /* so that many are awake after a few rounds, each of which takes a while */
    LOOKS_PER_YIELD = 64,
    GRAINS_OF_TEAM = 8,    /* at least, for each thread of a team: it may sleep, and is waited for */
    INTERRUPTION = 500000, /* nanoseconds between two looks in which another thread has had the core */
    CLOSED = 1 << 30
};

/* One a cache line, or the threads would fight for it. */
struct share {
    _Alignas(64) atomic_size_t next;
    size_t end;
};

static struct {
    instep_task *task;
    void *work;
    size_t piece;
    atomic_uint shares;
    struct share share[INSTEP_MAX_THREADS];
} job;

/* How many workers are in the job; CLOSED when none may join it any more.  The job is written only while it is closed
 * and empty. */
static atomic_uint gate = CLOSED;
static atomic_uint jobs_posted;
static atomic_bool busy;

static pthread_mutex_t sleep_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work_posted = PTHREAD_COND_INITIALIZER;
static atomic_uint sleepers;
static atomic_int to_wake; /* how many of them are still to be woken */
static atomic_bool quit;

/* Guarded by the mutex: of each worker, whether it sleeps, where it fell asleep, and where it was allowed when it was
 * sent away from there. */
static struct {
    bool asleep;
#if defined __linux__
    bool sent_away;
    int core;
    cpu_set_t allowed;
#endif
} sleeper[INSTEP_MAX_THREADS];

/* What workers are told, and what they tell. */
static _Atomic int64_t posted_at, stay, latency; /* latency: from then until one was awake that had slept */
static atomic_int callers_core;
static atomic_bool interrupted;

/* Written by who holds `busy`, or by the fork handlers when nobody can. */
static struct pace pace = INSTEP_PACE_AT_FIRST;
static int64_t call_to_wake; /* what the last one took */
static pthread_t workers[INSTEP_MAX_THREADS];
static unsigned worker_count;

static pthread_mutex_t fork_mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool forking;
static atomic_uint in_flight;
static atomic_uint generation; /* how many forks lie between this process and the one that loaded the library */
static pthread_t survivor;     /* the thread that forked this process, if generation is not 0 */

static int64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Now and then the core is offered to others.  On a busy machine it may be the one that whoever we wait for is to run
 * on: a worker that did not offer it made the caller's step longer by all the time it stayed awake. */
static void between_looks(unsigned looks)
{
    if (looks % LOOKS_PER_YIELD == 0)
        sched_yield();
    else
        PAUSE();
}

/* Does what is left of the job, beginning with the share at home.  Returns how much that was. */
static size_t help(unsigned home)
{
    size_t did = 0;
    unsigned shares = atomic_load_explicit(&job.shares, memory_order_relaxed);
    for (unsigned k = 0; k < shares; k++) {
        struct share *share = &job.share[(home + k) % shares];
        for (;;) {
            if (atomic_load_explicit(&share->next, memory_order_relaxed) >= share->end)
                break;
            size_t begin = atomic_fetch_add_explicit(&share->next, job.piece, memory_order_relaxed);
            if (begin >= share->end)
                break;
            size_t end = share->end - begin < job.piece ? share->end : begin + job.piece;
            job.task(job.work, begin, end);
            did += end - begin;
        }
    }
    return did;
}

/* `shares` may be that of an earlier job: one helper too many or too few, which does no harm. */
static void join_job(unsigned home)
{
    unsigned inside = atomic_load_explicit(&gate, memory_order_relaxed);
    do {
        if (inside & CLOSED || inside + 1 >= atomic_load_explicit(&job.shares, memory_order_relaxed))
            return;
    } while (
        !atomic_compare_exchange_weak_explicit(&gate, &inside, inside + 1, memory_order_acquire, memory_order_relaxed));
    help(home);
    atomic_fetch_sub_explicit(&gate, 1, memory_order_release);
}

static bool has_news(unsigned jobs_seen)
{
    return atomic_load(&jobs_posted) != jobs_seen || atomic_load(&quit);
}

/* ---- cores ----------------------------------------------------------------------------------------------------------
 * A kernel that sees no cache shared between the cores, as in many a virtual machine, wakes a thread where it slept and
 * leaves it there for a while.  Where that is the core of the caller, the worker does not help the step but interrupts
 * it, another core being idle or not.  So it is sent to the others, and allowed everywhere again once it is there. */

static int this_core(void)
{
#if defined __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

#if defined __linux__

/* Of the cores that a thread may run on now all but this one; false if there are no others. */
static bool other_cores(pthread_t thread, int core, cpu_set_t *allowed, cpu_set_t *others)
{
    if (core < 0 || pthread_getaffinity_np(thread, sizeof *allowed, allowed) != 0)
        return false;
    *others = *allowed;
    CPU_CLR((size_t)core, others);
    return CPU_COUNT(others) != 0;
}

/* Allows the calling thread where it was allowed when it was sent away from this core, unless somebody else has put it
 * elsewhere since. */
static void allow_back(const cpu_set_t *allowed, int core)
{
    cpu_set_t others = *allowed, now;
    CPU_CLR((size_t)core, &others);
    if (pthread_getaffinity_np(pthread_self(), sizeof now, &now) == 0 && CPU_EQUAL(&now, &others))
        pthread_setaffinity_np(pthread_self(), sizeof *allowed, allowed);
}

static void note_where(unsigned k)
{
    sleeper[k].core = this_core();
}

/* One that was sent away and has not woken since still is. */
static void send_sleepers_away(void)
{
    int here = this_core();
    cpu_set_t others;
    for (unsigned k = 0; k < worker_count; k++)
        if (sleeper[k].asleep && sleeper[k].core == here && !sleeper[k].sent_away
            && other_cores(workers[k], here, &sleeper[k].allowed, &others))
            sleeper[k].sent_away = pthread_setaffinity_np(workers[k], sizeof others, &others) == 0;
}

static void be_allowed_back(unsigned k)
{
    if (sleeper[k].sent_away)
        allow_back(&sleeper[k].allowed, sleeper[k].core);
    sleeper[k].sent_away = false;
}

/* For a worker that is awake. */
static void leave_the_caller(void)
{
    int here = this_core();
    cpu_set_t allowed, others;
    if (here == atomic_load_explicit(&callers_core, memory_order_relaxed)
        && other_cores(pthread_self(), here, &allowed, &others)
        && pthread_setaffinity_np(pthread_self(), sizeof others, &others) == 0)
        allow_back(&allowed, here);
}

#else

static void note_where(unsigned k)
{
    (void)k;
}

static void send_sleepers_away(void)
{
}

static void be_allowed_back(unsigned k)
{
    (void)k;
}

static void leave_the_caller(void)
{
}

#endif

/* ---- workers --------------------------------------------------------------------------------------------------------
 */

/* True with news, false when it is time to sleep. */
static bool look_for_news(unsigned jobs_seen)
{
    int64_t now = nanoseconds(), deadline = now + atomic_load_explicit(&stay, memory_order_relaxed), before;
    for (unsigned looks = 1; now < deadline; looks++) {
        if (has_news(jobs_seen))
            return true;
        between_looks(looks);
        before = now;
        now = nanoseconds();
        if (now - before > INTERRUPTION)
            atomic_store_explicit(&interrupted, true, memory_order_relaxed);
        if (looks == LOOKS_PER_YIELD)
            leave_the_caller();
    }
    return false;
}

static void wake_some(void)
{
    for (int k = 0; k < WOKEN_BY_ONE && atomic_fetch_sub(&to_wake, 1) > 0; k++)
        pthread_cond_signal(&work_posted);
}

static void sleep_until_news(unsigned k, unsigned jobs_seen)
{
    pthread_mutex_lock(&sleep_mutex);
    note_where(k);
    sleeper[k].asleep = true;
    atomic_fetch_add(&sleepers, 1);
    bool slept = false;
    while (!has_news(jobs_seen)) {
        pthread_cond_wait(&work_posted, &sleep_mutex);
        slept = true;
    }
    atomic_fetch_sub(&sleepers, 1);
    sleeper[k].asleep = false;
    be_allowed_back(k);
    pthread_mutex_unlock(&sleep_mutex);
    if (slept && !atomic_load(&quit)) {
        wake_some();
        atomic_store(&latency, nanoseconds() - atomic_load(&posted_at));
    }
}

static void *worker(void *share)
{
    unsigned home = (unsigned)(uintptr_t)share;
    while (!atomic_load(&quit)) {
        unsigned jobs_seen = atomic_load(&jobs_posted); /* before joining, so that no later job is missed */
        leave_the_caller();
        join_job(home);
        if (!look_for_news(jobs_seen))
            sleep_until_news(home - 1, jobs_seen);
    }
    return NULL;
}

/* Signals are the caller's business: workers are born with all of them blocked, but for the faults, which must reach
 * the handler that reports them. */
static void start_workers(unsigned count)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    sigset_t blocked, callers;
    sigfillset(&blocked);
    for (size_t k = 0; k < sizeof faults / sizeof faults[0]; k++)
        sigdelset(&blocked, faults[k]);
    pthread_sigmask(SIG_SETMASK, &blocked, &callers);
    while (worker_count < count) {
        void *home = (void *)(uintptr_t)(worker_count + 1);
        if (pthread_create(&workers[worker_count], NULL, worker, home) != 0)
            break;
        worker_count++;
    }
    pthread_sigmask(SIG_SETMASK, &callers, NULL);
}

static void stop_workers(void)
{
    pthread_mutex_lock(&sleep_mutex);
    atomic_store(&quit, true);
    pthread_cond_broadcast(&work_posted);
    pthread_mutex_unlock(&sleep_mutex);
    while (worker_count > 0)
        pthread_join(workers[--worker_count], NULL);
    atomic_store(&quit, false);
}

static void wake_workers(unsigned count, int64_t now)
{
    if (atomic_load(&sleepers) == 0)
        return;
    atomic_store(&posted_at, now);
    /* Who counted itself among the sleepers is asleep once the mutex is free, and wakes faster if it stays free. */
    pthread_mutex_lock(&sleep_mutex);
    send_sleepers_away();
    pthread_mutex_unlock(&sleep_mutex);
    atomic_store(&to_wake, (int)count);
    wake_some();
    call_to_wake = nanoseconds() - now;
}

static void cut(instep_task *task, void *work, size_t total, size_t grain, unsigned shares)
{
    size_t share = total / shares, least = grain / PIECES_PER_GRAIN + 1;
    job.task = task;
    job.work = work;
    job.piece = share / PIECES_PER_SHARE > least ? share / PIECES_PER_SHARE : least;
    for (size_t k = 0; k < shares; k++) {
        atomic_store_explicit(&job.share[k].next, share * k, memory_order_relaxed);
        job.share[k].end = k + 1 < shares ? share * (k + 1) : total;
    }
    atomic_store_explicit(&job.shares, shares, memory_order_relaxed);
}

static void post(void)
{
    atomic_store_explicit(&gate, 0, memory_order_release);
    atomic_fetch_add(&jobs_posted, 1);
}

static void close_job(void)
{
    atomic_fetch_or_explicit(&gate, CLOSED, memory_order_relaxed);
    for (unsigned looks = 1; atomic_load_explicit(&gate, memory_order_acquire) != CLOSED; looks++)
        between_looks(looks);
}

/* How many threads are to take part in a job that is worth `most`. */
static unsigned threads_for(size_t total, size_t grain, unsigned most, unsigned awake, int64_t now)
{
    int64_t waited = atomic_exchange(&latency, 0);
    if (waited > 0)
        instep_pace_woke(&pace, call_to_wake + waited);
    float_mode callers = float_mode_enter(IEEE);
    unsigned threads = instep_pace_begin(&pace, now, total, grain, most, awake, atomic_exchange(&interrupted, false));
    float_mode_leave(callers);
    atomic_store_explicit(&stay, instep_pace_stay(&pace), memory_order_relaxed);
    atomic_store_explicit(&callers_core, this_core(), memory_order_relaxed);
    if (worker_count + 1 < threads)
        start_workers(threads - 1);
    return threads < worker_count + 1 ? threads : worker_count + 1;
}

static void take_part(void *present)
{
    help(atomic_fetch_add((atomic_uint *)present, 1));
}

static void run_on_workers(instep_task *task, void *work, size_t total, size_t grain, unsigned most)
{
    int64_t begin = nanoseconds(), done, end;
    unsigned asleep = atomic_load(&sleepers), awake = 1 + worker_count - asleep;
    unsigned threads = threads_for(total, grain, most, awake, begin);
    size_t did = total;
    if (threads < 2) {
        task(work, 0, total);
        done = end = nanoseconds();
    } else {
        cut(task, work, total, grain, threads);
        post();
        if (threads > awake) {
            wake_workers(threads - awake, begin);
            begin = nanoseconds();
        }
        did = help(0);
        done = nanoseconds();
        close_job();
        end = nanoseconds();
    }
    int absent = threads > 1 && awake > 1 && did == total;
    float_mode callers = float_mode_enter(IEEE);
    instep_pace_end(&pace, begin, done, end, did, grain, absent);
    float_mode_leave(callers);
}

/* The gate stays closed, which keeps the workers out. */
static void run_on_team(instep_team *team, instep_task *task, void *work, size_t total, size_t grain, unsigned threads)
{
    atomic_uint present = 0;
    cut(task, work, total, grain, threads);
    team(take_part, &present, threads, 0);
}

void instep_pool_run(instep_task *task, void *work, size_t total, size_t grain)
{
    struct instep_lent lent = instep_lent_team();
    size_t allowed = (size_t)instep_get_threads(), worth = total / grain;
    if (lent.threads > 0 && (size_t)lent.threads < allowed)
        allowed = (size_t)lent.threads;
    if (instep_pool_generation() != 0)
        lent.team = NULL; /* gcc's OpenMP hangs in a child of a process in which it had threads */
    if (lent.team != NULL)
        worth /= GRAINS_OF_TEAM;
    unsigned most = (unsigned)(worth < allowed ? worth : allowed);
    if (most < 2 || atomic_exchange(&busy, true)) {
        task(work, 0, total);
        return;
    }
    if (lent.team != NULL)
        run_on_team(lent.team, task, work, total, grain, most);
    else
        run_on_workers(task, work, total, grain, most);
    atomic_store(&busy, false);
}

int instep_pool_default(void)
{
    return instep_cpu_count();
}

/* ---- fork ----------------------------------------------------------------------------------------------------------
 * A child has the forking thread alone.  So before a fork the steps in flight are waited for, the child sees whole
 * steps and an idle pool, and the workers are joined: the process that forks is not multi-threaded on our account.
 * Both sides make workers anew when they need some. */

static void before_fork(void)
{
    pthread_mutex_lock(&fork_mutex);
    atomic_store(&forking, true);
    for (unsigned looks = 1; atomic_load(&in_flight) != 0; looks++)
        between_looks(looks);
    stop_workers();
}

static void after_fork_in_parent(void)
{
    atomic_store(&forking, false);
    pthread_mutex_unlock(&fork_mutex);
}

static void after_fork_in_child(void)
{
    /* a thread that was turned away while the fork went on may have been counted, and is not here */
    atomic_store(&in_flight, 0);
    survivor = pthread_self();
    atomic_fetch_add(&generation, 1);
    after_fork_in_parent();
}

unsigned instep_pool_generation(void)
{
    return atomic_load_explicit(&generation, memory_order_relaxed);
}

int instep_pool_survived(void)
{
    return pthread_equal(pthread_self(), survivor);
}

void instep_pool_enter(void)
{
    for (;;) {
        atomic_fetch_add(&in_flight, 1);
        if (!atomic_load(&forking))
            return;
        atomic_fetch_sub(&in_flight, 1);
        for (unsigned looks = 1; atomic_load(&forking); looks++)
            between_looks(looks);
    }
}

void instep_pool_leave(void)
{
    atomic_fetch_sub(&in_flight, 1);
}

/* As early as can be, for a lock may be held across a fork before any step. */
__attribute__((constructor)) static void at_load(void)
{
    if (pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) != 0)
        atomic_store(&busy, true); /* for good: no workers that a fork would lose */
}

/* A library may be unloaded; its threads must be gone by then.  A program may end in one thread and fork in another. */
__attribute__((destructor)) static void at_unload(void)
{
    pthread_mutex_lock(&fork_mutex);
    if (!atomic_exchange(&busy, true))
        stop_workers();
    pthread_mutex_unlock(&fork_mutex);
}
