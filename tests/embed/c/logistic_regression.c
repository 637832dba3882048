/* Logistic regression by any rule: logistic_regression FILE [RULE [ISA]]
 *
 * FILE has a row an example, its label 0 or 1 first and then its features.  Prints the accuracy and, in hexadecimal,
 * the weights. */
#include <instep.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LARGEST_ROW = 1024, EPOCHS = 100 };

struct data {
    size_t rows, features;
    float *values; /* row by row, the label first */
};

static int die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static void must(int status, const char *what)
{
    if (status != INSTEP_OK)
        die(what, instep_message(status));
}

static float *floats(size_t count, double value)
{
    float *made = malloc(count * sizeof *made);
    if (made == NULL)
        die("memory", "there is not enough");
    for (size_t k = 0; k < count; k++)
        made[k] = (float)value;
    return made;
}

/* A parameter and its gradient, with the state that the optimizer needs. */
static instep_array with_state(const instep_optimizer *optimizer, float *param, const float *grad, size_t size)
{
    instep_array array = {.size = size, .dtype = INSTEP_FLOAT32, .param = param, .grad = grad};
    for (size_t s = 0; s < instep_state_count(optimizer); s++)
        array.state[s] = floats(size, instep_state_start(optimizer, s));
    return array;
}

/* The numbers of one line; 0 at the end of the file. */
static size_t read_row(FILE *file, float *row)
{
    size_t count = 0;
    int next = 0;
    while (count < LARGEST_ROW && next != '\n' && fscanf(file, "%f", &row[count]) == 1) {
        count++;
        next = fgetc(file);
    }
    return count;
}

static struct data read_data(const char *name)
{
    struct data data = {0, 0, NULL};
    float row[LARGEST_ROW];
    size_t room = 0, count;
    FILE *file = fopen(name, "r");
    if (file == NULL)
        die(name, "cannot be read");
    while ((count = read_row(file, row)) != 0) {
        if (data.rows == 0)
            data.features = count - 1;
        if (count < 2 || count - 1 != data.features)
            die(name, "has rows of different lengths");
        if (data.rows == room) {
            room = 2 * room + 64;
            data.values = realloc(data.values, room * count * sizeof *data.values);
            if (data.values == NULL)
                die("memory", "there is not enough");
        }
        for (size_t k = 0; k < count; k++)
            data.values[data.rows * count + k] = row[k];
        data.rows++;
    }
    fclose(file);
    if (data.rows == 0)
        die(name, "has no rows");
    return data;
}

static float score(const float *features, const float *weights, float bias, size_t count)
{
    float sum = bias;
    for (size_t k = 0; k < count; k++)
        sum += features[k] * weights[k];
    return sum;
}

static void find_gradients(const struct data *data, const float *weights, float bias, float *of_weights, float *of_bias)
{
    *of_bias = 0;
    for (size_t k = 0; k < data->features; k++)
        of_weights[k] = 0;
    for (size_t row = 0; row < data->rows; row++) {
        const float *label = &data->values[row * (data->features + 1)], *features = label + 1;
        float error = 1 / (1 + expf(-score(features, weights, bias, data->features))) - *label;
        error /= (float)data->rows;
        for (size_t k = 0; k < data->features; k++)
            of_weights[k] += error * features[k];
        *of_bias += error;
    }
}

static double accuracy(const struct data *data, const float *weights, float bias)
{
    size_t right = 0;
    for (size_t row = 0; row < data->rows; row++) {
        const float *label = &data->values[row * (data->features + 1)];
        right += (score(label + 1, weights, bias, data->features) > 0) == (*label > 0.5f);
    }
    return (double)right / (double)data->rows;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        die("usage", "logistic_regression FILE [RULE [ISA]]");
    const char *rule = argc > 2 ? argv[2] : "rmsprop";
    if (argc > 3)
        must(instep_set_isa(argv[3]), argv[3]);

    struct data data = read_data(argv[1]);
    float *weights = floats(data.features, 0), *of_weights = floats(data.features, 0);
    float bias = 0, of_bias = 0;

    instep_optimizer optimizer;
    must(instep_init(&optimizer, rule, INSTEP_ABI_VERSION), rule);
    must(instep_set(&optimizer, "lr", 0.02), "lr");
    instep_array arrays[] = {
        with_state(&optimizer, weights, of_weights, data.features),
        with_state(&optimizer, &bias, &of_bias, 1),
    };

    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        find_gradients(&data, weights, bias, of_weights, &of_bias);
        must(instep_step(&optimizer, arrays, 2), "step");
    }

    printf("%.4f", accuracy(&data, weights, bias));
    for (size_t k = 0; k < data.features; k++)
        printf(" %a", (double)weights[k]);
    printf(" %a\n", (double)bias);
    free(data.values);
    free(weights);
    free(of_weights);
    for (size_t k = 0; k < 2; k++)
        for (size_t s = 0; s < instep_state_count(&optimizer); s++)
            free(arrays[k].state[s]);
    return 0;
}
