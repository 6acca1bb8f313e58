#include "tensors/storages.h"

#include <ATen/ATen.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>

#include "environment.h"
#include "errors.h"
#include "tensors/values.h"

namespace alambic {

namespace {

// A whole file in memory, read page by page when first used. Private: what is written stays in this process.
class Mapping {
 public:
  Mapping(int descriptor, size_t size) : size_(size) {
    // To read behind the end of a file is no error that could be caught, but the end of the process.
    struct stat file;
    if (fstat(descriptor, &file) != 0)
      fail("ERR_FILE_NOT_FOUND", "the file cannot be mapped into memory: ", std::strerror(errno));
    if (size > static_cast<size_t>(file.st_size))
      fail("ERR_FILE_FORMAT", "the file cannot be mapped into memory: expected ", size, " bytes, found ",
           file.st_size);
    if (size == 0) return;
    auto flags = MAP_PRIVATE | MAP_NORESERVE;
    address_ = mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, descriptor, 0);
    if (address_ == MAP_FAILED)
      fail(errno == ENOMEM ? "ERR_OUT_OF_MEMORY" : "ERR_FILE_NOT_FOUND",
           "the file cannot be mapped into memory: ", std::strerror(errno), "; pass { mmap: false }");
  }
  ~Mapping() {
    if (size_ > 0) munmap(address_, size_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  char* at(size_t offset) const { return static_cast<char*>(address_) + offset; }
  size_t size() const { return size_; }

 private:
  void* address_ = nullptr;
  size_t size_;
};

int to_descriptor(const Napi::Value& value) {
  auto descriptor = to_integer(value, "descriptor");
  if (descriptor < 0 || descriptor > std::numeric_limits<int>::max())
    fail("ERR_ARGUMENT", "descriptor: expected that of an open file, got ", descriptor);
  return static_cast<int>(descriptor);
}

size_t to_size(const Napi::Value& value, const char* what) {
  auto size = to_integer(value, what);
  if (size < 0) fail("ERR_ARGUMENT", what, ": expected no negative number, got ", size);
  return static_cast<size_t>(size);
}

// new MappedFile(descriptor, size)
class MappedFile : public Napi::ObjectWrap<MappedFile> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "MappedFile", {InstanceMethod<&MappedFile::storage>("storage")});
  }

  explicit MappedFile(const Napi::CallbackInfo& info) : Napi::ObjectWrap<MappedFile>(info) {
    guard(info.Env(), [&] {
      auto descriptor = to_descriptor(info[0]);
      mapping_ = std::make_shared<Mapping>(descriptor, to_size(info[1], "size"));
    });
  }

  // storage(offset, bytes) -> a uint8 tensor (bytes) with a storage of its own, which keeps the file mapped.
  Napi::Value storage(const Napi::CallbackInfo& info) {
    return guard(info.Env(), [&] {
      auto offset = to_size(info[0], "offset"), bytes = to_size(info[1], "bytes");
      if (offset > mapping_->size() || bytes > mapping_->size() - offset)
        fail("ERR_INDEX", "storage: expected bytes inside a file of ", mapping_->size(), ", got ", bytes,
             " at ", offset);
      if (bytes == 0) return from_tensor(info.Env(), at::empty({0}, at::kByte));
      auto release = [mapping = mapping_](void*) {};
      auto tensor = at::from_blob(mapping_->at(offset), {static_cast<int64_t>(bytes)}, release, at::kByte);
      return from_tensor(info.Env(), tensor);
    });
  }

 private:
  std::shared_ptr<Mapping> mapping_;
};

// Sums and products of sizes: each is one statement of its own, for what a check and the value that it checks
// give in one expression is left to the compiler.
int64_t not_too_large(int64_t value, bool overflow) {
  constexpr auto limit = int64_t{1} << 53;
  if (overflow || value > limit) fail("ERR_SHAPE_MISMATCH", "shape: too large");
  return value;
}
int64_t sum(int64_t a, int64_t b) {
  int64_t result;
  bool overflow = __builtin_add_overflow(a, b, &result);
  return not_too_large(result, overflow);
}
int64_t product(int64_t a, int64_t b) {
  int64_t result;
  bool overflow = __builtin_mul_overflow(a, b, &result);
  return not_too_large(result, overflow);
}

// Elements of the storage that a view reaches, from its start: the index of the last one, plus one.
int64_t reach(at::IntArrayRef shape, at::IntArrayRef strides, int64_t offset) {
  int64_t last = offset, elements = 1;
  bool is_empty = false;
  for (size_t i = 0; i < shape.size(); i++) {
    if (shape[i] < 0 || strides[i] < 0)
      fail("ERR_ARGUMENT", "shape and strides: expected no negative numbers");
    last = sum(last, product(std::max<int64_t>(shape[i] - 1, 0), strides[i]));
    elements = product(elements, std::max<int64_t>(shape[i], 1));
    is_empty = is_empty || shape[i] == 0;
  }
  return is_empty ? offset : sum(last, 1);
}

// viewStorage(tensor, dtype, shape, strides, offset) -> another tensor on the same storage. Offset and
// strides count elements of the dtype.
Napi::Value view_storage(const Napi::CallbackInfo& info) {
  auto dtype = parse_dtype(to_text(info[1], "dtype"));
  // Lists are JavaScript's, which runs while they are read: no tensor is looked up before.
  auto shape = to_integers(info[2], "shape"), strides = to_integers(info[3], "strides");
  auto offset = to_integer(info[4], "offset");
  auto tensor = to_tensor(info[0]);
  if (!tensor.has_storage()) fail("ERR_ARGUMENT", "viewStorage: expected a tensor with a storage");
  if (shape.size() != strides.size())
    fail("ERR_LENGTH_MISMATCH", "strides: expected ", shape.size(), ", got ", strides.size());
  if (offset < 0) fail("ERR_ARGUMENT", "offset: expected no negative number, got ", offset);
  auto available = tensor.storage().nbytes() / c10::elementSize(dtype);
  auto needed = static_cast<uint64_t>(reach(shape, strides, offset));
  if (needed > available)
    fail("ERR_SHAPE_MISMATCH", "viewStorage: the view needs ", needed, " elements, the storage has ",
         available);
  at::NoGradGuard no_grad;
  auto view = at::empty({0}, at::TensorOptions().dtype(dtype).device(tensor.device()));
  view.set_(tensor.storage(), offset, shape, strides);
  return from_tensor(info.Env(), view);
}

// storageOf(tensor) -> { id, bytes, offset }: which storage, its size, and the first element's index in it.
Napi::Value storage_of(const Napi::CallbackInfo& info) {
  auto tensor = to_tensor(info[0]);
  if (!tensor.has_storage()) fail("ERR_ARGUMENT", "expected a tensor with a storage, got ", describe(tensor));
  const auto& storage = tensor.storage();
  auto result = Napi::Object::New(info.Env());
  auto id = reinterpret_cast<uintptr_t>(storage.unsafeGetStorageImpl());
  result.Set("id", Napi::BigInt::New(info.Env(), static_cast<uint64_t>(id)));
  result.Set("bytes", static_cast<double>(storage.nbytes()));
  result.Set("offset", static_cast<double>(tensor.storage_offset()));
  return result;
}

}  // namespace

void export_storages(Napi::Env env, Napi::Object exports) {
  exports.Set("MappedFile", MappedFile::define(env));
  exports.Set("viewStorage", Napi::Function::New<guarded<view_storage>>(env));
  exports.Set("storageOf", Napi::Function::New<guarded<storage_of>>(env));
}

}  // namespace alambic
