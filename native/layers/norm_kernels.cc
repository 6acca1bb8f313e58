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
      work(row * rows.stride + column, std::min(block, rows.width - column), column);
}

// Rows that sums of columns take at a time, so that they are loaded and stored once for all of them.
constexpr int64_t rows_at_once = 4;

// Calls `several(offset, n, column)` for the blocks of so many rows, and `one` for those of the rest.
template <typename Several, typename One>
ALAMBIC_BODY void for_each_block_of_rows(Rows rows, Several several, One one) {
  for (int64_t column = 0; column < rows.width; column += block) {
    auto n = std::min(block, rows.width - column);
    int64_t row = 0;
    for (; row + rows_at_once <= rows.count; row += rows_at_once)
      several(row * rows.stride + column, n, column);
    for (; row < rows.count; row++) one(row * rows.stride + column, n, column);
  }
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

template <typename S>
ALAMBIC_BODY void sum_squares_uniform(const S* __restrict x, int64_t n, S pivot, double* __restrict sums,
                                      double* __restrict squares) {
  double sum = 0, square = 0, from = pivot;
#pragma omp simd reduction(+ : sum, square)
  for (int64_t i = 0; i < n; i++) {
    auto distance = static_cast<double>(x[i]) - from;
    sum += distance;
    square += distance * distance;
  }
  sums[0] += sum;
  squares[0] += square;
}

template <typename S>
ALAMBIC_BODY void sum_squares_row(const S* __restrict x, int64_t n, const S* __restrict pivot,
                                  double* __restrict sums, double* __restrict squares) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    auto distance = static_cast<double>(x[i]) - static_cast<double>(pivot[i]);
    sums[i] += distance;
    squares[i] += distance * distance;
  }
}

template <typename S>
ALAMBIC_BODY void sum_squares_rows(const S* __restrict a, const S* __restrict b, const S* __restrict c,
                                   const S* __restrict d, int64_t n, const S* __restrict pivot,
                                   double* __restrict sums, double* __restrict squares) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    auto from = static_cast<double>(pivot[i]);
    auto p = static_cast<double>(a[i]) - from, q = static_cast<double>(b[i]) - from;
    auto r = static_cast<double>(c[i]) - from, s = static_cast<double>(d[i]) - from;
    sums[i] += (p + q) + (r + s);
    squares[i] += (p * p + q * q) + (r * r + s * s);
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

template <bool keeps, typename S>
ALAMBIC_BODY void sum_gradients_uniform(const S* __restrict gradient, const S* __restrict out,
                                        const S* __restrict x, int64_t n, S mean, S low, S high,
                                        double* __restrict sums, double* __restrict dots,
                                        S* __restrict passed) {
  S sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
  for (int64_t i = 0; i < n; i++) {
    auto g = passed_gradient(gradient[i], out[i], low, high);
    sum += g;
    dot += g * (x[i] - mean);
    if (keeps) passed[i] = g;
  }
  sums[0] += static_cast<double>(sum);
  dots[0] += static_cast<double>(dot);
}

template <bool keeps, typename S>
ALAMBIC_BODY void sum_gradients_row(const S* __restrict gradient, const S* __restrict out,
                                    const S* __restrict x, int64_t n, const S* __restrict mean, S low, S high,
                                    double* __restrict sums, double* __restrict dots, S* __restrict passed) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    auto g = passed_gradient(gradient[i], out[i], low, high);
    sums[i] += static_cast<double>(g);
    dots[i] += static_cast<double>(g * (x[i] - mean[i]));
    if (keeps) passed[i] = g;
  }
}

// Four rows as they lie in memory, or in a buffer.
template <typename S>
struct Four {
  S *a, *b, *c, *d;
};

template <bool keeps, typename S>
ALAMBIC_BODY void sum_gradients_rows(Four<const S> gradient, Four<const S> out, Four<const S> x, int64_t n,
                                     const S* __restrict mean, S low, S high, double* __restrict sums,
                                     double* __restrict dots, Four<S> passed) {
  const S *__restrict ga = gradient.a, *__restrict gb = gradient.b, *__restrict gc = gradient.c,
                     *__restrict gd = gradient.d;
  const S* __restrict oa = out.a, * __restrict ob = out.b, * __restrict oc = out.c, * __restrict od = out.d;
  const S* __restrict xa = x.a, * __restrict xb = x.b, * __restrict xc = x.c, * __restrict xd = x.d;
  S *__restrict pa = passed.a, *__restrict pb = passed.b, *__restrict pc = passed.c, *__restrict pd = passed.d;
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    auto p = passed_gradient(ga[i], oa[i], low, high), q = passed_gradient(gb[i], ob[i], low, high);
    auto r = passed_gradient(gc[i], oc[i], low, high), s = passed_gradient(gd[i], od[i], low, high);
    auto from = mean[i];
    sums[i] += static_cast<double>((p + q) + (r + s));
    dots[i] += static_cast<double>((p * (xa[i] - from) + q * (xb[i] - from)) +
                                   (r * (xc[i] - from) + s * (xd[i] - from)));
    if (keeps) {
      pa[i] = p;
      pb[i] = q;
      pc[i] = r;
      pd[i] = s;
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

// Four rows of n values, where they are or converted.
template <typename T>
using Buffers = std::conditional_t<std::is_same_v<T, Sum<T>>, char, Sum<T>[rows_at_once][block]>;

template <typename T>
ALAMBIC_BODY Four<const Sum<T>> load_rows(const T* values, int64_t stride, int64_t n, Buffers<T>& buffers) {
  if constexpr (std::is_same_v<T, Sum<T>>) {
    return {values, values + stride, values + 2 * stride, values + 3 * stride};
  } else {
    for (int64_t row = 0; row < rows_at_once; row++) widen(values + row * stride, n, buffers[row]);
    return {buffers[0], buffers[1], buffers[2], buffers[3]};
  }
}

template <typename T>
ALAMBIC_BODY Four<Sum<T>> place_rows(T* values, int64_t stride, Buffers<T>& buffers) {
  if constexpr (std::is_same_v<T, Sum<T>>)
    return {values, values + stride, values + 2 * stride, values + 3 * stride};
  else
    return {buffers[0], buffers[1], buffers[2], buffers[3]};
}

template <typename T>
ALAMBIC_BODY void store_rows(T* values, int64_t stride, int64_t n, const Buffers<T>& buffers) {
  if constexpr (!std::is_same_v<T, Sum<T>>)
    for (int64_t row = 0; row < rows_at_once; row++) narrow(buffers[row], n, values + row * stride);
}

template <bool uniform, typename T>
ALAMBIC_BODY void sum_squares_all(const T* x, Rows rows, const Sum<T>* pivot, double* sums, double* squares) {
  Buffer<T> buffer;
  if constexpr (uniform) {
    for_each_block(rows, [&](int64_t start, int64_t n, int64_t) ALAMBIC_INLINE {
      sum_squares_uniform(load(x + start, n, buffer), n, pivot[0], sums, squares);
    });
  } else {
    Buffers<T> buffers;
    for_each_block_of_rows(
        rows,
        [&](int64_t start, int64_t n, int64_t column) ALAMBIC_INLINE {
          auto four = load_rows(x + start, rows.stride, n, buffers);
          sum_squares_rows(four.a, four.b, four.c, four.d, n, pivot + column, sums + column,
                           squares + column);
        },
        [&](int64_t start, int64_t n, int64_t column) ALAMBIC_INLINE {
          sum_squares_row(load(x + start, n, buffer), n, pivot + column, sums + column, squares + column);
        });
  }
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
  for_each_block({1, n, n, true}, [&](int64_t start, int64_t count, int64_t) ALAMBIC_INLINE {
    load(x + start, count, of_x);
    activate_block<adds>(place(x + start, of_x), adds ? load(added + start, count, of_added) : nullptr, count,
                         low, high);
    store(x + start, count, of_x);
  });
}

template <bool uniform, bool keeps, typename T>
ALAMBIC_BODY void sum_gradients_all(const T* gradient, const T* out, const T* x, Rows rows,
                                    const Sum<T>* mean, Clamp clamp, double* sums, double* dots, T* passed) {
  auto low = static_cast<Sum<T>>(clamp.low), high = static_cast<Sum<T>>(clamp.high);
  Buffer<T> of_gradient, of_out, of_x, of_passed;
  auto one = [&](int64_t start, int64_t n, int64_t column) ALAMBIC_INLINE {
    const auto *g = load(gradient + start, n, of_gradient), *o = load(out + start, n, of_out),
               *in = load(x + start, n, of_x);
    auto* to = keeps ? place(passed + start, of_passed) : nullptr;
    if constexpr (uniform)
      sum_gradients_uniform<keeps>(g, o, in, n, mean[0], low, high, sums, dots, to);
    else
      sum_gradients_row<keeps>(g, o, in, n, mean + column, low, high, sums + column, dots + column, to);
    if (keeps) store(passed + start, n, of_passed);
  };
  if constexpr (uniform) {
    for_each_block(rows, one);
  } else {
    Buffers<T> gradients, outs, inputs, kept;
    for_each_block_of_rows(
        rows,
        [&](int64_t start, int64_t n, int64_t column) ALAMBIC_INLINE {
          auto to = keeps ? place_rows(passed + start, rows.stride, kept) : Four<Sum<T>>{};
          sum_gradients_rows<keeps>(load_rows(gradient + start, rows.stride, n, gradients),
                                    load_rows(out + start, rows.stride, n, outs),
                                    load_rows(x + start, rows.stride, n, inputs), n, mean + column, low, high,
                                    sums + column, dots + column, to);
          if (keeps) store_rows(passed + start, rows.stride, n, kept);
        },
        one);
  }
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
  ALAMBIC_CLONES void sum_squares_##suffix(const T* x, Rows rows, const Sum<T>* pivot, double* sums,         \
                                           double* squares) {                                                \
    sum_squares_all<uniform, T>(x, rows, pivot, sums, squares);                                              \
  }                                                                                                          \
  ALAMBIC_CLONES void normalize_##suffix(const T* x, const T* added, Rows rows, const Sum<T>* scale,         \
                                         const Sum<T>* shift, Clamp clamp, T* out) {                         \
    if (added != nullptr)                                                                                    \
      normalize_rows<uniform, true, T>(x, added, rows, scale, shift, clamp, out);                            \
    else                                                                                                     \
      normalize_rows<uniform, false, T>(x, added, rows, scale, shift, clamp, out);                           \
  }                                                                                                          \
  ALAMBIC_CLONES void sum_gradients_##suffix(const T* gradient, const T* out, const T* x, Rows rows,         \
                                             const Sum<T>* mean, Clamp clamp, double* sums, double* dots,    \
                                             T* passed) {                                                    \
    if (passed != nullptr)                                                                                   \
      sum_gradients_all<uniform, true, T>(gradient, out, x, rows, mean, clamp, sums, dots, passed);          \
    else                                                                                                     \
      sum_gradients_all<uniform, false, T>(gradient, out, x, rows, mean, clamp, sums, dots, passed);         \
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
  void sum_squares<T>(const T* x, Rows rows, const Sum<T>* pivot, double* sums, double* squares) {         \
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
                        Clamp clamp, double* sums, double* dots, T* passed) {                              \
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
