// at::parallel_for in builds by clang. libtorch's header makes an OpenMP region of it, for which clang calls
// LLVM's run-time; the one in the process is libtorch's, GNU's as a rule, and two of them fight for the
// processors. `GOMP_parallel` is what GCC calls for the same region, and LLVM's run-time has it as well.
// ATen/Parallel.h takes what is defined here for the region that it would have written itself, so that this
// is read before it: CMakeLists.txt makes it the first header of all files.
#pragma once

#if defined(__clang__) && !defined(_OPENMP) && !defined(__APPLE__)
#define INTRA_OP_PARALLEL

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>

extern "C" {
// Null in a process whose libtorch has no OpenMP.
[[gnu::weak]] void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned flags);
[[gnu::weak]] int omp_get_num_threads();
[[gnu::weak]] int omp_get_thread_num();
}

namespace at::internal {

// ATen/Parallel.h defines it.
class ThreadIdGuard;

// One call of GOMP_parallel: the range is cut into as many pieces as there are threads, none smaller than the
// grain; the first exception of a piece is thrown again when all have ended.
template <typename F, typename Guard = ThreadIdGuard>
void invoke_parallel(int64_t begin, int64_t end, int64_t grain_size, const F& f) {
  struct Region {
    int64_t begin, end, grain_size;
    const F& f;
    std::atomic_flag has_failed = ATOMIC_FLAG_INIT;
    std::exception_ptr failure;

    void run(int64_t thread, int64_t threads) {
      auto count = end - begin;
      if (grain_size > 0) threads = std::min(threads, (count + grain_size - 1) / grain_size);
      auto chunk = (count + threads - 1) / threads;
      auto from = begin + thread * chunk;
      if (from >= end) return;
      try {
        Guard guard(static_cast<int>(thread));
        f(from, std::min(end, from + chunk));
      } catch (...) {
        if (!has_failed.test_and_set()) failure = std::current_exception();
      }
    }
  };
  Region region{begin, end, grain_size, f};
  auto run = [](void* data) { static_cast<Region*>(data)->run(omp_get_thread_num(), omp_get_num_threads()); };
  if (GOMP_parallel)
    GOMP_parallel(run, &region, 0, 0);
  else
    region.run(0, 1);
  if (region.failure) std::rethrow_exception(region.failure);
}

}  // namespace at::internal
#endif
