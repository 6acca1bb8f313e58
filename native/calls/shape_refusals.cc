#include "calls/shape_refusals.h"

#include <algorithm>

#include "calls/checks.h"
#include "errors.h"
#include "tensors/values.h"

namespace alambic {

namespace {

// More than any size that fits into memory, and little enough to be added and multiplied.
constexpr int64_t largest = int64_t{1} << 31;

void check_integers(const Given& given, const char* parameter, const std::vector<int64_t>& shape) {
  check_shape(given, parameter, shape);
  if (auto tensor = given.tensor(parameter); tensor.defined() && tensor.scalar_type() != at::kLong)
    given.refuse("ERR_DTYPE", parameter, "int64", describe(tensor));
}

// ---- Batch norms: one number per channel in each of their vectors
// -------------------------------------------------------------------------------------------------------------

void check_channels(const Given& given) {
  check_dims(given, "input", 2, any);
  auto channels = given.tensor("input").size(1);
  for (const char* name : {"weight", "bias", "running_mean", "running_var", "mean", "var", "save_mean",
                           "save_invstd", "save_var", "save_var_transform"})
    check_count(given, name, channels, "channels");
}

void check_batch_norm(const Given& given) {
  check_channels(given);
  if (given.boolean("training", false)) return;
  check_given(given, {"running_mean", "running_var"});
  if (!given.declares("running_mean"))
    given.refuse(argument_error, "training", "true where there are no running statistics", "false");
}

void check_batch_norm_backward(const Given& given) {
  check_plain(given);
  check_channels(given);
  if (auto input = given.tensor("input"); input.size(0) == 0 || input.size(1) == 0)
    given.refuse(shape_error, "input", "at least one sample and one channel", describe(input));
  for (const char* gradient : {"grad_out", "grad_output"}) check_same_shape(given, gradient, "input");
  if (given.boolean(given.declares("train") ? "train" : "update", false))
    check_given(given, {"save_mean", "save_invstd", "save_var", "save_var_transform"});
  else
    check_given(given, {"running_mean", "running_var"});
}

// ---- Group norms: their sizes are given beside the tensors
// -------------------------------------------------------------------------------------------------------------

void check_group_norm(const Given& given) {
  for (const char* name : {"N", "C", "HxW"}) check_range(given, name, 0, largest);
  check_range(given, "group", 1, largest);
  auto samples = given.integer("N", 0), channels = given.integer("C", 0), plane = given.integer("HxW", 0);
  auto input = given.tensor("input");
  // By division, as the product may be too large.
  bool fits = input.numel() == 0 ? samples == 0 || channels == 0 || plane == 0
                                 : samples > 0 && channels > 0 && input.numel() % samples == 0 &&
                                       input.numel() / samples % channels == 0 &&
                                       input.numel() / samples / channels == plane;
  if (!fits || channels % given.integer("group", 1) != 0)
    given.refuse(
        shape_error, "input",
        c10::str(samples, " · ", channels, " · ", plane, " elements, with as many channels in each group"),
        describe(input));
  check_same_shape(given, "grad_out", "input");
  for (const char* name : {"weight", "bias"}) check_count(given, name, channels, "channels");
  for (const char* name : {"mean", "rstd"})
    check_count(given, name, samples * given.integer("group", 1), "groups");
}

// ---- Padding and pooling: the gradient has the shape of the result
// -------------------------------------------------------------------------------------------------------------

enum class Padding { Reflection, Replication };

template <int64_t dims, Padding kind>
void check_pad_backward(const Given& given) {
  check_plain(given);
  check_dims(given, "self", dims + 1, dims + 2);
  check_lengths(given, {"padding"}, 2 * dims);
  auto shape = given.tensor("self").sizes().vec();
  auto padding = given.integers("padding");
  for (int64_t i = 0; i < dims; i++) {
    auto& size = shape[shape.size() - 1 - i];
    auto before = padding[2 * i], after = padding[2 * i + 1];
    auto most = kind == Padding::Reflection ? size - 1 : largest;
    for (auto each : {before, after})
      if (each > most || each <= -size)
        given.refuse(argument_error, "padding",
                     c10::str("more than ", -size, " and at most ", most, " for a size of ", size),
                     describe(padding));
    size += before + after;
  }
  check_shape(given, "grad_output", shape);
}

template <int64_t dims>
void check_adaptive_pool_backward(const Given& given) {
  check_plain(given);
  check_dims(given, "self", dims + 1, dims + 2);
  check_same_first_sizes(given, "grad_output", "self", dims);
  check_same_shape(given, "indices", "grad_output");
  auto self = given.tensor("self");
  for (auto size : self.sizes().slice(self.dim() - dims))
    if (size == 0) given.refuse(shape_error, "self", "sizes of at least 1 at its end", describe(self));
}

// ---- Fourier transforms: dimensions are counted from the first, and each occurs once
// -------------------------------------------------------------------------------------------------------------

void check_fft(const Given& given) {
  auto self = given.tensor("self");
  auto dims = given.integers("dim");
  check_each(given, "dim", 0, self.dim() - 1);
  check_range(given, "normalization", 0, 2);
  auto sorted = dims;
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
    given.refuse(argument_error, "dim", "each dimension once", describe(dims));
}

void check_real_fft(const Given& given) {
  check_fft(given);
  if (given.integers("dim").empty()) given.refuse(argument_error, "dim", "at least one dimension", "none");
}

void check_fft_to_real(const Given& given) {
  check_real_fft(given);
  auto size = given.tensor("self").size(given.integers("dim").back());
  check_range(given, "last_dim_size", 1, 2 * size - 1);
}

// ---- Recurrent networks
// -------------------------------------------------------------------------------------------------------------

void check_quantized_lstm_cell(const Given& given) {
  if (auto count = given.tensors("hx").size(); count != 2)
    given.refuse(length_error, "hx", "two tensors, the hidden state and the cell's", c10::str(count));
}

// Weights and biases of each layer and direction, in LSTMs also those of projections.
void check_rnn(const Given& given) {
  check_range(given, "num_layers", 1, largest);
  check_dims(given, "batch_sizes", 1);
  if (auto sizes = given.tensor("batch_sizes"); sizes.defined() && sizes.numel() == 0)
    given.refuse(shape_error, "batch_sizes", "at least one step", describe(sizes));
  auto layers = given.integer("num_layers", 1) * (given.boolean("bidirectional", false) ? 2 : 1);
  auto each = given.boolean("has_biases", true) ? 4 : 2;
  auto count = static_cast<int64_t>(given.tensors("params").size());
  if (count != layers * each && count != layers * (each + 1))
    given.refuse(length_error, "params", c10::str(layers, " times ", each, " tensors"), c10::str(count));
}

// oneDNN's layers: of one direction, with weights for as many gates as the mode has.
void check_rnn_layer(const Given& given, const char* of_input_weight, const char* of_hidden_weight,
                     std::initializer_list<const char*> biases) {
  check_plain(given);
  check_dims(given, "input", 3);
  check_range(given, "mode", 0, 3);
  check_range(given, "hidden_size", 1, largest);
  check_range(given, "num_layers", 1, 1);
  auto hidden = given.integer("hidden_size", 0);
  auto mode = given.integer("mode", 0);
  auto gates = mode == 2 ? 4 : mode == 3 ? 3 : 1;
  auto input = given.tensor("input");
  auto batch = input.size(1), features = input.size(2);
  if (input.numel() == 0) given.refuse(shape_error, "input", "elements", describe(input));
  if (given.boolean("bidirectional", false))
    given.refuse(argument_error, "bidirectional", "false: a layer has one direction", "true");
  check_shape(given, of_input_weight, {gates * hidden, features});
  check_shape(given, of_hidden_weight, {gates * hidden, hidden});
  if (given.boolean("has_biases", true))
    for (const char* name : biases) check_shape(given, name, {gates * hidden});
  for (const char* name : {"hx_", "cx_", "cx_tmp", "hy_", "cy_", "grad_hy", "grad_cy"})
    check_count(given, name, batch * hidden, "elements of a state");
  for (const char* name : {"output", "grad_output"}) check_shape(given, name, {input.size(0), batch, hidden});
  for (const char* name : {of_input_weight, of_hidden_weight, "hx_", "cx_", "cx_tmp"})
    check_same_dtype(given, name, "input");
  for (const char* name : biases) check_same_dtype(given, name, "input");
}

void check_mkldnn_rnn(const Given& given) {
  check_rnn_layer(given, "weight0", "weight1", {"weight2", "weight3"});
}

void check_mkldnn_rnn_backward(const Given& given) {
  check_rnn_layer(given, "weight1", "weight2", {"weight3", "weight4"});
}

// ---- Attention
// -------------------------------------------------------------------------------------------------------------

void check_attention(const Given& given) {
  for (const char* name : {"query", "key", "value"})
    if (auto tensor = given.tensor(name); tensor.numel() == 0)
      given.refuse(shape_error, name, "a tensor with elements", describe(tensor));
}

// Heads of keys and values are repeated until there are as many as of queries.
void check_grouped_attention(const Given& given) {
  if (!given.boolean("enable_gqa", false)) return;
  for (const char* name : {"key", "value"})
    if (auto tensor = given.tensor(name); !tensor.is_nested() && tensor.dim() > 2 && tensor.size(-3) == 0)
      given.refuse(shape_error, name, "at least one head", describe(tensor));
}

void check_attention_backward(const Given& given) {
  check_plain(given);
  check_attention(given);
  check_dims(given, "query", 4);
  check_dims(given, "value", 4);
  auto query = given.tensor("query"), value = given.tensor("value");
  auto shape = query.sizes().vec();
  check_shape(given, "logsumexp", {shape[0], shape[1], shape[2]});
  check_shape(given, "key", {shape[0], shape[1], value.size(2), shape[3]});
  shape[3] = value.size(3);
  for (const char* name : {"out", "grad_out"}) check_shape(given, name, shape);
  shape[2] = value.size(2);
  check_shape(given, "value", shape);
}

void check_heads(const Given& given) {
  for (const char* name : {"num_heads", "num_head"}) check_range(given, name, 1, largest);
}

void check_qkv(const Given& given) {
  check_heads(given);
  auto qkv = given.tensor("qkv");
  if (qkv.is_nested()) return;
  check_plain(given);
  check_dims(given, "qkv", 3);
  check_same_dtype(given, "qkv_bias", "qkv");
  check_shape(given, "qkv_bias", {qkv.size(2)});
  auto heads = given.integer("num_heads", 1);
  if (qkv.numel() == 0 || qkv.size(2) % (3 * heads) != 0)
    given.refuse(shape_error, "qkv", c10::str("(N, T, 3 · ", heads, " heads · size of a head)"),
                 describe(qkv));
}

// ---- Convolutions
// -------------------------------------------------------------------------------------------------------------

template <int64_t dims>
void check_slow_conv(const Given& given) {
  check_lengths(given, {"kernel_size", "stride", "padding", "output_padding", "dilation"}, dims);
  for (const char* name : {"kernel_size", "stride", "dilation"}) check_each(given, name, 1, largest);
  for (const char* name : {"padding", "output_padding"}) check_each(given, name, 0, largest);
  auto weight = given.tensor("weight");
  auto kernel = given.integers("kernel_size");
  if (weight.dim() == dims + 2 && weight.sizes().slice(2) != at::IntArrayRef(kernel))
    given.refuse(shape_error, "kernel_size", "the last sizes of weight " + describe(weight),
                 describe(kernel));
}

void check_nnpack(const Given& given) {
  check_plain(given);
  check_dims(given, "input", 4);
  check_dims(given, "weight", 4);
  check_lengths(given, {"padding", "stride"}, 2);
  check_each(given, "padding", 0, largest);
  check_each(given, "stride", 1, largest);
  auto input = given.tensor("input"), weight = given.tensor("weight");
  if (weight.size(1) != input.size(1) || input.numel() == 0 || weight.numel() == 0)
    given.refuse(shape_error, "weight", c10::str("(N, ", input.size(1), ", height, width)"),
                 describe(weight));
  check_count(given, "bias", weight.size(0), "channels");
  for (const char* name : {"input", "weight", "bias"})
    if (auto tensor = given.tensor(name); tensor.defined() && tensor.scalar_type() != at::kFloat)
      given.refuse("ERR_DTYPE", name, "float32", describe(tensor));
}

// ---- Linear algebra and distances
// -------------------------------------------------------------------------------------------------------------

void check_cholesky_solve(const Given& given) {
  check_plain(given);
  check_dims(given, "self", 2, any);
  check_same_dtype(given, "A", "self");
  auto shape = given.tensor("self").sizes().vec();
  shape.back() = shape[shape.size() - 2];
  check_shape(given, "A", shape);
}

void check_linear_combination(const Given& given) {
  check_plain(given);
  check_dims(given, "input", 1, any);
  check_dims(given, "coefficients", 2);
  check_same_dtype(given, "coefficients", "input");
  check_shape(given, "coefficients", {given.tensor("coefficients").size(0), given.tensor("input").size(0)});
}

void check_pdist_backward(const Given& given) {
  check_plain(given);
  check_dims(given, "self", 2);
  auto rows = given.tensor("self").size(0);
  for (const char* name : {"grad", "pdist"}) {
    check_shape(given, name, {rows * (rows - 1) / 2});
    check_same_dtype(given, name, "self");
  }
}

void check_matrix(const Given& given) {
  check_plain(given);
  check_dims(given, "self", 2);
}

void check_elements(const Given& given) {
  for (const char* name : {"input", "weight"})
    if (auto tensor = given.tensor(name); tensor.defined() && tensor.numel() == 0)
      given.refuse(shape_error, name, "a tensor with elements", describe(tensor));
}

// Its search takes as many steps as there are bins, and does not end with fewer than one.
void check_bins(const Given& given) {
  constexpr int64_t most_bins = int64_t{1} << 20, most_bits = 16;
  check_range(given, "n_bins", 1, most_bins);
  check_range(given, "bit_width", 1, most_bits);
  check_range(given, "numel", 0, given.tensor("input").numel());
}

void check_fp16_matrix(const Given& given) {
  check_plain(given);
  auto input = given.tensor("input");
  if (input.dim() != 2 || input.numel() == 0 || input.scalar_type() != at::kFloat)
    given.refuse(shape_error, "input", "a float32 matrix with elements", describe(input));
}

// ---- Results that were made before, and lists
// -------------------------------------------------------------------------------------------------------------

void check_running_extremum(const Given& given) {
  check_plain(given);
  if (auto self = given.tensor("self"); self.numel() == 0)
    given.refuse(shape_error, "self", "a tensor with elements", describe(self));
  for (const char* name : {"values", "indices"}) check_same_shape(given, name, "self");
  check_same_dtype(given, "values", "self");
  check_range(given, "dim", 0, std::max<int64_t>(given.tensor("self").dim() - 1, 0));
}

void check_out_dtype(const Given& given) { check_same_dtype(given, "out", "self"); }

// One number, or one for each sample without a reduction.
void check_margin_backward(const Given& given) {
  auto self = given.tensor("self");
  auto samples = given.integer("reduction", 1) == 0 && self.dim() == 2 ? self.size(0) : 1;
  check_count(given, "grad_output", samples, "samples");
}

void check_mkldnn_linear(const Given& given) {
  auto self = given.tensor("self");
  check_dims(given, "self", 1, any);
  check_dims(given, "weight", 2);
  auto rows = given.tensor("weight").size(0);
  check_shape(given, "weight", {rows, self.size(-1)});
  check_count(given, "bias", rows, "rows of weight");
  if (auto out = given.tensor("out"); out.defined() && out.layout() != at::kMkldnn)
    given.refuse("ERR_NOT_IMPLEMENTED", "out", "a tensor in oneDNN's layout", describe(out));
}

// Sizes of the parts of a nested tensor, one row for each.
void check_nested_sizes(const Given& given) {
  check_plain(given);
  check_dims(given, "nested_size", 2);
  check_integers(given, "nested_size", given.tensor("nested_size").sizes().vec());
}

void check_softmax_backward(const Given& given) { check_same_shape(given, "grad_output", "output"); }

void check_stack(const Given& given) {
  if (given.tensors("tensors").empty())
    given.refuse(argument_error, "tensors", "at least one tensor", "none");
}

// The kernel for quantized results reads the first tensor.
void check_quantized_cat(const Given& given) {
  auto out = given.tensor("out");
  if (out.defined() && out.is_quantized()) check_stack(given);
}

// Written as if the batches lay one behind the other.
void check_triangle(const Given& given) {
  auto out = given.tensor("out");
  if (out.defined() && out.dim() > 3 && out.layout() == at::kStrided && !out.is_contiguous())
    given.refuse(argument_error, "out", "a contiguous tensor", describe(out) + " with other strides");
}

void check_chunks(const Given& given) {
  for (const auto& tensor : given.tensors("tensors"))
    if (tensor.dim() == 0) given.refuse(shape_error, "tensors", "at least one dimension", describe(tensor));
}

void check_masked_index(const Given& given) {
  auto dims = given.tensor("self").dim();
  if (auto count = given.length("indices"); count > dims)
    given.refuse("ERR_INDEX", "indices", c10::str("at most ", dims, ", as self has dimensions"),
                 c10::str(count));
}

void check_foreach_copy(const Given& given) {
  check_plain(given);
  auto count = given.tensors("self").size();
  for (const char* name : {"src", "out"})
    if (auto list = given.tensors(name); given.declares(name) && list.size() != count)
      given.refuse(length_error, name, c10::str("as many as self (", count, ")"), c10::str(list.size()));
}

// ---- Sobol sequences: the state has 30 direction numbers for each dimension
// -------------------------------------------------------------------------------------------------------------

template <bool state_is_self>
void check_sobol(const Given& given) {
  constexpr int64_t most_dimensions = 21201, bits = 30;
  check_plain(given);
  check_range(given, "dimension", 1, most_dimensions);
  auto dimension = given.integer("dimension", 1);
  if (state_is_self)
    check_integers(given, "self", {dimension, bits});
  else
    check_integers(given, given.declares("quasi") ? "quasi" : "self", {dimension});
  check_integers(given, "sobolstate", {dimension, bits});
  check_integers(given, "ltm", {dimension, bits, bits});
  auto most = int64_t{1} << bits;
  check_range(given, "num_generated", 0, most);
  check_range(given, "n", 0, most - given.integer("num_generated", 0));
}

// ---- Layouts that are taken to be others
// -------------------------------------------------------------------------------------------------------------

void check_index_copy(const Given& given) {
  for (const char* name : {"index", "source"})
    if (auto tensor = given.tensor(name); tensor.layout() != at::kStrided)
      given.refuse("ERR_NOT_IMPLEMENTED", name, "a dense tensor",
                   c10::str(layout_name(tensor.layout()), " ", describe(tensor)));
}

void check_sparse(const Given& given) {
  if (auto self = given.tensor("self"); self.layout() != at::kSparse)
    given.refuse("ERR_NOT_IMPLEMENTED", "self", "a sparse tensor", describe(self));
}

// ---- Transformations by torch.func
// -------------------------------------------------------------------------------------------------------------

void check_remove_batch_dim(const Given& given) {
  auto dims = given.tensor("self").dim(), at = given.integer("out_dim", 0);
  if (at < 0 || at > dims) given.refuse("ERR_INDEX", "out_dim", c10::str(0, " to ", dims), c10::str(at));
}

void check_not_quantized(const Given& given) {
  if (auto self = given.tensor("self"); self.is_quantized())
    given.refuse("ERR_NOT_IMPLEMENTED", "self", "a tensor without scales", describe(self));
}

// As another dtype; as other sizes it keeps its scales.
void check_view_copy(const Given& given) {
  if (given.declares("dtype")) check_not_quantized(given);
}

void check_feature_meta(const Given& given) {
  check_range(given, "self_num_batch_dims", 0, given.tensor("self").dim());
}

}  // namespace

const std::vector<Refusal>& shape_refusals() {
  static const std::vector<Refusal> refusals = {
      {"aten::native_batch_norm", check_batch_norm},
      {"aten::_native_batch_norm_legit", check_batch_norm},
      {"aten::_native_batch_norm_legit_functional", check_batch_norm},
      {"aten::_native_batch_norm_legit_no_training", check_channels},
      {"aten::_batch_norm_no_update", check_batch_norm},
      {"aten::_batch_norm_with_update", check_channels},
      {"aten::_batch_norm_with_update_functional", check_channels},
      {"aten::batch_norm_update_stats", check_channels},
      {"aten::quantized_batch_norm", check_channels},
      {"aten::native_batch_norm_backward", check_batch_norm_backward},
      {"aten::batch_norm_backward", check_batch_norm_backward},
      {"aten::_batch_norm_impl_index_backward", check_batch_norm_backward},
      {"aten::native_group_norm", check_group_norm},
      {"aten::native_group_norm_backward", check_group_norm},
      {"aten::reflection_pad1d_backward", check_pad_backward<1, Padding::Reflection>},
      {"aten::reflection_pad2d_backward", check_pad_backward<2, Padding::Reflection>},
      {"aten::reflection_pad3d_backward", check_pad_backward<3, Padding::Reflection>},
      {"aten::replication_pad1d_backward", check_pad_backward<1, Padding::Replication>},
      {"aten::replication_pad2d_backward", check_pad_backward<2, Padding::Replication>},
      {"aten::replication_pad3d_backward", check_pad_backward<3, Padding::Replication>},
      {"aten::adaptive_max_pool2d_backward", check_adaptive_pool_backward<2>},
      {"aten::adaptive_max_pool3d_backward", check_adaptive_pool_backward<3>},
      {"aten::_adaptive_avg_pool2d_backward", check_adaptive_pool_backward<2>},
      {"aten::_adaptive_avg_pool3d_backward", check_adaptive_pool_backward<3>},
      {"aten::adaptive_avg_pool3d_backward", check_adaptive_pool_backward<3>},
      {"aten::_fft_c2c", check_fft},
      {"aten::_fft_r2c", check_real_fft},
      {"aten::_fft_c2r", check_fft_to_real},
      {"aten::quantized_lstm_cell", check_quantized_lstm_cell},
      {"aten::lstm", check_rnn},
      {"aten::gru", check_rnn},
      {"aten::rnn_tanh", check_rnn},
      {"aten::rnn_relu", check_rnn},
      {"aten::mkldnn_rnn_layer", check_mkldnn_rnn},
      {"aten::mkldnn_rnn_layer_backward", check_mkldnn_rnn_backward},
      {"aten::_transform_bias_rescale_qkv", check_qkv},
      {"aten::scaled_dot_product_attention", check_grouped_attention},
      {"aten::_fused_sdp_choice", check_grouped_attention},
      {"aten::_scaled_dot_product_attention_math", check_grouped_attention},
      {"aten::_scaled_dot_product_flash_attention_for_cpu", check_attention},
      {"aten::_scaled_dot_product_flash_attention_for_cpu_backward", check_attention_backward},
      {"aten::_native_multi_head_attention", check_heads},
      {"aten::_transformer_encoder_layer_fwd", check_heads},
      {"aten::_slow_conv2d_forward", check_slow_conv<2>},
      {"aten::_slow_conv2d_backward", check_slow_conv<2>},
      {"aten::thnn_conv2d", check_slow_conv<2>},
      {"aten::slow_conv_dilated2d", check_slow_conv<2>},
      {"aten::slow_conv_transpose2d", check_slow_conv<2>},
      {"aten::slow_conv3d", check_slow_conv<3>},
      {"aten::slow_conv3d_forward", check_slow_conv<3>},
      {"aten::slow_conv_dilated3d", check_slow_conv<3>},
      {"aten::slow_conv_transpose3d", check_slow_conv<3>},
      {"aten::_nnpack_spatial_convolution", check_nnpack},
      {"aten::_cholesky_solve_helper", check_cholesky_solve},
      {"aten::_compute_linear_combination", check_linear_combination},
      {"aten::_pdist_forward", check_matrix},
      {"aten::_pdist_backward", check_pdist_backward},
      {"aten::_sobol_engine_draw", check_sobol<false>},
      {"aten::_sobol_engine_ff_", check_sobol<false>},
      {"aten::_sobol_engine_initialize_state_", check_sobol<true>},
      {"aten::_sobol_engine_scramble_", check_sobol<true>},
      {"aten::index_copy", check_index_copy},
      {"aten::index_copy_", check_index_copy},
      {"aten::_sparse_broadcast_to", check_sparse},
      {"aten::_sparse_broadcast_to_copy", check_sparse},
      {"aten::choose_qparams_optimized", check_bins},
      {"aten::_saturate_weight_to_fp16", check_elements},
      {"aten::fbgemm_linear_quantize_weight", check_elements},
      {"aten::fbgemm_pack_gemm_matrix_fp16", check_fp16_matrix},
      {"aten::_cummax_helper", check_running_extremum},
      {"aten::_cummin_helper", check_running_extremum},
      {"aten::_logcumsumexp", check_out_dtype},
      {"aten::multi_margin_loss_backward", check_margin_backward},
      {"aten::multilabel_margin_loss_backward", check_margin_backward},
      {"aten::mkldnn_linear", check_mkldnn_linear},
      {"aten::_nested_compute_contiguous_strides_offsets", check_nested_sizes},
      {"aten::_softmax_backward_data", check_softmax_backward},
      {"aten::_log_softmax_backward_data", check_softmax_backward},
      {"aten::_stack", check_stack},
      {"aten::triu", check_triangle},
      {"aten::tril", check_triangle},
      {"aten::cat", check_quantized_cat},
      {"aten::concat", check_quantized_cat},
      {"aten::concatenate", check_quantized_cat},
      {"aten::_chunk_cat", check_chunks},
      {"aten::_unsafe_masked_index", check_masked_index},
      {"aten::_unsafe_masked_index_put_accumulate", check_masked_index},
      {"aten::_foreach_copy", check_foreach_copy},
      {"aten::_neg_view", check_not_quantized},
      {"aten::_neg_view_copy", check_not_quantized},
      {"aten::view_copy", check_view_copy},
      {"aten::_remove_batch_dim", check_remove_batch_dim},
      {"aten::_new_zeros_with_same_feature_meta", check_feature_meta},
  };
  return refusals;
}

}  // namespace alambic
