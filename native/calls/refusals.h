// Calls that libtorch's kernels take on trust: where what they were given does not fit together they would
// end the process, or read and write memory that is not theirs. They are checked before; docs/operators.md
// lists the operators.
#pragma once
#include <string>
#include <vector>

namespace alambic {

class Given;

struct Refusal {
  const char* name;             // of the operator, "aten::…"; all its overloads
  void (*check)(const Given&);  // throws for a call that the kernel cannot take
};

// Made in this order. None for an operator that takes what its schema says, or refuses it by itself.
const std::vector<const Refusal*>& find_refusals(const std::string& qualified_name);

}  // namespace alambic
