#include "losses/kernels.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>

#include "clones.h"

namespace alambic::kernels {

namespace {

// Sums of so many elements are short enough for float; longer ones are made of them in double.
constexpr int64_t block = 512;

template <typename T>
ALAMBIC_BODY double squared_difference_body(const T* __restrict a, const T* __restrict b, int64_t n) {
  double total = 0;
  for (int64_t start = 0; start < n; start += block) {
    auto end = std::min(n, start + block);
    Sum<T> sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = start; i < end; i++) {
      auto difference = static_cast<Sum<T>>(a[i]) - static_cast<Sum<T>>(b[i]);
      sum += difference * difference;
    }
    total += static_cast<double>(sum);
  }
  return total;
}

template <typename T>
ALAMBIC_BODY void scaled_difference_body(const T* __restrict a, const T* __restrict b, int64_t n,
                                         Sum<T> scale, T* __restrict da, T* __restrict db) {
  if (da != nullptr && db != nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
      auto value = scale * (static_cast<Sum<T>>(a[i]) - static_cast<Sum<T>>(b[i]));
      da[i] = static_cast<T>(value);
      db[i] = static_cast<T>(-value);
    }
    return;
  }
  T* __restrict out = da != nullptr ? da : db;
  auto signed_scale = da != nullptr ? scale : -scale;
#pragma omp simd
  for (int64_t i = 0; i < n; i++)
    out[i] = static_cast<T>(signed_scale * (static_cast<Sum<T>>(a[i]) - static_cast<Sum<T>>(b[i])));
}

template <typename T>
ALAMBIC_BODY void dot_products_body(const T* __restrict a, const T* __restrict b, int64_t n,
                                    double* __restrict out) {
  double products[3] = {0, 0, 0};
  for (int64_t start = 0; start < n; start += block) {
    auto end = std::min(n, start + block);
    Sum<T> aa = 0, bb = 0, ab = 0;
#pragma omp simd reduction(+ : aa, bb, ab)
    for (int64_t i = start; i < end; i++) {
      auto x = static_cast<Sum<T>>(a[i]), y = static_cast<Sum<T>>(b[i]);
      aa += x * x;
      bb += y * y;
      ab += x * y;
    }
    products[0] += static_cast<double>(aa);
    products[1] += static_cast<double>(bb);
    products[2] += static_cast<double>(ab);
  }
  std::copy(products, products + 3, out);
}

template <typename T>
ALAMBIC_BODY void combine_body(const T* __restrict a, const T* __restrict b, int64_t n, Sum<T> p, Sum<T> q,
                               T* __restrict out) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++)
    out[i] = static_cast<T>(p * static_cast<Sum<T>>(a[i]) + q * static_cast<Sum<T>>(b[i]));
}

template <typename T>
ALAMBIC_BODY Sum<T> squared(T x) {
  return static_cast<Sum<T>>(x) * static_cast<Sum<T>>(x);
}

template <typename T>
ALAMBIC_BODY void add_squares_body(const T* __restrict x, int64_t planes, int64_t n, double* __restrict out) {
  int64_t plane = 0;
  // Four at a time: sums so short lose nothing in float.
  for (; plane + 4 <= planes; plane += 4) {
    const T* __restrict a = x + plane * n, * __restrict b = a + n, * __restrict c = b + n, * __restrict d = c + n;
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
      out[i] += static_cast<double>((squared(a[i]) + squared(b[i])) + (squared(c[i]) + squared(d[i])));
  }
  for (; plane < planes; plane++) {
    const T* __restrict a = x + plane * n;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] += static_cast<double>(squared(a[i]));
  }
}

template <typename T>
ALAMBIC_BODY double sum_of_squares_body(const T* __restrict x, int64_t n) {
  double total = 0;
  for (int64_t start = 0; start < n; start += block) {
    auto end = std::min(n, start + block);
    Sum<T> sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = start; i < end; i++) sum += squared(x[i]);
    total += static_cast<double>(sum);
  }
  return total;
}

template <typename T>
ALAMBIC_BODY void multiply_body(const T* __restrict x, const Sum<T>* __restrict v, int64_t n,
                                T* __restrict out) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) out[i] = static_cast<T>(static_cast<Sum<T>>(x[i]) * v[i]);
}

template <typename T>
ALAMBIC_BODY void scale_body(const T* __restrict x, Sum<T> v, int64_t n, T* __restrict out) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) out[i] = static_cast<T>(static_cast<Sum<T>>(x[i]) * v);
}

// One plain function per kernel and type, which the templates of the header forward to.
#define ALAMBIC_KERNELS(T, suffix)                                                                       \
  ALAMBIC_CLONES double squared_difference_##suffix(const T* a, const T* b, int64_t n) {                 \
    return squared_difference_body<T>(a, b, n);                                                          \
  }                                                                                                      \
  ALAMBIC_CLONES void scaled_difference_##suffix(const T* a, const T* b, int64_t n, Sum<T> scale, T* da, \
                                                 T* db) {                                                \
    scaled_difference_body<T>(a, b, n, scale, da, db);                                                   \
  }                                                                                                      \
  ALAMBIC_CLONES void dot_products_##suffix(const T* a, const T* b, int64_t n, double* out) {            \
    dot_products_body<T>(a, b, n, out);                                                                  \
  }                                                                                                      \
  ALAMBIC_CLONES void combine_##suffix(const T* a, const T* b, int64_t n, Sum<T> p, Sum<T> q, T* out) {  \
    combine_body<T>(a, b, n, p, q, out);                                                                 \
  }                                                                                                      \
  ALAMBIC_CLONES void add_squares_##suffix(const T* x, int64_t planes, int64_t n, double* out) {         \
    add_squares_body<T>(x, planes, n, out);                                                              \
  }                                                                                                      \
  ALAMBIC_CLONES double sum_of_squares_##suffix(const T* x, int64_t n) {                                 \
    return sum_of_squares_body<T>(x, n);                                                                 \
  }                                                                                                      \
  ALAMBIC_CLONES void multiply_##suffix(const T* x, const Sum<T>* v, int64_t n, T* out) {                \
    multiply_body<T>(x, v, n, out);                                                                      \
  }                                                                                                      \
  ALAMBIC_CLONES void scale_##suffix(const T* x, Sum<T> v, int64_t n, T* out) { scale_body<T>(x, v, n, out); }

ALAMBIC_KERNELS(float, float)
ALAMBIC_KERNELS(double, double)
ALAMBIC_KERNELS(at::BFloat16, bfloat16)
ALAMBIC_KERNELS(at::Half, half)

}  // namespace

#define ALAMBIC_FORWARD(T, suffix)                                                           \
  template <>                                                                                \
  double squared_difference<T>(const T* a, const T* b, int64_t n) {                          \
    return squared_difference_##suffix(a, b, n);                                             \
  }                                                                                          \
  template <>                                                                                \
  void scaled_difference<T>(const T* a, const T* b, int64_t n, Sum<T> scale, T* da, T* db) { \
    scaled_difference_##suffix(a, b, n, scale, da, db);                                      \
  }                                                                                          \
  template <>                                                                                \
  void dot_products<T>(const T* a, const T* b, int64_t n, double* out) {                     \
    dot_products_##suffix(a, b, n, out);                                                     \
  }                                                                                          \
  template <>                                                                                \
  void combine<T>(const T* a, const T* b, int64_t n, Sum<T> p, Sum<T> q, T* out) {           \
    combine_##suffix(a, b, n, p, q, out);                                                    \
  }                                                                                          \
  template <>                                                                                \
  void add_squares<T>(const T* x, int64_t planes, int64_t n, double* out) {                  \
    add_squares_##suffix(x, planes, n, out);                                                 \
  }                                                                                          \
  template <>                                                                                \
  double sum_of_squares<T>(const T* x, int64_t n) {                                          \
    return sum_of_squares_##suffix(x, n);                                                    \
  }                                                                                          \
  template <>                                                                                \
  void multiply<T>(const T* x, const Sum<T>* v, int64_t n, T* out) {                         \
    multiply_##suffix(x, v, n, out);                                                         \
  }                                                                                          \
  template <>                                                                                \
  void scale<T>(const T* x, Sum<T> v, int64_t n, T* out) {                                   \
    scale_##suffix(x, v, n, out);                                                            \
  }

ALAMBIC_FORWARD(float, float)
ALAMBIC_FORWARD(double, double)
ALAMBIC_FORWARD(at::BFloat16, bfloat16)
ALAMBIC_FORWARD(at::Half, half)

}  // namespace alambic::kernels
