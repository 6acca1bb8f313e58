// Opens the libraries of the chosen libtorch with global visibility, so that the addon, which names no path,
// binds to them. Without libtorch itself: it must load where libtorch is missing or broken, and say so.
#include <dlfcn.h>
#include <node_api.h>
#include <stdlib.h>

static char* string_argument(napi_env env, napi_callback_info info) {
  size_t count = 1, length = 0;
  napi_value argument;
  if (napi_get_cb_info(env, info, &count, &argument, NULL, NULL) != napi_ok || count < 1) return NULL;
  if (napi_get_value_string_utf8(env, argument, NULL, 0, &length) != napi_ok) return NULL;
  char* text = malloc(length + 1);
  if (text != NULL) napi_get_value_string_utf8(env, argument, text, length + 1, &length);
  return text;
}

// open(path): the handle is kept for the life of the process, because libtorch cannot be unloaded.
static napi_value open_library(napi_env env, napi_callback_info info) {
  char* path = string_argument(env, info);
  if (path == NULL) {
    napi_throw_type_error(env, "ERR_ARGUMENT", "open: expected the path of a library");
    return NULL;
  }
  if (dlopen(path, RTLD_NOW | RTLD_GLOBAL) == NULL) napi_throw_error(env, "ERR_LIBTORCH_LOAD", dlerror());
  free(path);
  return NULL;
}

NAPI_MODULE_INIT() {
  napi_value open;
  if (napi_create_function(env, "open", NAPI_AUTO_LENGTH, open_library, NULL, &open) != napi_ok ||
      napi_set_named_property(env, exports, "open", open) != napi_ok) {
    napi_throw_error(env, "ERR_NATIVE", "the loader could not be set up");
  }
  return exports;
}
