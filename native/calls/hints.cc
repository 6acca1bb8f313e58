#include "calls/hints.h"

#include <algorithm>

#include "tensors/values.h"
#include "text.h"

namespace alambic {

namespace {

using Parameters = std::vector<const Parameter*>;

Parameters required(const Overload& overload) {
  Parameters list;
  for (const auto& each : overload.parameters)
    if (!each.has_default && !each.keyword_only) list.push_back(&each);
  return list;
}

// In the order in which Python takes them by position.
Parameters optional_in_order(const Overload& overload) {
  Parameters list;
  for (const auto& each : overload.parameters)
    if (each.has_default && !each.keyword_only) list.push_back(&each);
  return list;
}

const Parameter* dtype_of(const Overload& overload) {
  for (const auto& each : overload.parameters)
    if (each.kind == Kind::Dtype && each.has_default) return &each;
  return nullptr;
}

bool is_dtype(const Plain& value) {
  return value.type == Plain::Type::String && find_dtype(value.text).has_value();
}

bool fits(const Parameter& parameter, const Plain& value) {
  switch (value.type) {
    case Plain::Type::Number:
      if (parameter.kind == Kind::Float || parameter.kind == Kind::Scalar) return true;
      return (parameter.kind == Kind::Int || parameter.kind == Kind::IntList) && is_integer(value.number);
    case Plain::Type::Boolean:
      return parameter.kind == Kind::Bool;
    case Plain::Type::String:
      return parameter.kind == Kind::String || (parameter.kind == Kind::Dtype && is_dtype(value));
    case Plain::Type::List:
      return parameter.kind == Kind::IntList || parameter.kind == Kind::FloatList;
    default:
      return parameter.kind == Kind::Tensor || parameter.kind == Kind::TensorList;
  }
}

std::string show(const Plain& value) { return value.type == Plain::Type::Unknown ? "…" : show_plain(value); }

std::string written(const Operator& op, const GivenCall& given, std::vector<std::string> values,
                    std::vector<std::string> options) {
  options.insert(options.end(), given.options.begin(), given.options.end());
  if (!options.empty()) values.push_back(c10::str("{ ", join(options, ", "), " }"));
  if (given.is_method) values.erase(values.begin());
  return c10::str(given.is_method ? "x." : "", op.js_name, "(", join(values, ", "), ")");
}

// Those beyond the required ones as options; nothing where they are not meant for them.
std::string with_options(const Operator& op, const Overload& overload, const GivenCall& given) {
  auto firsts = required(overload), others = optional_in_order(overload);
  const auto& values = given.positional;
  if (values.size() <= firsts.size()) return "";
  std::vector<std::string> shown, options;
  for (size_t i = 0; i < values.size(); i++) {
    const Parameter* parameter = nullptr;
    if (i < firsts.size())
      parameter = firsts[i];
    else if (is_dtype(values[i]))
      parameter = dtype_of(overload);
    else if (i - firsts.size() < others.size())
      parameter = others[i - firsts.size()];
    if (parameter == nullptr || !fits(*parameter, values[i])) return "";
    bool is_list = parameter->kind == Kind::IntList && parameter->broadcast == 0 &&
                   values[i].type == Plain::Type::Number;
    auto text = is_list ? c10::str("[", show(values[i]), "]") : show(values[i]);
    if (i < firsts.size())
      shown.push_back(text);
    else
      options.push_back(c10::str(parameter->js_name, ": ", text));
  }
  return written(op, given, std::move(shown), std::move(options));
}

// Integers at the end as the list that is the last of the required ones.
std::string with_list(const Operator& op, const Overload& overload, const GivenCall& given) {
  auto firsts = required(overload);
  const auto& values = given.positional;
  if (firsts.empty() || firsts.back()->kind != Kind::IntList || values.size() <= firsts.size()) return "";
  std::vector<std::string> shown, list;
  for (size_t i = 0; i < values.size(); i++) {
    const auto& parameter = *firsts[std::min(i, firsts.size() - 1)];
    bool is_listed = i + 1 >= firsts.size();
    if (!fits(parameter, values[i]) || (is_listed && values[i].type != Plain::Type::Number)) return "";
    (is_listed ? list : shown).push_back(show(values[i]));
  }
  shown.push_back(c10::str("[", join(list, ", "), "]"));
  return written(op, given, std::move(shown), {});
}

}  // namespace

std::string suggest_call(const Operator& op, const GivenCall& given) {
  for (auto suggest : {with_options, with_list}) {
    std::string suggestion;
    size_t most = 0;  // of required values: the nearest overload has the most
    for (const auto& overload : op.overloads) {
      if (!overload.supported || overload.uses_names) continue;
      auto count = required(overload).size();
      if (auto text = suggest(op, overload, given); !text.empty() && count > most) {
        most = count;
        suggestion = text;
      }
    }
    if (!suggestion.empty()) return suggestion;
  }
  return "";
}

}  // namespace alambic
