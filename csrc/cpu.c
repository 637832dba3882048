#if defined __linux__
#define _GNU_SOURCE
#include <sched.h>
#endif
#include "cpu.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#if defined _WIN32
#include <windows.h>
#else
#include <unistd.h>
#endif

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

#endif

#if defined __linux__

/* The processors' worth of time that the control group `path` may use, rounded up; 0 for no limit or no such group. */
static int group_quota(const char *root, const char *path)
{
    char name[4200];
    double quota = 0, period = 0;
    FILE *file;

    snprintf(name, sizeof name, "%s%s/cpu.max", root, path);
    if ((file = fopen(name, "r"))) {
        if (fscanf(file, "%lf %lf", &quota, &period) != 2)
            quota = 0;
        fclose(file);
    } else {
        snprintf(name, sizeof name, "%s%s/cpu.cfs_quota_us", root, path);
        if ((file = fopen(name, "r"))) {
            if (fscanf(file, "%lf", &quota) != 1)
                quota = 0;
            fclose(file);
        }
        snprintf(name, sizeof name, "%s%s/cpu.cfs_period_us", root, path);
        if ((file = fopen(name, "r"))) {
            if (fscanf(file, "%lf", &period) != 1)
                period = 0;
            fclose(file);
        }
    }
    if (!(quota > 0 && period > 0))
        return 0;
    return quota / period > 1 ? (int)(quota / period + 0.999) : 1;
}

/* The tightest quota from this process's control group up to the root; a large number where there is none. */
static int quota_count(void)
{
    int tightest = 1 << 20;
    char line[4096];
    FILE *file = fopen("/proc/self/cgroup", "r");

    while (file && fgets(line, sizeof line, file)) {
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        path[strcspn(path, "\n")] = '\0';
        controllers++;
        int unified = *controllers == '\0';
        if (!unified && !strstr(controllers, "cpu"))
            continue;
        for (;;) {
            int quota = group_quota(unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu", path);
            if (quota && quota < tightest)
                tightest = quota;
            char *slash = strrchr(path, '/');
            if (!slash || !*path)
                break;
            *slash = '\0';
        }
    }
    if (file)
        fclose(file);
    return tightest;
}

#endif

int instep_cpu_count(void)
{
    long count = 0;
#if defined _WIN32
    count = (long)GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
#elif defined __linux__
    cpu_set_t set;
    count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
    int quota = quota_count();
    count = quota < count ? quota : count;
#else
    count = sysconf(_SC_NPROCESSORS_ONLN);
#endif
    return count > 0 ? (int)count : 1;
}
