// What a call in a form that no overload has may have meant: of `x.view(2, 3)` the list, of `x.argmax(1)` the
// option.
#pragma once
#include <string>
#include <vector>

#include "calls/arguments.h"
#include "calls/operators.h"

namespace alambic {

// A call as it was written.
struct GivenCall {
  bool is_method = false;         // the first value stands before the dot
  std::vector<Plain> positional;  // Unknown: a tensor, or what messages do not show
  std::vector<std::string> options;
};

// "x.argmax({ dim: 1 })", or nothing.
std::string suggest_call(const Operator& op, const GivenCall& given);

}  // namespace alambic
