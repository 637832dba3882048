#ifndef INSTEP_SELDOM_H
#define INSTEP_SELDOM_H

/* What begins with a call of this is not part of a step, and seldom called: gcc makes small what leads to such a call
 * for certain, which is all of that function. */
#if defined __GNUC__
__attribute__((cold, noinline)) static void seldom(void)
{
    __asm__ volatile(""); /* or gcc would find that it does nothing, and drop the calls before they count */
}
#else
static inline void seldom(void)
{
}
#endif

#endif
