#include "calls/value_refusals.h"

#include <ATen/ExpandUtils.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "calls/checks.h"
#include "calls/given.h"
#include "errors.h"
#include "tensors/values.h"
#include "trace/recorder.h"

namespace alambic {

namespace {

using at::Tensor;

// Can be looked at without waiting for a GPU: there the kernels check for themselves.
bool is_readable(const Tensor& tensor) {
  return tensor.defined() && tensor.is_cpu() && tensor.layout() == at::kStrided && !tensor.is_nested() &&
         !tensor.is_quantized();
}

std::vector<int64_t> integers_of(const Tensor& tensor) {
  trace::Paused paused;
  auto flat = tensor.to(at::kLong).contiguous();
  return {flat.data_ptr<int64_t>(), flat.data_ptr<int64_t>() + flat.numel()};
}

bool is_integral(const Tensor& tensor) {
  return is_readable(tensor) && at::isIntegralType(tensor.scalar_type(), /*includeBool=*/false);
}

// Each of `values` from `least` to `most`.
void check_values(const Given& given, const char* parameter, const std::vector<int64_t>& values,
                  int64_t least, int64_t most) {
  for (auto value : values)
    if (value < least || value > most)
      given.refuse("ERR_INDEX", parameter, c10::str("integers from ", least, " to ", most), c10::str(value));
}

// Indices into `count` elements.
void check_indices(const Given& given, const char* parameter, int64_t count) {
  auto indices = given.tensor(parameter);
  if (is_integral(indices)) check_values(given, parameter, integers_of(indices), 0, count - 1);
}

// Positions in `count` elements that begin parts of them, one after the other.
void check_rising(const Given& given, const char* parameter, at::ArrayRef<int64_t> offsets, int64_t count) {
  int64_t last = 0;
  for (auto offset : offsets) {
    if (offset < last || offset > count)
      given.refuse("ERR_INDEX", parameter, c10::str("integers that rise from 0 to at most ", count),
                   c10::str(offset, last == 0 ? "" : c10::str(" after ", last)));
    last = offset;
  }
}

void check_offsets(const Given& given, const char* parameter, int64_t count) {
  auto offsets = given.tensor(parameter);
  if (is_integral(offsets)) check_rising(given, parameter, integers_of(offsets), count);
}

// ---- Quotients of integers: of the smallest by -1 there is none, and the processor stops the process
// -------------------------------------------------------------------------------------------------------------

void check_quotient(const Given& given) {
  auto self = given.tensor("self"), other = given.tensor("other");
  if (!is_integral(self) || !is_integral(other)) return;
  trace::Paused paused;
  auto dtype = at::result_type(self, other);
  if (dtype != at::kLong && dtype != at::kInt) return;  // the smaller ones are computed in int32
  if (!at::are_expandable(self.sizes(), other.sizes()) || !other.eq(-1).any().item<bool>()) return;
  auto least = dtype == at::kLong ? std::numeric_limits<int64_t>::min() : std::numeric_limits<int32_t>::min();
  if (self.eq(least).logical_and(other.eq(-1)).any().item<bool>())
    given.refuse("ERR_ARGUMENT", "other", c10::str("a quotient that ", dtype_name(dtype), " can hold"),
                 c10::str(least, " by -1"));
}

void check_rounded_quotient(const Given& given) {
  if (given.has("rounding_mode")) check_quotient(given);
}

// By beta, as an integer.
void check_smooth_backward(const Given& given) {
  for (const char* name : {"grad_output", "self", "target"})
    if (!at::isIntegralType(given.tensor(name).scalar_type(), /*includeBool=*/true)) return;
  if (auto beta = given.number("beta", 1); std::abs(beta) < 1)
    given.refuse("ERR_ARGUMENT", "beta", "a number of at least 1 for tensors of integers", c10::str(beta));
}

// The number of steps is a quotient too.
void check_step(const Given& given) {
  auto out = given.tensor("out");
  auto dtype = out.defined() ? out.scalar_type() : given.dtype("dtype", at::kFloat);
  auto step = given.number("step", 1);
  if (at::isIntegralType(dtype, /*includeBool=*/true) && std::abs(step) < 1)
    given.refuse("ERR_ARGUMENT", "step", c10::str("a step that ", dtype_name(dtype), " can hold"),
                 c10::str(step));
}

// ---- Indices that forwards have made, in their backwards
// -------------------------------------------------------------------------------------------------------------

template <int64_t dims>
void check_pool_backward(const Given& given) {
  auto self = given.tensor("self");
  if (self.dim() < dims) return;
  int64_t plane = 1;
  for (int64_t i = 1; i <= dims; i++) plane *= self.size(-i);
  check_indices(given, "indices", plane);
}

void check_embedding_backward(const Given& given) {
  check_indices(given, "indices", given.integer("num_weights", 0));
}

void check_bags(const Given& given) {
  if (auto grad = given.tensor("grad"); grad.dim() > 0) check_indices(given, "offset2bag", grad.size(0));
}

void check_embedding_bag_backward(const Given& given) {
  check_embedding_backward(given);
  check_bags(given);
}

void check_per_sample_weights_backward(const Given& given) {
  if (auto weight = given.tensor("weight"); weight.dim() > 0) check_indices(given, "indices", weight.size(0));
  check_bags(given);
}

void check_embedding_bag(const Given& given) {
  check_dims(given, "offsets", 1);
  auto indices = given.tensor("indices");
  if (indices.dim() == 1) check_offsets(given, "offsets", indices.numel());
}

// ---- Labels
// -------------------------------------------------------------------------------------------------------------

void check_nll_backward(const Given& given) {
  auto self = given.tensor("self"), target = given.tensor("target");
  if (self.dim() == 0 || !is_integral(target)) return;
  auto classes = self.size(self.dim() == 1 ? 0 : 1), ignored = given.integer("ignore_index", -100);
  auto labels = integers_of(target);
  labels.erase(std::remove(labels.begin(), labels.end(), ignored), labels.end());
  check_values(given, "target", labels, 0, classes - 1);
}

// Lists and tensors alike.
std::vector<int64_t> lengths_of(const Given& given, const char* parameter) {
  if (!given.is_tensor(parameter)) return given.integers(parameter);
  auto tensor = given.tensor(parameter);
  return is_integral(tensor) ? integers_of(tensor) : std::vector<int64_t>();
}

// What stands behind the length of a sample may be anything.
void check_ctc(const Given& given) {
  auto log_probs = given.tensor("log_probs"), targets = given.tensor("targets");
  if (log_probs.dim() < 2 || !is_integral(targets) || targets.dim() < 1 || targets.dim() > 2) return;
  auto classes = log_probs.size(-1);
  auto lengths = lengths_of(given, "target_lengths");
  auto labels = integers_of(targets);
  auto width = targets.dim() == 2 ? targets.size(1) : 0;
  int64_t total = 0;
  for (size_t i = 0; i < lengths.size(); i++) {
    auto begin = targets.dim() == 2 ? static_cast<int64_t>(i) * width : total;
    auto room = targets.dim() == 2 ? width : targets.numel() - total;
    if (lengths[i] < 0 || lengths[i] > room || begin + lengths[i] > targets.numel())
      given.refuse("ERR_INDEX", "target_lengths", c10::str("lengths within targets ", describe(targets)),
                   c10::str(lengths[i]));
    check_values(given, "targets", {labels.begin() + begin, labels.begin() + begin + lengths[i]}, 0,
                 classes - 1);
    total += lengths[i];
  }
}

void check_ctc_backward(const Given& given) {
  check_plain(given);
  check_dims(given, "log_probs", 3);
  auto log_probs = given.tensor("log_probs");
  auto steps = log_probs.size(0), samples = log_probs.size(1);
  check_range(given, "blank", 0, log_probs.size(2) - 1);
  for (const char* name : {"input_lengths", "target_lengths"}) {
    auto lengths = lengths_of(given, name);
    bool is_known = !given.is_tensor(name) || is_integral(given.tensor(name));
    if (is_known && static_cast<int64_t>(lengths.size()) != samples)
      given.refuse(length_error, name, c10::str(samples, " integers"), c10::str(lengths.size()));
  }
  check_values(given, "input_lengths", lengths_of(given, "input_lengths"), 0, steps);
  for (const char* name : {"grad", "neg_log_likelihood"}) check_shape(given, name, {samples});
  for (const char* name : {"grad", "neg_log_likelihood", "log_alpha"})
    check_same_dtype(given, name, "log_probs");
  auto lengths = lengths_of(given, "target_lengths");
  auto longest = lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
  check_ctc(given);
  check_dims(given, "log_alpha", 3);
  auto alpha = given.tensor("log_alpha");
  if (alpha.size(0) != samples || alpha.size(1) != steps || alpha.size(2) < 2 * longest + 1)
    given.refuse(shape_error, "log_alpha", describe({samples, steps, 2 * longest + 1}), describe(alpha));
}

// ---- Lengths and offsets
// -------------------------------------------------------------------------------------------------------------

void check_segments(const Given& given) {
  auto data = given.tensor("data");
  auto axis = given.integer("axis", 0);
  if (axis < 0 || axis >= data.dim()) return;
  auto count = data.size(axis);
  check_offsets(given, "offsets", count);
  auto lengths = given.tensor("lengths");
  if (!is_integral(lengths) || lengths.dim() == 0) return;
  auto values = integers_of(lengths);
  auto rows = std::max<int64_t>(lengths.size(-1), 1);
  int64_t total = 0;
  for (size_t i = 0; i < values.size(); i++) {
    if (static_cast<int64_t>(i) % rows == 0) total = 0;
    if (values[i] < 0 || values[i] > count - total)
      given.refuse("ERR_INDEX", "lengths", c10::str("lengths of at least 0 with a sum of at most ", count),
                   c10::str(values[i]));
    total += values[i];
  }
}

void check_segments_backward(const Given& given) {
  check_plain(given);
  check_segments(given);
  auto data = given.tensor("data");
  check_dims(given, "data", 1, any);
  check_range(given, "axis", 0, data.dim() - 1);
  check_same_shape(given, "output", "grad");
  for (const char* name : {"output", "grad"}) check_same_dtype(given, name, "data");
  auto axis = given.integer("axis", 0);
  bool has_lengths = given.has("lengths");
  const auto* name = has_lengths ? "lengths" : "offsets";
  auto borders = given.tensor(name);
  if (!borders.defined()) given.refuse(argument_error, "lengths", "lengths or offsets", "none");
  check_dims(given, name, axis + 1);
  auto segments = borders.size(-1) - (has_lengths ? 0 : 1);
  auto shape = data.sizes().vec();
  shape[axis] = segments;
  check_shape(given, "grad", shape);
  shape.resize(axis + 1);
  shape[axis] = borders.size(-1);
  check_shape(given, name, shape);
}

void check_pack(const Given& given) {
  auto input = given.tensor("input"), lengths = given.tensor("lengths");
  if (input.dim() < 2 || !is_integral(lengths)) return;
  auto steps = input.size(given.boolean("batch_first", false) ? 1 : 0);
  check_values(given, "lengths", integers_of(lengths), 1, steps);
}

void check_batch_sizes(const Given& given, int64_t rows) {
  auto sizes = given.tensor("batch_sizes");
  if (!is_integral(sizes)) return;
  int64_t total = 0;
  for (auto size : integers_of(sizes)) {
    if (size < 1 || size > rows - total)
      given.refuse("ERR_INDEX", "batch_sizes",
                   c10::str("integers of at least 1 with a sum of at most ", rows), c10::str(size));
    total += size;
  }
}

void check_pad_packed(const Given& given) {
  if (auto data = given.tensor("data"); data.dim() > 0) check_batch_sizes(given, data.size(0));
}

void check_pack_backward(const Given& given) {
  if (auto grad = given.tensor("grad"); grad.dim() > 0) check_batch_sizes(given, grad.size(0));
}

void check_rows_of_indices(const Given& given) { check_indices(given, "self", given.integer("size", 0)); }

// Of one matrix, or of each in a batch.
void check_compressed_rows(const Given& given) {
  auto columns = given.tensor("col_indices"), rows = given.tensor("crow_indices");
  check_dims(given, "crow_indices", 1, any);
  check_same_first_sizes(given, "col_indices", "crow_indices", 1);
  auto count = rows.size(-1);
  if (count == 0) given.refuse(shape_error, "crow_indices", "(…, rows + 1)", describe(rows));
  if (!is_integral(rows)) return;
  auto values = integers_of(rows);
  for (size_t begin = 0; begin < values.size(); begin += count)
    check_rising(given, "crow_indices", {values.data() + begin, static_cast<size_t>(count)},
                 columns.size(-1));
}

// ---- Sparse tensors: whoever reads one goes where its indices say
// -------------------------------------------------------------------------------------------------------------

void check_coordinates(const Given& given) {
  auto indices = given.tensor("indices");
  if (!is_integral(indices) || indices.dim() != 2) return;
  auto values = integers_of(indices);
  auto size = given.integers("size");
  auto rows = indices.size(0), count = indices.size(1);
  for (int64_t row = 0; row < rows; row++) {
    bool is_bounded = row < static_cast<int64_t>(size.size());
    auto most = is_bounded ? size[row] - 1 : std::numeric_limits<int64_t>::max();
    check_values(given, "indices", {values.begin() + row * count, values.begin() + (row + 1) * count}, 0,
                 most);
  }
}

void check_compressed(const Given& given, const Tensor& compressed, const Tensor& plain, at::Layout layout) {
  auto values = given.tensor("values");
  auto size = given.integers("size");
  if (!is_integral(compressed) || !is_integral(plain) || !values.defined() || size.empty()) return;
  trace::Paused paused;
  at::_validate_sparse_compressed_tensor_args(compressed, plain, values, size, layout);
}

template <at::Layout layout>
void check_rows_and_columns(const Given& given) {
  check_compressed(given, given.tensor("crow_indices"), given.tensor("col_indices"), layout);
}

template <at::Layout layout>
void check_columns_and_rows(const Given& given) {
  check_compressed(given, given.tensor("ccol_indices"), given.tensor("row_indices"), layout);
}

void check_compressed_and_plain(const Given& given) {
  check_compressed(given, given.tensor("compressed_indices"), given.tensor("plain_indices"),
                   given.layout("layout", at::kSparseCsr));
}

// The sizes of each part, within the padded whole.
void check_nested_from_padded(const Given& given) {
  auto padded = given.tensor("padded"), sizes = given.tensor("cpu_nested_shape_example");
  bool is_split = given.boolean("fuse_transform_0213", false);
  if (is_split) check_dims(given, "padded", 4);
  check_dims(given, "padded", 2, any);
  auto most = padded.sizes().slice(1).vec();
  if (is_split) most = {most[1], most[0] * most[2]};
  auto columns = static_cast<int64_t>(most.size());
  check_shape(given, "cpu_nested_shape_example", {padded.size(0), columns});
  if (!is_readable(sizes) || sizes.scalar_type() != at::kLong)
    given.refuse("ERR_DTYPE", "cpu_nested_shape_example", "int64 on the CPU", describe(sizes));
  auto values = integers_of(sizes);
  for (size_t i = 0; i < values.size(); i++)
    check_values(given, "cpu_nested_shape_example", {values[i]}, 0, most[i % columns]);
}

// ---- Places in pictures
// -------------------------------------------------------------------------------------------------------------

// Gradients are added at places that the kernel computes as integers, which infinite ones do not have.
void check_grid_backward(const Given& given) {
  auto grid = given.tensor("grid");
  if (!is_readable(grid) || !at::isFloatingType(grid.scalar_type()) || grid.numel() == 0) return;
  trace::Paused paused;
  constexpr double most = 1e6;
  auto largest = grid.detach().abs().max().item<double>();
  if (!(largest <= most))
    given.refuse("ERR_ARGUMENT", "grid",
                 c10::str("numbers from ", -most, " to ", most, " where gradients are computed"),
                 c10::str(largest));
}

void check_grid(const Given& given) {
  auto input = given.tensor("input"), grid = given.tensor("grid");
  bool needs_gradient = at::GradMode::is_enabled() && ((input.defined() && input.requires_grad()) ||
                                                       (grid.defined() && grid.requires_grad()));
  if (needs_gradient) check_grid_backward(given);
}

}  // namespace

const std::vector<Refusal>& value_refusals() {
  static const std::vector<Refusal> refusals = {
      {"aten::div", check_rounded_quotient},
      {"aten::div_", check_rounded_quotient},
      {"aten::divide", check_rounded_quotient},
      {"aten::divide_", check_rounded_quotient},
      {"aten::floor_divide", check_quotient},
      {"aten::floor_divide_", check_quotient},
      {"aten::remainder", check_quotient},
      {"aten::remainder_", check_quotient},
      {"aten::fmod", check_quotient},
      {"aten::fmod_", check_quotient},
      {"aten::smooth_l1_loss_backward", check_smooth_backward},
      {"aten::range", check_step},
      {"aten::max_pool2d_with_indices_backward", check_pool_backward<2>},
      {"aten::max_pool3d_with_indices_backward", check_pool_backward<3>},
      {"aten::adaptive_max_pool2d_backward", check_pool_backward<2>},
      {"aten::adaptive_max_pool3d_backward", check_pool_backward<3>},
      {"aten::embedding_backward", check_embedding_backward},
      {"aten::embedding_dense_backward", check_embedding_backward},
      {"aten::embedding_sparse_backward", check_embedding_backward},
      {"aten::_embedding_bag_backward", check_embedding_bag_backward},
      {"aten::_embedding_bag_dense_backward", check_embedding_bag_backward},
      {"aten::_embedding_bag_sparse_backward", check_embedding_bag_backward},
      {"aten::_embedding_bag_per_sample_weights_backward", check_per_sample_weights_backward},
      {"aten::embedding_bag", check_embedding_bag},
      {"aten::_embedding_bag", check_embedding_bag},
      {"aten::_embedding_bag_forward_only", check_embedding_bag},
      {"aten::nll_loss_backward", check_nll_backward},
      {"aten::nll_loss2d_backward", check_nll_backward},
      {"aten::ctc_loss", check_ctc},
      {"aten::_ctc_loss", check_ctc},
      {"aten::_ctc_loss_backward", check_ctc_backward},
      {"aten::segment_reduce", check_segments},
      {"aten::_segment_reduce_backward", check_segments_backward},
      {"aten::_pack_padded_sequence", check_pack},
      {"aten::_pack_padded_sequence_backward", check_pack_backward},
      {"aten::_pad_packed_sequence", check_pad_packed},
      {"aten::_convert_indices_from_coo_to_csr", check_rows_of_indices},
      {"aten::_convert_indices_from_csr_to_coo", check_compressed_rows},
      {"aten::sparse_coo_tensor", check_coordinates},
      {"aten::_sparse_coo_tensor_unsafe", check_coordinates},
      {"aten::_sparse_coo_tensor_with_dims_and_tensors", check_coordinates},
      {"aten::sparse_compressed_tensor", check_compressed_and_plain},
      {"aten::_sparse_compressed_tensor_unsafe", check_compressed_and_plain},
      {"aten::sparse_csr_tensor", check_rows_and_columns<at::kSparseCsr>},
      {"aten::_sparse_csr_tensor_unsafe", check_rows_and_columns<at::kSparseCsr>},
      {"aten::sparse_bsr_tensor", check_rows_and_columns<at::kSparseBsr>},
      {"aten::_sparse_bsr_tensor_unsafe", check_rows_and_columns<at::kSparseBsr>},
      {"aten::sparse_csc_tensor", check_columns_and_rows<at::kSparseCsc>},
      {"aten::_sparse_csc_tensor_unsafe", check_columns_and_rows<at::kSparseCsc>},
      {"aten::sparse_bsc_tensor", check_columns_and_rows<at::kSparseBsc>},
      {"aten::_sparse_bsc_tensor_unsafe", check_columns_and_rows<at::kSparseBsc>},
      {"aten::_nested_from_padded", check_nested_from_padded},
      {"aten::grid_sampler", check_grid},
      {"aten::grid_sampler_2d", check_grid},
      {"aten::grid_sampler_3d", check_grid},
      {"aten::_grid_sampler_2d_cpu_fallback", check_grid},
      {"aten::grid_sampler_2d_backward", check_grid_backward},
      {"aten::grid_sampler_3d_backward", check_grid_backward},
      {"aten::_grid_sampler_2d_cpu_fallback_backward", check_grid_backward},
  };
  return refusals;
}

}  // namespace alambic
