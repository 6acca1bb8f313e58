// How the values of a call travel: as numbers in a Float64Array that both sides see. Node-API takes a few
// nanoseconds for every value that it passes, and more for each element of a JavaScript array.
#pragma once
#include <napi.h>

#include <string>
#include <vector>

#include "compat.h"

namespace alambic {

class CallBuffer {
 public:
  // A buffer for at least `length` numbers in the place of the one before.
  Napi::Value resize(Napi::Env env, size_t length);
  double* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  Napi::Reference<Napi::Float64Array> array_;
  double* data_ = nullptr;
  size_t size_ = 0;
};

// A string that calls refer to by its number: names of dtypes, devices and modes come again and again.
struct Word {
  std::string text;
  optional<at::ScalarType> dtype;  // that it names
  optional<at::Device> device;     // that it names: known once it was asked for
};

// callBuffer, addWord, releaseAll.
void export_call_buffer(Napi::Env env, Napi::Object exports);

}  // namespace alambic
