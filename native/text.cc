#include "text.h"

#include <algorithm>
#include <cctype>
#include <numeric>

namespace alambic {

namespace {

// Case and underscores do not count: users mix up snake_case and camelCase.
std::string normalized(const std::string& name) {
  std::string result;
  for (unsigned char c : name)
    if (c != '_') result += static_cast<char>(std::tolower(c));
  return result;
}

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); j++) {
      size_t substitution = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitution});
    }
  }
  return row[b.size()];
}

}  // namespace

std::vector<std::string> nearest(const std::string& name, const std::vector<std::string>& known,
                                 size_t count) {
  auto wanted = normalized(name);
  std::vector<std::pair<size_t, std::string>> ranked;
  for (const auto& candidate : known) {
    auto distance = edit_distance(wanted, normalized(candidate));
    if (distance * 2 <= wanted.size()) ranked.emplace_back(distance, candidate);
  }
  std::sort(ranked.begin(), ranked.end());
  std::vector<std::string> result;
  for (size_t i = 0; i < std::min(count, ranked.size()); i++) result.push_back(ranked[i].second);
  return result;
}

std::string join(const std::vector<std::string>& parts, const char* separator) {
  std::string text;
  for (size_t i = 0; i < parts.size(); i++) text += (i > 0 ? separator : "") + parts[i];
  return text;
}

}  // namespace alambic
