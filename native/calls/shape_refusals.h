// Sizes, lists and dimensions that kernels take on trust: refusals.h.
#pragma once
#include <vector>

#include "calls/refusals.h"

namespace alambic {

const std::vector<Refusal>& shape_refusals();

}  // namespace alambic
