#include "layers/norm_kernels.h"

#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "clones.h"

namespace alambic::kernels {

namespace {

template <typename T>
using Sum = at::opmath_type<T>;

// Values at a time: they are converted to and from half precision in loops of their own, which compilers turn
// into vectors, and sums of so many are short enough for float.
constexpr int64_t block = 512;

template <typename T>
using Buffer = std::conditional_t<std::is_same_v<T, Sum<T>>, char, Sum<T>[block]>;

// ---- To and from half precision

ALAMBIC_BODY void widen(const at::BFloat16* __restrict from, int64_t n, float* __restrict to) {
  const auto* halves = reinterpret_cast<const uint16_t*>(from);
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    uint32_t bits = static_cast<uint32_t>(halves[i]) << 16;
    std::memcpy(&to[i], &bits, sizeof bits);
  }
}

// To the nearest, ties to even.
ALAMBIC_BODY void narrow(const float* __restrict from, int64_t n, at::BFloat16* __restrict to) {
  auto* halves = reinterpret_cast<uint16_t*>(to);
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    uint32_t bits;
    std::memcpy(&bits, &from[i], sizeof bits);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
    halves[i] = static_cast<uint16_t>(is_nan ? 0x7fc0 : rounded);
  }
}

// The values where they are, or converted.
template <typename T>
ALAMBIC_BODY const Sum<T>* load(const T* values, int64_t n, Buffer<T>& buffer) {
  if constexpr (std::is_same_v<T, Sum<T>>) {
    return values;
  } else {
    widen(values, n, buffer);
    return buffer;
  }
}

// Where results are to be written, before `store` brings them to their place.
template <typename T>
ALAMBIC_BODY Sum<T>* place(T* values, Buffer<T>& buffer) {
  if constexpr (std::is_same_v<T, Sum<T>>)
    return values;
  else
    return buffer;
}

template <typename T>
ALAMBIC_BODY void store(T* values, int64_t n, const Buffer<T>& buffer) {
  if constexpr (!std::is_same_v<T, Sum<T>>) narrow(buffer, n, values);
}

// ---- Blocks

// Calls `work(offset, n, column)` for the blocks of rows.
template <typename Work>
ALAMBIC_BODY void for_each_block(Rows rows, Work work) {
  for (int64_t row = 0; row < rows.count; row++)
    for (int64_t column = 0; column < rows.width; column += block)
      work(row * rows.width + column, std::min(block, rows.width - column), column);
}

// The coefficient of a column.
template <bool uniform, typename S>
ALAMBIC_BODY S at(const S* coefficients, int64_t column) {
  return coefficients[uniform ? 0 : column];
}

template <typename S>
ALAMBIC_BODY S clamped(S value, S low, S high) {
  value = value < low ? low : value;  // a NaN stays one
  return value > high ? high : value;
}

template <typename S>
ALAMBIC_BODY S passed_gradient(S gradient, S out, S low, S high) {
  return ((out <= low) | (out >= high)) ? S(0) : gradient;
}

template <bool uniform, typename S>
ALAMBIC_BODY void sum_squares_block(const S* __restrict x, int64_t n, const S* __restrict pivot,
                                    S* __restrict sums, S* __restrict squares) {
  if constexpr (uniform) {
    S sum = 0, square = 0, from = pivot[0];
#pragma omp simd reduction(+ : sum, square)
    for (int64_t i = 0; i < n; i++) {
      auto distance = x[i] - from;
      sum += distance;
      square += distance * distance;
    }
    sums[0] += sum;
    squares[0] += square;
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
      auto distance = x[i] - pivot[i];
      sums[i] += distance;
      squares[i] += distance * distance;
    }
  }
}

template <bool uniform, bool adds, typename S>
ALAMBIC_BODY void normalize_block(const S* __restrict x, const S* __restrict added, int64_t n,
                                  const S* __restrict scale, const S* __restrict shift, S low, S high,
                                  S* __restrict out) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    auto value = at<uniform>(scale, i) * x[i] + at<uniform>(shift, i);
    if (adds) value += added[i];
    out[i] = clamped(value, low, high);
  }
}

template <bool adds, typename S>
ALAMBIC_BODY void activate_block(S* __restrict x, const S* __restrict added, int64_t n, S low, S high) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) x[i] = clamped(adds ? x[i] + added[i] : x[i], low, high);
}

template <bool uniform, bool keeps, typename S>
ALAMBIC_BODY void sum_gradients_block(const S* __restrict gradient, const S* __restrict out,
                                      const S* __restrict x, int64_t n, const S* __restrict mean, S low,
                                      S high, S* __restrict sums, S* __restrict dots, S* __restrict passed) {
  if constexpr (uniform) {
    S sum = 0, dot = 0, from = mean[0];
#pragma omp simd reduction(+ : sum, dot)
    for (int64_t i = 0; i < n; i++) {
      auto g = passed_gradient(gradient[i], out[i], low, high);
      sum += g;
      dot += g * (x[i] - from);
      if (keeps) passed[i] = g;
    }
    sums[0] += sum;
    dots[0] += dot;
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
      auto g = passed_gradient(gradient[i], out[i], low, high);
      sums[i] += g;
      dots[i] += g * (x[i] - mean[i]);
      if (keeps) passed[i] = g;
    }
  }
}

template <bool uniform, bool clamps, typename S>
ALAMBIC_BODY void differentiate_block(const S* __restrict gradient, const S* __restrict out,
                                      const S* __restrict x, int64_t n, const S* __restrict mean,
                                      const S* __restrict of_gradient, const S* __restrict of_input,
                                      const S* __restrict constant, S low, S high, S* __restrict dx) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    auto g = clamps ? passed_gradient(gradient[i], out[i], low, high) : gradient[i];
    dx[i] = at<uniform>(of_gradient, i) * g + at<uniform>(of_input, i) * (x[i] - at<uniform>(mean, i)) +
            at<uniform>(constant, i);
  }
}

// ---- Kernels

template <bool uniform, typename T>
ALAMBIC_BODY void sum_squares_rows(const T* x, Rows rows, const Sum<T>* pivot, Sum<T>* sums,
                                   Sum<T>* squares) {
  Buffer<T> buffer;
  for_each_block(rows, [&](int64_t start, int64_t n, int64_t column) ALAMBIC_INLINE {
    auto first = uniform ? 0 : column;
    sum_squares_block<uniform>(load(x + start, n, buffer), n, pivot + first, sums + first, squares + first);
  });
}

template <bool uniform, bool adds, typename T>
ALAMBIC_BODY void normalize_rows(const T* x, const T* added, Rows rows, const Sum<T>* scale,
                                 const Sum<T>* shift, Clamp clamp, T* out) {
  auto low = static_cast<Sum<T>>(clamp.low), high = static_cast<Sum<T>>(clamp.high);
  Buffer<T> of_x, of_added, of_out;
  for_each_block(rows, [&](int64_t start, int64_t n, int64_t column) ALAMBIC_INLINE {
    auto first = uniform ? 0 : column;
    normalize_block<uniform, adds>(load(x + start, n, of_x),
                                   adds ? load(added + start, n, of_added) : nullptr, n, scale + first,
                                   shift + first, low, high, place(out + start, of_out));
    store(out + start, n, of_out);
  });
}

template <bool adds, typename T>
ALAMBIC_BODY void activate_all(T* x, const T* added, int64_t n, Clamp clamp) {
  auto low = static_cast<Sum<T>>(clamp.low), high = static_cast<Sum<T>>(clamp.high);
  Buffer<T> of_x, of_added;
  for_each_block({1, n, true}, [&](int64_t start, int64_t count, int64_t) ALAMBIC_INLINE {
    load(x + start, count, of_x);
    activate_block<adds>(place(x + start, of_x), adds ? load(added + start, count, of_added) : nullptr, count,
                         low, high);
    store(x + start, count, of_x);
  });
}

template <bool uniform, bool keeps, typename T>
ALAMBIC_BODY void sum_gradients_rows(const T* gradient, const T* out, const T* x, Rows rows,
                                     const Sum<T>* mean, Clamp clamp, Sum<T>* sums, Sum<T>* dots, T* passed) {
  auto low = static_cast<Sum<T>>(clamp.low), high = static_cast<Sum<T>>(clamp.high);
  Buffer<T> of_gradient, of_out, of_x, of_passed;
  for_each_block(rows, [&](int64_t start, int64_t n, int64_t column) ALAMBIC_INLINE {
    auto first = uniform ? 0 : column;
    sum_gradients_block<uniform, keeps>(load(gradient + start, n, of_gradient), load(out + start, n, of_out),
                                        load(x + start, n, of_x), n, mean + first, low, high, sums + first,
                                        dots + first, keeps ? place(passed + start, of_passed) : nullptr);
    if (keeps) store(passed + start, n, of_passed);
  });
}

template <bool uniform, bool clamps, typename T>
ALAMBIC_BODY void differentiate_rows(const T* gradient, const T* out, const T* x, Rows rows,
                                     const Sum<T>* mean, const Sum<T>* of_gradient, const Sum<T>* of_input,
                                     const Sum<T>* constant, Clamp clamp, T* dx) {
  auto low = static_cast<Sum<T>>(clamp.low), high = static_cast<Sum<T>>(clamp.high);
  Buffer<T> gradient_buffer, out_buffer, x_buffer, dx_buffer;
  for_each_block(rows, [&](int64_t start, int64_t n, int64_t column) ALAMBIC_INLINE {
    auto first = uniform ? 0 : column;
    differentiate_block<uniform, clamps>(
        load(gradient + start, n, gradient_buffer), clamps ? load(out + start, n, out_buffer) : nullptr,
        load(x + start, n, x_buffer), n, mean + first, of_gradient + first, of_input + first,
        constant + first, low, high, place(dx + start, dx_buffer));
    store(dx + start, n, dx_buffer);
  });
}

// One plain function per kernel, type and kind of rows, which the templates of the header forward to.
#define ALAMBIC_KERNELS(T, suffix, uniform)                                                                  \
  ALAMBIC_CLONES void sum_squares_##suffix(const T* x, Rows rows, const Sum<T>* pivot, Sum<T>* sums,         \
                                           Sum<T>* squares) {                                                \
    sum_squares_rows<uniform, T>(x, rows, pivot, sums, squares);                                             \
  }                                                                                                          \
  ALAMBIC_CLONES void normalize_##suffix(const T* x, const T* added, Rows rows, const Sum<T>* scale,         \
                                         const Sum<T>* shift, Clamp clamp, T* out) {                         \
    if (added != nullptr)                                                                                    \
      normalize_rows<uniform, true, T>(x, added, rows, scale, shift, clamp, out);                            \
    else                                                                                                     \
      normalize_rows<uniform, false, T>(x, added, rows, scale, shift, clamp, out);                           \
  }                                                                                                          \
  ALAMBIC_CLONES void sum_gradients_##suffix(const T* gradient, const T* out, const T* x, Rows rows,         \
                                             const Sum<T>* mean, Clamp clamp, Sum<T>* sums, Sum<T>* dots,    \
                                             T* passed) {                                                    \
    if (passed != nullptr)                                                                                   \
      sum_gradients_rows<uniform, true, T>(gradient, out, x, rows, mean, clamp, sums, dots, passed);         \
    else                                                                                                     \
      sum_gradients_rows<uniform, false, T>(gradient, out, x, rows, mean, clamp, sums, dots, passed);        \
  }                                                                                                          \
  ALAMBIC_CLONES void differentiate_##suffix(                                                                \
      const T* gradient, const T* out, const T* x, Rows rows, const Sum<T>* mean, const Sum<T>* of_gradient, \
      const Sum<T>* of_input, const Sum<T>* constant, Clamp clamp, T* dx) {                                  \
    if (out != nullptr)                                                                                      \
      differentiate_rows<uniform, true, T>(gradient, out, x, rows, mean, of_gradient, of_input, constant,    \
                                           clamp, dx);                                                       \
    else                                                                                                     \
      differentiate_rows<uniform, false, T>(gradient, out, x, rows, mean, of_gradient, of_input, constant,   \
                                            clamp, dx);                                                      \
  }

#define ALAMBIC_ACTIVATE(T, suffix)                                                     \
  ALAMBIC_CLONES void activate_##suffix(T* x, const T* added, int64_t n, Clamp clamp) { \
    if (added != nullptr)                                                               \
      activate_all<true, T>(x, added, n, clamp);                                        \
    else                                                                                \
      activate_all<false, T>(x, added, n, clamp);                                       \
  }

ALAMBIC_ACTIVATE(float, float)
ALAMBIC_ACTIVATE(double, double)
ALAMBIC_ACTIVATE(at::BFloat16, bfloat16)

ALAMBIC_KERNELS(float, float_columns, false)
ALAMBIC_KERNELS(float, float_uniform, true)
ALAMBIC_KERNELS(double, double_columns, false)
ALAMBIC_KERNELS(double, double_uniform, true)
ALAMBIC_KERNELS(at::BFloat16, bfloat16_columns, false)
ALAMBIC_KERNELS(at::BFloat16, bfloat16_uniform, true)

}  // namespace

#define ALAMBIC_FORWARD(T, suffix)                                                                         \
  template <>                                                                                              \
  void activate<T>(T * x, const T* added, int64_t n, Clamp clamp) {                                        \
    activate_##suffix(x, added, n, clamp);                                                                 \
  }                                                                                                        \
  template <>                                                                                              \
  void sum_squares<T>(const T* x, Rows rows, const Sum<T>* pivot, Sum<T>* sums, Sum<T>* squares) {         \
    (rows.uniform ? sum_squares_##suffix##_uniform : sum_squares_##suffix##_columns)(x, rows, pivot, sums, \
                                                                                     squares);             \
  }                                                                                                        \
  template <>                                                                                              \
  void normalize<T>(const T* x, const T* added, Rows rows, const Sum<T>* scale, const Sum<T>* shift,       \
                    Clamp clamp, T* out) {                                                                 \
    (rows.uniform ? normalize_##suffix##_uniform : normalize_##suffix##_columns)(x, added, rows, scale,    \
                                                                                 shift, clamp, out);       \
  }                                                                                                        \
  template <>                                                                                              \
  void sum_gradients<T>(const T* gradient, const T* out, const T* x, Rows rows, const Sum<T>* mean,        \
                        Clamp clamp, Sum<T>* sums, Sum<T>* dots, T* passed) {                              \
    (rows.uniform ? sum_gradients_##suffix##_uniform : sum_gradients_##suffix##_columns)(                  \
        gradient, out, x, rows, mean, clamp, sums, dots, passed);                                          \
  }                                                                                                        \
  template <>                                                                                              \
  void differentiate<T>(const T* gradient, const T* out, const T* x, Rows rows, const Sum<T>* mean,        \
                        const Sum<T>* of_gradient, const Sum<T>* of_input, const Sum<T>* constant,         \
                        Clamp clamp, T* dx) {                                                              \
    (rows.uniform ? differentiate_##suffix##_uniform : differentiate_##suffix##_columns)(                  \
        gradient, out, x, rows, mean, of_gradient, of_input, constant, clamp, dx);                         \
  }

ALAMBIC_FORWARD(float, float)
ALAMBIC_FORWARD(double, double)
ALAMBIC_FORWARD(at::BFloat16, bfloat16)

}  // namespace alambic::kernels
