#include "refusals.h"

#include <unordered_map>

#include "errors.h"
#include "given.h"
#include "values.h"

namespace alambic {

const Argument* Given::find(const char* parameter) const {
  const auto& parameters = candidate_.overload->parameters;
  for (size_t i = 0; i < parameters.size(); i++) {
    if (parameters[i].name != parameter || candidate_.source[i] < 0) continue;
    const auto& argument = arguments_[candidate_.source[i]];
    return argument.tag == Tag::Null ? nullptr : &argument;
  }
  return nullptr;
}

at::Tensor Given::tensor(const char* parameter) const {
  const auto* argument = find(parameter);
  return argument != nullptr ? reader_.tensor(*argument) : at::Tensor();
}

std::vector<at::Tensor> Given::tensors(const char* parameter) const {
  const auto* argument = find(parameter);
  return argument != nullptr ? reader_.tensors(*argument) : std::vector<at::Tensor>();
}

int64_t Given::integer(const char* parameter, int64_t otherwise) const {
  const auto* argument = find(parameter);
  return argument != nullptr ? reader_.integer(*argument) : otherwise;
}

std::vector<at::Tensor> Given::all_tensors() const {
  std::vector<at::Tensor> all;
  for (int source : candidate_.source) {
    if (source < 0) continue;
    const auto& argument = arguments_[source];
    if (argument.tag == Tag::Tensor) all.push_back(*argument.tensor);
    if (argument.tag != Tag::TensorList) continue;
    for (size_t i = 0; i < argument.length; i++)
      if (auto tensor = reader_.listed(argument, i); tensor.defined()) all.push_back(std::move(tensor));
  }
  return all;
}

void Given::refuse(const char* code, const char* parameter, const std::string& expected,
                   const std::string& got) const {
  fail(code, plan_.op->js_name, ": ", camel_case(parameter), ": expected ", expected, ", got ", got);
}

namespace {

constexpr auto shape_error = "ERR_SHAPE_MISMATCH";

void check_same_shape(const Given& given, const char* parameter, const char* as) {
  auto tensor = given.tensor(parameter), other = given.tensor(as);
  if (tensor.defined() && other.defined() && tensor.sizes() != other.sizes())
    given.refuse(shape_error, parameter, "the shape of " + camel_case(as) + " " + describe(other),
                 describe(tensor));
}

// Strided tensors on the CPU or a GPU, with elements that can be read where they lie.
void check_plain(const Given& given) {
  for (const auto& tensor : given.all_tensors())
    if (tensor.layout() != at::kStrided || tensor.is_nested() || tensor.is_quantized() || tensor.is_meta())
      fail("ERR_NOT_IMPLEMENTED", "expected tensors that are dense and have data, got ", describe(tensor),
           " of layout ", layout_name(tensor.layout()));
}

// ---- Optimizers: they walk through the memory of all their lists in step
// -------------------------------------------------------------------------------------------------------------

void check_fused_lists(const Given& given, std::initializer_list<const char*> lists) {
  check_plain(given);
  auto parameters = given.tensors("self");
  for (const auto* name : lists) {
    auto list = given.tensors(name);
    if (list.empty() && std::string_view(name) != "grads") continue;  // without momentum there are none
    if (list.size() != parameters.size())
      given.refuse("ERR_LENGTH_MISMATCH", name, c10::str("as many as self (", parameters.size(), ")"),
                   c10::str(list.size()));
    for (size_t i = 0; i < list.size(); i++)
      if (list[i].sizes() != parameters[i].sizes() || list[i].strides() != parameters[i].strides() ||
          list[i].scalar_type() != parameters[i].scalar_type() ||
          list[i].device() != parameters[i].device() || !parameters[i].is_non_overlapping_and_dense())
        given.refuse(shape_error, name,
                     c10::str("the dtype, shape and strides of self[", i, "] ", describe(parameters[i]),
                              ", dense in memory"),
                     describe(list[i]));
  }
}

void check_steps(const Given& given) {
  auto steps = given.tensors("state_steps");
  auto parameters = given.tensors("self");
  if (steps.size() != parameters.size())
    given.refuse("ERR_LENGTH_MISMATCH", "state_steps", c10::str("as many as self (", parameters.size(), ")"),
                 c10::str(steps.size()));
  for (const auto& step : steps)
    if (step.numel() != 1 || step.scalar_type() != at::kFloat)
      given.refuse(shape_error, "state_steps", "one float32 number each", describe(step));
}

void check_fused_sgd(const Given& given) { check_fused_lists(given, {"grads", "momentum_buffer_list"}); }
void check_fused_adam(const Given& given) {
  check_fused_lists(given, {"grads", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs"});
  check_steps(given);
}
void check_fused_adagrad(const Given& given) {
  check_fused_lists(given, {"grads", "state_sums"});
  check_steps(given);
}

// ---- Parts of recurrent networks: they cut their gates into so many pieces, and take it that there are so
// many
// -------------------------------------------------------------------------------------------------------------

template <int64_t pieces>
void check_gates(const Given& given) {
  check_plain(given);
  for (const char* name : {"input_gates", "hidden_gates"}) {
    auto gates = given.tensor(name);
    if (gates.dim() != 2 || gates.size(1) % pieces != 0 || gates.size(1) == 0)
      given.refuse(shape_error, name, c10::str("(N, ", pieces, " · hidden size)"), describe(gates));
  }
}

// ---- Gradients
// -------------------------------------------------------------------------------------------------------------

void check_cdist_backward(const Given& given) {
  check_plain(given);
  auto x1 = given.tensor("x1"), x2 = given.tensor("x2"), distance = given.tensor("cdist");
  check_same_shape(given, "grad", "cdist");
  bool fits = x1.dim() >= 2 && x2.dim() >= 2 && distance.dim() >= 2 && x1.size(-1) == x2.size(-1) &&
              distance.size(-2) == x1.size(-2) && distance.size(-1) == x2.size(-2);
  if (!fits)
    given.refuse(shape_error, "cdist", "the distances (…, P, R) of x1 (…, P, M) and x2 (…, R, M)",
                 describe(distance) + " for " + describe(x1) + " and " + describe(x2));
}

// ---- Others
// -------------------------------------------------------------------------------------------------------------

void check_remove_batch_dim(const Given& given) {
  auto dims = given.tensor("self").dim(), at = given.integer("out_dim", 0);
  if (at < -dims - 1 || at > dims)
    given.refuse("ERR_INDEX", "out_dim", c10::str(-dims - 1, " to ", dims), c10::str(at));
}

bool is_compressed(const at::Tensor& tensor) {
  return tensor.defined() && tensor.layout() != at::kStrided && tensor.layout() != at::kSparse &&
         tensor.layout() != at::kMkldnn;
}

// Into or out of a compressed sparse layout (CSR and its like) only between tensors of one form.
void check_copy(const Given& given) {
  auto self = given.tensor("self"), source = given.tensor("src");
  if (!is_compressed(self) && !is_compressed(source)) return;
  if (source.layout() != self.layout() || source.sizes() != self.sizes())
    given.refuse(shape_error, "src", c10::str(layout_name(self.layout()), ", ", describe(self)),
                 c10::str(layout_name(source.layout()), ", ", describe(source)));
}

// Kernels read g as one number for each slice of v along `dim`, the first or the last.
void check_weight_norm(const Given& given, const char* of_v, const char* of_g) {
  check_plain(given);
  auto v = given.tensor(of_v), g = given.tensor(of_g);
  auto dim = given.integer("dim", 0);
  bool fits = v.dim() > 0 && (dim == 0 || dim == v.dim() - 1) && g.numel() == v.size(dim) &&
              g.scalar_type() == v.scalar_type();
  if (!fits)
    given.refuse(shape_error, of_g,
                 "one number of its dtype for each slice of " + camel_case(of_v) + " " + describe(v) +
                     " along the first or the last dimension",
                 c10::str(describe(g), " for dimension ", dim));
}
void check_weight_norm_interface(const Given& given) { check_weight_norm(given, "v", "g"); }
void check_weight_norm_backward(const Given& given) {
  check_weight_norm(given, "saved_v", "saved_g");
  check_same_shape(given, "grad_w", "saved_v");
  auto norms = given.tensor("saved_norms"), g = given.tensor("saved_g");
  if (norms.numel() != g.numel())
    given.refuse(shape_error, "saved_norms", "as many numbers as savedG " + describe(g), describe(norms));
}

constexpr Refusal refusals[] = {
    {"aten::_fused_sgd", check_fused_sgd},
    {"aten::_fused_sgd_", check_fused_sgd},
    {"aten::_fused_adam", check_fused_adam},
    {"aten::_fused_adam_", check_fused_adam},
    {"aten::_fused_adamw", check_fused_adam},
    {"aten::_fused_adamw_", check_fused_adam},
    {"aten::_fused_adagrad", check_fused_adagrad},
    {"aten::_fused_adagrad_", check_fused_adagrad},
    {"aten::_thnn_differentiable_lstm_cell_backward", check_gates<4>},
    {"aten::_thnn_differentiable_gru_cell_backward", check_gates<3>},
    {"aten::_cdist_backward", check_cdist_backward},
    {"aten::_remove_batch_dim", check_remove_batch_dim},
    {"aten::_weight_norm_interface", check_weight_norm_interface},
    {"aten::_weight_norm_interface_backward", check_weight_norm_backward},
    {"aten::copy", check_copy},
};

}  // namespace

const Refusal* find_refusal(const std::string& qualified_name) {
  static const auto by_name = [] {
    std::unordered_map<std::string, const Refusal*> map;
    for (const auto& each : refusals) map.emplace(each.name, &each);
    return map;
  }();
  auto found = by_name.find(qualified_name);
  return found == by_name.end() ? nullptr : found->second;
}

}  // namespace alambic
