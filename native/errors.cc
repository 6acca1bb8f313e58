#include "errors.h"

#include <c10/util/Exception.h>

#include <map>
#include <new>
#include <string_view>

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

// "[enforce fail at alloc_cpu.cpp:127] err == 0. " and "/…/RegisterCPU_3.cpp:4890: " before a message.
std::string without_places(std::string message) {
  constexpr std::string_view enforce = "[enforce fail at ", condition = "] err == 0. ";
  if (auto at = message.find(enforce); at != std::string::npos)
    if (auto end = message.find(condition, at); end != std::string::npos)
      message.erase(at, end + condition.size() - at);
  if (auto at = message.find(".cpp:"); !message.empty() && message.front() == '/' && at != std::string::npos)
    if (auto end = message.find(": ", at); end != std::string::npos) message.erase(0, end + 2);
  if (message.rfind("SymIntArrayRef expected to contain only concrete integers", 0) == 0)
    message = "expected integers above -2^62";  // smaller ones stand for symbols there
  return message;
}

// What libtorch asks to be reported to its developers is, in a call from here, its way to refuse arguments.
std::string without_reports(std::string message) {
  auto check = message.find("INTERNAL ASSERT FAILED at");
  if (check != std::string::npos) {
    constexpr std::string_view report = "please report a bug to PyTorch.";
    auto at = message.find(report, check);
    auto details = at == std::string::npos ? std::string() : message.substr(at + report.size());
    details.erase(0, details.find_first_not_of(' '));
    message = "libtorch cannot do this with such arguments" + (details.empty() ? "" : ": " + details);
  }
  for (std::string_view phrase :
       {"Internal error: ", " Please file an issue.", " Please report a bug to PyTorch."}) {
    auto at = message.find(phrase);
    if (at != std::string::npos) message.erase(at, phrase.size());
  }
  return message;
}

// "value cannot be converted to type c10::complex<float> without overflow", with the dtype's name.
std::string without_cpp_types(std::string message) {
  constexpr std::string_view before = "cannot be converted to type ";
  auto begin = message.find(before);
  auto end = message.find(" without overflow", begin);
  if (begin == std::string::npos || end == std::string::npos) return message;
  static const std::map<std::string, const char*> names = {
      {"c10::complex<float>", "complex64"},
      {"c10::complex<double>", "complex128"},
      {"c10::complex<c10::Half>", "complex32"},
      {"c10::Half", "float16"},
      {"at::Half", "float16"},
      {"c10::BFloat16", "bfloat16"},
      {"at::BFloat16", "bfloat16"},
      {"float", "float32"},
      {"double", "float64"},
      {"int8_t", "int8"},
      {"uint8_t", "uint8"},
      {"int16_t", "int16"},
      {"uint16_t", "uint16"},
      {"int", "int32"},
      {"int32_t", "int32"},
      {"uint32_t", "uint32"},
      {"int64_t", "int64"},
      {"long", "int64"},
      {"uint64_t", "uint64"},
  };
  auto type = names.find(message.substr(begin + before.size(), end - begin - before.size()));
  if (type == names.end()) return message;
  return std::string("expected a number that ") + type->second + " can hold";
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
    return CodedError(code_of(error, message), without_reports(without_places(message)));
  } catch (const std::bad_alloc&) {
    return CodedError("ERR_OUT_OF_MEMORY", "out of memory");
  } catch (const std::exception& error) {
    auto message = without_backtrace(error.what());
    // A number that a dtype does not hold is the one error that libtorch throws without a class of its own.
    bool is_overflow = message.find("cannot be converted to type") != std::string::npos;
    return CodedError(is_overflow ? "ERR_ARGUMENT" : "ERR_NATIVE", without_cpp_types(message));
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
