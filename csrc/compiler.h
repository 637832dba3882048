/* What compilers spell differently. */
#ifndef INSTEP_COMPILER_H
#define INSTEP_COMPILER_H

/* INLINE and NO_INLINE stand before a function, and INLINE even where a compiler thinks that it knows better.
 * ANY_ALIGNMENT is part of a type: what a caller's buffer may hold, wherever it begins and whatever it was before.
 * INDEPENDENT stands before a loop whose elements lie apart.  UNROLLED stands before one that is written out so many
 * times, vectors counted: gcc is told to write out none by itself, see CMakeLists.txt. */
#if defined _MSC_VER && !defined __clang__
#define INLINE static __forceinline
#define NO_INLINE static __declspec(noinline)
#define ANY_ALIGNMENT __unaligned
#define INDEPENDENT __pragma(loop(ivdep))
#define UNROLLED(times)
#else
#define INLINE static inline __attribute__((always_inline))
#define NO_INLINE static __attribute__((noinline))
#define ANY_ALIGNMENT __attribute__((aligned(1), may_alias))
#if defined __clang__
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#define UNROLLED(times)
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#define PRAGMA(text) _Pragma(#text)
#define UNROLLED(times) PRAGMA(GCC unroll times)
#endif
#endif

#endif
