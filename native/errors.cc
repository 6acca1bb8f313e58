#include "errors.h"

#include <c10/util/Exception.h>

#include <new>

#include "environment.h"

namespace alambic {

namespace {

// libtorch's tracer, of a tensor that it can only take as a constant.
constexpr auto constant_needs_gradient = "Cannot insert a Tensor that requires grad as a constant";

// libtorch appends where it threw, with frames; and for an operator without a kernel advice to its own
// developers and the list of all kernels.
std::string without_backtrace(std::string message) {
  for (const char* mark : {"\nException raised from", "\nframe #0", "\nC++ CapturedTraceback",
                           " This could be because the operator doesn't exist for this backend"}) {
    auto at = message.find(mark);
    if (at != std::string::npos) message.resize(at);
  }
  while (!message.empty() && (message.back() == '\n' || message.back() == ' ')) message.pop_back();
  return message;
}

const char* code_of(const c10::Error& error, const std::string& message) {
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error)) return "ERR_OUT_OF_MEMORY";
  if (dynamic_cast<const c10::IndexError*>(&error)) return "ERR_INDEX";
  if (dynamic_cast<const c10::NotImplementedError*>(&error)) return "ERR_NOT_IMPLEMENTED";
  if (message.find("not enough memory") != std::string::npos ||
      message.find("DefaultCPUAllocator") != std::string::npos)
    return "ERR_OUT_OF_MEMORY";
  if (message.find("leaf Variable that requires grad") != std::string::npos) return "ERR_AUTOGRAD";
  if (message.find("shape mismatch: value tensor") != std::string::npos) return "ERR_SHAPE_MISMATCH";
  return "ERR_OPERATOR";
}

}  // namespace

static CodedError describe_plainly(std::exception_ptr exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const CodedError& error) {
    return error;
  } catch (const c10::Error& error) {
    auto message = without_backtrace(error.what_without_backtrace());
    return CodedError(code_of(error, message), message);
  } catch (const std::bad_alloc&) {
    return CodedError("ERR_OUT_OF_MEMORY", "out of memory");
  } catch (const std::exception& error) {
    auto message = without_backtrace(error.what());
    // A number that a dtype does not hold is the one error that libtorch throws without a class of its own.
    bool is_overflow = message.find("cannot be converted to type") != std::string::npos;
    return CodedError(is_overflow ? "ERR_ARGUMENT" : "ERR_NATIVE", message);
  } catch (...) {
    return CodedError("ERR_NATIVE", "an unknown C++ exception");
  }
}

CodedError describe_exception(std::exception_ptr exception) {
  auto error = describe_plainly(exception);
  if (std::string_view(error.what()).find(constant_needs_gradient) == std::string_view::npos) return error;
  return CodedError(
      "ERR_NOT_IMPLEMENTED",
      "a forward that is recorded uses a tensor that requires a gradient and is no parameter of the module; "
      "make it one, or detach() it");
}

Napi::Value to_js_error(Napi::Env env, std::exception_ptr exception) {
  auto error = describe_exception(exception);
  auto* environment = Environment::find(env);  // none while the addon is being initialized
  if (environment == nullptr || environment->error_class.IsEmpty()) {
    auto plain = Napi::Error::New(env, error.what()).Value();
    plain.Set("code", error.code());
    return plain;
  }
  return environment->error_class.New(
      {Napi::String::New(env, error.code()), Napi::String::New(env, error.what())});
}

void throw_to_js(napi_env env) noexcept {
  napi_value error = nullptr;
  try {
    try {
      throw;
    } catch (const Napi::Error& thrown) {
      error = thrown.Value();
    } catch (...) {
      error = to_js_error(env, std::current_exception());
    }
  } catch (...) {  // below
  }
  // Refused where the environment ends, and where JavaScript has thrown already: then that is the error.
  if (error == nullptr || napi_throw(env, error) != napi_ok)
    napi_throw_error(env, "ERR_NATIVE", "an error could not be described");
}

}  // namespace alambic
