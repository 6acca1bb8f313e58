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

// GNU OpenMP reads how long its threads wait for the next operator by spinning when it is loaded, here with
// libtorch, and from nowhere else. What the environment says holds; where it says nothing, threads spin for
// so many turns, some microseconds: docs/performance.md has what that is measured against. In C, because what
// a worker thread writes into process.env does not reach the environment.
static const char* const spin_count = "2500";

// Whether it was set, to be unset again: child processes decide for themselves.
static int limit_spinning(void) {
  if (getenv("GOMP_SPINCOUNT") != NULL || getenv("OMP_WAIT_POLICY") != NULL) return 0;
  return setenv("GOMP_SPINCOUNT", spin_count, 0) == 0;
}

// open(path): the handle is kept for the life of the process, because libtorch cannot be unloaded.
static napi_value open_library(napi_env env, napi_callback_info info) {
  char* path = string_argument(env, info);
  if (path == NULL) {
    napi_throw_type_error(env, "ERR_ARGUMENT", "open: expected the path of a library");
    return NULL;
  }
  int was_set = limit_spinning();
  void* library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  if (was_set) unsetenv("GOMP_SPINCOUNT");
  if (library == NULL) napi_throw_error(env, "ERR_LIBTORCH_LOAD", dlerror());
  free(path);
  return NULL;
}

// NVIDIA's driver interface, of which only the calling convention is needed: 0 is success everywhere.
typedef struct {
  int (*init)(unsigned);
  int (*device_count)(int*);
  int (*device_get)(int*, int);
  int (*device_name)(char*, int, int);
} cuda_driver;

static int open_driver(cuda_driver* driver) {
  void* library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (library == NULL) return 0;
  *(void**)&driver->init = dlsym(library, "cuInit");
  *(void**)&driver->device_count = dlsym(library, "cuDeviceGetCount");
  *(void**)&driver->device_get = dlsym(library, "cuDeviceGet");
  *(void**)&driver->device_name = dlsym(library, "cuDeviceGetName");
  return driver->init && driver->device_count && driver->device_get && driver->device_name &&
         driver->init(0) == 0;
}

// nvidiaGpus(): their names, in the order in which this process may use them.
static napi_value nvidia_gpus(napi_env env, napi_callback_info info) {
  (void)info;
  cuda_driver driver;
  napi_value names, text;
  int count = 0, device;
  char name[256];
  if (napi_create_array(env, &names) != napi_ok) return NULL;
  if (!open_driver(&driver) || driver.device_count(&count) != 0) return names;
  for (int i = 0; i < count; i++) {
    if (driver.device_get(&device, i) != 0 || driver.device_name(name, sizeof name, device) != 0) continue;
    if (napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &text) != napi_ok) return NULL;
    if (napi_set_element(env, names, (uint32_t)i, text) != napi_ok) return NULL;
  }
  return names;
}

NAPI_MODULE_INIT() {
  napi_property_descriptor functions[] = {
      {"open", NULL, open_library, NULL, NULL, NULL, napi_enumerable, NULL},
      {"nvidiaGpus", NULL, nvidia_gpus, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  if (napi_define_properties(env, exports, sizeof functions / sizeof *functions, functions) != napi_ok) {
    napi_throw_error(env, "ERR_NATIVE", "the loader could not be set up");
  }
  return exports;
}
