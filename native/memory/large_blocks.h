// Memory of large tensors on the CPU. The C library returns it to the system when it is freed, and the system
// hands out pages one by one, filled with zeros: on features of some megabytes that costs more than the loss.
// Here freed blocks are kept for the next tensor of about their size.
#pragma once
#include <c10/core/Allocator.h>

namespace alambic {

constexpr size_t smallest_large_block = size_t{64} << 10;

// At least so many bytes; from `smallest_large_block` on. For all threads.
c10::DataPtr take_large_block(size_t bytes);

// Frees any block of CPU memory by its address alone, as whoever took one without a tensor around it does:
// oneDNN's scratch memory must not drain what is kept.
void give_back_block(void* block);

// Bytes that are kept and used by no tensor.
size_t idle_block_bytes();

// How many bytes may be kept; 0 keeps nothing. What has been idle longest goes first.
void limit_idle_blocks(size_t bytes);
size_t idle_block_limit();

// Gives all that is kept back to the system.
void release_idle_blocks();

}  // namespace alambic
