"""Bugs that the suite must catch, one for each thing that it promises to notice."""

from bug import Bug

COMBINATIONS = "tests/test_rules.py::test_every_combination_of_options"
OFFSETS = "tests/test_rules.py::test_every_length_at_every_offset"
MANY_STEPS = "tests/test_rules.py::test_many_steps"
CUTS = "tests/test_rules.py::test_a_cut_before_the_last_line"
MODE = "tests/test_rules.py::test_floating_point_mode"
INDICES = "tests/test_contract.py::test_64_bit_indices"
NONE = "tests/test_contract.py::test_none_leaves_an_array_alone"
BIND = "tests/test_contract.py::test_bind"
NARROW = "tests/test_contract.py::test_options_that_float32_cannot_hold"
OPTION = "tests/test_contract.py::test_bad_option"
OVERLAP = "tests/test_contract.py::test_overlap_in_the_class"
READ_ONLY = "tests/test_contract.py::test_buffer[param of class-read-only]"
SWAPPED = "tests/test_contract.py::test_buffer[grad of step-byte order swapped]"
DISPATCH = "tests/test_dispatch.py"
THREADS, FORK = "tests/test_threads.py", "tests/test_fork.py"
SIGNALS = "tests/test_signals.py"
CHECKPOINT, ATOMIC, DAMAGE = "tests/test_checkpoint.py", "tests/test_atomic.py", "tests/test_damage.py"

BUGS = [
    # ---- the loop
    Bug("last element left out", "csrc/kernels.c", "i < size; i++", "i + 1 < size; i++", COMBINATIONS),
    Bug("one element too many", "csrc/kernels.c", "i < size; i++", "i <= size; i++", OFFSETS),
    Bug(
        "32-bit index",
        "csrc/kernels.c",
        "for (size_t i = 0; i < size; i++)",
        "for (int i = 0; i < (int)size; i++)",
        INDICES,
    ),
    Bug("third state not written", "csrc/kernels.c", "            third[i] = s[2];\n", "            ;\n", COMBINATIONS),
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
        "sqrt(v * c->unbias + c->eps_in) + c->eps_out",
        "sqrt(v * c->unbias + c->eps_out) + c->eps_in",
        COMBINATIONS,
    ),
    Bug(
        "momentum applied to the update too",
        "csrc/rules/rmsprop.h",
        "return c->lr_out * (*momentum_buffer = c->momentum * *momentum_buffer + u);",
        "return c->lr_out * (*momentum_buffer = c->momentum * (*momentum_buffer + u));",
        COMBINATIONS,
    ),
    Bug(
        "no look ahead",
        "csrc/rules/rmsprop.h",
        "return c->lr_out * (u + c->momentum * *momentum_buffer);",
        "return c->lr_out * *momentum_buffer;",
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
        "csrc/rules/rmsprop.h",
        "d = d > LARGEST ? LARGEST : d;",
        "d = d <= LARGEST ? d : LARGEST;",
        COMBINATIONS,
    ),
    Bug(
        "huge differences not clamped",
        "csrc/rules/rmsprop.h",
        "    d = d < -LARGEST ? -LARGEST : d;\n",
        "",
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
    Bug(
        "weight decay of the other sign when maximizing",
        "csrc/rules/prepare.h",
        "*g = c->sign * *g + c->decay * *p;",
        "*g = c->sign * (*g + c->decay * *p);",
        COMBINATIONS,
    ),
    Bug(
        "no weight decay is a decay by 0",
        "csrc/rules/prepare.h",
        "if (weight_decay != 0 && !decoupled)",
        "if (!decoupled)",
        COMBINATIONS,
    ),
    # ---- the step
    Bug(
        "the last line stepped twice",
        "csrc/step.c",
        "if (length > bytes(array) - offset)",
        "if (1)",
        CUTS,
    ),
    Bug("the caller's rounding used", "csrc/float_mode.h", "    _mm_setcsr(0x1f80);", "    ;", MODE),
    Bug("the caller's rounding lost", "csrc/float_mode.h", "    _mm_setcsr(callers);", "    (void)callers;", MODE),
    Bug(
        "a missing gradient counted",
        "csrc/step.c",
        "arrays[k].step_count += arrays[k].grad != NULL;",
        "arrays[k].step_count++;",
        NONE,
    ),
    # ---- options
    Bug(
        "options not checked in float32",
        "csrc/options.c",
        "if (status == INSTEP_OK && dtype == INSTEP_FLOAT32)",
        "if (false)",
        NARROW,
    ),
    Bug("NaN allowed", "csrc/options.c", "if (!isfinite(value))", "if (isinf(value))", OPTION),
    # ---- dispatch
    Bug(
        "a forced instruction set not honoured",
        "csrc/dispatch.c",
        "atomic_store_explicit(&chosen, &isas[k], memory_order_relaxed);",
        "atomic_store_explicit(&chosen, highest_available(), memory_order_relaxed);",
        DISPATCH,
    ),
    Bug(
        "the lowest instruction set by default",
        "csrc/dispatch.c",
        "            highest = &isas[k];",
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
        "shares < 2 || atomic_exchange(&busy, true)",
        "shares < 2 || atomic_load(&busy)",
        THREADS,
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
        "csrc/fork_lock.c",
        "return holder != this_process()\n",
        "return true || holder != this_process()\n",
        THREADS,
    ),
    # ---- the binding
    Bug(
        "a gradient over a parameter allowed",
        "src/instep/_core.pyx",
        "    return low < count and start[low] < _end(array)\n",
        "    return False\n",
        OVERLAP,
    ),
    Bug(
        "parameters over each other allowed",
        "src/instep/_core.pyx",
        "if written[k][0] < written[k - 1][1]:",
        "if False:",
        OVERLAP,
    ),
    Bug(
        "read-only arrays written",
        "src/instep/_core.pyx",
        "if not cnp.PyArray_ISWRITEABLE(array):",
        "if False:",
        READ_ONLY,
    ),
    Bug(
        "swapped bytes taken",
        "src/instep/_core.pyx",
        "            and cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>grad)\n",
        "",
        SWAPPED,
    ),
    # ---- files
    Bug(
        "the file's data not on the disk",
        "src/instep/atomic.py",
        "            _sync(file)\n        finally:",
        "            pass\n        finally:",
        ATOMIC,
    ),
    Bug(
        "the file's name not on the disk",
        "src/instep/atomic.py",
        "    try:\n        _sync(file)\n    finally:",
        "    try:\n        pass\n    finally:",
        ATOMIC,
    ),
    Bug("a short write is the end", "src/instep/atomic.py", "        rest = rest[written:]", "        break", ATOMIC),
    Bug(
        "an array's checksum unchecked",
        "src/instep/checkpoint.py",
        "or sha256(flat.data).hexdigest() != checksums[name]:",
        ":",
        DAMAGE,
    ),
    Bug(
        "the header's checksum unchecked",
        "src/instep/checkpoint.py",
        "if header[_DIGEST] != _digest(header):",
        "if False:",
        DAMAGE,
    ),
    Bug(
        "the length of the file unchecked",
        "src/instep/checkpoint.py",
        "if size != 8 + length + sum(map(_size, tensors.values())):",
        "if False:",
        DAMAGE,
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
        "src/instep/_core.pyx",
        "                elif self.options is before:\n",
        "                else:\n",
        SIGNALS,
    ),
    Bug(
        "an assignment forgets what a handler did to the states",
        "src/instep/_core.pyx",
        "        if since is not None and self.options is not since:\n",
        "        if False:\n",
        SIGNALS,
    ),
    Bug(
        "the plan outlives the choice of arrays",
        "src/instep/_core.pyx",
        "        if (self.arrays[k].grad is NULL) != (grad is NULL):\n            self.planned = False\n",
        "",
        NONE,
    ),
    Bug(
        "the plan outlives a step of one array",
        "src/instep/_core.pyx",
        "            self.planned = False  # for a step of all of them\n",
        "",
        BIND,
    ),
    Bug(
        "the count of an array not restored",
        "src/instep/_core.pyx",
        "                self.arrays[k].step_count = counts[k]\n",
        "                pass\n",
        CHECKPOINT,
    ),
    Bug(
        "the count of steps not restored",
        "src/instep/_core.pyx",
        "            self.optimizer.step_count = total\n",
        "            pass\n",
        CHECKPOINT,
    ),
]
