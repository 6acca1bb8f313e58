// Lists of numbers and of handles on their way to native code: both sides see one Float64Array. To read a
// JavaScript array through Node-API costs as much per element as a small operator's arithmetic.
#pragma once
#include <napi.h>

#include <utility>

namespace alambic {

class ListBuffer {
 public:
  // A buffer for at least `length` numbers in the place of the one before.
  Napi::Value resize(Napi::Env env, size_t length);
  const double* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  Napi::Reference<Napi::Float64Array> array_;
  double* data_ = nullptr;
  size_t size_ = 0;
};

// Takes the lists of a call, which lie one after the other.
class ListReader {
 public:
  explicit ListReader(const ListBuffer& buffer) : buffer_(buffer) {}
  // Throws ERR_ARGUMENT for a length beyond the buffer.
  std::pair<const double*, size_t> next(napi_env env, napi_value length);

 private:
  const ListBuffer& buffer_;
  size_t used_ = 0;
};

// listBuffer, releaseAll.
void export_list_buffer(Napi::Env env, Napi::Object exports);

}  // namespace alambic
