/* Everything at once: optimizers of different rules stepped by several threads each, while the number of threads
 * changes and the process forks.  Says what went wrong and exits with 1, or is killed by its alarm when a fork takes
 * two minutes.
 *
 *     stress_pool [steps of each thread] [forks]
 *
 * The gradient is constant and repeats every PERIOD elements, so what any number of steps must give is known from a
 * short array stepped alone.  The second optimizer averages and measures arrays of 16 bits beside that; every other
 * step of the third is lent threads that are made for it. */
#define _POSIX_C_SOURCE 200809L
#include "instep.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OPTIMIZERS = 3, ARRAYS = 5, PERIOD = 16, THREADS_EACH = 2, MOST_THREADS = 8, SECONDS = 120 };

/* Elements of each of the five arrays: enough for two, three and eight threads. */
static const size_t sizes[OPTIMIZERS] = {30016, 50000, 120000};

static struct model {
    pthread_mutex_t lock;
    instep_optimizer optimizer;
    instep_array arrays[ARRAYS];
    instep_norms norms[ARRAYS];
} models[OPTIMIZERS];

static float grad_of(size_t element)
{
    return (float)(element % PERIOD) - 7.5f;
}

static void *checked(void *memory)
{
    if (memory == NULL) {
        fputs("no memory\n", stderr);
        _exit(1);
    }
    return memory;
}

static float *make_floats(size_t size, double value)
{
    float *made = checked(malloc(size * sizeof *made));
    for (size_t i = 0; i < size; i++)
        made[i] = (float)value;
    return made;
}

static instep_optimizer make_optimizer(size_t model)
{
    instep_optimizer optimizer;
    instep_init(&optimizer, instep_rule_name(model), INSTEP_ABI_VERSION);
    if (model == 1) {
        instep_set(&optimizer, "average_decay", 0.75);
        instep_set(&optimizer, "statistics", 1);
    }
    return optimizer;
}

/* Of 16 bits where the optimizer measures: the parameter in two halves, the gradient in the upper one. */
static instep_array make_array(const instep_optimizer *optimizer, size_t size, instep_norms *norms)
{
    float *grad = make_floats(size, 0);
    for (size_t i = 0; i < size; i++)
        grad[i] = grad_of(i);
    instep_array array = {
        .size = size, .dtype = INSTEP_FLOAT32, .param = make_floats(size, 0), .grad = grad, .norms = norms};
    double measures = 0;
    instep_get(optimizer, "statistics", &measures);
    if (measures != 0) {
        uint16_t *halves = array.param; /* there is room for more */
        array.formats = (instep_formats){.param = INSTEP_SPLIT, .grad = INSTEP_BFLOAT16};
        array.low = make_floats(size, 0);
        array.grad = halves;
        array.param = grad;
        for (size_t i = 0; i < size; i++) {
            float number = grad_of(i);
            uint32_t bits;
            memcpy(&bits, &number, sizeof bits);
            halves[i] = (uint16_t)(bits >> 16);
        }
        memset(array.param, 0, size * sizeof(float));
    }
    for (size_t s = 0; s < instep_state_count(optimizer); s++)
        array.state[s] = make_floats(size, instep_state_start(optimizer, s));
    return array;
}

static void free_array(instep_array *array)
{
    free(array->param);
    free((void *)array->grad);
    free(array->low);
    for (size_t s = 0; s < INSTEP_MAX_STATES; s++)
        free(array->state[s]);
}

struct part {
    void (*work)(void *context);
    void *context;
};

static void *take_part(void *part)
{
    ((struct part *)part)->work(((struct part *)part)->context);
    return NULL;
}

static void new_team(void (*work)(void *context), void *context, unsigned threads, unsigned flags)
{
    struct part part = {work, context};
    pthread_t others[MOST_THREADS];
    unsigned count = 0;

    (void)flags;
    while (count + 1 < threads && pthread_create(&others[count], NULL, take_part, &part) == 0)
        count++;
    work(context);
    while (count > 0)
        pthread_join(others[--count], NULL);
}

static void step(struct model *model)
{
    pthread_mutex_lock(&model->lock);
    if (model == &models[2] && model->optimizer.step_count % 2 == 1)
        instep_lend_team(new_team, 0);
    instep_step(&model->optimizer, model->arrays, ARRAYS);
    instep_lend_team(NULL, 0);
    pthread_mutex_unlock(&model->lock);
}

/* Whether what repeats every PERIOD elements of this many bytes is that of `alone`. */
static int repeats(const void *memory, const void *alone, size_t size, size_t width)
{
    const size_t period = PERIOD * width;
    int whole = 1;
    for (size_t at = 0; alone != NULL && at < size * width; at += period)
        whole &= memcmp((const char *)memory + at, alone, period) == 0;
    return whole;
}

/* Is every array where its optimizer's count of steps says? */
static void check(const struct model *model, const char *where)
{
    instep_norms norms = {0};
    instep_optimizer optimizer = make_optimizer((size_t)(model - models));
    instep_array alone = make_array(&optimizer, PERIOD, &norms);
    while (optimizer.step_count < model->optimizer.step_count)
        instep_step(&optimizer, &alone, 1);
    for (size_t k = 0; k < ARRAYS; k++) {
        const instep_array *array = &model->arrays[k];
        size_t width = array->formats.param == INSTEP_SPLIT ? sizeof(uint16_t) : sizeof(float);
        int whole = array->step_count == alone.step_count;
        whole &= repeats(array->param, alone.param, array->size, width);
        whole &= repeats(array->low, alone.low, array->size, width);
        for (size_t s = 0; s < instep_state_count(&optimizer); s++)
            whole &= repeats(array->state[s], alone.state[s], array->size, sizeof(float));
        /* those of equal arrays */
        whole &= array->norms->grad == model->norms[0].grad && array->norms->param == model->norms[0].param
                 && array->norms->update == model->norms[0].update;
        if (!whole) {
            fprintf(stderr, "%s: array %zu is not at step %lld\n", where, k, (long long)optimizer.step_count);
            _exit(1);
        }
    }
    free_array(&alone);
}

static void *step_often(void *context)
{
    int *steps = context;
    for (int k = 0; k < *steps; k++)
        for (int m = 0; m < OPTIMIZERS; m++)
            step(&models[(m + k) % OPTIMIZERS]);
    return NULL;
}

static atomic_bool done;

static void *change_threads(void *unused)
{
    for (int threads = 1; !atomic_load(&done); threads = threads % MOST_THREADS + 1)
        instep_set_threads(threads);
    return unused;
}

static void wait_for(pid_t child)
{
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        fputs("a forked process failed\n", stderr);
        _exit(1);
    }
}

static void step_in_child(int generations)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(SECONDS);
#if defined __SANITIZE_THREAD__
        instep_set_threads(1); /* the sanitizer confuses a forked child's new threads with its parent's */
#endif
        for (int m = 0; m < OPTIMIZERS; m++) {
            pthread_mutex_init(&models[m].lock, NULL); /* which a thread that is not here may have held */
            check(&models[m], "after fork");
            step(&models[m]);
            check(&models[m], "in the child");
        }
        if (generations > 1)
            step_in_child(generations - 1);
        exit(0);
    }
    wait_for(child);
}

int main(int count, char **arguments)
{
    int steps = count > 1 ? atoi(arguments[1]) : 30;
    int forks = count > 2 ? atoi(arguments[2]) : 5;
    pthread_t steppers[THREADS_EACH], changer;

    for (int m = 0; m < OPTIMIZERS; m++) {
        models[m].optimizer = make_optimizer((size_t)m);
        pthread_mutex_init(&models[m].lock, NULL);
        for (size_t k = 0; k < ARRAYS; k++)
            models[m].arrays[k] = make_array(&models[m].optimizer, sizes[m], &models[m].norms[k]);
    }
    pthread_create(&changer, NULL, change_threads, NULL);
    for (int k = 0; k < THREADS_EACH; k++)
        pthread_create(&steppers[k], NULL, step_often, &steps);
    for (int k = 0; k < forks; k++) {
        alarm(SECONDS);
        step_in_child(2);
    }
    alarm(SECONDS);
    for (int k = 0; k < THREADS_EACH; k++)
        pthread_join(steppers[k], NULL);
    atomic_store(&done, true);
    pthread_join(changer, NULL);

    for (int m = 0; m < OPTIMIZERS; m++) {
        if (models[m].optimizer.step_count != (int64_t)steps * THREADS_EACH) {
            fprintf(stderr, "%lld steps were taken\n", (long long)models[m].optimizer.step_count);
            return 1;
        }
        check(&models[m], "at the end");
        for (size_t k = 0; k < ARRAYS; k++)
            free_array(&models[m].arrays[k]);
    }
    puts("every step was whole");
    return 0;
}
