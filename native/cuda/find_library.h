// Finding and opening the CUDA library.
#pragma once
#include <napi.h>

#include <string>

#include "cuda/library.h"

namespace alambic::cuda {

// Opened at the first call; null where there is none or it cannot be opened. Only for when there are tensors
// on a GPU.
const Library* library();

// Its kernels for losses, or null.
const LossKernels* loss_kernels();

// Why there is no library, or nothing.
std::string why_no_library();

// setCudaLibrary, cudaLibrary, deviceMemory.
void export_cuda_library(Napi::Env env, Napi::Object exports);

}  // namespace alambic::cuda
