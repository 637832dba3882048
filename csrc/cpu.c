#if defined __linux__
#define _GNU_SOURCE
#include <sched.h>
#endif
#include "cpu.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#if defined _WIN32
#include <windows.h>
#else
#include <unistd.h>
#endif

enum { MANY = 1 << 20 }; /* processors: no machine has more */

int instep_cpu_baseline(void)
{
    return 1;
}

#if defined __x86_64__ || defined _M_X64

#if defined _MSC_VER && !defined __clang__
#include <intrin.h>
static void cpuid(uint32_t leaf, uint32_t out[4])
{
    __cpuidex((int *)out, (int)leaf, 0);
}
static uint64_t enabled_registers(void)
{
    return _xgetbv(0);
}
#else
#include <cpuid.h>
static void cpuid(uint32_t leaf, uint32_t out[4])
{
    __cpuid_count(leaf, 0, out[0], out[1], out[2], out[3]);
}
static uint64_t enabled_registers(void)
{
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}
#endif

static int has(uint32_t word, uint32_t bits)
{
    return (word & bits) == bits;
}

/* The levels of the x86-64 psABI, section 3.1.1, and whether the operating system saves their registers. */
static int x86_level(void)
{
    enum { EAX, EBX, ECX, EDX };
    const uint32_t v3_leaf_1_ecx =
        1u << 12 | 1u << 22 | 1u << 27 | 1u << 28 | 1u << 29;   /* FMA MOVBE OSXSAVE AVX F16C */
    const uint32_t v3_leaf_7_ebx = 1u << 3 | 1u << 5 | 1u << 8; /* BMI1 AVX2 BMI2 */
    const uint32_t v3_extended_ecx = 1u << 5;                   /* LZCNT */
    const uint32_t v4_leaf_7_ebx = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31; /* AVX-512 F DQ CD BW VL */
    const uint64_t ymm = 0x06, zmm = 0xe6;
    uint32_t leaf_0[4], leaf_1[4], leaf_7[4], extended_0[4], extended_1[4];

    cpuid(0, leaf_0);
    cpuid(0x80000000u, extended_0);
    if (leaf_0[EAX] < 7 || extended_0[EAX] < 0x80000001u)
        return 1;
    cpuid(1, leaf_1);
    cpuid(7, leaf_7);
    cpuid(0x80000001u, extended_1);
    if (!has(leaf_1[ECX], v3_leaf_1_ecx) || !has(leaf_7[EBX], v3_leaf_7_ebx) || !has(extended_1[ECX], v3_extended_ecx)
        || (enabled_registers() & ymm) != ymm)
        return 1;
    return has(leaf_7[EBX], v4_leaf_7_ebx) && (enabled_registers() & zmm) == zmm ? 4 : 3;
}

int instep_cpu_x86_v3(void)
{
    return x86_level() >= 3;
}

int instep_cpu_x86_v4(void)
{
    return x86_level() >= 4;
}

/* Which runs wherever x86_v4 does.  Where there are two FMA units of that width it is faster; no bit of cpuid says so,
 * and a virtual machine may name another processor than it has. */
int instep_cpu_x86_v4_fma(void)
{
    return instep_cpu_x86_v4();
}

#endif

#if defined __linux__

/* Reads as many of the two numbers as the file begins with; 0 stands for the others. */
static void read_numbers(const char *folder, const char *name, double *first, double *second)
{
    char path[8192];
    *first = *second = 0;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
        return;
    FILE *file = fopen(path, "r");
    if (!file)
        return;
    if (fscanf(file, "%lf %lf", first, second) < 1)
        *first = 0;
    fclose(file);
}

/* How many processors' worth of time a control group may use, rounded up; 0 where it has no limit. */
static int group_quota(const char *folder, int unified)
{
    double quota, period, none;
    if (unified) {
        read_numbers(folder, "cpu.max", &quota, &period); /* "max 100000" for no limit */
    } else {
        read_numbers(folder, "cpu.cfs_quota_us", &quota, &none); /* -1 for no limit */
        read_numbers(folder, "cpu.cfs_period_us", &period, &none);
    }
    if (!(quota > 0 && period > 0) || quota / period > MANY)
        return 0;
    return (int)ceil(quota / period);
}

/* Does the list "a,b,c" have this item? */
static int lists(const char *list, const char *item)
{
    size_t size = strlen(item);
    for (const char *rest = list; rest; rest = strchr(rest, ',')) {
        rest += *rest == ',';
        if (strncmp(rest, item, size) == 0 && (rest[size] == ',' || rest[size] == '\0'))
            return 1;
    }
    return 0;
}

int instep_cpu_quota(const char *root)
{
    int tightest = MANY;
    char folder[4096], line[4096];

    snprintf(folder, sizeof folder, "%s/proc/self/cgroup", root);
    FILE *file = fopen(folder, "r");
    while (file && fgets(line, sizeof line, file)) {
        /* "4:cpu,cpuacct:/a/b", or "0::/a/b" in the unified hierarchy */
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        controllers++;
        int unified = *controllers == '\0';
        if (!unified && !lists(controllers, "cpu"))
            continue;
        /* from the group up: a limit of any of them holds, and in a container only the upper ones may be seen */
        for (char *end = group + strlen(group); end; end = strrchr(group, '/')) {
            *end = '\0';
            if ((size_t)snprintf(folder, sizeof folder, "%s/sys/fs/cgroup%s%s", root, unified ? "" : "/cpu", group)
                >= sizeof folder)
                continue;
            int quota = group_quota(folder, unified);
            if (quota && quota < tightest)
                tightest = quota;
        }
    }
    if (file)
        fclose(file);
    return tightest;
}

static int allowed_by_affinity(void)
{
    cpu_set_t sets[16]; /* one holds 1024 processors, and the call fails on a machine that may have more */
    if (sched_getaffinity(0, sizeof sets, sets) == 0)
        return CPU_COUNT_S(sizeof sets, sets);
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

#endif

int instep_cpu_count(void)
{
    int count = 0;
#if defined _WIN32
    count = (int)GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
#elif defined __linux__
    int quota = instep_cpu_quota("");
    count = allowed_by_affinity();
    count = quota < count ? quota : count;
#else
    count = (int)sysconf(_SC_NPROCESSORS_ONLN);
#endif
    return count > 0 ? count : 1;
}
