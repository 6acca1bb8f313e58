// Loops over features on the CPU that read each element once. Plain C++, compiled once per instruction set:
// the fitting clone is picked when the addon is loaded. For float, double, at::Half and at::BFloat16; half
// precisions are computed in float. Sums are double: long ones lose digits in float.
#pragma once
#include <ATen/OpMathType.h>

#include <cstdint>

namespace alambic::kernels {

template <typename T>
using Sum = at::opmath_type<T>;

// Sum of (a - b)² over n elements.
template <typename T>
double squared_difference(const T* a, const T* b, int64_t n);

// da = scale (a - b), db = -da; either may be null.
template <typename T>
void scaled_difference(const T* a, const T* b, int64_t n, Sum<T> scale, T* da, T* db);

// { a·a, b·b, a·b } over n elements.
template <typename T>
void dot_products(const T* a, const T* b, int64_t n, double* out);

// out = p a + q b
template <typename T>
void combine(const T* a, const T* b, int64_t n, Sum<T> p, Sum<T> q, T* out);

// out[i] += the squares at i of planes of n elements each: the channels of a contiguous sample.
template <typename T>
void add_squares(const T* x, int64_t planes, int64_t n, double* out);

// Sum of squares over n elements: the channels of one position of a channels-last feature.
template <typename T>
double sum_of_squares(const T* x, int64_t n);

// out[i] = x[i] v[i]
template <typename T>
void multiply(const T* x, const Sum<T>* v, int64_t n, T* out);

// out[i] = v x[i]
template <typename T>
void scale(const T* x, Sum<T> v, int64_t n, T* out);

}  // namespace alambic::kernels
