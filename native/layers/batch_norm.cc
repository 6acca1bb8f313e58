#include "layers/batch_norm.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/autograd.h"
#include "layers/norm_kernels.h"
#include "tensors/readable.h"
#include "trace/recorder.h"

namespace alambic {

namespace {

using at::Tensor;
using List = std::vector<Tensor>;
using kernels::Clamp;
using kernels::Rows;

template <typename T>
using Sum = at::opmath_type<T>;

// Columns of a row: several vectors, so that sums need not wait for each other.
constexpr int64_t fewest_columns = 256;
// Columns of a task, whose sums then stay in the nearest cache.
constexpr int64_t most_columns = 512;
// Elements per task: partial sums do not depend on the number of threads.
constexpr int64_t task_size = 1 << 14;
// Rows per task: each has a sum per column.
constexpr int64_t fewest_rows = 32;
// Tasks per column: each has a sum per channel.
constexpr int64_t most_groups = 64;
// Planes of fewer values are not worth a loop each.
constexpr int64_t fewest_positions = 64;

Clamp clamp_of(Activation activation) {
  constexpr auto none = std::numeric_limits<double>::quiet_NaN();
  switch (activation) {
    case Activation::Relu:
      return {0, none};
    case Activation::Relu6:
      return {0, 6};
    default:
      return {none, none};
  }
}

// Calls `function` with a value of the C++ type of a dtype that has kernels.
template <typename Function>
void dispatch(at::ScalarType dtype, Function function) {
  if (dtype == at::kFloat) return function(float{});
  if (dtype == at::kDouble) return function(double{});
  function(at::BFloat16{});
}

// ---- Walking over a feature in tasks
// ---------------------------------------------------------------------------------

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A piece of a feature.
struct Task {
  int64_t start;  // its first element
  Rows rows;
  // Of the pieces that have the same channels, which one.
  int64_t group;
  // The first column or, where all have one channel, the channel.
  int64_t column;
};

// How to walk over a feature (N, C, …). Large planes are taken one by one. Else it is a matrix whose columns
// belong to channels: of a channels-last feature the rows are positions, of one with small planes samples.
class Layout {
 public:
  explicit Layout(const Tensor& x)
      : samples_(x.size(0)), channels_(x.size(1)), positions_(x.numel() / (samples_ * channels_)) {
    bool channels_last = positions_ == 1 || !x.is_contiguous();
    has_planes_ = !channels_last && positions_ >= fewest_positions;
    if (has_planes_) return;
    // Several positions side by side in a row, so that few channels fill vectors as well.
    per_row_ = channels_last ? std::max<int64_t>(1, fewest_columns / channels_) : positions_;
    is_interleaved_ = channels_last;
    columns_ = channels_ * per_row_;
    rows_ = count() / per_row_;
    columns_per_task_ = columns_ <= 2 * most_columns ? columns_
                        : channels_last              ? most_columns
                                                     : most_columns - most_columns % positions_;
    rows_per_task_ =
        std::max({fewest_rows, divide_up(task_size, columns_per_task_), divide_up(rows_, most_groups)});
    // What fills no row is one of its own.
    groups_ = divide_up(rows_, rows_per_task_) + (rest() > 0 ? 1 : 0);
  }

  int64_t channels() const { return channels_; }
  // Values per channel.
  int64_t count() const { return samples_ * positions_; }
  // How many sums of a channel there are.
  int64_t groups() const { return has_planes_ ? samples_ : groups_; }
  // Values per channel in a group.
  int64_t count(int64_t group) const {
    if (has_planes_) return positions_;
    auto first = group * rows_per_task_;
    return first < rows_ ? std::min(rows_per_task_, rows_ - first) * per_row_ : rest();
  }

  template <typename Work>
  void for_each(Work work) const {
    if (has_planes_) {
      auto grain = std::max<int64_t>(1, task_size / positions_);
      at::parallel_for(0, samples_ * channels_, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++)
          work(Task{i * positions_, {1, positions_, positions_, true}, i / channels_, i % channels_});
      });
      return;
    }
    auto across = divide_up(columns_, columns_per_task_);
    at::parallel_for(0, groups_ * across, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        auto group = i / across, row = group * rows_per_task_, column = i % across * columns_per_task_;
        if (row < rows_) {
          auto width = std::min(columns_per_task_, columns_ - column);
          auto rows = std::min(rows_per_task_, rows_ - row);
          work(Task{row * columns_ + column, {rows, width, columns_, false}, group, column});
        } else if (column == 0) {
          auto width = rest() * channels_;
          work(Task{rows_ * columns_, {1, width, width, false}, group, 0});
        }
      }
    });
  }

  // Values per channel as coefficients of columns.
  template <typename S>
  class Coefficients {
   public:
    Coefficients(const Layout& layout, std::vector<S> values) : values_(std::move(values)) {
      if (!layout.has_planes_) values_ = layout.to_columns(values_);
    }
    const S* of(const Task& task) const { return &values_[task.column]; }

   private:
    std::vector<S> values_;
  };

  // Two sums of each channel in each group, (groups, channels).
  struct Sums {
    std::vector<double> first, second;
  };

  // `work(task, first, second)` adds to the sums of columns.
  template <typename Work>
  Sums sums(Work work) const {
    Sums sums{std::vector<double>(groups() * channels_), std::vector<double>(groups() * channels_)};
    for_each([&](const Task& task) {
      auto *first = &sums.first[task.group * channels_], *second = &sums.second[task.group * channels_];
      if (task.rows.uniform) return work(task, first + task.column, second + task.column);
      auto width = task.rows.width;
      std::vector<double> of_columns(2 * width);
      work(task, of_columns.data(), of_columns.data() + width);
      add_columns(task, of_columns.data(), first);
      add_columns(task, of_columns.data() + width, second);
    });
    return sums;
  }

  // For each column of a task, the first value of its channel there; they go to `of_channels`, (channels),
  // too.
  template <typename S, typename T>
  std::vector<S> first_values(const T* x, const Task& task, double* of_channels) const {
    std::vector<S> values(task.rows.width);
    const T* row = x + task.start;
    if (is_interleaved_) {
      auto period = std::min(task.rows.width, channels_);
      for (int64_t c = 0; c < period; c++) values[c] = static_cast<S>(row[c]);
      for (int64_t c = 0; c < period; c++) of_channels[task.column + c] = static_cast<double>(values[c]);
      for (int64_t i = period; i < task.rows.width; i++) values[i] = values[i - period];
    } else {
      auto* to = of_channels + task.column / per_row_;
      for (int64_t i = 0; i < task.rows.width; i += per_row_, to++) {
        std::fill_n(&values[i], per_row_, static_cast<S>(row[i]));
        *to = static_cast<double>(values[i]);
      }
    }
    return values;
  }

 private:
  // Positions that fill no row.
  int64_t rest() const { return count() - rows_ * per_row_; }

  template <typename S>
  std::vector<S> to_columns(const std::vector<S>& values) const {
    std::vector<S> repeated;
    repeated.reserve(columns_);
    if (is_interleaved_)
      for (int64_t i = 0; i < per_row_; i++) repeated.insert(repeated.end(), values.begin(), values.end());
    else
      for (auto value : values) repeated.insert(repeated.end(), per_row_, value);
    return repeated;
  }

  // Without divisions, which would take longer than the sums.
  void add_columns(const Task& task, const double* of_columns, double* of_channels) const {
    if (is_interleaved_) {
      auto* to = of_channels + task.column;
      auto period = std::min(task.rows.width, channels_);
      for (int64_t from = 0; from < task.rows.width; from += period)
        for (int64_t c = 0; c < period; c++) to[c] += of_columns[from + c];
    } else {
      auto* to = of_channels + task.column / per_row_;
      for (int64_t from = 0; from < task.rows.width; from += per_row_, to++)
        for (int64_t k = 0; k < per_row_; k++) *to += of_columns[from + k];
    }
  }

  int64_t samples_, channels_, positions_;
  bool has_planes_;
  // Of a matrix:
  bool is_interleaved_ = false;  // a column's channel is column % channels, else column / per_row
  int64_t per_row_ = 1;          // values of a channel in a row
  int64_t rows_ = 0, columns_ = 0, rows_per_task_ = 1, columns_per_task_ = 1, groups_ = 0;
};

template <typename S>
std::vector<S> values_of(const optional<Tensor>& tensor, int64_t count, S otherwise) {
  if (!tensor) return std::vector<S>(count, otherwise);
  auto values = readable(tensor->detach());
  if (values.is_contiguous() && values.scalar_type() == at::kFloat)
    return std::vector<S>(values.template data_ptr<float>(), values.template data_ptr<float>() + count);
  values = values.to(c10::CppTypeToScalarType<S>::value).contiguous();
  return std::vector<S>(values.template data_ptr<S>(), values.template data_ptr<S>() + count);
}

optional<Tensor> given(const Tensor& tensor) { return tensor.defined() ? optional<Tensor>(tensor) : nullopt; }

// ---- Forward
// ---------------------------------------------------------------------------------------------------------

struct Statistics {
  std::vector<double> mean, inverse_deviation;
};

// Mean and sum of squared distances from it, of each channel.
struct Moments {
  std::vector<double> mean, spread;
};

// Each group's sums are about a value of its own: about one that is far from the others, differences of sums
// would lose the digits that the variance has. Groups are brought together about the mean of all (Chan, Golub
// & LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).
template <typename T>
Moments moments_of(const T* x, const Layout& layout) {
  using S = Sum<T>;
  auto channels = layout.channels(), groups = layout.groups();
  std::vector<double> pivots(groups * channels);
  auto sums = layout.sums([&](const Task& task, double* sum, double* squares) {
    auto* of_group = &pivots[task.group * channels];
    if (task.rows.uniform) {
      auto pivot = static_cast<S>(x[task.start]);
      of_group[task.column] = static_cast<double>(pivot);
      kernels::sum_squares(x + task.start, task.rows, &pivot, sum, squares);
    } else {
      auto of_columns = layout.first_values<S>(x, task, of_group);
      kernels::sum_squares(x + task.start, task.rows, of_columns.data(), sum, squares);
    }
  });

  Moments moments{std::vector<double>(channels), std::vector<double>(channels)};
  // The sum of differences from the first pivot, and then the mean.
  for (int64_t group = 0; group < groups; group++) {
    auto count = static_cast<double>(layout.count(group));
    const auto *pivot = &pivots[group * channels], *sum = &sums.first[group * channels];
    for (int64_t c = 0; c < channels; c++) moments.mean[c] += count * (pivot[c] - pivots[c]) + sum[c];
  }
  for (int64_t c = 0; c < channels; c++)
    moments.mean[c] = pivots[c] + moments.mean[c] / static_cast<double>(layout.count());
  for (int64_t group = 0; group < groups; group++) {
    auto count = static_cast<double>(layout.count(group)), share = 1 / count;
    const auto* pivot = &pivots[group * channels];
    const auto *sum = &sums.first[group * channels], *squares = &sums.second[group * channels];
    for (int64_t c = 0; c < channels; c++) {
      auto distance = sum[c] * share, within = squares[c] - sum[c] * distance;
      auto between = pivot[c] + distance - moments.mean[c];
      moments.spread[c] += (within < 0 ? 0 : within) + count * between * between;  // a NaN stays one
    }
  }
  return moments;
}

template <typename T>
Statistics batch_statistics(const BatchNormalization& norm, const Layout& layout) {
  auto moments = moments_of(norm.x.data_ptr<T>(), layout);
  auto count = static_cast<double>(layout.count());
  auto like = at::TensorOptions().dtype(at::kDouble);
  auto variance = at::empty({layout.channels()}, like);
  Statistics statistics;
  for (int64_t c = 0; c < layout.channels(); c++) {
    statistics.inverse_deviation.push_back(1 / std::sqrt(moments.spread[c] / count + norm.eps));
    variance.data_ptr<double>()[c] = moments.spread[c] / (count - 1);
  }
  statistics.mean = std::move(moments.mean);
  auto move = [&](const optional<Tensor>& running, const Tensor& seen) {
    if (running)
      Tensor(*running).mul_(1 - norm.momentum).add_(seen.to(running->scalar_type()), norm.momentum);
  };
  move(norm.running_mean, at::tensor(statistics.mean, like));
  move(norm.running_var, variance);
  return statistics;
}

Statistics running_statistics(const BatchNormalization& norm) {
  auto channels = norm.x.size(1);
  Statistics statistics{values_of<double>(norm.running_mean, channels, 0), {}};
  for (auto variance : values_of<double>(norm.running_var, channels, 1))
    statistics.inverse_deviation.push_back(1 / std::sqrt(variance + norm.eps));
  return statistics;
}

template <typename T>
Tensor normalize(const BatchNormalization& norm, const Layout& layout, const Statistics& statistics) {
  using S = Sum<T>;
  auto weight = values_of<double>(norm.weight, layout.channels(), 1);
  auto bias = values_of<double>(norm.bias, layout.channels(), 0);
  std::vector<S> scale(weight.size()), shift(weight.size());
  for (size_t c = 0; c < weight.size(); c++) {
    auto factor = weight[c] * statistics.inverse_deviation[c];
    scale[c] = static_cast<S>(factor);
    shift[c] = static_cast<S>(bias[c] - statistics.mean[c] * factor);
  }
  Layout::Coefficients<S> scales(layout, std::move(scale)), shifts(layout, std::move(shift));
  auto out = at::empty_like(norm.x);
  const T *x = norm.x.data_ptr<T>(), *added = norm.added ? norm.added->data_ptr<T>() : nullptr;
  T* to = out.data_ptr<T>();
  auto clamp = clamp_of(norm.activation);
  layout.for_each([&](const Task& task) {
    auto start = task.start;
    kernels::normalize(x + start, added ? added + start : nullptr, task.rows, scales.of(task),
                       shifts.of(task), clamp, to + start);
  });
  return out;
}

// ---- Gradients
// -------------------------------------------------------------------------------------------------------

// By the batch. The inputs of `apply`: x, then what there is of weight, bias and `added`.
class Training : public torch::autograd::Function<Training> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, at::TensorList,
                        const BatchNormalization& norm) {
    Layout layout(norm.x);
    Tensor out;
    Statistics statistics;
    dispatch(norm.x.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      statistics = batch_statistics<T>(norm, layout);
      out = normalize<T>(norm, layout, statistics);
    });
    auto kept = at::TensorOptions().dtype(at::kDouble);
    context->save_for_backward({norm.x, out, norm.weight.value_or(Tensor()),
                                at::tensor(statistics.mean, kept),
                                at::tensor(statistics.inverse_deviation, kept)});
    context->saved_data["has_weight"] = norm.weight.has_value();
    context->saved_data["has_bias"] = norm.bias.has_value();
    context->saved_data["has_added"] = norm.added.has_value();
    context->saved_data["activation"] = static_cast<int64_t>(norm.activation);
    context->saved_data["eps"] = norm.eps;
    return out;
  }

  static List backward(torch::autograd::AutogradContext* context, List output_gradients) {
    auto& data = context->saved_data;
    size_t next = 1;
    auto place = [&](const char* name) { return data[name].toBool() ? next++ : 0; };
    auto weight_at = place("has_weight"), bias_at = place("has_bias"), added_at = place("has_added");
    auto is_needed = [&](size_t index) { return context->needs_input_grad(index); };
    Gradients gradients(context->get_saved_variables(), with_memory(output_gradients[0]),
                        static_cast<Activation>(data["activation"].toInt()), data["eps"].toDouble(),
                        added_at > 0 && is_needed(added_at));
    if (at::GradMode::is_enabled())
      gradients.by_operators();
    else
      gradients.by_kernels(is_needed(0));
    List result(next);
    result[0] = gradients.x;
    if (weight_at > 0) result[weight_at] = gradients.weight;
    if (bias_at > 0) result[bias_at] = gradients.bias;
    if (added_at > 0) result[added_at] = gradients.added;
    result.emplace_back();  // of the settings
    return result;
  }

 private:
  struct Gradients {
    Tensor x, weight, bias, added;

    Gradients(const List& saved, const Tensor& of_output, Activation activation, double eps, bool needs_added)
        : input_(saved[0]),
          output_(saved[1]),
          weight_(saved[2]),
          mean_(saved[3]),
          inverse_deviation_(saved[4]),
          of_output_(of_output),
          activation_(activation),
          eps_(eps),
          needs_added_(needs_added) {}

    // In operators that have gradients themselves.
    void by_operators() {
      auto passed = activation_ == Activation::None   ? of_output_
                    : activation_ == Activation::Relu ? at::threshold_backward(of_output_, output_, 0)
                                                      : at::hardtanh_backward(of_output_, output_, 0, 6);
      auto parameters = weight_.defined() ? weight_.scalar_type() : input_.scalar_type();
      auto statistics = at::promote_types(parameters, input_.scalar_type());
      std::tie(x, weight, bias) =
          at::native_batch_norm_backward(passed, input_, given(weight_), nullopt, nullopt,
                                         mean_.to(statistics), inverse_deviation_.to(statistics),
                                         /*train=*/true, eps_, {true, true, true});
      if (needs_added_) added = passed;
    }

    void by_kernels(bool needs_input) {
      dispatch(input_.scalar_type(), [&](auto zero) { run<decltype(zero)>(needs_input); });
    }

   private:
    template <typename T>
    void run(bool needs_input) {
      using S = Sum<T>;
      Layout layout(input_);
      auto clamp = clamp_of(activation_);
      auto gradient = readable(of_output_).contiguous(input_.suggest_memory_format());
      if (needs_added_ && activation_ != Activation::None) added = at::empty_like(input_);
      const T *g = gradient.data_ptr<T>(), *out = output_.data_ptr<T>(), *in = input_.data_ptr<T>();
      T* passed = added.defined() ? added.data_ptr<T>() : nullptr;
      const auto *mean = mean_.data_ptr<double>(), *inverse = inverse_deviation_.data_ptr<double>();
      // Kernels take distances from the mean as they can hold it.
      std::vector<S> near_mean(mean, mean + layout.channels());
      Layout::Coefficients<S> means(layout, near_mean);
      auto sums = layout.sums([&](const Task& task, double* sum, double* dot) {
        auto start = task.start;
        kernels::sum_gradients(g + start, out + start, in + start, task.rows, means.of(task), clamp, sum, dot,
                               passed ? passed + start : nullptr);
      });
      std::vector<double> of_bias(layout.channels()), of_scale(layout.channels()), off(layout.channels());
      for (int64_t group = 0, at = 0; group < layout.groups(); group++)
        for (int64_t c = 0; c < layout.channels(); c++, at++) {
          of_bias[c] += sums.first[at];
          of_scale[c] += sums.second[at];
        }
      for (int64_t c = 0; c < layout.channels(); c++) {
        off[c] = static_cast<double>(near_mean[c]) - mean[c];
        of_scale[c] += off[c] * of_bias[c];
      }
      auto weights = values_of<double>(given(weight_), layout.channels(), 1);
      auto dtype = weight_.defined() ? weight_.scalar_type() : c10::CppTypeToScalarType<S>::value;
      std::vector<double> of_weight(layout.channels());
      for (int64_t c = 0; c < layout.channels(); c++) of_weight[c] = of_scale[c] * inverse[c];
      weight = at::tensor(of_weight, at::TensorOptions().dtype(at::kDouble)).to(dtype);
      bias = at::tensor(of_bias, at::TensorOptions().dtype(at::kDouble)).to(dtype);
      if (needs_added_ && !added.defined()) added = gradient;
      if (!needs_input) return;

      std::vector<S> of_gradient(layout.channels()), of_input(layout.channels()), constant(layout.channels());
      auto count = static_cast<double>(layout.count());
      for (int64_t c = 0; c < layout.channels(); c++) {
        auto scale = weights[c] * inverse[c],
             by_distance = scale * inverse[c] * inverse[c] * of_scale[c] / count;
        of_gradient[c] = static_cast<S>(scale);
        of_input[c] = static_cast<S>(-by_distance);
        constant[c] = static_cast<S>(-scale * of_bias[c] / count - by_distance * off[c]);
      }
      Layout::Coefficients<S> by_gradient(layout, std::move(of_gradient)),
          by_input(layout, std::move(of_input)), rest(layout, std::move(constant));
      // What the sums' pass has kept is the gradient behind the activation.
      bool clamps = passed == nullptr && activation_ != Activation::None;
      const T* behind = passed ? passed : g;
      x = at::empty_like(input_);
      T* dx = x.data_ptr<T>();
      layout.for_each([&](const Task& task) {
        auto start = task.start;
        kernels::differentiate(behind + start, clamps ? out + start : nullptr, in + start, task.rows,
                               means.of(task), by_gradient.of(task), by_input.of(task), rest.of(task), clamp,
                               dx + start);
      });
    }

    Tensor input_, output_, weight_, mean_, inverse_deviation_, of_output_;
    Activation activation_;
    double eps_;
    bool needs_added_;
  };
};

// ---- Which way
// -------------------------------------------------------------------------------------------------------

bool learns(const optional<Tensor>& tensor) {
  return at::GradMode::is_enabled() && tensor && tensor->requires_grad();
}

bool has_kernels(const Tensor& x) {
  if (trace::needs_operators() || x.layout() != at::kStrided || !x.is_cpu() || x.numel() == 0) return false;
  return x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble || x.scalar_type() == at::kBFloat16;
}

bool has_kernels(const BatchNormalization& norm) {
  const auto& x = norm.x;
  if (!has_kernels(x)) return false;
  // Of others libtorch says what is wrong.
  auto is_ours = [&](const optional<Tensor>& of_channels) {
    return !of_channels || (of_channels->is_cpu() && of_channels->layout() == at::kStrided &&
                            at::isFloatingType(of_channels->scalar_type()) && of_channels->dim() == 1 &&
                            of_channels->size(0) == x.size(1));
  };
  if (!is_ours(norm.weight) || !is_ours(norm.bias) || !is_ours(norm.running_mean) ||
      !is_ours(norm.running_var))
    return false;
  if (norm.added && (norm.added->sizes() != x.sizes() || norm.added->scalar_type() != x.scalar_type() ||
                     norm.added->device() != x.device()))
    return false;
  bool needs_gradient = learns(norm.x) || learns(norm.weight) || learns(norm.bias) || learns(norm.added);
  return norm.by_batch || !needs_gradient;
}

// May the kernel walk through both as they lie in memory, without gradients?
bool is_alike(const Tensor& x, const optional<Tensor>& added) {
  auto is_plain = [](const Tensor& tensor) { return !tensor.is_neg() && !tensor._is_zerotensor(); };
  if (!has_kernels(x) || !x.is_non_overlapping_and_dense() || learns(x) || !is_plain(x)) return false;
  if (!added) return true;
  return !learns(added) && is_plain(*added) && added->is_cpu() && added->scalar_type() == x.scalar_type() &&
         added->sizes() == x.sizes() && added->strides() == x.strides();
}

void activate_by_kernel(const Tensor& x, const Tensor* added, Activation activation) {
  dispatch(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    T* values = x.data_ptr<T>();
    const T* others = added ? added->data_ptr<T>() : nullptr;
    at::parallel_for(0, x.numel(), task_size, [&](int64_t begin, int64_t end) {
      kernels::activate(values + begin, others ? others + begin : nullptr, end - begin, clamp_of(activation));
    });
  });
  x.unsafeGetTensorImpl()->bump_version();
}

Tensor activate_by_operators_(Tensor x, const optional<Tensor>& added, Activation activation) {
  if (added) x.add_(*added);
  switch (activation) {
    case Activation::Relu:
      return x.relu_();
    case Activation::Relu6:
      return at::hardtanh_(x, 0, 6);
    default:
      return x;
  }
}

Tensor by_operators(const BatchNormalization& norm) {
  auto normalized =
      at::batch_norm(norm.x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.by_batch,
                     norm.momentum, norm.eps, at::globalContext().userEnabledCuDNN());
  return activate_by_operators_(normalized, norm.added, norm.activation);
}

Tensor by_kernels(const BatchNormalization& norm) {
  if (norm.by_batch) {
    List inputs{norm.x};
    for (const auto* each : {&norm.weight, &norm.bias, &norm.added})
      if (*each) inputs.push_back(**each);
    return Training::apply(at::TensorList(inputs), norm);
  }
  Layout layout(norm.x);
  Tensor out;
  dispatch(norm.x.scalar_type(),
           [&](auto zero) { out = normalize<decltype(zero)>(norm, layout, running_statistics(norm)); });
  return out;
}

}  // namespace

Tensor batch_norm(const BatchNormalization& norm) {
  bool is_plain = !norm.added && norm.activation == Activation::None;
  if (is_plain || !has_kernels(norm)) return by_operators(norm);
  auto format = norm.x.suggest_memory_format();
  using Field = optional<Tensor> BatchNormalization::*;
  List inputs{readable(norm.x).contiguous(format)};
  std::vector<Field> fields;
  for (Field field :
       {&BatchNormalization::weight, &BatchNormalization::bias, &BatchNormalization::running_mean,
        &BatchNormalization::running_var, &BatchNormalization::added})
    if (norm.*field) {
      fields.push_back(field);
      inputs.push_back(field == &BatchNormalization::added ? readable(*norm.added).contiguous(format)
                                                           : *(norm.*field));
    }
  // A recording must not hold these tensors.
  BatchNormalization settings{{},      nullopt,        nullopt,       nullopt,
                              nullopt, norm.by_batch,  norm.momentum, norm.eps,
                              nullopt, norm.activation};
  auto run = [fields, settings](const List& tensors) {
    auto again = settings;
    again.x = tensors[0];
    for (size_t i = 0; i < fields.size(); i++) again.*fields[i] = tensors[i + 1];
    return List{by_kernels(again)};
  };
  return trace::record_closure("batch norm", inputs, run, /*has_operators=*/true).front();
}

Tensor activate_(Tensor x, const optional<Tensor>& added, Activation activation) {
  if (!is_alike(x, added)) return activate_by_operators_(x, added, activation);
  List inputs{x};
  if (added) inputs.push_back(*added);
  auto run = [activation](const List& tensors) {
    activate_by_kernel(tensors[0], tensors.size() > 1 ? &tensors[1] : nullptr, activation);
    return List{tensors[0]};
  };
  return trace::record_closure("activation", inputs, run, /*has_operators=*/true).front();
}

}  // namespace alambic
