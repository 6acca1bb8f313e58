#include "calls/checks.h"

#include <algorithm>

#include "errors.h"
#include "tensors/values.h"

namespace alambic {

namespace {

std::string range(int64_t least, int64_t most) {
  return most == any ? c10::str("at least ", least) : c10::str(least, " to ", most);
}

std::vector<int64_t> first_sizes(const at::Tensor& tensor, int64_t count) {
  return tensor.sizes().slice(0, std::clamp<int64_t>(count, 0, tensor.dim())).vec();
}

}  // namespace

std::string describe(const std::vector<int64_t>& integers) {
  return c10::str("(", c10::Join(", ", integers), ")");
}

void check_plain(const Given& given) {
  for (const auto& tensor : given.all_tensors())
    if (tensor.layout() != at::kStrided || tensor.is_nested() || tensor.is_quantized() || tensor.is_meta())
      fail("ERR_NOT_IMPLEMENTED", "expected tensors that are dense and have data, got ", describe(tensor),
           " of layout ", layout_name(tensor.layout()));
}

void check_same_shape(const Given& given, const char* parameter, const char* as) {
  auto tensor = given.tensor(parameter), other = given.tensor(as);
  if (tensor.defined() && other.defined() && tensor.sizes() != other.sizes())
    given.refuse(shape_error, parameter, "the shape of " + camel_case(as) + " " + describe(other),
                 describe(tensor));
}

void check_shape(const Given& given, const char* parameter, const std::vector<int64_t>& shape) {
  auto tensor = given.tensor(parameter);
  if (tensor.defined() && tensor.sizes() != at::IntArrayRef(shape))
    given.refuse(shape_error, parameter, "shape " + describe(shape), describe(tensor));
}

void check_same_first_sizes(const Given& given, const char* parameter, const char* as, int64_t count) {
  auto tensor = given.tensor(parameter), other = given.tensor(as);
  if (!tensor.defined() || !other.defined()) return;
  auto expected = first_sizes(other, other.dim() - count);
  if (tensor.dim() != other.dim() || first_sizes(tensor, tensor.dim() - count) != expected)
    given.refuse(
        shape_error, parameter,
        c10::str("a shape that begins with ", describe(expected), ", of ", other.dim(), " dimensions"),
        describe(tensor));
}

void check_dims(const Given& given, const char* parameter, int64_t dims) {
  check_dims(given, parameter, dims, dims);
}

void check_dims(const Given& given, const char* parameter, int64_t least, int64_t most) {
  auto tensor = given.tensor(parameter);
  if (tensor.defined() && (tensor.dim() < least || tensor.dim() > most))
    given.refuse(shape_error, parameter,
                 least == most ? c10::str(least, " dimensions") : range(least, most) + " dimensions",
                 describe(tensor));
}

void check_same_dtype(const Given& given, const char* parameter, const char* as) {
  auto tensor = given.tensor(parameter), other = given.tensor(as);
  if (tensor.defined() && other.defined() && tensor.scalar_type() != other.scalar_type())
    given.refuse("ERR_DTYPE", parameter,
                 c10::str("the dtype of ", camel_case(as), ", ", dtype_name(other.scalar_type())),
                 describe(tensor));
}

void check_count(const Given& given, const char* parameter, int64_t count, const char* of) {
  auto tensor = given.tensor(parameter);
  if (tensor.defined() && tensor.numel() != count)
    given.refuse(shape_error, parameter, c10::str("one number for each of ", count, " ", of),
                 describe(tensor));
}

void check_given(const Given& given, std::initializer_list<const char*> parameters) {
  for (const char* name : parameters)
    if (given.declares(name) && !given.has(name)) given.refuse(argument_error, name, "a tensor", "null");
}

void check_lengths(const Given& given, std::initializer_list<const char*> lists, size_t length) {
  for (const char* name : lists)
    if (auto list = given.integers(name); given.has(name) && list.size() != length)
      given.refuse(length_error, name, c10::str(length, " integers"), c10::str(list.size()));
}

void check_range(const Given& given, const char* parameter, int64_t least, int64_t most) {
  auto value = given.integer(parameter, least);
  if (value < least || value > most)
    given.refuse(argument_error, parameter, range(least, most), c10::str(value));
}

void check_each(const Given& given, const char* parameter, int64_t least, int64_t most) {
  auto list = given.integers(parameter);
  for (auto value : list)
    if (value < least || value > most)
      given.refuse(argument_error, parameter, "integers of " + range(least, most), describe(list));
}

}  // namespace alambic
