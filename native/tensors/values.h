// Conversions between JavaScript values and libtorch's that every binding needs.
#pragma once
#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>
#include <napi.h>

#include <string>
#include <vector>

#include "compat.h"
#include "tensors/handle_table.h"

namespace alambic {

// dtype names are PyTorch's ("float32", "int64", "bool" …).
const char* dtype_name(at::ScalarType dtype);
at::ScalarType parse_dtype(const std::string& name);
optional<at::ScalarType> find_dtype(const std::string& name);
// All names this libtorch knows.
std::vector<std::string> dtype_names();

at::Device parse_device(const std::string& text);
at::MemoryFormat parse_memory_format(const std::string& name);
const char* memory_format_name(at::MemoryFormat format);
at::Layout parse_layout(const std::string& name);
const char* layout_name(at::Layout layout);

// "float32 (2, 3, 8, 8)" and, off the CPU, " on cuda:0": how a tensor appears in error messages.
std::string describe(const at::Tensor& tensor);

// Arguments of bindings. `what` names the argument in errors.
Handle to_handle(const Napi::Value& value);
const at::Tensor& to_tensor(const Napi::Value& value);
// null becomes an undefined tensor.
at::Tensor to_optional_tensor(const Napi::Value& value);
std::vector<at::Tensor> to_tensors(const Napi::Value& value, const char* what);
std::vector<int64_t> to_integers(const Napi::Value& value, const char* what);
int64_t to_integer(const Napi::Value& value, const char* what);
double to_double(const Napi::Value& value, const char* what);
bool to_bool(const Napi::Value& value, const char* what);
std::string to_text(const Napi::Value& value, const char* what);

// Results.
Napi::Value from_tensor(Napi::Env env, at::Tensor tensor);
Napi::Value from_optional_tensor(Napi::Env env, at::Tensor tensor);  // an undefined tensor becomes 0
Napi::Array from_tensors(Napi::Env env, at::TensorList tensors);
Napi::Array from_integers(Napi::Env env, at::IntArrayRef values);

}  // namespace alambic
