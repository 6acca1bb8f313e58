// Calls that a kernel cannot take for the values in their tensors: indices, lengths and labels that lead out
// of memory, and quotients that there are not. On the CPU; on a GPU the kernels check for themselves.
#pragma once
#include <vector>

#include "calls/refusals.h"

namespace alambic {

const std::vector<Refusal>& value_refusals();

}  // namespace alambic
