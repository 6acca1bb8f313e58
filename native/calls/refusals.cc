#include "calls/refusals.h"

#include <algorithm>
#include <unordered_map>

#include "calls/given.h"
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

// One number for each of `count`.
void check_count(const Given& given, const char* parameter, int64_t count, const char* of) {
  auto tensor = given.tensor(parameter);
  if (tensor.defined() && tensor.numel() != count)
    given.refuse(shape_error, parameter, c10::str("one number for each of ", count, " ", of),
                 describe(tensor));
}

void check_batch_norm_backward(const Given& given) {
  check_plain(given);
  auto input = given.tensor("input");
  if (input.dim() < 2) given.refuse(shape_error, "input", "(N, C, …)", describe(input));
  for (const char* gradient : {"grad_out", "grad_output"}) check_same_shape(given, gradient, "input");
  for (const char* name : {"weight", "running_mean", "running_var", "save_mean", "save_invstd", "save_var",
                           "save_var_transform"})
    check_count(given, name, input.size(1), "channels");
}

void check_layer_norm_backward(const Given& given) {
  check_plain(given);
  check_same_shape(given, "grad_out", "input");
  auto input = given.tensor("input");
  auto shape = given.integers("normalized_shape");
  auto sizes = input.sizes();
  if (shape.size() > sizes.size() || sizes.slice(sizes.size() - shape.size()) != at::IntArrayRef(shape))
    given.refuse(shape_error, "normalized_shape", "the last sizes of input " + describe(input),
                 c10::str("(", c10::Join(", ", shape), ")"));
  int64_t size = 1;
  for (auto each : shape) size *= each;
  auto rows = size == 0 ? 0 : input.numel() / size;
  for (const char* name : {"mean", "rstd"}) check_count(given, name, rows, "rows");
  for (const char* name : {"weight", "bias"}) check_count(given, name, size, "elements of a row");
}

void check_lengths(const Given& given, size_t length, std::initializer_list<const char*> lists) {
  for (const char* name : lists)
    if (auto list = given.integers(name); list.size() != length)
      given.refuse("ERR_LENGTH_MISMATCH", name, c10::str(length, " integers"), c10::str(list.size()));
}

void check_fractional_pool3d(const Given& given) { check_lengths(given, 3, {"kernel_size", "output_size"}); }
void check_fractional_pool2d(const Given& given) { check_lengths(given, 2, {"kernel_size", "output_size"}); }

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
      given.refuse(shape_error, "size", "no negative numbers", c10::str("(", c10::Join(", ", size), ")"));
    is_empty = is_empty || size[i] == 0;
    int64_t step;
    overflow = __builtin_mul_overflow(std::max<int64_t>(size[i] - 1, 0), stride[i], &step) || overflow;
    overflow = __builtin_add_overflow(reach, step, &reach) || overflow;
  }
  auto available = static_cast<int64_t>(self.storage().nbytes() / self.itemsize()) - self.storage_offset();
  if (!is_empty && (overflow || reach > available))
    given.refuse(shape_error, "size", c10::str("a view of the ", available, " elements behind self's first"),
                 c10::str("(", c10::Join(", ", size), ")"));
}

// Weights packed in an inner format, read by the sizes that are given beside them.
void check_4bit_matmul(const Given& given) {
  check_plain(given);
  auto block = given.integer("block_size", 0), in = given.integer("in_features", 0),
       out = given.integer("out_features", 0);
  constexpr int64_t most = int64_t{1} << 31;
  if (block < 1 || in < 1 || out < 1 || in > most || out > most || in % block != 0)
    given.refuse("ERR_ARGUMENT", "in_features", "a positive multiple of blockSize, and outFeatures",
                 c10::str(in, " in blocks of ", block, ", ", out));
  auto weights = given.tensor("packed_weights");
  if (weights.nbytes() < static_cast<size_t>(in * out / 2))
    given.refuse(shape_error, "packed_weights", c10::str(in, " times ", out, " packed numbers"),
                 describe(weights));
  auto input = given.tensor("inp");
  if (input.dim() != 2 || input.size(1) != in)
    given.refuse(shape_error, "inp", c10::str("(N, ", in, ")"), describe(input));
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
    {"aten::_batch_norm_impl_index_backward", check_batch_norm_backward},
    {"aten::native_batch_norm_backward", check_batch_norm_backward},
    {"aten::batch_norm_backward", check_batch_norm_backward},
    {"aten::native_layer_norm_backward", check_layer_norm_backward},
    {"aten::fractional_max_pool3d", check_fractional_pool3d},
    {"aten::fractional_max_pool3d_backward", check_fractional_pool3d},
    {"aten::fractional_max_pool2d", check_fractional_pool2d},
    {"aten::fractional_max_pool2d_backward", check_fractional_pool2d},
    {"aten::_reshape_alias", check_reshape_alias},
    {"aten::_dyn_quant_matmul_4bit", check_4bit_matmul},
};

}  // namespace

const Refusal* find_refusal(const std::string& qualified_name) {
  static const auto by_name = [] {
    std::unordered_map<std::string, const Refusal*> map;
    for (const auto& each : refusals) map.emplace(each.name, &each);
    for (const auto& each : value_refusals()) map.emplace(each.name, &each);
    return map;
  }();
  auto found = by_name.find(qualified_name);
  return found == by_name.end() ? nullptr : found->second;
}

}  // namespace alambic
