#include "layers/batch_norm.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd.h"
#include "layers/norm_kernels.h"
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
constexpr int64_t columns = 256;
// Elements per task: partial sums do not depend on the number of threads.
constexpr int64_t task_size = 1 << 14;
// Positions per task of a channels-last feature: each task has a sum per channel.
constexpr int64_t fewest_positions = 256;

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

// A feature (N, C, …), stored plane by plane or (channels-last) position by position.
class Layout {
 public:
  explicit Layout(const Tensor& x)
      : samples_(x.size(0)),
        channels_(x.size(1)),
        positions_(x.numel() / (samples_ * channels_)),
        channels_last_(positions_ == 1 || !x.is_contiguous()) {}

  int64_t channels() const { return channels_; }
  // Values per channel.
  int64_t count() const { return samples_ * positions_; }
  // How many sums of a channel there are: of a piece of the positions each, or of a sample.
  int64_t groups() const {
    return channels_last_ ? (count() + task_positions() - 1) / task_positions() : samples_;
  }

  // Calls `work(start, rows, group, channel)` for the pieces; `channel` is that of a uniform piece, else -1.
  template <typename Work>
  void for_each(Work work) const {
    if (!channels_last_) {
      auto grain = std::max<int64_t>(1, task_size / positions_);
      at::parallel_for(0, samples_ * channels_, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++)
          work(i * positions_, Rows{1, positions_, true}, i / channels_, i % channels_);
      });
      return;
    }
    at::parallel_for(0, groups(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t group = begin; group < end; group++) {
        auto first = group * task_positions(), here = std::min(task_positions(), count() - first);
        auto rows = here / repeat(), rest = here % repeat();
        if (rows > 0) work(first * channels_, Rows{rows, repeat() * channels_, false}, group, -1);
        if (rest > 0)
          work((first + rows * repeat()) * channels_, Rows{1, rest * channels_, false}, group, -1);
      }
    });
  }

  // Values per channel as coefficients of columns.
  template <typename S>
  class Coefficients {
   public:
    Coefficients(const Layout& layout, const std::vector<S>& values) : values_(values) {
      if (!layout.channels_last_) return;
      repeated_.reserve(layout.repeat() * values.size());
      for (int64_t i = 0; i < layout.repeat(); i++)
        repeated_.insert(repeated_.end(), values.begin(), values.end());
    }
    const S* at(int64_t channel) const { return channel < 0 ? repeated_.data() : &values_[channel]; }

   private:
    const std::vector<S>& values_;
    std::vector<S> repeated_;
  };

  // Two sums of each channel.
  struct Sums {
    std::vector<double> first, second;
  };

  // `work(start, rows, channel, first, second)` adds to the sums of rows.
  template <typename S, typename Work>
  Sums sums(Work work) const {
    std::vector<double> partial(2 * groups() * channels_);
    for_each([&](int64_t start, Rows rows, int64_t group, int64_t channel) {
      auto width = rows.uniform ? 1 : rows.width;
      S of_all[2] = {0, 0};
      std::vector<S> of_columns(rows.uniform ? 0 : 2 * width);
      S *first = rows.uniform ? of_all : of_columns.data(), *second = first + width;
      work(start, rows, channel, first, second);
      // Without divisions, which would take longer than the sums.
      auto* to = &partial[2 * (group * channels_ + (rows.uniform ? channel : 0))];
      auto period = std::min(width, channels_);
      for (int64_t from = 0; from < width; from += period)
        for (int64_t c = 0; c < period; c++) {
          to[2 * c] += first[from + c];
          to[2 * c + 1] += second[from + c];
        }
    });
    Sums total{std::vector<double>(channels_), std::vector<double>(channels_)};
    for (int64_t group = 0; group < groups(); group++)
      for (int64_t c = 0; c < channels_; c++) {
        total.first[c] += partial[2 * (group * channels_ + c)];
        total.second[c] += partial[2 * (group * channels_ + c) + 1];
      }
    return total;
  }

 private:
  // Positions side by side in a row, so that few channels fill vectors as well.
  int64_t repeat() const { return std::max<int64_t>(1, columns / channels_); }
  int64_t task_positions() const {
    auto positions = std::max(fewest_positions, task_size / channels_);
    return positions - positions % repeat();
  }

  int64_t samples_, channels_, positions_;
  bool channels_last_;
};

template <typename S>
std::vector<S> values_of(const optional<Tensor>& tensor, int64_t count, S otherwise) {
  if (!tensor) return std::vector<S>(count, otherwise);
  if (tensor->is_contiguous() && tensor->scalar_type() == at::kFloat)
    return std::vector<S>(tensor->template data_ptr<float>(), tensor->template data_ptr<float>() + count);
  auto values = tensor->detach().to(c10::CppTypeToScalarType<S>::value).contiguous();
  return std::vector<S>(values.template data_ptr<S>(), values.template data_ptr<S>() + count);
}

optional<Tensor> given(const Tensor& tensor) { return tensor.defined() ? optional<Tensor>(tensor) : nullopt; }

// The value of each channel at the first position: differences from it are as small as the values vary.
template <typename T>
std::vector<Sum<T>> first_values(const Tensor& x) {
  std::vector<Sum<T>> values(x.size(1));
  auto stride = x.stride(1);
  for (size_t i = 0; i < values.size(); i++) values[i] = static_cast<Sum<T>>(x.data_ptr<T>()[i * stride]);
  return values;
}

// ---- Forward
// ---------------------------------------------------------------------------------------------------------

struct Statistics {
  std::vector<double> mean, inverse_deviation;
};

template <typename T>
Statistics batch_statistics(const BatchNormalization& norm, const Layout& layout) {
  using S = Sum<T>;
  const T* x = norm.x.data_ptr<T>();
  auto pivot = first_values<T>(norm.x);
  Layout::Coefficients<S> pivots(layout, pivot);
  auto sums = layout.sums<S>([&](int64_t start, Rows rows, int64_t channel, S* sum, S* squares) {
    kernels::sum_squares(x + start, rows, pivots.at(channel), sum, squares);
  });
  auto count = static_cast<double>(layout.count());
  auto like = at::TensorOptions().dtype(at::kDouble);
  auto mean = at::empty({layout.channels()}, like), variance = at::empty_like(mean);
  Statistics statistics;
  for (int64_t c = 0; c < layout.channels(); c++) {
    auto distance = sums.first[c] / count;
    auto spread = sums.second[c] / count - distance * distance;
    if (spread < 0) spread = 0;  // by rounding; a NaN stays one
    statistics.mean.push_back(mean.data_ptr<double>()[c] = pivot[c] + distance);
    statistics.inverse_deviation.push_back(1 / std::sqrt(spread + norm.eps));
    variance.data_ptr<double>()[c] = spread * count / (count - 1);
  }
  auto move = [&](const optional<Tensor>& running, const Tensor& seen) {
    if (running)
      Tensor(*running).mul_(1 - norm.momentum).add_(seen.to(running->scalar_type()), norm.momentum);
  };
  move(norm.running_mean, mean);
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
  Layout::Coefficients<S> scales(layout, scale), shifts(layout, shift);
  auto out = at::empty_like(norm.x);
  const T *x = norm.x.data_ptr<T>(), *added = norm.added ? norm.added->data_ptr<T>() : nullptr;
  T* to = out.data_ptr<T>();
  auto clamp = clamp_of(norm.activation);
  layout.for_each([&](int64_t start, Rows rows, int64_t, int64_t channel) {
    kernels::normalize(x + start, added ? added + start : nullptr, rows, scales.at(channel),
                       shifts.at(channel), clamp, to + start);
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
      auto gradient = of_output_.contiguous(input_.suggest_memory_format());
      if (needs_added_ && activation_ != Activation::None) added = at::empty_like(input_);
      const T *g = gradient.data_ptr<T>(), *out = output_.data_ptr<T>(), *in = input_.data_ptr<T>();
      T* passed = added.defined() ? added.data_ptr<T>() : nullptr;
      auto mean = values_of<S>(mean_, layout.channels(), 0);
      Layout::Coefficients<S> means(layout, mean);
      auto sums = layout.sums<S>([&](int64_t start, Rows rows, int64_t channel, S* sum, S* dot) {
        kernels::sum_gradients(g + start, out + start, in + start, rows, means.at(channel), clamp, sum, dot,
                               passed ? passed + start : nullptr);
      });
      auto weights = values_of<double>(given(weight_), layout.channels(), 1);
      const auto* inverse = inverse_deviation_.data_ptr<double>();
      auto dtype = weight_.defined() ? weight_.scalar_type() : c10::CppTypeToScalarType<S>::value;
      std::vector<double> of_weight(layout.channels());
      for (int64_t c = 0; c < layout.channels(); c++) of_weight[c] = sums.second[c] * inverse[c];
      weight = at::tensor(of_weight, at::TensorOptions().dtype(at::kDouble)).to(dtype);
      bias = at::tensor(sums.first, at::TensorOptions().dtype(at::kDouble)).to(dtype);
      if (needs_added_ && !added.defined()) added = gradient;
      if (!needs_input) return;

      std::vector<S> of_gradient(layout.channels()), of_input(layout.channels()), constant(layout.channels());
      auto count = static_cast<double>(layout.count());
      for (int64_t c = 0; c < layout.channels(); c++) {
        auto scale = weights[c] * inverse[c];
        of_gradient[c] = static_cast<S>(scale);
        of_input[c] = static_cast<S>(-scale * inverse[c] * inverse[c] * sums.second[c] / count);
        constant[c] = static_cast<S>(-scale * sums.first[c] / count);
      }
      Layout::Coefficients<S> by_gradient(layout, of_gradient), by_input(layout, of_input),
          rest(layout, constant);
      // What the sums' pass has kept is the gradient behind the activation.
      bool clamps = passed == nullptr && activation_ != Activation::None;
      const T* behind = passed ? passed : g;
      x = at::empty_like(input_);
      T* dx = x.data_ptr<T>();
      layout.for_each([&](int64_t start, Rows rows, int64_t, int64_t channel) {
        kernels::differentiate(behind + start, clamps ? out + start : nullptr, in + start, rows,
                               means.at(channel), by_gradient.at(channel), by_input.at(channel),
                               rest.at(channel), clamp, dx + start);
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
                            of_channels->dim() == 1 && of_channels->size(0) == x.size(1));
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
  if (!has_kernels(x) || !x.is_non_overlapping_and_dense() || learns(x)) return false;
  if (!added) return true;
  return !learns(added) && added->is_cpu() && added->scalar_type() == x.scalar_type() &&
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
  List inputs{norm.x.contiguous(format)};
  std::vector<Field> fields;
  for (Field field :
       {&BatchNormalization::weight, &BatchNormalization::bias, &BatchNormalization::running_mean,
        &BatchNormalization::running_var, &BatchNormalization::added})
    if (norm.*field) {
      fields.push_back(field);
      inputs.push_back(field == &BatchNormalization::added ? norm.added->contiguous(format) : *(norm.*field));
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
