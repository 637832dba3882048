"""Bugs that a tool must report in its own words: a tool that finds nothing may be finding nothing ever."""

from bug import Bug

BUGS = {
    "sanitize": [
        Bug(
            "one element past the end",
            "csrc/kernels.c",
            "    size_t i = 0;\n",
            "    size += size != 0;\n    size_t i = 0;\n",
            "heap-buffer-overflow",
        ),
        Bug(
            "misaligned access",
            "csrc/compiler.h",
            "#define ANY_ALIGNMENT __attribute__((aligned(1), may_alias))",
            "#define ANY_ALIGNMENT __attribute__((may_alias))",
            "misaligned address",
        ),
    ],
    "threadsan": [
        Bug(
            "a worker's writes unordered before the caller's reads",
            "csrc/pool.c",
            "atomic_fetch_sub_explicit(&gate, 1, memory_order_release);",
            "atomic_fetch_sub_explicit(&gate, 1, memory_order_relaxed);",
            "ThreadSanitizer: data race",
        ),
    ],
    "valgrind": [
        Bug(
            "the step that coefficients are of not set",
            "csrc/walk.c",
            "    plan.formed.t = -1;\n",
            "",
            "Conditional jump or move depends on uninitialised value",
        ),
    ],
    "fuzz_kernels": [
        Bug(
            "fused multiply-add",
            "CMakeLists.txt",
            "-ffp-contract=off",
            "-ffp-contract=fast",
            "has other bits than the reference",
        ),
    ],
    "fuzz_arguments": [
        Bug(
            "a count that overflows",
            "csrc/step.c",
            "return count >= 0 && count < INT64_MAX;",
            "return count >= 0;",
            "signed integer overflow",
        ),
    ],
    "fuzz_checkpoint": [
        Bug(
            "the header's checksum unchecked",
            "src/instep/checkpoint/file.py",
            "if header[_DIGEST] != _digest(header):",
            "if False:",
            "a file was taken that save does not write",
        ),
    ],
    "emulate": [
        Bug(
            "AVX2 taken for granted",
            "csrc/cpu.c",
            "return x86_level() >= 3;",
            "return 1;",
            "Illegal instruction",
        ),
    ],
    "arm64": [
        Bug(
            "the caller's rounding kept",
            "csrc/float_mode.h",
            '    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)arithmetic) : "memory");\n',
            "    (void)arithmetic;\n",
            "same_bits(p[0], p[1], 5, sizeof(float)) does not hold",
        ),
    ],
}
