#include "threads/thread_team.h"

#include <ATen/Parallel.h>

#ifdef _OPENMP
#include <omp.h>

#pragma weak omp_pause_resource_all  // not in every run-time that a libtorch may bring along
#endif

namespace alambic {

void release_thread_team() {
#ifdef _OPENMP
  if (omp_pause_resource_all) omp_pause_resource_all(omp_pause_soft);
#endif
}

// Without at::set_num_threads(), which changes the libraries below for all threads.
Serial::Serial([[maybe_unused]] bool is_small) {
#ifdef _OPENMP
  auto threads = at::get_num_threads();
  if (!is_small || threads == 1) return;
  threads_ = threads;
  omp_set_num_threads(1);
#endif
}

Serial::~Serial() {
#ifdef _OPENMP
  if (threads_ != 0) omp_set_num_threads(threads_);
#endif
}

}  // namespace alambic
