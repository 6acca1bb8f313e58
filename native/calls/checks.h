// Checks that refusals of several operators share.
#pragma once
#include <initializer_list>
#include <limits>
#include <string>
#include <vector>

#include "calls/given.h"

namespace alambic {

constexpr auto shape_error = "ERR_SHAPE_MISMATCH";
constexpr auto length_error = "ERR_LENGTH_MISMATCH";
constexpr auto argument_error = "ERR_ARGUMENT";

// Of dimensions and numbers that have no upper limit.
constexpr auto any = std::numeric_limits<int64_t>::max();

// "(2, 3)"
std::string describe(const std::vector<int64_t>& integers);

// Strided tensors on the CPU or a GPU, with elements that can be read where they lie.
void check_plain(const Given& given);

// Tensors that were given have the dimensions, or the shape, of another.
void check_same_shape(const Given& given, const char* parameter, const char* as);
void check_shape(const Given& given, const char* parameter, const std::vector<int64_t>& shape);
// It has the sizes of `as`, except the last `count`.
void check_same_first_sizes(const Given& given, const char* parameter, const char* as, int64_t count);
void check_dims(const Given& given, const char* parameter, int64_t dims);
void check_dims(const Given& given, const char* parameter, int64_t least, int64_t most);
void check_same_dtype(const Given& given, const char* parameter, const char* as);

// One number for each of `count`.
void check_count(const Given& given, const char* parameter, int64_t count, const char* of);

// Not null where the overload has such a parameter.
void check_given(const Given& given, std::initializer_list<const char*> parameters);

// Lists of so many integers.
void check_lengths(const Given& given, std::initializer_list<const char*> lists, size_t length);

// An integer, or each of a list. What was left at its default is not looked at.
void check_range(const Given& given, const char* parameter, int64_t least, int64_t most);
void check_each(const Given& given, const char* parameter, int64_t least, int64_t most);

}  // namespace alambic
