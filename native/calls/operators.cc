#include "calls/operators.h"

#include <algorithm>
#include <set>
#include <sstream>
#include <string_view>
#include <tuple>

#include "calls/hints.h"
#include "calls/number_tensors.h"
#include "errors.h"
#include "text.h"

namespace alambic {

namespace {

Kind list_kind(const c10::TypePtr& element) {
  switch (element->kind()) {
    case c10::TypeKind::TensorType:
      return Kind::TensorList;
    case c10::TypeKind::NumberType:
      return Kind::ScalarList;
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      return Kind::IntList;
    case c10::TypeKind::FloatType:
      return Kind::FloatList;
    case c10::TypeKind::BoolType:
      return Kind::BoolList;
    case c10::TypeKind::StringType:
      return Kind::StringList;
    case c10::TypeKind::OptionalType:
      return element->castRaw<c10::OptionalType>()->getElementType()->kind() == c10::TypeKind::TensorType
                 ? Kind::OptionalTensorList
                 : Kind::Unsupported;
    default:
      return Kind::Unsupported;
  }
}

Kind kind_of(const c10::TypePtr& type) {
  switch (type->kind()) {
    case c10::TypeKind::TensorType:
      return Kind::Tensor;
    case c10::TypeKind::NumberType:
      return Kind::Scalar;
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      return Kind::Int;
    case c10::TypeKind::FloatType:
      return Kind::Float;
    case c10::TypeKind::BoolType:
      return Kind::Bool;
    case c10::TypeKind::StringType:
      return Kind::String;
    case c10::TypeKind::ComplexType:
      return Kind::Complex;
    case c10::TypeKind::ScalarTypeType:
      return Kind::Dtype;
    case c10::TypeKind::LayoutType:
      return Kind::Layout;
    case c10::TypeKind::MemoryFormatType:
      return Kind::MemoryFormat;
    case c10::TypeKind::DeviceObjType:
      return Kind::Device;
    case c10::TypeKind::GeneratorType:
      return Kind::Generator;
    case c10::TypeKind::ListType:
      return list_kind(type->castRaw<c10::ListType>()->getElementType());
    default:
      return Kind::Unsupported;
  }
}

// Symbolic integers are integers to everybody but the compiler.
std::string readable_type(std::string text) {
  for (size_t at; (at = text.find("SymInt")) != std::string::npos;) text.replace(at, 6, "int");
  if (text == "ScalarType") return "dtype";
  return text;
}

Parameter read_parameter(const c10::Argument& argument) {
  Parameter parameter;
  parameter.name = argument.name();
  parameter.js_name = camel_case(argument.name());
  auto type = argument.real_type();
  parameter.nullable = type->kind() == c10::TypeKind::OptionalType;
  if (parameter.nullable) type = type->castRaw<c10::OptionalType>()->getElementType();
  parameter.kind = kind_of(type);
  parameter.broadcast = argument.N() ? *argument.N() : 0;
  parameter.has_default = argument.default_value().has_value();
  parameter.keyword_only = argument.kwarg_only();
  if (parameter.has_default) parameter.default_value = *argument.default_value();
  parameter.type = readable_type(type->str()) + (parameter.nullable ? "?" : "");
  return parameter;
}

// In-place and out= operators return an argument that they write to.
int find_returned_argument(const c10::FunctionSchema& schema, const c10::Argument& result) {
  if (!result.alias_info() || !result.alias_info()->isWrite()) return -1;
  const auto& arguments = schema.arguments();
  for (size_t i = 0; i < arguments.size(); i++) {
    const auto* alias = arguments[i].alias_info();
    if (alias && alias->isWrite() && alias->beforeSets() == result.alias_info()->beforeSets() &&
        arguments[i].type()->kind() == c10::TypeKind::TensorType)
      return static_cast<int>(i);
  }
  return -1;
}

Overload read_overload(const c10::OperatorHandle& handle) {
  const auto& schema = handle.schema();
  Overload overload{handle, schema.overload_name(), {}, {}, {}, 0, true, false};
  for (const auto& argument : schema.arguments()) {
    auto parameter = read_parameter(argument);
    if (!parameter.has_default && !parameter.keyword_only) overload.positional++;
    // An argument of a kind without JavaScript form can still be left at its default.
    if (parameter.kind == Kind::Unsupported && !parameter.has_default) overload.supported = false;
    overload.parameters.push_back(std::move(parameter));
  }
  for (const auto& result : schema.returns()) {
    auto type = result.real_type();
    if (type->kind() == c10::TypeKind::OptionalType)
      type = type->castRaw<c10::OptionalType>()->getElementType();
    overload.returns.push_back(kind_of(type));
    if (overload.returns.back() == Kind::Unsupported) overload.supported = false;
    overload.returned_argument.push_back(find_returned_argument(schema, result));
  }
  if (schema.is_vararg() || schema.is_varret()) overload.supported = false;
  std::ostringstream text;
  text << schema;
  overload.uses_names = text.str().find("Dimname") != std::string::npos;
  return overload;
}

bool in_namespace(const std::string& qualified_name, const std::string& name_space) {
  return qualified_name.size() > name_space.size() + 2 &&
         qualified_name.compare(0, name_space.size(), name_space) == 0 &&
         qualified_name.compare(name_space.size(), 2, "::") == 0;
}

// Calls `visit` for each operator of the namespace that has a schema.
template <typename Visit>
void for_each_operator(const std::string& name_space, Visit visit) {
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const auto& name : dispatcher.getAllOpNames()) {
    if (!in_namespace(name.name, name_space)) continue;
    auto handle = dispatcher.findSchema(name);
    if (handle) visit(*handle);
  }
}

// "aten::add" is called `add`, "quantized::linear" `quantized.linear`.
std::string js_name_of(const std::string& qualified_name) {
  auto colon = qualified_name.find("::");
  auto name = camel_case(qualified_name.substr(colon + 2));
  auto name_space = qualified_name.substr(0, colon);
  return name_space == "aten" ? name : name_space + "." + name;
}

// Positional arguments fill what has no default, in order; what they leave open must be given by name, as in
// Python.
optional<Candidate> fit(const Overload& overload, int positional, const std::vector<std::string>& options) {
  if (!overload.supported || positional > overload.positional) return nullopt;
  Candidate candidate{&overload, std::vector<int>(overload.parameters.size(), -1), {}, nullptr};
  int next_positional = 0;
  size_t used_options = 0;
  for (size_t i = 0; i < overload.parameters.size(); i++) {
    const auto& parameter = overload.parameters[i];
    bool is_positional = !parameter.has_default && !parameter.keyword_only;
    if (is_positional && next_positional < positional) {
      candidate.source[i] = next_positional++;
      continue;
    }
    auto option = std::find_if(options.begin(), options.end(), [&](const std::string& name) {
      return name == parameter.js_name || name == parameter.name;
    });
    if (option != options.end()) {
      candidate.source[i] = positional + static_cast<int>(option - options.begin());
      used_options++;
    } else if (!parameter.has_default) {
      return nullopt;
    }
  }
  if (used_options != options.size()) return nullopt;
  for (int argument : overload.returned_argument)
    candidate.returned_value.push_back(argument < 0 ? -1 : candidate.source[argument]);
  return candidate;
}

// The overload that is chosen for a tensor and a number; none when the form leaves that open.
const Overload* chosen_for_number(const Plan& plan) {
  for (const auto& candidate : plan.candidates) {
    const auto& parameters = candidate.overload->parameters;
    if (parameters.size() < 2 || parameters[0].kind != Kind::Tensor || parameters[1].kind == Kind::Tensor)
      continue;
    return parameters[1].kind == Kind::Scalar ? candidate.overload : nullptr;
  }
  return nullptr;
}

// From the overload Tensor, where the call means the overload Scalar.
std::unique_ptr<UnboxedCall> call_with_number_tensor(const Plan& plan) {
  const auto* chosen = chosen_for_number(plan);
  if (chosen == nullptr || chosen->name != "Scalar" || !takes_numbers_as_tensors(plan.op->qualified_name))
    return nullptr;
  for (const auto& overload : plan.op->overloads)
    if (overload.name == "Tensor") {
      std::vector<int> source(overload.parameters.size(), -1);
      source[0] = 0;
      source[1] = 1;
      return UnboxedCall::of(overload, source);
    }
  return nullptr;
}

// Overloads that take the same calls as another one of their operator, and that Python's functions mean.
bool is_first_in_python(const std::string& qualified_name, const std::string& overload) {
  static const std::map<std::string, std::string> first = {
      {"aten::bernoulli", "out"},  // and not float_out, whose p has a default
      {"aten::stft", "center"},    // and not the one of old models, which does not pad
  };
  auto found = first.find(qualified_name);
  return found != first.end() && found->second == overload;
}

// An option that no overload has is a slip of the pen.
void refuse_unknown_option(const Operator& op, const std::string& option) {
  std::vector<std::string> known;
  for (const auto& overload : op.overloads)
    for (const auto& parameter : overload.parameters) {
      if (option == parameter.js_name || option == parameter.name) return;
      if (parameter.has_default || parameter.keyword_only) known.push_back(parameter.js_name);
    }
  std::sort(known.begin(), known.end());
  known.erase(std::unique(known.begin(), known.end()), known.end());
  auto near = nearest(option, known, 1);
  std::string offer = "it takes none";
  if (!near.empty())
    offer = "did you mean \"" + near.front() + "\"?";
  else if (!known.empty())
    offer = "there are: " + join(known, ", ");
  fail("ERR_NO_OVERLOAD", op.js_name, ": there is no option \"", option, "\"; ", offer);
}

[[noreturn]] void no_overload(const Operator& op, const std::string* overload, const GivenCall& given) {
  for (const auto& option : given.options) refuse_unknown_option(op, option);
  std::ostringstream message;
  auto count = given.positional.size() - (given.is_method ? 1 : 0);
  message << op.js_name << ": no overload takes " << count << " positional argument"
          << (count == 1 ? "" : "s") << (given.is_method ? " besides self" : "");
  if (!given.options.empty()) message << " and { " << join(given.options, ", ") << " }";
  auto suggestion = suggest_call(op, given);
  message << (suggestion.empty() ? ". " : "; did you mean " + suggestion + "? ");
  message << "Arguments without a default are positional, the others go into one options object. It is "
             "called as ";
  std::vector<std::string> signatures;
  for (const auto& candidate : op.overloads)
    if (candidate.supported && (overload == nullptr || candidate.name == *overload))
      signatures.push_back(signature(op, candidate));
  message << (signatures.empty() ? "nothing that JavaScript values can express" : join(signatures, " or "));
  fail("ERR_NO_OVERLOAD", message.str());
}

}  // namespace

std::string camel_case(const std::string& name) {
  std::string result;
  bool raise = false;
  for (size_t i = 0; i < name.size(); i++) {
    bool inner_underscore = name[i] == '_' && !result.empty() && result.back() != '_' &&
                            i + 1 < name.size() && std::isalnum(static_cast<unsigned char>(name[i + 1]));
    if (inner_underscore) {
      raise = true;
      continue;
    }
    result += raise ? static_cast<char>(std::toupper(static_cast<unsigned char>(name[i]))) : name[i];
    raise = false;
  }
  return result;
}

// Operators registered since the index was made (by a custom library) are found by making it again.
const std::vector<c10::OperatorName>* OperatorTable::overload_names(const std::string& qualified_name) {
  for (bool fresh : {false, true}) {
    if (fresh) {
      index_.clear();
      for (auto& name : c10::Dispatcher::singleton().getAllOpNames()) index_[name.name].push_back(name);
    }
    auto found = index_.find(qualified_name);
    if (found != index_.end()) return &found->second;
  }
  return nullptr;
}

[[noreturn]] static void unknown_operator(const std::string& qualified_name) {
  auto colon = qualified_name.find("::");
  std::vector<std::string> known;
  for (const auto& each : OperatorTable::names(qualified_name.substr(0, colon)))
    known.push_back(each.js_name);
  auto near = nearest(qualified_name.substr(colon + 2), known, 3);
  fail("ERR_UNKNOWN_OPERATOR", js_name_of(qualified_name),
       ": libtorch " ALAMBIC_TORCH_VERSION " has no operator ", qualified_name,
       near.empty() ? "" : "; near names: ", join(near, ", "));
}

const Operator& OperatorTable::find(const std::string& qualified_name) {
  auto found = operators_.find(qualified_name);
  if (found != operators_.end()) return *found->second;

  auto op = std::make_unique<Operator>();
  op->qualified_name = qualified_name;
  op->js_name = js_name_of(qualified_name);
  op->refusals = find_refusals(qualified_name);
  if (const auto* names = overload_names(qualified_name))
    for (const auto& name : *names)
      if (auto handle = c10::Dispatcher::singleton().findSchema(name))
        op->overloads.push_back(read_overload(*handle));
  if (op->overloads.empty()) unknown_operator(qualified_name);
  auto rank = [&](const Overload& overload) {
    return std::make_tuple(overload.uses_names, !is_first_in_python(qualified_name, overload.name),
                           std::string_view(overload.name));
  };
  std::sort(op->overloads.begin(), op->overloads.end(),
            [&](const Overload& a, const Overload& b) { return rank(a) < rank(b); });
  return *operators_.emplace(qualified_name, std::move(op)).first->second;
}

uint32_t OperatorTable::plan(const std::string& qualified_name, const std::string* overload,
                             const GivenCall& given) {
  const auto& op = find(qualified_name);
  const auto positional = static_cast<int>(given.positional.size());
  const auto& options = given.options;
  auto plan = std::make_unique<Plan>();
  plan->op = &op;
  bool overload_exists = false;
  for (const auto& each : op.overloads) {
    if (overload != nullptr && each.name != *overload) continue;
    overload_exists = true;
    auto candidate = fit(each, positional, options);
    if (!candidate) continue;
    candidate->unboxed = UnboxedCall::of(each, candidate->source);
    plan->candidates.push_back(std::move(*candidate));
  }
  if (!overload_exists) {
    std::vector<std::string> known;
    for (const auto& each : op.overloads) known.push_back(each.name.empty() ? "default" : each.name);
    fail("ERR_UNKNOWN_OPERATOR", op.js_name, ": no overload named \"", *overload, "\"; there are ",
         join(known, ", "));
  }
  if (plan->candidates.empty()) no_overload(op, overload, given);

  const auto& first = plan->candidates.front();
  plan->value_names.resize(positional + options.size());
  for (size_t i = 0; i < first.source.size(); i++)
    if (first.source[i] >= 0) plan->value_names[first.source[i]] = first.overload->parameters[i].js_name;
  if (positional == 2 && options.empty()) plan->of_number = call_with_number_tensor(*plan);
  plans_.push_back(std::move(plan));
  return static_cast<uint32_t>(plans_.size() - 1);
}

std::vector<OperatorTable::Name> OperatorTable::names(const std::string& name_space) {
  std::map<std::string, bool> is_method;
  for_each_operator(name_space, [&](const c10::OperatorHandle& handle) {
    const auto& arguments = handle.schema().arguments();
    is_method[handle.operator_name().name.substr(name_space.size() + 2)] |=
        !arguments.empty() && !arguments[0].kwarg_only() &&
        arguments[0].type()->kind() == c10::TypeKind::TensorType;
  });
  std::vector<Name> names;
  for (const auto& [name, method] : is_method) names.push_back({name, camel_case(name), method});
  return names;
}

std::vector<std::string> OperatorTable::namespaces() {
  std::set<std::string> found;
  for (const auto& name : c10::Dispatcher::singleton().getAllOpNames())
    found.insert(name.name.substr(0, name.name.find("::")));
  return {found.begin(), found.end()};
}

std::vector<std::string> OperatorTable::schemas(const std::string& name_space) {
  std::vector<std::string> texts;
  for_each_operator(name_space, [&](const c10::OperatorHandle& handle) {
    std::ostringstream text;
    text << handle.schema();
    texts.push_back(text.str());
  });
  std::sort(texts.begin(), texts.end());
  return texts;
}

OperatorTable::Counts OperatorTable::count(const std::string& name_space) {
  Counts counts;
  std::set<std::string> names;
  for_each_operator(name_space, [&](const c10::OperatorHandle& handle) {
    counts.overloads++;
    names.insert(handle.operator_name().name);
    if (read_overload(handle).supported) counts.reachable++;
  });
  counts.names = names.size();
  return counts;
}

std::string signature(const Operator& op, const Overload& overload) {
  std::vector<std::string> positional, options;
  for (const auto& parameter : overload.parameters) {
    if (!parameter.has_default && !parameter.keyword_only)
      positional.push_back(parameter.js_name + ": " + parameter.type);
    else
      options.push_back(parameter.js_name + (parameter.has_default ? "?: " : ": ") + parameter.type);
  }
  if (!options.empty()) positional.push_back("{ " + join(options, ", ") + " }");
  return op.js_name + "(" + join(positional, ", ") + ")";
}

}  // namespace alambic
