// Numbers as zero-dimensional tensors, made once: the same few come again and again.
#pragma once
#include <ATen/ATen.h>

#include <array>
#include <string>

namespace alambic {

// Whether the operator's overload Scalar is its overload Tensor with the number as a tensor.
bool takes_numbers_as_tensors(const std::string& qualified_name);

// Whether the overload Scalar rounds the number to this dtype first, as the overload Tensor does not.
bool rounds_numbers(const std::string& qualified_name, at::ScalarType dtype);

class NumberTensors {
 public:
  // What PyTorch makes of a number beside a tensor of this dtype; nullptr where it could decide about the
  // result's dtype or precision, and for numbers that the dtype cannot hold.
  const at::Tensor* get(double value, at::ScalarType beside);

 private:
  struct Entry {
    double value;
    at::Tensor tensor;
  };
  std::array<Entry, 64> entries_;
};

}  // namespace alambic
