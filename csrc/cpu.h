/* What can this machine run? */
#ifndef INSTEP_CPU_H
#define INSTEP_CPU_H

/* One for each instruction set of CMake's list: 1 if processor and operating system run it. */
int instep_cpu_baseline(void);
int instep_cpu_x86_v3(void);
int instep_cpu_x86_v4(void);
int instep_cpu_x86_v4_fma(void);

/* The processors that affinity and control groups leave to this process; at least 1. */
int instep_cpu_count(void);
/* Linux: how many processors' worth of time the control groups leave to this process, rounded up; a large number
 * where there is no limit.  `root` is "" but in tests, which bring files of their own. */
int instep_cpu_quota(const char *root);

#endif
