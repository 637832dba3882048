// The header as C++ reads it: minimizes the sum of (w - 1)^2 over one vector.
#include <instep.h>

#include <cmath>
#include <cstdio>
#include <vector>

int main()
{
    std::vector<double> w(1000, 0.0), g(w.size()), v(w.size());
    instep_optimizer rmsprop;
    if (int status = instep_init(&rmsprop, "rmsprop", INSTEP_ABI_VERSION)) {
        std::fprintf(stderr, "%s\n", instep_message(status));
        return 1;
    }

    instep_array array = {};
    array.size = w.size();
    array.dtype = INSTEP_FLOAT64;
    array.param = w.data();
    array.grad = g.data();
    array.state[0] = v.data();
    for (int step = 0; step < 2000; step++) {
        for (std::size_t i = 0; i < w.size(); i++)
            g[i] = 2 * (w[i] - 1);
        if (int status = instep_step(&rmsprop, &array, 1)) {
            std::fprintf(stderr, "%s\n", instep_message(status));
            return 1;
        }
    }
    std::printf("%a %a\n", w.front(), w.back());
    return std::fabs(w.front() - 1) < 0.01 ? 0 : 1;
}
