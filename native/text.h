// Small helpers for messages.
#pragma once
#include <string>
#include <vector>

namespace alambic {

// The names closest to a mistyped one by edit distance, at most `count`, none that differ in more than half.
std::vector<std::string> nearest(const std::string& name, const std::vector<std::string>& known,
                                 size_t count);

std::string join(const std::vector<std::string>& parts, const char* separator);

}  // namespace alambic
