/* A private pool of threads.
 *
 * Why not OpenMP: gcc's runtime hangs in a child forked after a threaded parent step, a second runtime in the process
 * competes for the cores, and it would have to be shipped.
 *
 * What makes it legal to cut a step anywhere: nothing couples two elements.
 *
 * A job is a range cut into one share a thread.  Whoever is done with its own share takes pieces from the others', so
 * a worker that wakes late, or never, costs nothing but its help: the caller does not wait for who has not come. */
#if defined __linux__
#define _GNU_SOURCE /* for the cores that threads run on */
#else
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#endif
#include "pool.h"

#include "cpu.h"
#include "instep.h"

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
    /* A worker looks for the next job this long before it sleeps.  To be woken costs a step up to 20 microseconds. */
    AWAKE_NANOSECONDS = 50000,
    PIECES_PER_SHARE = 32,
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
static atomic_bool quit;

/* Written by who holds `busy`, or by the fork handlers when nobody can. */
static pthread_t workers[INSTEP_MAX_THREADS];
static unsigned worker_count;
static atomic_int slept_on[INSTEP_MAX_THREADS]; /* the core of a worker when it fell asleep last */

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
    if (looks % 64 == 0)
        sched_yield();
    else
        PAUSE();
}

/* Does what is left of the job, beginning with the share at home. */
static void help(unsigned home)
{
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
        }
    }
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

static int this_core(void)
{
#if defined __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

/* Sends the workers that sleep on this core to the others.
 *
 * A kernel that sees no cache shared between the cores, as in many a virtual machine, wakes a thread where it slept.
 * Where that is the core of its waker it does not help the step but interrupts it, another core being idle or not. */
static void leave_this_core(void)
{
#if defined __linux__
    int here = this_core();
    cpu_set_t others;

    CPU_ZERO(&others);
    for (unsigned k = 0; k < worker_count; k++) {
        if (atomic_load_explicit(&slept_on[k], memory_order_relaxed) != here)
            continue;
        if (CPU_COUNT(&others) == 0) {
            if (here < 0 || sched_getaffinity(0, sizeof others, &others) != 0)
                return;
            CPU_CLR((size_t)here, &others);
            if (CPU_COUNT(&others) == 0)
                return;
        }
        pthread_setaffinity_np(workers[k], sizeof others, &others);
    }
#endif
}

static void wait_for_news(unsigned home, unsigned jobs_seen)
{
    int64_t deadline = nanoseconds() + AWAKE_NANOSECONDS;
    for (unsigned looks = 1; nanoseconds() < deadline; looks++) {
        if (has_news(jobs_seen))
            return;
        between_looks(looks);
    }

    pthread_mutex_lock(&sleep_mutex);
    atomic_store_explicit(&slept_on[home - 1], this_core(), memory_order_relaxed);
    atomic_fetch_add(&sleepers, 1);
    while (!has_news(jobs_seen))
        pthread_cond_wait(&work_posted, &sleep_mutex);
    atomic_fetch_sub(&sleepers, 1);
    pthread_mutex_unlock(&sleep_mutex);
}

static void *worker(void *share)
{
    unsigned home = (unsigned)(uintptr_t)share;
    while (!atomic_load(&quit)) {
        unsigned jobs_seen = atomic_load(&jobs_posted); /* before joining, so that no later job is missed */
        join_job(home);
        wait_for_news(home, jobs_seen);
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
        atomic_store_explicit(&slept_on[worker_count], -1, memory_order_relaxed);
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

static void wake_workers(unsigned count)
{
    atomic_fetch_add(&jobs_posted, 1);
    if (atomic_load(&sleepers) == 0)
        return;
    /* Who counted itself among the sleepers is asleep once the mutex is free, and wakes faster if it stays free. */
    pthread_mutex_lock(&sleep_mutex);
    pthread_mutex_unlock(&sleep_mutex);
    leave_this_core();
    for (unsigned k = 0; k < count; k++)
        pthread_cond_signal(&work_posted);
}

void instep_pool_run(instep_task *task, void *work, size_t total, size_t grain)
{
    size_t threads = (size_t)instep_get_threads();
    size_t shares = total / grain < threads ? total / grain : threads;
    if (shares < 2 || atomic_exchange(&busy, true)) {
        task(work, 0, total);
        return;
    }
    if (worker_count < shares - 1)
        start_workers((unsigned)shares - 1);
    if (worker_count + 1 < shares)
        shares = worker_count + 1;

    job.task = task;
    job.work = work;
    atomic_store_explicit(&job.shares, (unsigned)shares, memory_order_relaxed);
    job.piece = total / shares / PIECES_PER_SHARE + 1;
    for (size_t k = 0; k < shares; k++) {
        atomic_store_explicit(&job.share[k].next, total / shares * k, memory_order_relaxed);
        job.share[k].end = k + 1 < shares ? total / shares * (k + 1) : total;
    }
    atomic_store_explicit(&gate, 0, memory_order_release);
    if (shares > 1)
        wake_workers((unsigned)shares - 1);

    help(0);

    atomic_fetch_or_explicit(&gate, CLOSED, memory_order_relaxed);
    for (unsigned looks = 1; atomic_load_explicit(&gate, memory_order_acquire) != CLOSED; looks++)
        between_looks(looks);
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
