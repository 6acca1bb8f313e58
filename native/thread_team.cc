#include "thread_team.h"

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

}  // namespace alambic
