#include "thread_team.h"

#include <atomic>

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

void keep_large_thread_team() {
#ifdef _OPENMP
  std::atomic<int> started{0};  // volatile would not do: C++20 warns of it
#pragma omp parallel num_threads(omp_get_num_procs() + 1)
  started++;
#endif
}

}  // namespace alambic
