"""Bugs that the suite must catch, one for each thing that it promises to notice."""

from bug import Bug


def rules_test(name: str, rule: str) -> str:
    """A test of `test_rules.py`, over one rule."""
    return f"tests/test_rules.py::{name} -k {rule}"


def combinations(rule: str) -> str:
    """The test of all options of one rule."""
    return rules_test("test_every_combination_of_options", rule)


COMBINATIONS = combinations("rmsprop")
OFFSETS = rules_test("test_every_length_at_every_offset", "rmsprop")
LINES = rules_test("test_arrays_that_begin_within_a_line", "rmsprop")
CUTS = rules_test("test_a_cut_before_the_last_block", "rmsprop")
MODE = rules_test("test_floating_point_mode", "rmsprop")
SUBNORMAL = rules_test("test_subnormal_numbers_count_as_zero", "rmsprop")
VARIANT = rules_test("test_a_default_that_a_subclass_redeclares_counts", "rmsprop")
INDICES = "tests/test_contract.py::test_64_bit_indices"
NONE = "tests/test_contract.py::test_none_leaves_an_array_alone"
BIND = "tests/test_contract.py::test_bind"
NARROW = "tests/test_contract.py::test_options_that_float32_cannot_hold"
OPTION = "tests/test_contract.py::test_bad_value_of_an_option"
OVERLAP = "tests/test_contract.py::test_overlap_in_the_class"
LAYOUTS = "tests/test_layouts.py"
BUFFER = "tests/test_contract.py::test_buffer"
AROUND = "tests/test_around.py::test_bits_of_the_twin -k lion"
CUTS_AROUND = "tests/test_around.py::test_threads_change_no_bit"
SKIPPED = "tests/test_around.py -k skipped"
STALLS = "tests/test_around.py::test_averages_in_few_bits_do_not_stall"
ROWS = "tests/test_rows.py"
EXACT = ROWS + "::test_exact_rows_have_the_bits_of_a_dense_gradient -k rmsprop"
DISPATCH = "tests/test_dispatch.py"
THREADS, FORK = "tests/test_threads.py", "tests/test_fork.py"
PACE = "tests/test_pace.py -m compiler"  # it compiles the one file that it is of
SIGNALS = "tests/test_signals.py"
MPI = "tests/test_mpi.py"
MPI_BITS = f"{MPI}::test_any_number_of_ranks_has_the_bits_of_one_optimizer"
CHECKPOINT, ATOMIC, DAMAGE = "tests/test_checkpoint.py", "tests/test_atomic.py", "tests/test_damage.py"

# Of csrc/kernels.c: where a loop begins, and where it writes the states.
START = "    size_t i = 0;\n"
WRITTEN = "    for (int k = 0; k < states; k++)\n        store("

# Of csrc/blocks.c: where a block meets its rule, and where blocks are summed.
KERNEL = "        loop->kernel(n, p, g, state, loop->preparation, loop->coefficients);\n"
SQUARES = """    for (size_t i = 0; i < size; i += INSTEP_BLOCK) {
        size_t n = size - i < INSTEP_BLOCK ? size - i : INSTEP_BLOCK;
        const stored *x = opened_numbers((const char *)from + i * width, format, n, room);
        sum_add(sum, sum_of_block(x, n));
    }
}"""

BUGS = [
    # ---- the loop
    Bug("last element left out", "csrc/kernels.c", START, "    size -= size != 0;\n" + START, COMBINATIONS),
    Bug("one element too many", "csrc/kernels.c", START, "    size += size != 0;\n" + START, OFFSETS),
    Bug("32-bit index", "csrc/kernels.c", START, "    size = (int)size < 0 ? 0 : size;\n" + START, INDICES),
    Bug(
        "third state not written",
        "csrc/kernels.c",
        WRITTEN,
        WRITTEN.replace("k < states", "k < states % 3"),
        COMBINATIONS,
    ),
    Bug("fused multiply-add", "CMakeLists.txt", "-ffp-contract=off", "-ffp-contract=fast", COMBINATIONS),
    Bug(
        "fast arithmetic behind the check's back",
        "CMakeLists.txt",
        "-fno-math-errno",
        "-ffast-math -U__FAST_MATH__",
        COMBINATIONS,
    ),
    # ---- the rule
    Bug(
        "eps on the wrong side of the root",
        "csrc/rules/rmsprop.h",
        "root(v + c->eps_in) + c->eps_out",
        "root(v + c->eps_out) + c->eps_in",
        COMBINATIONS,
    ),
    Bug(
        "momentum applied to the update too",
        "csrc/arithmetic.h",
        "momentum * *momentum_buffer + u;",
        "momentum * (*momentum_buffer + u);",
        COMBINATIONS,
    ),
    Bug(
        "no look ahead",
        "csrc/arithmetic.h",
        "return u + momentum * heavy_ball(u, momentum_buffer, momentum);",
        "return heavy_ball(u, momentum_buffer, momentum);",
        COMBINATIONS,
    ),
    Bug(
        "products in another order",
        "csrc/rules/rmsprop.h",
        "c->one_minus_rho * (g * g)",
        "c->one_minus_rho * g * g",
        COMBINATIONS,
    ),
    Bug(
        "a coefficient formed in float",
        "csrc/rules/rmsprop.h",
        "c->one_minus_rho = 1 - o->rho;",
        "c->one_minus_rho = 1 - (float)o->rho;",
        COMBINATIONS,
    ),
    Bug(
        "variance not decayed with its increment",
        "csrc/rules/rmsprop.h",
        "c->rho * (*variance + c->one_minus_rho * d * d)",
        "c->rho * *variance + c->one_minus_rho * d * d",
        COMBINATIONS,
    ),
    Bug(
        "NaN clamped to a number",
        "csrc/arithmetic.h",
        "x = where_greater(x, every(most), every(most), x);",
        "x = where_greater(every(most), x, x, every(most));",
        COMBINATIONS,
    ),
    Bug(
        "huge differences not clamped",
        "csrc/rules/rmsprop.h",
        "clamped(g - *grad_avg, -LARGEST, LARGEST)",
        "g - *grad_avg",
        COMBINATIONS,
    ),
    Bug(
        "bias corrected for the step before",
        "csrc/rules/rmsprop.h",
        "whole_power(o->rho, t)",
        "whole_power(o->rho, t - 1)",
        COMBINATIONS,
    ),
    Bug(
        "lr_in_momentum ignored",
        "csrc/rules/rmsprop.h",
        "o->momentum == 0 || o->lr_in_momentum != 0",
        "o->momentum == 0",
        COMBINATIONS,
    ),
    Bug("a step of the wrong sign", "csrc/rules/rprop.h", "*p -= towards(g", "*p += towards(g", combinations("rprop")),
    Bug(
        "the maximum of AMSGrad dropped",
        "csrc/rules/adam.h",
        "where_greater(v, *max_square_avg, v, *max_square_avg)",
        "v",
        combinations("adam"),
    ),
    Bug(
        "the average of squares corrected for the step before",
        "csrc/rules/adam.h",
        "1 - whole_power(o->beta2, t)",
        "1 - whole_power(o->beta2, t - 1)",
        combinations("adam"),
    ),
    Bug(
        "the first step dampened",
        "csrc/rules/sgd.h",
        "int dampened = t > 1 || o->dampen_first != 0;",
        "int dampened = 1;",
        combinations("sgd"),
    ),
    Bug(
        "a coefficient not formed",  # which is a NaN then, and not what the stack holds
        "csrc/rules/lion.h",
        "    c->one_minus_beta2 = 1 - o->beta2;\n",
        "",
        combinations("lion"),
    ),
    Bug(
        "a state written that the rule does not have",
        "csrc/kernels.c",
        WRITTEN,
        WRITTEN.replace("k < states", "k < (states ? states : 1)"),
        combinations("sgd"),
    ),
    Bug(
        "weight decay of the other sign when maximizing",
        "csrc/prepare.h",
        "    *g = c->scale * *g;\n    if (how == DECAYED)\n        *g = *g + c->decay * *p;\n",
        "    if (how == DECAYED)\n        *g = *g + c->decay * *p;\n    *g = c->scale * *g;\n",
        COMBINATIONS,
    ),
    Bug(
        "no weight decay is a decay by 0",
        "csrc/prepare.h",
        "return c->decay != 0 ? DECAYED : SCALED;",
        "return DECAYED;",
        COMBINATIONS,
    ),
    # ---- the step
    Bug(
        "the last block stepped twice",
        "csrc/walk.c",
        "last = lesser_of(blocks.end * INSTEP_BLOCK, array->size);\n            step_elements(",
        "last = lesser_of((blocks.end + (array->size / INSTEP_BLOCK == blocks.end)) * INSTEP_BLOCK, array->size);\n"
        "            step_elements(",
        CUTS,
    ),
    Bug(
        "elements past the end of an array stepped",
        "csrc/walk.c",
        "last = lesser_of(blocks.end * INSTEP_BLOCK, array->size);\n            step_elements",
        "last = blocks.end * INSTEP_BLOCK;\n            step_elements",
        CUTS,
    ),
    Bug(
        "the caller's rounding used",
        "csrc/float_mode.h",
        "    _mm_setcsr((uint32_t)arithmetic);",
        "    (void)arithmetic;",
        MODE,
    ),
    Bug("the caller's rounding lost", "csrc/float_mode.h", "    _mm_setcsr(callers);", "    (void)callers;", MODE),
    Bug("subnormal numbers kept", "csrc/float_mode.h", "STEP = 0x1f80 | 0x8040", "STEP = 0x1f80", SUBNORMAL),
    Bug(
        "a missing gradient counted",
        "csrc/walk.c",
        "arrays[k].step_count += arrays[k].grad != NULL;",
        "arrays[k].step_count++;",
        NONE,
    ),
    Bug(
        "the last rows of a tile not copied",
        "csrc/copy.c",
        "    for (; rows > 0; rows--,",
        "    for (; rows > 1; rows--,",
        LAYOUTS,
    ),
    Bug(
        "a column looked for beside the last one of another dimension",
        "csrc/copy.c",
        "            at[k] = 0;\n            place += column[k - 1].from - (ptrdiff_t)column[k].size * column[k].from;",
        "            at[k] = 0;\n            place -= (ptrdiff_t)column[k].size * column[k].from;",
        LAYOUTS,
    ),
    Bug(
        "dimensions walked as one that are not",
        "csrc/copy.c",
        "last->from != strides[k] * shape[k]",
        "last->from < strides[k] * shape[k]",
        LAYOUTS,
    ),
    # ---- around the rule
    Bug(
        "random numbers by thread",
        "csrc/walk.c",
        "seed, array->stream, (uint64_t)array->step_count);",
        "seed, array->stream ^ blocks.begin, (uint64_t)array->step_count);",
        CUTS_AROUND,
    ),
    Bug(
        "rounded to the nearest",
        "csrc/storage.h",
        "return (int32_t)((random.next + further) >> 16);",
        "return (void)random, (void)further, 0x8000;",
        STALLS,
    ),
    Bug(
        "a copy whose ties go away from 0",
        "csrc/storage.h",
        "0x7fff + (bits >> 16 & 1);",
        "0x8000;",
        "tests/test_around.py::test_a_copy_is_rounded_to_the_nearest",
    ),
    Bug(
        "the sign of a scale of 0 lost",
        "csrc/formed.c",
        "copysign(in_double[k] + 0, in_double[k]);",
        "in_double[k] + 0;",
        "tests/test_around.py::test_an_infinite_norm_leaves_zeros_of_the_sign_that_the_twin_gives_them",
    ),
    Bug(
        "what a huge norm leaves flushed",
        "csrc/formed.c",
        "prepared->scale != 0 && fabs(prepared->scale) < FLT_MIN;",
        "0;",
        "tests/test_around.py::test_a_huge_norm_is_clipped_to_its_bound",
    ),
    Bug(
        "gradients that overflow stepped",
        "csrc/walk.c",
        "if (grad_scale <= 1 || norm < 0x1p127)",
        "if (grad_scale <= 1 || norm < INFINITY)",
        "tests/test_around.py::test_a_step_is_skipped_if_its_gradients_overflow_once_they_are_scaled",
    ),
    Bug(
        "clipped before it is scaled",
        "csrc/blocks.c",
        "        S g = scale * from[i];\n        g = g > most ? most : g;\n        to[i] = -most > g ? -most : g;\n",
        "        S g = from[i];\n        g = g > most ? most : g;\n        to[i] = scale * (-most > g ? -most : g);\n",
        AROUND,
    ),
    Bug(
        "the average of parameters that have not moved",
        "csrc/blocks.c",
        KERNEL,
        "        if (around->averages)\n"
        "            average(around, n, (stored *)array->state[loop->states] + i, p);\n" + KERNEL,
        AROUND,
    ),
    Bug(
        "a sum rounded by each thread",
        "csrc/blocks.c",
        SQUARES,
        SQUARES.replace("for (", "double rounded = 0;\n    for (", 1)
        .replace("sum_add(sum, sum_of_block(x, n));\n    }", "rounded += sum_of_block(x, n);\n    }")
        .replace("    }\n}", "    }\n    sum_add(sum, rounded);\n}"),
        CUTS_AROUND,
    ),
    Bug("a skipped step taken", "csrc/walk.c", "    if (taken) {\n        for", "    if (1) {\n        for", SKIPPED),
    Bug(
        "gradients of a skipped step left",
        "csrc/walk.c",
        "        zero_skipped_gradients(&work);\n",
        "        (void)zero_skipped_gradients;\n",
        SKIPPED,
    ),
    Bug(
        "infinity as the largest finite byte",
        "csrc/storage.h",
        "size > INFINITE ? f.last + 2 : f.last + 1;",
        "size > INFINITE ? f.last + 2 : f.last;",
        AROUND,
    ),
    Bug(
        "the exponent of a block too small",
        "csrc/storage.h",
        "int32_t exponent = (largest + (4 << 20) - 1) >> 23;",
        "int32_t exponent = largest >> 23;",
        AROUND,
    ),
    Bug(
        "an upper half cut off",
        "csrc/storage.h",
        "*high = (uint16_t)((bits + 0x8000) >> 16);",
        "*high = (uint16_t)(bits >> 16);",
        AROUND,
    ),
    Bug(
        "the options of the first group",
        "csrc/walk.c",
        "make_plan(&plan, &work->optimizers[array->group], array->step_count, clip);",
        "make_plan(&plan, work->optimizers, array->step_count, clip);",
        "tests/test_around.py::test_groups",
    ),
    # ---- rows
    Bug(
        "the last to come first in a sum",
        "csrc/rows.c",
        "order->sorted[k].place * work->from_bytes",
        "order->sorted[first + last - 1 - k].place * work->from_bytes",
        ROWS + "::test_the_order_of_a_sum_is_that_of_the_rows",
    ),
    Bug(
        "rows sorted by their lower bytes alone",
        "csrc/rows.c",
        "shift < 64 && last >> shift != 0",
        "shift < 16 && last >> shift != 0",
        ROWS + "::test_sums_have_the_bits_of_the_twin",
    ),
    Bug(
        "an index of a map not looked at",
        "src/binding/rows.pxi",
        "    for array in (given._indices, given._values):\n",
        "    for array in (given._values,):\n",
        ROWS + "::test_rows_mapped_past_the_end_of_their_file",
    ),
    Bug(
        "a missed step too many",
        "csrc/missed.c",
        "(uint64_t)(work->upto - last)",
        "(uint64_t)(work->upto + 1 - last)",
        EXACT,
    ),
    Bug(
        "rows that are exact no more not caught up",
        "src/binding/holder.pxi",
        "                    self.catch_up()\n",
        "                    pass\n",
        ROWS + "::test_rows_catch_up_before_they_are_exact_no_more",
    ),
    Bug(
        "rows caught up to the step before",
        "csrc/missed.c",
        "take_missed_steps_upto(array->step_count, optimizer, &whole)",
        "take_missed_steps_upto(array->step_count - 1, optimizer, &whole)",
        ROWS + "::test_rows_catch_up_before_they_are_exact_no_more",
    ),
    Bug(
        "missed steps given up once nothing is seen to change in the first elements",
        "csrc/missed.c",
        "changed |= memcmp(before[s], state[s], bytes);",
        "changed |= memcmp(before[s], state[s], work->width);",
        ROWS + "::test_a_row_that_missed_many_steps",
    ),
    Bug(
        "rows of a whole gradient not counted",
        "csrc/missed.c",
        "    if (array->row_steps == NULL || array->size == 0)",
        "    if (array->row_steps == NULL || array->size == 0 || array->rows == NULL)",
        EXACT,
    ),
    Bug(
        "rows that move taken to stay",
        "csrc/options.c",
        "exact_rows != 0 && (*option = mover(optimizer)) != NULL",
        "exact_rows > 1 && (*option = mover(optimizer)) != NULL",
        ROWS + "::test_what_moves_without_a_gradient_is_refused",
    ),
    Bug(
        "random numbers by the order of a dict",
        "src/binding/holder.pxi",
        "    found.sort()\n",
        "",
        "tests/test_around.py::test_the_order_of_a_dict_changes_no_bit",
    ),
    Bug(
        "the past missed by rows that become exact",
        "src/binding/holder.pxi",
        "arrays[k] += self.arrays[k].step_count",
        "arrays[k] += 0",
        ROWS + "::test_exact_rows_of_other_arrays_and_steps",
    ),
    # ---- options
    Bug(
        "options not checked in float32",
        "csrc/options.c",
        "status_in_type(o->range, *value, dtype)",
        "status_in_type(o->range, *value, INSTEP_FLOAT64)",
        NARROW,
    ),
    Bug("NaN allowed", "csrc/options.c", "if (!isfinite(value))", "if (isinf(value))", OPTION),
    Bug(
        "an option assigned without being checked",
        "src/binding/holder.pxi",
        "            _check_options(&changed, self.narrowest)\n",
        "",
        OPTION,
    ),
    Bug(
        "a redeclared default ignored",
        "src/instep/optimizers.py",
        "cls._defaults | {name: cls.__dict__[name] for name in declared if name in cls.__dict__}",
        "{name: cls.__dict__[name] for name in declared if name in cls.__dict__} | cls._defaults",
        VARIANT,
    ),
    # ---- dispatch
    Bug(
        "a forced instruction set not honoured",
        "csrc/dispatch.c",
        "atomic_store_explicit(&chosen, &isas[k], memory_order_relaxed);",
        "atomic_store_explicit(&chosen, best_available(), memory_order_relaxed);",
        DISPATCH,
    ),
    Bug(
        "the lowest instruction set by default",
        "csrc/dispatch.c",
        "            best = &isas[k];",
        "            return &isas[k];",
        DISPATCH,
    ),
    # ---- the pool and the lock
    Bug(
        "workers not waited for",
        "csrc/pool.c",
        "atomic_load_explicit(&gate, memory_order_acquire) != CLOSED; looks++",
        "looks == 0; looks++",
        THREADS,
    ),
    Bug(
        "the busy pool shared",
        "csrc/pool.c",
        "most < 2 || atomic_exchange(&busy, true)",
        "most < 2 || atomic_load(&busy)",
        THREADS,
    ),
    Bug(
        "workers kept from the core of a caller that has gone",
        "csrc/pool.c",
        "        allow_back(&sleeper[k].allowed, sleeper[k].core);\n",
        "        (void)sleeper[k].allowed;\n",
        THREADS,
    ),
    Bug(
        "workers allowed back to cores that they were taken from since",
        "csrc/pool.c",
        " && CPU_EQUAL(&now, &others)",
        "",
        THREADS,
    ),
    Bug(
        "workers sent away twice kept away",
        "csrc/pool.c",
        " && !sleeper[k].sent_away",
        "",
        THREADS,
    ),
    Bug(
        "workers that are woken wake no others",
        "csrc/pool.c",
        "        wake_some();\n        atomic_store(&latency",
        "        atomic_store(&latency",
        THREADS,
    ),
    Bug(
        "workers awake between jobs that are far apart",
        "csrc/pace.c",
        "return stays_awake(pace) ? 2 * pace->longest_gap + SHORTEST_STAY : SHORTEST_STAY;",
        "return 2 * pace->longest_gap + SHORTEST_STAY;",
        PACE,
    ),
    Bug(
        "workers awake on cores that others want",
        "csrc/pace.c",
        " && !is_doubtful(pace->interrupted)",
        "",
        PACE,
    ),
    Bug(
        "workers woken for every job",
        "csrc/pace.c",
        "if (alone < 2 * (double)pace->price && pace->missed < enough * (double)pace->price)",
        "if (alone < 0)",
        PACE,
    ),
    Bug(
        "workers never woken for short jobs",
        "csrc/pace.c",
        "pace->missed + alone - alone * awake / most",
        "pace->missed",
        PACE,
    ),
    Bug(
        "what waking takes not learned",
        "csrc/pace.c",
        "price > pace->price ? pace->price / 16 : -pace->price / 16",
        "0",
        PACE,
    ),
    Bug(
        "what waking takes learned as a mean",
        "csrc/pace.c",
        "price > pace->price ? pace->price / 16 : -pace->price / 16",
        "(price - pace->price) / 8",
        PACE,
    ),
    Bug(
        "workers that do not stay awake woken as often as others",
        "csrc/pace.c",
        "stays_awake(pace) ? MISSED_OF_PRICE : MISSED_OF_PRICE_IN_DOUBT",
        "MISSED_OF_PRICE",
        PACE,
    ),
    Bug(
        "what a grain takes not learned from the caller's share",
        "csrc/pace.c",
        "((double)(done - begin) / grains - pace->grain_time) / 8",
        "((double)(done - begin) - pace->grain_time) / 8",
        PACE,
    ),
    Bug(
        "a caller that waits again and again goes on waiting",
        "csrc/pace.c",
        "pace->alone_until = now + ALONE_OF_WAIT * waited;",
        "pace->alone_until = 0;",
        PACE,
    ),
    Bug(
        "a caller that waits once goes alone",
        "csrc/pace.c",
        "held_up && is_doubtful(pace->held_up)",
        "held_up",
        PACE,
    ),
    Bug(
        "signals handled by workers",
        "csrc/pool.c",
        "    pthread_sigmask(SIG_SETMASK, &blocked, &callers);\n",
        "    pthread_sigmask(SIG_SETMASK, NULL, &callers);\n",
        SIGNALS,
    ),
    Bug(
        "workers not joined before a fork",
        "csrc/pool.c",
        "        between_looks(looks);\n    stop_workers();\n",
        "        between_looks(looks);\n",
        FORK,
    ),
    Bug(
        "steps in flight cut by a fork",
        "csrc/pool.c",
        "atomic_load(&in_flight) != 0; looks++",
        "looks == 0; looks++",
        FORK,
    ),
    Bug(
        "a lock of the parent's held in the child",
        "csrc/pool.c",
        "    atomic_fetch_add(&generation, 1);\n",
        "",
        FORK,
    ),
    Bug(
        "no lock around a step",
        "src/binding/lock.pxi",
        "            if gate_owner(found) == thread:\n                found.depth += 1\n",
        "            if gate_owner(found) != 0:\n                found.depth += 1\n",
        THREADS,
    ),
    # ---- the binding
    Bug(
        "a gradient over a parameter allowed",
        "src/binding/stepper.pxi",
        "    return low < count and start[low] < _end(array)\n",
        "    return False\n",
        OVERLAP,
    ),
    Bug(
        "parameters over each other allowed",
        "src/binding/holder.pxi",
        "if written[k][0] < written[k - 1][1]:",
        "if False:",
        OVERLAP,
    ),
    Bug(
        "read-only arrays written",
        "src/binding/buffers.pxi",
        "if not cnp.PyArray_ISWRITEABLE(array):",
        "if False:",
        BUFFER,
    ),
    Bug(
        "swapped bytes taken",
        "src/binding/stepper.pxi",
        "            and cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>grad)\n",
        "",
        BUFFER,
    ),
    # ---- files
    Bug(
        "the file's data not on the disk",
        "src/instep/checkpoint/atomic.py",
        "        _sync(opened[0])\n    finally:",
        "        pass\n    finally:",
        ATOMIC,
    ),
    Bug(
        "the file's name not on the disk",
        "src/instep/checkpoint/atomic.py",
        "        _sync(opened[0])\n    except OSError",
        "        pass\n    except OSError",
        ATOMIC,
    ),
    Bug(
        "a descriptor that an interrupt leaves open",
        "src/instep/checkpoint/atomic.py",
        "opened += map(os.open, [directory], [os.O_RDONLY | os.O_DIRECTORY | _PRIVATE])",
        "opened.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | _PRIVATE))",
        ATOMIC,
    ),
    Bug(
        "a short write is the end",
        "src/instep/checkpoint/atomic.py",
        "        rest = rest[written:]",
        "        break",
        ATOMIC,
    ),
    Bug(
        "an array's checksum unchecked",
        "src/instep/checkpoint/file.py",
        "or sha256(flat.data).hexdigest() != checksums[name]:",
        ":",
        DAMAGE,
    ),
    Bug(
        "the header's checksum unchecked",
        "src/instep/checkpoint/file.py",
        "if header[_DIGEST] != _digest(header):",
        "if False:",
        DAMAGE,
    ),
    Bug(
        "the length of the file unchecked",
        "src/instep/checkpoint/file.py",
        "if size != 8 + length + sum(map(_size, tensors.values())):",
        "if False:",
        DAMAGE,
    ),
    Bug(
        "a negative average taken",
        "src/instep/checkpoint/state_dict.py",
        "elif (part < 0).any():",
        "elif False:",
        CHECKPOINT,
    ),
    Bug(
        "numbers of a state that is given not looked at",
        "src/binding/holder.pxi",
        "are_given=state is not None",
        "are_given=False",
        "tests/test_past_memory.py",
    ),
    Bug(
        "the averages of Keras taken for what comes behind them",
        "src/instep/dialects/keras.py",
        'averages = list(names)[: "param_avg" in names]',
        "averages = list(names)[:0]",
        "tests/test_interchange.py",
    ),
    Bug(
        "any ABI is taken",
        "csrc/options.c",
        "    if (abi_version != INSTEP_ABI_VERSION)\n        return INSTEP_ABI_MISMATCH;\n",
        "    (void)abi_version;\n",
        "tests/test_embed.py::test_ctypes_with_structs_of_another_abi_is_refused",
    ),
    Bug(
        "an assignment forgets what a handler assigned",
        "src/binding/holder.pxi",
        "                elif self.changes == since:\n",
        "                else:\n",
        SIGNALS,
    ),
    Bug(
        "an assignment forgets what a handler did to the states",
        "src/binding/holder.pxi",
        "        if since is not None and self.changes != since:\n",
        "        if False:\n",
        SIGNALS,
    ),
    Bug(
        "the plan outlives the choice of arrays",
        "src/binding/stepper.pxi",
        "        if (array.grad is NULL) != (grad is NULL) or array.formats.grad != format",
        "        if array.formats.grad != format",
        NONE,
    ),
    Bug(
        "the plan outlives a step of one array",
        "src/binding/stepper.pxi",
        "            self.planned = False  # for a step of all of them\n",
        "",
        BIND,
    ),
    Bug(
        "the count of an array not restored",
        "src/binding/holder.pxi",
        "                self.arrays[k].step_count = counts[k]\n",
        "                pass\n",
        CHECKPOINT,
    ),
    Bug(
        "the count of steps not restored",
        "src/binding/holder.pxi",
        "                self.optimizers[0].step_count = total\n",
        "                pass\n",
        CHECKPOINT,
    ),
    # ---- several ranks
    Bug(
        "ranks added up one after the other",
        "src/instep/sharding/sums.py",
        "        for first, second in zip(parts[::2], parts[1::2], strict=False):\n"
        "            add(first, second, out=first)\n        parts = parts[::2]\n",
        "        add(parts[0], parts.pop(1), out=parts[0])\n",
        MPI_BITS,
    ),
    Bug(
        "micro-batches added up one after the other",
        "src/instep/sharding/sums.py",
        "        while term >> level & 1 or (is_last and term >> level):\n            if term >> level & 1:\n",
        "        while level < min(term, 1):\n            if True:\n",
        MPI_BITS,
    ),
    Bug(
        "a rank steps although another cannot",
        "src/instep/sharding/agreement.py",
        "    if error is None and (every == mine).all():\n",
        "    if error is None:\n",
        f"{MPI}::test_a_bad_gradient_on_one_rank_raises_on_all_and_changes_nothing",
    ),
    Bug(
        "the manifest before the shards",
        "src/instep/sharding/checkpoint.py",
        "        agree(comm, {}, error)\n    except Exception:\n",
        "        pass\n    except Exception:\n",
        f"{MPI}::test_a_save_that_fails_leaves_the_old_checkpoint",
    ),
    Bug(
        "any file taken for a shard",
        "src/instep/sharding/checkpoint.py",
        ' or file.identity(path) != shard["sha256"]',
        "",
        f"{MPI}::test_damage_is_noticed_by_all_and_nothing_changes",
    ),
]
