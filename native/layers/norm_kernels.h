// Loops of batch normalisation on the CPU, together with what usually follows it: a sum and an activation.
// For float, double and at::BFloat16, which is computed in float.
#pragma once
#include <ATen/OpMathType.h>

#include <cstdint>

namespace alambic::kernels {

// What a loop walks over: rows of `width` values, `stride` from one to the next. Each column has its own
// coefficients and sums or, `uniform`, all have the first ones. Sums are double: in float long ones lose
// digits, and differences of them more.
struct Rows {
  int64_t count, width, stride;
  bool uniform;
};

// An activation that clamps. The gradient passes strictly between the bounds; a NaN is no bound.
struct Clamp {
  double low, high;
};

// sums += x - pivot, squares += (x - pivot)²
template <typename T>
void sum_squares(const T* x, Rows rows, const at::opmath_type<T>* pivot, double* sums, double* squares);

// out = clamp(scale x + shift + added); `added` may be null.
template <typename T>
void normalize(const T* x, const T* added, Rows rows, const at::opmath_type<T>* scale,
               const at::opmath_type<T>* shift, Clamp clamp, T* out);

// x = clamp(x + added), n values; `added` may be null.
template <typename T>
void activate(T* x, const T* added, int64_t n, Clamp clamp);

// g = gradient where `out` is within the clamp, else 0. sums += g, dots += g (x - mean). `passed`, which may
// be null, becomes g.
template <typename T>
void sum_gradients(const T* gradient, const T* out, const T* x, Rows rows, const at::opmath_type<T>* mean,
                   Clamp clamp, double* sums, double* dots, T* passed);

// With the same g: dx = of_gradient g + of_input (x - mean) + constant. Without `out`, g is the gradient.
template <typename T>
void differentiate(const T* gradient, const T* out, const T* x, Rows rows, const at::opmath_type<T>* mean,
                   const at::opmath_type<T>* of_gradient, const at::opmath_type<T>* of_input,
                   const at::opmath_type<T>* constant, Clamp clamp, T* dx);

}  // namespace alambic::kernels
