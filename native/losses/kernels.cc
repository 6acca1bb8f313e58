#include "losses/kernels.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "clones.h"

namespace alambic::kernels {

namespace {

template <typename T>
ALAMBIC_BODY Sum<T> squared_difference_body(const T* __restrict a, const T* __restrict b, int64_t n) {
  Sum<T> sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) {
    auto difference = static_cast<Sum<T>>(a[i]) - static_cast<Sum<T>>(b[i]);
    sum += difference * difference;
  }
  return sum;
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
                                    Sum<T>* __restrict out) {
  Sum<T> aa = 0, bb = 0, ab = 0;
#pragma omp simd reduction(+ : aa, bb, ab)
  for (int64_t i = 0; i < n; i++) {
    auto x = static_cast<Sum<T>>(a[i]), y = static_cast<Sum<T>>(b[i]);
    aa += x * x;
    bb += y * y;
    ab += x * y;
  }
  out[0] = aa;
  out[1] = bb;
  out[2] = ab;
}

template <typename T>
ALAMBIC_BODY void combine_body(const T* __restrict a, const T* __restrict b, int64_t n, Sum<T> p, Sum<T> q,
                               T* __restrict out) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++)
    out[i] = static_cast<T>(p * static_cast<Sum<T>>(a[i]) + q * static_cast<Sum<T>>(b[i]));
}

template <typename T>
ALAMBIC_BODY void add_squares_body(const T* __restrict x, int64_t n, Sum<T>* __restrict out) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    auto value = static_cast<Sum<T>>(x[i]);
    out[i] += value * value;
  }
}

template <typename T>
ALAMBIC_BODY Sum<T> sum_of_squares_body(const T* __restrict x, int64_t n) {
  Sum<T> sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) {
    auto value = static_cast<Sum<T>>(x[i]);
    sum += value * value;
  }
  return sum;
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
  ALAMBIC_CLONES Sum<T> squared_difference_##suffix(const T* a, const T* b, int64_t n) {                 \
    return squared_difference_body<T>(a, b, n);                                                          \
  }                                                                                                      \
  ALAMBIC_CLONES void scaled_difference_##suffix(const T* a, const T* b, int64_t n, Sum<T> scale, T* da, \
                                                 T* db) {                                                \
    scaled_difference_body<T>(a, b, n, scale, da, db);                                                   \
  }                                                                                                      \
  ALAMBIC_CLONES void dot_products_##suffix(const T* a, const T* b, int64_t n, Sum<T>* out) {            \
    dot_products_body<T>(a, b, n, out);                                                                  \
  }                                                                                                      \
  ALAMBIC_CLONES void combine_##suffix(const T* a, const T* b, int64_t n, Sum<T> p, Sum<T> q, T* out) {  \
    combine_body<T>(a, b, n, p, q, out);                                                                 \
  }                                                                                                      \
  ALAMBIC_CLONES void add_squares_##suffix(const T* x, int64_t n, Sum<T>* out) {                         \
    add_squares_body<T>(x, n, out);                                                                      \
  }                                                                                                      \
  ALAMBIC_CLONES Sum<T> sum_of_squares_##suffix(const T* x, int64_t n) {                                 \
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
  Sum<T> squared_difference<T>(const T* a, const T* b, int64_t n) {                          \
    return squared_difference_##suffix(a, b, n);                                             \
  }                                                                                          \
  template <>                                                                                \
  void scaled_difference<T>(const T* a, const T* b, int64_t n, Sum<T> scale, T* da, T* db) { \
    scaled_difference_##suffix(a, b, n, scale, da, db);                                      \
  }                                                                                          \
  template <>                                                                                \
  void dot_products<T>(const T* a, const T* b, int64_t n, Sum<T>* out) {                     \
    dot_products_##suffix(a, b, n, out);                                                     \
  }                                                                                          \
  template <>                                                                                \
  void combine<T>(const T* a, const T* b, int64_t n, Sum<T> p, Sum<T> q, T* out) {           \
    combine_##suffix(a, b, n, p, q, out);                                                    \
  }                                                                                          \
  template <>                                                                                \
  void add_squares<T>(const T* x, int64_t n, Sum<T>* out) {                                  \
    add_squares_##suffix(x, n, out);                                                         \
  }                                                                                          \
  template <>                                                                                \
  Sum<T> sum_of_squares<T>(const T* x, int64_t n) {                                          \
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
