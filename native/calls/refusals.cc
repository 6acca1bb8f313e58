#include "calls/refusals.h"

#include <algorithm>
#include <unordered_map>

#include "calls/checks.h"
#include "calls/given.h"
#include "calls/shape_refusals.h"
#include "calls/value_refusals.h"
#include "errors.h"
#include "tensors/values.h"

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

int64_t Given::length(const char* parameter) const {
  const auto* argument = find(parameter);
  return argument != nullptr && argument->tag == Tag::TensorList ? static_cast<int64_t>(argument->length) : 0;
}

bool Given::is_tensor(const char* parameter) const {
  const auto* argument = find(parameter);
  return argument != nullptr && argument->tag == Tag::Tensor;
}

bool Given::boolean(const char* parameter, bool otherwise) const {
  const auto* argument = find(parameter);
  return argument != nullptr ? argument->number != 0 : otherwise;
}

at::Layout Given::layout(const char* parameter, at::Layout otherwise) const {
  const auto* argument = find(parameter);
  return argument != nullptr ? reader_.layout(*argument) : otherwise;
}

at::ScalarType Given::dtype(const char* parameter, at::ScalarType otherwise) const {
  const auto* argument = find(parameter);
  return argument != nullptr ? reader_.dtype(*argument) : otherwise;
}

double Given::number(const char* parameter, double otherwise) const {
  const auto* argument = find(parameter);
  return argument != nullptr ? reader_.scalar(*argument).toDouble() : otherwise;
}

int64_t Given::integer(const char* parameter, int64_t otherwise) const {
  const auto* argument = find(parameter);
  return argument != nullptr ? reader_.integer(*argument) : otherwise;
}

std::vector<int64_t> Given::integers(const char* parameter) const {
  std::vector<int64_t> list;
  const auto& parameters = candidate_.overload->parameters;
  const auto* argument = find(parameter);
  if (argument == nullptr) return list;
  auto found = std::find_if(parameters.begin(), parameters.end(),
                            [&](const Parameter& each) { return each.name == parameter; });
  reader_.each_integer(*found, *argument, [&](int64_t each) { list.push_back(each); });
  return list;
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

bool Given::declares(const char* parameter) const {
  const auto& parameters = candidate_.overload->parameters;
  return std::any_of(parameters.begin(), parameters.end(),
                     [&](const Parameter& each) { return each.name == parameter; });
}

void Given::refuse(const char* code, const char* parameter, const std::string& expected,
                   const std::string& got) const {
  fail(code, plan_.op->js_name, ": ", camel_case(parameter), ": expected ", expected, ", got ", got);
}

namespace {

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

// CSR and its like, and oneDNN's layout.
bool is_special(const at::Tensor& tensor) {
  return tensor.defined() && tensor.layout() != at::kStrided && tensor.layout() != at::kSparse;
}

// Into or out of these layouts only between tensors of one form.
void check_copy(const Given& given) {
  auto self = given.tensor("self"), source = given.tensor("src");
  if (!is_special(self) && !is_special(source)) return;
  if (source.layout() != self.layout() || source.sizes() != self.sizes())
    given.refuse(shape_error, "src", c10::str(layout_name(self.layout()), ", ", describe(self)),
                 c10::str(layout_name(source.layout()), ", ", describe(source)));
  if (auto out = given.tensor("out"); out.defined() && out.layout() != self.layout())
    given.refuse(shape_error, "out", layout_name(self.layout()), layout_name(out.layout()));
}

// Kernels read g as one number for each slice of v along `dim`, the first or the last.
void check_weight_norm(const Given& given, const char* of_v, const char* of_g) {
  check_plain(given);
  auto v = given.tensor(of_v), g = given.tensor(of_g);
  auto dim = given.integer("dim", 0);
  bool fits = v.numel() > 0 && v.dim() > 0 && (dim == 0 || dim == v.dim() - 1) && g.numel() == v.size(dim) &&
              g.scalar_type() == v.scalar_type();
  if (!fits)
    given.refuse(shape_error, of_g,
                 "one number of its dtype for each slice of " + camel_case(of_v) + " " + describe(v) +
                     " along the first or the last dimension",
                 c10::str(describe(g), " for dimension ", dim));
}
void check_weight_norm_interface(const Given& given) { check_weight_norm(given, "v", "g"); }
// Formed of other operators for other dimensions and for float16.
void check_weight_norm_operator(const Given& given) {
  auto v = given.tensor("v"), g = given.tensor("g");
  auto dim = given.integer("dim", 0);
  bool is_half = v.scalar_type() == at::kHalf || g.scalar_type() == at::kHalf;
  if (!is_half && (dim == 0 || dim == v.dim() - 1)) check_weight_norm_interface(given);
}

void check_weight_norm_backward(const Given& given) {
  check_weight_norm(given, "saved_v", "saved_g");
  check_same_shape(given, "grad_w", "saved_v");
  auto norms = given.tensor("saved_norms"), g = given.tensor("saved_g");
  if (norms.numel() != g.numel())
    given.refuse(shape_error, "saved_norms", "as many numbers as savedG " + describe(g), describe(norms));
}

void check_layer_norm_backward(const Given& given) {
  check_plain(given);
  check_same_shape(given, "grad_out", "input");
  auto input = given.tensor("input");
  auto shape = given.integers("normalized_shape");
  auto sizes = input.sizes();
  if (shape.size() > sizes.size() || sizes.slice(sizes.size() - shape.size()) != at::IntArrayRef(shape))
    given.refuse(shape_error, "normalized_shape", "the last sizes of input " + describe(input),
                 describe(shape));
  int64_t size = 1;
  for (auto each : shape) size *= each;
  auto rows = size == 0 ? 0 : input.numel() / size;
  for (const char* name : {"mean", "rstd"}) check_count(given, name, rows, "rows");
  for (const char* name : {"weight", "bias"}) check_count(given, name, size, "elements of a row");
}

void check_fractional_pool3d(const Given& given) { check_lengths(given, {"kernel_size", "output_size"}, 3); }
void check_fractional_pool2d(const Given& given) { check_lengths(given, {"kernel_size", "output_size"}, 2); }

// A view like as_strided's, which takes it on trust that the storage has its elements.
void check_reshape_alias(const Given& given) {
  check_plain(given);
  auto self = given.tensor("self");
  auto size = given.integers("size"), stride = given.integers("stride");
  if (size.size() != stride.size())
    given.refuse("ERR_LENGTH_MISMATCH", "stride", c10::str("as many as size (", size.size(), ")"),
                 c10::str(stride.size()));
  int64_t reach = 1;
  bool overflow = false, is_empty = false;
  for (size_t i = 0; i < size.size(); i++) {
    if (size[i] < 0 || stride[i] < 0)
      given.refuse(shape_error, "size", "no negative numbers", describe(size));
    is_empty = is_empty || size[i] == 0;
    int64_t step;
    overflow = __builtin_mul_overflow(std::max<int64_t>(size[i] - 1, 0), stride[i], &step) || overflow;
    overflow = __builtin_add_overflow(reach, step, &reach) || overflow;
  }
  auto available = static_cast<int64_t>(self.storage().nbytes() / self.itemsize()) - self.storage_offset();
  if (!is_empty && (overflow || reach > available))
    given.refuse(shape_error, "size", c10::str("a view of the ", available, " elements behind self's first"),
                 describe(size));
}

// Weights of 4 bits, read by the sizes that are given beside them.
void check_4bit_weights(const Given& given, const char* weights) {
  check_plain(given);
  auto block = given.integer("block_size", 0), in = given.integer("in_features", 0),
       out = given.integer("out_features", 0);
  constexpr int64_t most = int64_t{1} << 31;
  if (block < 1 || in < 1 || out < 1 || in > most || out > most || in % block != 0)
    given.refuse("ERR_ARGUMENT", "in_features", "a positive multiple of blockSize, and outFeatures",
                 c10::str(in, " in blocks of ", block, ", ", out));
  if (auto tensor = given.tensor(weights); tensor.nbytes() < static_cast<size_t>(in * out / 2))
    given.refuse(shape_error, weights, c10::str(in, " times ", out, " packed numbers"), describe(tensor));
}

void check_4bit_matmul(const Given& given) {
  check_4bit_weights(given, "packed_weights");
  auto input = given.tensor("inp");
  auto in = given.integer("in_features", 0);
  if (input.dim() != 2 || input.size(1) != in)
    given.refuse(shape_error, "inp", c10::str("(N, ", in, ")"), describe(input));
}

void check_4bit_pack(const Given& given) {
  check_4bit_weights(given, "weights");
  auto out = given.integer("out_features", 0);
  auto blocks = given.integer("in_features", 0) / given.integer("block_size", 1);
  check_count(given, "scales_zeros", out * blocks, "blocks");
  check_count(given, "bias", out, "features");
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
    {"aten::_weight_norm", check_weight_norm_operator},
    {"aten::_weight_norm_interface", check_weight_norm_interface},
    {"aten::_weight_norm_interface_backward", check_weight_norm_backward},
    {"aten::copy", check_copy},
    {"aten::native_layer_norm_backward", check_layer_norm_backward},
    {"aten::fractional_max_pool3d", check_fractional_pool3d},
    {"aten::fractional_max_pool3d_backward", check_fractional_pool3d},
    {"aten::fractional_max_pool2d", check_fractional_pool2d},
    {"aten::fractional_max_pool2d_backward", check_fractional_pool2d},
    {"aten::_reshape_alias", check_reshape_alias},
    {"aten::_reshape_alias_copy", check_reshape_alias},
    {"aten::_dyn_quant_matmul_4bit", check_4bit_matmul},
    {"aten::_dyn_quant_pack_4bit_weight", check_4bit_pack},
};

}  // namespace

const std::vector<const Refusal*>& find_refusals(const std::string& qualified_name) {
  static const auto by_name = [] {
    std::unordered_map<std::string, std::vector<const Refusal*>> map;
    for (const auto& each : refusals) map[each.name].push_back(&each);
    for (const auto& each : shape_refusals()) map[each.name].push_back(&each);
    for (const auto& each : value_refusals()) map[each.name].push_back(&each);
    return map;
  }();
  static const std::vector<const Refusal*> none;
  auto found = by_name.find(qualified_name);
  return found == by_name.end() ? none : found->second;
}

}  // namespace alambic
