// Calls that libtorch cannot take: its kernel would end the process or read memory that is not there. They
// are refused before, with what is wrong; docs/operators.md lists them.
#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <string>

namespace alambic {

// What a tensor is, as far as kernels fall over it: bits of a set.
enum TensorTrait : uint32_t {
  is_on_meta = 1 << 0,
  is_sparse_tensor = 1 << 1,  // of any sparse layout
  is_opaque = 1 << 2,         // oneDNN's layout: memory that has no strides
  is_quantized_tensor = 1 << 3,
  is_nested_tensor = 1 << 4,
  is_complex_tensor = 1 << 5,
  is_without_elements = 1 << 6,
  is_zero_dimensional = 1 << 7,
  is_of_other_dtype = 1 << 8,  // than float32 and float64
};

uint32_t traits_of(const at::Tensor& tensor);

// One operator's.
struct Refusal {
  const char* name;  // "aten::…", all overloads
  uint32_t traits;   // tensors with any of these are refused; 0: every call is
  const char* reason;
};

// Null for an operator that takes what its schema says, or refuses it by itself.
const Refusal* find_refusal(const std::string& qualified_name);

// Throws ERR_NOT_IMPLEMENTED for a tensor that the operator cannot take. `name` is the operator's in
// JavaScript.
void check_refusal(const Refusal& refusal, const std::string& name, const at::Tensor& tensor);

}  // namespace alambic
