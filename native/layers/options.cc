#include "layers/options.h"

#include <algorithm>

#include "tensors/values.h"

namespace alambic {

Options::Options(const Napi::Value& object) {
  if (!object.IsObject()) fail("ERR_ARGUMENT", "a layer's options: expected an object");
  object_ = object.As<Napi::Object>();
  name_ = to_text(object_.Get("name"), "name");
}

int64_t Options::integer(const char* key, int64_t least) const {
  auto integer = to_integer(value(key), label(key).c_str());
  if (integer < least) refuse(key, "expected an integer of at least ", least, ", got ", integer);
  return integer;
}

std::vector<int64_t> Options::integers(const char* key, size_t count, int64_t least) const {
  auto integers = to_integers(value(key), label(key).c_str());
  bool large_enough =
      std::all_of(integers.begin(), integers.end(), [&](int64_t each) { return each >= least; });
  if (integers.size() != count || !large_enough)
    refuse(key, "expected ", count, count == 1 ? " integer" : " integers", " of at least ", least, ", got [",
           c10::Join(", ", integers), "]");
  return integers;
}

double Options::number(const char* key) const { return to_double(value(key), label(key).c_str()); }
bool Options::flag(const char* key) const { return to_bool(value(key), label(key).c_str()); }
std::string Options::text(const char* key) const { return to_text(value(key), label(key).c_str()); }

}  // namespace alambic
