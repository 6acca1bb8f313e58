// GCC makes a clone of a function per instruction set, and the fitting one is picked when the addon is
// loaded. Templates cannot be cloned, so that each kernel is a template body, inlined into one plain function
// per type.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#if __GNUC__ >= 12  // with AVX-512 for 16-bit numbers, which half precision needs
#define ALAMBIC_CLONES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define ALAMBIC_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#else
#define ALAMBIC_CLONES
#endif
#define ALAMBIC_INLINE __attribute__((always_inline))  // of lambdas
#define ALAMBIC_BODY inline __attribute__((always_inline))
