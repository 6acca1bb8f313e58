// The options object that a layer is constructed with: every key is there, values are checked as they are
// read.
#pragma once
#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "compat.h"
#include "errors.h"

namespace alambic {

class Options {
 public:
  // `object.name` is the layer's name, which begins every message.
  explicit Options(const Napi::Value& object);

  const std::string& name() const { return name_; }

  int64_t integer(const char* key, int64_t least) const;
  std::vector<int64_t> integers(const char* key, size_t count, int64_t least) const;
  double number(const char* key) const;
  bool flag(const char* key) const;
  std::string text(const char* key) const;

  Napi::Value value(const char* key) const { return object_.Get(key); }
  bool is_null(const char* key) const { return value(key).IsNull(); }
  bool is_text(const char* key) const { return value(key).IsString(); }
  // "Conv2d: stride", what errors about an option begin with.
  std::string label(const char* key) const { return name_ + ": " + key; }

  template <typename... Parts>
  [[noreturn]] void refuse(const char* key, const Parts&... parts) const {
    fail("ERR_ARGUMENT", label(key), ": ", parts...);
  }

 private:
  Napi::Object object_;
  std::string name_;
};

}  // namespace alambic
