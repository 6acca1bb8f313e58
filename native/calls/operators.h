// Every operator that libtorch's dispatcher knows, read from its schema, and plans: which overloads a call of
// a given form (so many positional arguments, these options) can mean.
#pragma once
#include <ATen/core/dispatch/Dispatcher.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "calls/refusals.h"
#include "calls/unboxed.h"
#include "compat.h"

namespace alambic {

enum class Kind : uint8_t {
  Tensor,
  TensorList,
  OptionalTensorList,  // Tensor?[]
  Scalar,
  ScalarList,
  Int,
  Float,
  Bool,
  IntList,
  FloatList,
  BoolList,
  String,
  StringList,
  Complex,
  Dtype,
  Layout,
  MemoryFormat,
  Device,
  Generator,
  Unsupported,
};

// One argument of a schema.
struct Parameter {
  std::string name;     // as in the schema: align_corners
  std::string js_name;  // as in JavaScript: alignCorners
  std::string type;     // the schema's text: "int[2]"
  Kind kind;
  bool nullable;
  int32_t broadcast;  // int[2] accepts one integer for both: 2; otherwise 0
  bool has_default;
  bool keyword_only;
  at::IValue default_value;
};

struct Overload {
  c10::OperatorHandle handle;
  std::string name;  // "" or "Tensor", "out", "dim_IntList" …
  std::vector<Parameter> parameters;
  std::vector<Kind> returns;
  // For each return the index of the argument that it is (in-place and out= operators), or -1.
  std::vector<int> returned_argument;
  int positional;   // arguments without a default that are not keyword-only
  bool supported;   // every argument and result has a JavaScript form
  bool uses_names;  // named dimensions: tried last, for they accept what integer lists mean
};

struct Operator {
  std::string qualified_name;  // aten::conv2d
  std::string js_name;         // conv2d, or quantized.linear outside aten
  std::vector<Overload> overloads;
  std::vector<const Refusal*> refusals;  // of what its kernels cannot take
};

// An overload seen from a call's form: for each schema argument the index of the value that fills it, or -1.
struct Candidate {
  const Overload* overload;
  std::vector<int> source;
  std::vector<int> returned_value;       // like returned_argument, as index among the call's values
  std::unique_ptr<UnboxedCall> unboxed;  // null where it has to be called boxed
};

struct Plan {
  const Operator* op;
  std::vector<std::string> value_names;  // for errors: parameter names, as far as all candidates agree
  std::vector<Candidate> candidates;
  // What a call with a tensor and a number comes to, when the number becomes a tensor; or null.
  std::unique_ptr<UnboxedCall> of_number;
};

std::string camel_case(const std::string& name);

struct GivenCall;

class OperatorTable {
 public:
  // Throws ERR_UNKNOWN_OPERATOR (with near names) or ERR_NO_OVERLOAD (with the signatures that exist).
  // `overload` restricts the plan to one overload; nullptr leaves the choice to the arguments.
  uint32_t plan(const std::string& qualified_name, const std::string* overload, const GivenCall& given);
  const Plan& at(uint32_t id) const { return *plans_[id]; }
  bool has(double id) const { return id >= 0 && id < static_cast<double>(plans_.size()); }

  const Operator& find(const std::string& qualified_name);

  struct Name {
    std::string name;     // without namespace and overload: add_
    std::string js_name;  // add_
    bool is_method;       // some overload's first argument is a tensor
  };
  // Sorted. Read anew at each call: a library loaded later may register more.
  static std::vector<Name> names(const std::string& name_space);
  static std::vector<std::string> namespaces();
  static std::vector<std::string> schemas(const std::string& name_space);

  struct Counts {
    size_t names = 0, overloads = 0, reachable = 0;
  };
  static Counts count(const std::string& name_space);

 private:
  const std::vector<c10::OperatorName>* overload_names(const std::string& qualified_name);

  std::unordered_map<std::string, std::vector<c10::OperatorName>> index_;
  std::unordered_map<std::string, std::unique_ptr<Operator>> operators_;
  std::vector<std::unique_ptr<Plan>> plans_;
};

// "conv2d(input, weight, { bias?, stride?, padding? })", for errors.
std::string signature(const Operator& op, const Overload& overload);

}  // namespace alambic
