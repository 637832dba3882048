/* A private pool of threads.
 *
 * Why not OpenMP: gcc's runtime hangs in a child forked after a threaded parent step, a second runtime in the process
 * competes for the cores, and it would have to be shipped.
 *
 * What makes it legal to cut a step anywhere: nothing couples two elements.
 *
 * A job is a range cut into one share a thread.  Whoever is done with its own share takes pieces from the others', so
 * a worker that wakes late, or never, costs nothing but its help: the caller does not wait for who has not come. */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
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
    MAX_THREADS = 256,
    /* A worker looks for the next job this long before it sleeps: about what waking it would cost. */
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
    struct share share[MAX_THREADS];
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
static pthread_t workers[MAX_THREADS];
static unsigned worker_count;

static atomic_int wanted; /* threads, the caller's included; 0 until asked */

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static pthread_mutex_t fork_mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool forking;
static atomic_uint in_flight;
static atomic_uint generation; /* how many forks lie between this process and the one that loaded the library */

static int64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void help(unsigned mine)
{
    unsigned shares = atomic_load_explicit(&job.shares, memory_order_relaxed);
    for (unsigned k = 0; k < shares; k++) {
        struct share *share = &job.share[(mine + k) % shares];
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

static void join_job(void)
{
    unsigned inside = atomic_load_explicit(&gate, memory_order_relaxed);
    do {
        if (inside & CLOSED || inside + 1 >= atomic_load_explicit(&job.shares, memory_order_relaxed))
            return;
    } while (
        !atomic_compare_exchange_weak_explicit(&gate, &inside, inside + 1, memory_order_acquire, memory_order_relaxed));
    help(inside + 1);
    atomic_fetch_sub_explicit(&gate, 1, memory_order_release);
}

/* Returns the number of jobs posted, once it is no longer `seen`. */
static unsigned wait_for_job(unsigned seen)
{
    int64_t deadline = nanoseconds() + AWAKE_NANOSECONDS;
    do {
        for (int k = 0; k < 64; k++) {
            if (atomic_load(&jobs_posted) != seen || atomic_load_explicit(&quit, memory_order_relaxed))
                return atomic_load(&jobs_posted);
            PAUSE();
        }
    } while (nanoseconds() < deadline);

    pthread_mutex_lock(&sleep_mutex);
    atomic_fetch_add(&sleepers, 1);
    while (atomic_load(&jobs_posted) == seen && !atomic_load(&quit))
        pthread_cond_wait(&work_posted, &sleep_mutex);
    atomic_fetch_sub(&sleepers, 1);
    pthread_mutex_unlock(&sleep_mutex);
    return atomic_load(&jobs_posted);
}

static void *worker(void *first_seen)
{
    unsigned seen = (unsigned)(uintptr_t)first_seen;
    for (;;) {
        seen = wait_for_job(seen);
        if (atomic_load(&quit))
            return NULL;
        join_job();
    }
}

/* Signals are the caller's business: workers are born with all of them blocked. */
static void start_workers(unsigned count)
{
    sigset_t all, callers;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &callers);
    void *seen = (void *)(uintptr_t)atomic_load(&jobs_posted);
    while (worker_count < count && pthread_create(&workers[worker_count], NULL, worker, seen) == 0)
        worker_count++;
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
    pthread_mutex_lock(&sleep_mutex);
    for (unsigned k = 0; k < count; k++)
        pthread_cond_signal(&work_posted);
    pthread_mutex_unlock(&sleep_mutex);
}

void instep_pool_run(instep_task *task, void *work, size_t total, size_t grain)
{
    size_t shares = total / grain < (size_t)instep_get_threads() ? total / grain : (size_t)instep_get_threads();
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
    for (unsigned spins = 0; atomic_load_explicit(&gate, memory_order_acquire) != CLOSED; spins++) {
        if (spins < 4096)
            PAUSE();
        else
            sched_yield();
    }
    atomic_store(&busy, false);
}

int instep_set_threads(int threads)
{
    if (threads < 0 || threads > MAX_THREADS)
        return INSTEP_BAD_THREADS;
    atomic_store_explicit(&wanted, threads, memory_order_relaxed);
    return INSTEP_OK;
}

int instep_get_threads(void)
{
    int threads = atomic_load_explicit(&wanted, memory_order_relaxed);
    if (threads == 0) {
        threads = instep_cpu_count();
        threads = threads < MAX_THREADS ? threads : MAX_THREADS;
        int unset = 0;
        if (!atomic_compare_exchange_strong(&wanted, &unset, threads))
            threads = unset;
    }
    return threads;
}

/* ---- fork ----------------------------------------------------------------------------------------------------------
 * A child has the forking thread alone.  So before a fork the steps in flight are waited for, the child sees whole
 * steps and an idle pool, and the workers are joined: the process that forks is not multi-threaded on our account.
 * Both sides make workers anew when they need some. */

static void before_fork(void)
{
    pthread_mutex_lock(&fork_mutex);
    atomic_store(&forking, true);
    while (atomic_load(&in_flight) != 0)
        sched_yield();
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
    atomic_fetch_add(&generation, 1);
    after_fork_in_parent();
}

unsigned instep_pool_generation(void)
{
    return atomic_load_explicit(&generation, memory_order_relaxed);
}

static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

void instep_pool_enter(void)
{
    pthread_once(&fork_once, watch_forks);
    for (;;) {
        atomic_fetch_add(&in_flight, 1);
        if (!atomic_load(&forking))
            return;
        atomic_fetch_sub(&in_flight, 1);
        while (atomic_load(&forking))
            sched_yield();
    }
}

void instep_pool_leave(void)
{
    atomic_fetch_sub(&in_flight, 1);
}

/* A library may be unloaded; its threads must be gone by then. */
__attribute__((destructor)) static void at_unload(void)
{
    if (!atomic_exchange(&busy, true))
        stop_workers();
}
